/* SPDX-License-Identifier: Apache-2.0 */
/* Backends that are compiled in: found with no folder, and before any file. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <impost/impost.h>

static struct impost_context *ctx;

static void begin(void)
{
	cr_assert(impost_context_open(NULL, NULL, &ctx) == 0);
}

static void end(void)
{
	cr_expect(impost_context_close(ctx) == 0);
}

TestSuite(builtin, .init = begin, .fini = end);

Test(builtin, both_are_listed)
{
	static const char *const names[] = {"kvm", "mock"};
	struct impost_plugin_info info = {.size = sizeof(info)};
	char folder[] = "/tmp/impost-builtin-XXXXXX";

	cr_assert(mkdtemp(folder));
	cr_assert(impost_context_set(ctx, "impost", "plugin_dir", folder) == 0);
	for (uint32_t i = 0; i < 2; i++) {
		cr_assert(impost_plugin_info(ctx, i, &info) == 0, "%s", impost_error(ctx));
		cr_expect(strcmp(info.name, names[i]) == 0);
		cr_expect(strcmp(info.file, "builtin") == 0 && info.status == 0, "%s", info.reason);
		cr_expect(strcmp(info.version, impost_version()) == 0);
	}
	cr_expect(impost_plugin_info(ctx, 2, &info) == -ENOENT);
	rmdir(folder);
}

Test(builtin, a_vm_is_made)
{
	static const char ini[] = "[impost]\nbackend = mock\n[backend.mock]\ncheck_entry = no\n";
	struct impost_vcpu *vcpu;
	struct impost_vm *vm;

	cr_assert(impost_context_load_buffer(ctx, "x.ini", ini, sizeof(ini) - 1) == 0, "%s",
		  impost_error(ctx));
	cr_assert(impost_vm_create(ctx, NULL, &vm) == 0, "%s", impost_error(ctx));
	cr_expect(strcmp(impost_vm_backend(vm), "mock") == 0);
	cr_assert(impost_vcpu_create(vm, 0, &vcpu) == 0, "%s", impost_error(ctx));
	cr_expect(impost_vcpu_destroy(vcpu) == 0 && impost_vm_destroy(vm) == 0);
}

/* A file of that name is not even looked at for the backend, and is listed as what it is. */
Test(builtin, comes_before_files)
{
	struct impost_plugin_info info = {.size = sizeof(info)};
	struct impost_caps caps = {.size = sizeof(caps)};
	char folder[] = "/tmp/impost-builtin-XXXXXX", command[8192];

	cr_assert(mkdtemp(folder));
	snprintf(command, sizeof(command), "cp %s/misnamed.so %s/mock.so && chmod 644 %s/mock.so",
		 FAKE_DIR, folder, folder);
	cr_assert(system(command) == 0);
	cr_assert(impost_context_set(ctx, "impost", "plugin_dir", folder) == 0);
	cr_expect(impost_backend_probe(ctx, "mock", &caps) == 0, "%s", impost_error(ctx));
	for (uint32_t i = 0; i < 3; i++)
		cr_assert(impost_plugin_info(ctx, i, &info) == 0, "%s", impost_error(ctx));
	cr_expect(strcmp(info.name, "mock") == 0 && strcmp(info.file, "builtin") == 0);
	cr_assert(impost_plugin_info(ctx, 1, &info) == 0);
	cr_expect(info.status < 0 && strstr(info.file, "/mock.so"), "%s", info.file);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	cr_assert(system(command) == 0);
}
