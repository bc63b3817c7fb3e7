/* SPDX-License-Identifier: Apache-2.0 */
/* VMs, vCPUs and memory come and go, and leave nothing behind. */
#include <dirent.h>
#include <stdio.h>
#include <sys/mman.h>

#include "common.h"

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

static uint32_t count_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	uint32_t n = 0;
	int c;

	cr_assert_not_null(f, "/proc is not mounted");
	while ((c = fgetc(f)) != EOF)
		n += c == '\n';
	fclose(f);
	return n;
}

static void make_and_end(struct box *box)
{
	struct impost_vm_config config;
	struct impost_vm *vm;
	struct impost_vcpu *vcpu[2];

	OK(box, impost_vm_config_init(box->ctx, &config));
	config.backend = backend_name();
	config.cpus = 2;
	OK(box, impost_vm_create(box->ctx, &config, &vm));
	for (uint32_t i = 0; i < 2; i++)
		OK(box, impost_vcpu_create(vm, i, &vcpu[i]));
	REFUSED(box, EBUSY, impost_vm_destroy(vm));
	for (uint32_t i = 0; i < 2; i++)
		OK(box, impost_vcpu_destroy(vcpu[i]));
	OK(box, impost_vm_destroy(vm));
}

Test(life, nothing_is_left_behind)
{
	uint32_t fds, mappings;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	make_and_end(&box);
	fds = count_fds();
	mappings = count_mappings();
	for (int i = 0; i < 30; i++)
		make_and_end(&box);
	cr_assert_eq(count_fds(), fds);
	/* malloc may take or give back a few of its own. */
	cr_assert_leq(count_mappings(), mappings + 5);
	box_close(&box);
}

/* What has parts is not ended before them. */
Test(life, parents_outlive_their_children)
{
	struct impost_x86_regs regs = {.size = 0};
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	REFUSED(&box, EBUSY, impost_vm_destroy(box.vm));
	cr_assert_eq(impost_context_close(box.ctx), -EBUSY);
	OK(&box, impost_vcpu_get_regs(box.vcpu, &regs));
	box_close(&box);
	cr_assert_eq(impost_vcpu_destroy(NULL), 0);
	cr_assert_eq(impost_vm_destroy(NULL), 0);
}

/* Where a vCPU was, one of the same number can be, or it is refused by name; another can always. */
Test(life, a_vcpus_place_is_free_again)
{
	struct impost_vcpu *vcpu = NULL;
	struct box box;
	int r;

	box_open(&box, 2, IMPOST_IRQCHIP_DEFAULT);
	OK(&box, impost_vcpu_create(box.vm, 1, &vcpu));
	OK(&box, impost_vcpu_destroy(vcpu));
	r = impost_vcpu_create(box.vm, 1, &vcpu);
	cr_assert(r == 0 || r == -EEXIST, "%s", impost_error(box.ctx));
	if (r)
		OK(&box, impost_vcpu_create(box.vm, 2, &vcpu));
	cr_assert_eq(impost_vm_vcpu(box.vm, 1), vcpu);
	OK(&box, impost_vcpu_destroy(vcpu));
	box_close(&box);
}

/* Two VMs at once have a vCPU 0 and memory at 0 each, and share nothing. */
Test(life, two_vms_share_nothing)
{
	struct impost_x86_regs regs;
	uint32_t value = 0x11;
	struct box first, second;

	box_open(&first, 1, IMPOST_IRQCHIP_DEFAULT);
	box_open(&second, 1, IMPOST_IRQCHIP_DEFAULT);
	OK(&first, impost_memory_write(first.memory, DATA, &value, sizeof(value)));
	regs = regs_of(&first, first.vcpu);
	regs.r9 = 0x99;
	set_regs(&first, first.vcpu, &regs);
	OK(&second, impost_memory_read(second.memory, DATA, &value, sizeof(value)));
	cr_assert_eq(value, 0u);
	cr_assert_eq(regs_of(&second, second.vcpu).r9, 0u);
	box_close(&second);
	cr_assert_eq(regs_of(&first, first.vcpu).r9, 0x99u);
	box_close(&first);
}

/* The same backend says the same of itself each time. */
Test(life, capabilities_stay)
{
	struct impost_caps first;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	first = *box.caps;
	cr_assert_geq(first.max_vcpus, 1u);
	cr_assert_geq(first.max_slots, 1u);
	cr_assert_geq(first.max_vcpu_id + 1, first.max_vcpus);
	cr_assert_geq(impost_vm_irqchip(box.vm), IMPOST_IRQCHIP_NONE);
	cr_assert(!strcmp(impost_vm_backend(box.vm), backend_name()));
	box_close(&box);
	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	cr_assert_arr_eq(box.caps, &first, sizeof(first));
	box_close(&box);
}

/* Memory that is taken away is gone for the guest, and its place can be used again. */
Test(life, memory_comes_and_goes_under_the_guest)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_ANONYMOUS,
				       .gpa = HOLE,
				       .bytes = 0x3000};
	struct impost_x86_regs regs;
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	/* again: mov eax, [rdi]; out 0x80, eax; jmp again */
	enter_long(&box, box.vcpu, GUEST(0x8b, 0x07, 0xe7, 0x80, 0xeb, 0xfa));
	regs = regs_of(&box, box.vcpu);
	regs.rdi = HOLE + 0x1000;
	set_regs(&box, box.vcpu, &regs);
	for (uint32_t i = 1; i <= 20; i++) {
		OK(&box, impost_memory_add(box.memory, &region));
		OK(&box, impost_memory_write(box.memory, HOLE + 0x1000, &i, sizeof(i)));
		run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
		cr_assert_eq(*(uint32_t *)exit.u.io.data, i);
		OK(&box, impost_memory_remove(box.memory, HOLE));
		run_to(&box, box.vcpu, IMPOST_EXIT_MMIO, &exit);
		cr_assert_eq(exit.u.mmio.gpa, HOLE + 0x1000);
		memset(exit.u.mmio.data, 0xff, exit.u.mmio.size);
		run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
		cr_assert_eq(*(uint32_t *)exit.u.io.data, 0xffffffffu);
	}
	box_close(&box);
}

/* The host's own pages, and the same ones at two addresses where that is possible. */
Test(life, the_hosts_own_memory)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_POINTER,
				       .gpa = HOLE,
				       .bytes = 0x2000};
	struct impost_x86_regs regs;
	struct impost_exit exit;
	uint32_t *pages;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_MEM_HOST);
	box_need(&box, IMPOST_CAP_MEM_ALIAS);
	pages = mmap(NULL, 0x2000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(pages, MAP_FAILED);
	region.hva = pages;
	OK(&box, impost_memory_add(box.memory, &region));
	region.gpa = HOLE + 0x10000;
	OK(&box, impost_memory_add(box.memory, &region));
	pages[0] = 77;
	/* mov eax, [rdi]; inc eax; mov [rsi], eax; out 0x80, eax */
	enter_long(&box, box.vcpu, GUEST(0x8b, 0x07, 0xff, 0xc0, 0x89, 0x06, 0xe7, 0x80));
	regs = regs_of(&box, box.vcpu);
	regs.rdi = HOLE;
	regs.rsi = HOLE + 0x10004;
	set_regs(&box, box.vcpu, &regs);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(pages[1], 78u);
	OK(&box, impost_memory_remove(box.memory, HOLE));
	OK(&box, impost_memory_remove(box.memory, HOLE + 0x10000));
	munmap(pages, 0x2000);
	box_close(&box);
}
