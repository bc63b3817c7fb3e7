# SPDX-License-Identifier: Apache-2.0
# Short words for what meson does; nothing is built by this file itself.
BUILD ?= build
FUZZ_SECONDS ?= 600

SAN_BUILD = $(BUILD)-sanitize
TSAN_BUILD = $(BUILD)-tsan
comma := ,

# $(call configure,DIR,OPTIONS,ENVIRONMENT): makes DIR a meson build folder, once. No plugin is loaded that a group
# can write, nor from such a folder (core/loader.c): the user's umask must not make them so.
configure = umask 022; [ -f $(1)/build.ninja ] || $(3) meson setup $(2) $(1)
ninja = umask 022; ninja -C $(1)
clang_setup = $(call configure,$(1),-Db_lundef=false -Dbench=false $(2),CC=clang)

# Reports go to files, where scripts/check finds them: a leak is found when a Criterion test's process has
# already said that it passed.
sanitizers = ASAN_OPTIONS=detect_leaks=1:halt_on_error=1:detect_stack_use_after_return=1:$(2) \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:$(2) \
	TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:$(2) \
	scripts/check $(1)
sanitized_check = $(call sanitizers,$(1),log_path=$(abspath $(1))/meson-logs/sanitizer)

.PHONY: help deps deps-build build demo check check-sanitize check-tsan lab bench fuzz lint install clean

help:
	@echo "make demo            build, and run the hello guest on the first hypervisor that works here"
	@echo "make check           every test, with gcc; the lab included"
	@echo "make check-sanitize  the tests without the lab, with clang and its sanitizers; each fuzz target for 20 s"
	@echo "make check-tsan      the tests of threads, with ThreadSanitizer (part of check-sanitize)"
	@echo "make lab             the KVM tests and a Debian kernel's boot under kvm_amd, in a software machine"
	@echo "make bench           measure; results in $(BUILD)/bench/results.csv"
	@echo "make fuzz            each fuzz target for FUZZ_SECONDS ($(FUZZ_SECONDS))"
	@echo "make lint            format, clang-tidy, include rules, man pages"
	@echo "make build           build only, in $(BUILD)/"
	@echo "make install         install what was built (DESTDIR and meson's prefix)"
	@echo "make deps            install the Debian packages that all of this needs"
	@echo "make clean           remove the build folders"

deps:
	@scripts/deps all

deps-build:
	@scripts/deps build

build: deps-build
	@$(call configure,$(BUILD))
	@$(call ninja,$(BUILD))

demo: build
	@scripts/demo $(BUILD)

check: deps build
	@scripts/check $(BUILD)

check-sanitize: deps
	@$(call clang_setup,$(SAN_BUILD),-Db_sanitize=address$(comma)undefined -Dfuzz=true)
	@$(call ninja,$(SAN_BUILD))
	@$(call sanitized_check,$(SAN_BUILD)) --no-suite lab
	@$(MAKE) --no-print-directory check-tsan

# Threads against each other: what the address sanitizer does not see.
check-tsan: deps
	@$(call clang_setup,$(TSAN_BUILD),-Db_sanitize=thread)
	@$(call ninja,$(TSAN_BUILD))
	@$(call sanitized_check,$(TSAN_BUILD)) --suite threads

lab: deps build
	@scripts/check $(BUILD) --suite lab --verbose

bench: deps build
	@$(call ninja,$(BUILD)) bench

fuzz: deps
	@$(call clang_setup,$(SAN_BUILD),-Db_sanitize=address$(comma)undefined -Dfuzz=true)
	@$(call ninja,$(SAN_BUILD))
	@FUZZ_SECONDS=$(FUZZ_SECONDS) $(call sanitized_check,$(SAN_BUILD)) --suite fuzz --timeout-multiplier 0

lint: deps build
	@scripts/lint $(BUILD)

install: build
	@meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf $(BUILD) $(SAN_BUILD) $(TSAN_BUILD)
