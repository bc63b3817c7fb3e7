/* SPDX-License-Identifier: Apache-2.0 */
/* What is refused changes nothing, writes nothing, costs nothing, and says why. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "section.h"
#include "writer.h"

static uint32_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint32_t n = 0;

	cr_assert_not_null(dir, "/proc is not mounted");
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Calls that fail, over and over: none leaves a descriptor behind. */
#define LEAKS_NOTHING(box, err, expr)                                              \
	do {                                                                       \
		const uint32_t had_fds = count_fds();                              \
                                                                                   \
		for (int times = 0; times < 20; times++)                           \
			REFUSED(box, err, expr);                                   \
		cr_assert_eq(count_fds(), had_fds, "%s leaks descriptors", #expr); \
	} while (0)

/* --- creation --- */

/* A VM that cannot be; *ret_vm stays as it was. */
static void refused_vm(void (*change)(struct impost_vm_config *config), int err)
{
	struct impost_vm *const none = (struct impost_vm *)16;
	struct impost_vm_config config;
	struct impost_vm *vm = none;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	OK(&box, impost_vm_config_init(box.ctx, &config));
	config.backend = backend_name();
	change(&config);
	LEAKS_NOTHING(&box, err, impost_vm_create(box.ctx, &config, &vm));
	cr_assert_eq(vm, none, "a refused create has written");
	box_close(&box);
}

#define REFUSED_VM(name, err, change)                              \
	static void change_##name(struct impost_vm_config *config) \
	{                                                          \
		change;                                            \
	}                                                          \
	Test(errors, vm_##name)                                    \
	{                                                          \
		refused_vm(change_##name, err);                    \
	}
REFUSED_VM(without_cpus, EINVAL, config->cpus = 0)
REFUSED_VM(with_too_many_cpus, EINVAL, config->cpus = UINT32_MAX)
REFUSED_VM(without_memory, EINVAL, config->memory = 0)
REFUSED_VM(of_half_a_page, EINVAL, config->memory = 2048)
REFUSED_VM(with_no_such_irqchip, EINVAL, config->irqchip = 99)
REFUSED_VM(with_no_such_kick, EINVAL, config->kick_by = 99)
REFUSED_VM(of_no_such_backend, IMPOST_EPLUGIN, config->backend = "nonesuch")

static void refused_vcpu(uint32_t id, int err)
{
	struct impost_vcpu *const none = (struct impost_vcpu *)16;
	struct impost_vcpu *vcpu = none, *second;
	struct box box;

	box_open(&box, 2, IMPOST_IRQCHIP_DEFAULT);
	if (err == ENOSPC)
		OK(&box, impost_vcpu_create(box.vm, 1, &second));
	LEAKS_NOTHING(&box, err,
		      impost_vcpu_create(box.vm, id == UINT32_MAX ? box.caps->max_vcpu_id + 1 : id,
					 &vcpu));
	cr_assert_eq(vcpu, none, "a refused create has written");
	if (err == ENOSPC)
		OK(&box, impost_vcpu_destroy(second));
	box_close(&box);
}

Test(errors, vcpu_that_is_there_already)
{
	refused_vcpu(0, EEXIST);
}

Test(errors, vcpu_above_the_highest)
{
	refused_vcpu(UINT32_MAX, EINVAL);
}

Test(errors, vcpu_more_than_there_may_be)
{
	refused_vcpu(2, ENOSPC);
}

/* --- memory --- */

static void refused_region(uint64_t gpa, uint64_t bytes, uint32_t flags, int err)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_ANONYMOUS,
				       .gpa = gpa,
				       .bytes = bytes,
				       .flags = flags};
	struct impost_region got = {.size = sizeof(got)};
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	LEAKS_NOTHING(&box, err, impost_memory_add(box.memory, &region));
	OK(&box, impost_memory_get(box.memory, 0, &got));
	cr_assert(got.gpa == 0 && got.bytes == RAM_BYTES, "the other region has changed");
	cr_assert_eq(impost_memory_get(box.memory, 1, &got), -ENOENT, "there is another region");
	box_close(&box);
}

#define REFUSED_REGION(name, gpa, bytes, flags, err)    \
	Test(errors, region_##name)                     \
	{                                               \
		refused_region(gpa, bytes, flags, err); \
	}
REFUSED_REGION(of_nothing, HOLE, 0, 0, EINVAL)
REFUSED_REGION(of_half_a_page, HOLE, 0x800, 0, EINVAL)
REFUSED_REGION(at_half_a_page, HOLE + 0x800, 0x1000, 0, EINVAL)
REFUSED_REGION(around_the_end, UINT64_C(0xfffffffffffff000), 0x2000, 0, EINVAL)
REFUSED_REGION(on_another, 0, 0x1000, 0, EEXIST)
REFUSED_REGION(on_anothers_end, RAM_BYTES - 0x1000, 0x2000, 0, EEXIST)
REFUSED_REGION(with_no_such_flag, HOLE, 0x1000, 0x80000000, EINVAL)

/* Slots come back: regions can come and go more often than there are slots at once. */
Test(errors, regions_that_go_leave_their_slots)
{
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	for (int i = 0; i < 600; i++) {
		add_region(&box, HOLE, 1);
		OK(&box, impost_memory_remove(box.memory, HOLE));
		REFUSED(&box, ENOENT, impost_memory_remove(box.memory, HOLE));
	}
	box_close(&box);
}

/* --- the rest: each refuses, and the vCPU goes on as if nothing had been --- */

Test(errors, sections_that_are_none)
{
	static union section s;
	uint32_t size = 77;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	memset(&s, 0x5a, sizeof(s));
	REFUSED(&box, EINVAL, impost_vcpu_get(box.vcpu, 0, &s, sizeof(s), &size));
	REFUSED(&box, EINVAL, impost_vcpu_get(box.vcpu, 99, &s, sizeof(s), &size));
	REFUSED(&box, EINVAL, impost_vm_get(box.vm, 0, &s, sizeof(s), &size));
	REFUSED(&box, EINVAL, impost_vm_get(box.vm, 99, &s, sizeof(s), &size));
	cr_assert_eq(size, 77u);
	cr_assert_eq(s.bytes[0], 0x5a, "refused, and yet it has written");
	box_close(&box);
}

/* One section's buffer is one byte short: its length is told, and nothing is written. */
static void short_buffer(uint32_t section, bool of_vm)
{
	static union section s;
	uint32_t size = 0, want;
	struct box box;
	int r;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	if (of_vm)
		r = impost_vm_get(box.vm, section, &s, sizeof(s), &want);
	else
		r = impost_vcpu_get(box.vcpu, section, &s, sizeof(s), &want);
	if (r == -ENOENT || r == -ENOTSUP) {
		char why[300];

		snprintf(why, sizeof(why), "%s", impost_error(box.ctx));
		box_close(&box);
		cr_skip_test("%s", why);
	}
	OK(&box, r);
	memset(&s, 0x5a, sizeof(s));
	if (of_vm)
		REFUSED(&box, ENOSPC, impost_vm_get(box.vm, section, &s, want - 1, &size));
	else
		REFUSED(&box, ENOSPC, impost_vcpu_get(box.vcpu, section, &s, want - 1, &size));
	cr_assert_eq(size, want, "%u bytes are needed, it says %u", want, size);
	for (uint32_t i = 0; i < want; i++)
		cr_assert_eq(s.bytes[i], 0x5a, "refused, and yet it has written byte %u", i);
	box_close(&box);
}

#define IMPOST_VCPU_SECTION(number, NAME, name, type, varies) \
	Test(errors, short_buffer_for_vcpu_##name)            \
	{                                                     \
		short_buffer(IMPOST_SECTION_##NAME, false);   \
	}
#define IMPOST_VM_SECTION(number, NAME, name, type, varies) \
	Test(errors, short_buffer_for_vm_##name)            \
	{                                                   \
		short_buffer(IMPOST_SECTION_##NAME, true);  \
	}
#include <impost/x86_64/sections.def>

/* A list that does not fit: its length is told, and nothing is written. */
Test(errors, short_lists)
{
	struct impost_x86_cpuid entry = {.leaf = 77}, all[512];
	uint32_t index = 77, count = 0, want;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	OK(&box, impost_vm_cpuid_supported(box.vm, all, 512, &want));
	REFUSED(&box, ENOSPC, impost_vm_cpuid_supported(box.vm, &entry, 1, &count));
	cr_assert_eq(count, want);
	cr_assert_eq(entry.leaf, 77u);
	set_supported_cpuid(&box, box.vcpu);
	count = 0;
	REFUSED(&box, ENOSPC, impost_vcpu_get_cpuid(box.vcpu, &entry, 1, &count));
	cr_assert_eq(count, want);
	cr_assert_eq(entry.leaf, 77u);
	count = 0;
	REFUSED(&box, ENOSPC, impost_vm_msr_list(box.vm, &index, 1, &count));
	cr_assert_gt(count, 1u);
	cr_assert_eq(index, 77u);
	box_close(&box);
}

Test(errors, cpuid_that_is_malformed)
{
	static struct impost_x86_cpuid before[512], after[512];
	struct impost_x86_cpuid entry = {.leaf = 1, .reserved = 1};
	uint32_t nbefore, nafter;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_CPUID_PER_VCPU);
	set_supported_cpuid(&box, box.vcpu);
	OK(&box, impost_vcpu_get_cpuid(box.vcpu, before, 512, &nbefore));
	REFUSED(&box, EINVAL, impost_vcpu_set_cpuid(box.vcpu, &entry, 1));
	REFUSED(&box, EINVAL, impost_vcpu_set_cpuid(box.vcpu, NULL, 1));
	OK(&box, impost_vcpu_get_cpuid(box.vcpu, after, 512, &nafter));
	cr_assert_eq(nafter, nbefore);
	cr_assert_arr_eq(after, before, nbefore * sizeof(before[0]));
	box_close(&box);
}

Test(errors, more_cpuid_than_there_may_be)
{
	struct impost_x86_cpuid *entries;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_CPUID_PER_VCPU);
	entries = calloc(box.caps->max_cpuid + 1, sizeof(*entries));
	cr_assert_not_null(entries);
	for (uint32_t i = 0; i <= box.caps->max_cpuid; i++)
		entries[i].leaf = 0x40000000 + i;
	cr_assert_lt(impost_vcpu_set_cpuid(box.vcpu, entries, box.caps->max_cpuid + 1), 0);
	cr_assert_neq(impost_error(box.ctx)[0], '\0', "no text");
	free(entries);
	set_supported_cpuid(&box, box.vcpu);
	box_close(&box);
}

Test(errors, dirty_logs_that_are_not_there)
{
	uint64_t bitmap[RAM_BYTES / PAGE / 64] = {0};
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_DIRTY_LOG);
	REFUSED(&box, ENOENT, impost_vm_dirty_stop(box.vm, 0));
	REFUSED(&box, ENOENT, impost_vm_dirty_fetch(box.vm, 0, bitmap, 4));
	REFUSED(&box, ENOENT, impost_vm_dirty_start(box.vm, HOLE));
	OK(&box, impost_vm_dirty_start(box.vm, 0));
	REFUSED(&box, EEXIST, impost_vm_dirty_start(box.vm, 0));
	bitmap[0] = 77;
	REFUSED(&box, ENOSPC, impost_vm_dirty_fetch(box.vm, 0, bitmap, 3));
	cr_assert_eq(bitmap[0], 77u, "refused, and yet it has written");
	OK(&box, impost_vm_dirty_stop(box.vm, 0));
	box_close(&box);
}

/* --- descriptors --- */

/* Each descriptor that the library or the hypervisor opens goes away in a program that is started.
 */
Test(descriptors, are_closed_on_exec)
{
	uint32_t looked = 0, before;
	struct dirent *entry;
	struct box box;
	bool *had;
	DIR *dir;

	had = calloc(1024, sizeof(*had));
	cr_assert_not_null(had);
	for (int fd = 0; fd < 1024; fd++)
		had[fd] = fcntl(fd, F_GETFD) >= 0;
	before = count_fds();
	box_open(&box, 2, IMPOST_IRQCHIP_DEFAULT);
	dir = opendir("/proc/self/fd");
	cr_assert_not_null(dir);
	while ((entry = readdir(dir))) {
		const int fd = atoi(entry->d_name);

		if (entry->d_name[0] == '.' || had[fd])
			continue;
		looked++;
		cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC, "descriptor %d stays open", fd);
	}
	closedir(dir);
	cr_assert_geq(looked, 1u);
	box_close(&box);
	cr_assert_eq(count_fds(), before, "descriptors are left");
	free(had);
}

/* A fork has no part in the VM: its calls fail, and the VM does not notice. */
Test(descriptors, a_fork_is_refused)
{
	struct impost_x86_regs regs = {.size = 0};
	struct impost_exit exit;
	struct box box;
	int status;
	pid_t pid;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (!pid) {
		bool fine = impost_vcpu_get_regs(box.vcpu, &regs) == -IMPOST_EFORKED &&
			    impost_vcpu_run(box.vcpu, &exit) == -IMPOST_EFORKED &&
			    impost_vcpu_kick(box.vcpu) == -IMPOST_EFORKED &&
			    impost_vm_pause(box.vm) < 0 &&
			    impost_memory_remove(box.memory, 0) == -IMPOST_EFORKED;

		_exit(fine ? 0 : 1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a call was not refused");
	OK(&box, impost_vcpu_get_regs(box.vcpu, &regs));
	OK(&box, impost_vcpu_kick(box.vcpu));
	run_to(&box, box.vcpu, IMPOST_EXIT_INTR, &exit);
	box_close(&box);
}

/* The host's eventfds stay the host's: they can be closed, and nothing of them is left. */
Test(descriptors, eventfds_stay_the_hosts)
{
	struct impost_irqfd irqfd = {.size = sizeof(irqfd), .gsi = 5, .resample_fd = -1};
	uint32_t fds = 0;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_FULL);
	box_need(&box, IMPOST_CAP_IRQFD);
	for (int i = 0; i < 20; i++) {
		/* The first may need something for all. */
		if (i == 1)
			fds = count_fds();
		irqfd.fd = eventfd(0, EFD_CLOEXEC);
		irqfd.remove = 0;
		OK(&box, impost_vm_irqfd(box.vm, &irqfd));
		irqfd.remove = 1;
		OK(&box, impost_vm_irqfd(box.vm, &irqfd));
		cr_assert_eq(close(irqfd.fd), 0, "it was closed already");
	}
	cr_assert_eq(count_fds(), fds);
	irqfd.remove = 0;
	irqfd.fd = -1;
	LEAKS_NOTHING(&box, EBADF, impost_vm_irqfd(box.vm, &irqfd));
	box_close(&box);
}
