// SPDX-License-Identifier: Apache-2.0
/*
 * Runs first in the lab, and leaves a process behind that keeps KVM's static keys switched.
 *
 * The first VM of a kernel, and the first vCPU of some kinds, patch code that every CPU runs (the
 * key of preempt notifiers is in the scheduler), and so do the last ones that go. The kernel does
 * it by way of INT3, and QEMU's software emulation before 8.1 can go on running that INT3 when it
 * is gone from memory: a CPU that translates the code while another writes to it keeps what it read
 * (mended by "accel/tcg: Always lock pages before translation"). Then all CPUs take the trap for
 * ever, and the lab stands still. While these VMs live, no other VM is the first or the last.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The descriptor that a request gives, or a failure that is told. */
static int create(int fd, unsigned long request, const char *name)
{
	int r = ioctl(fd, request, 0);

	if (r < 0)
		perror(name);
	return r;
}

/* A vCPU whose local APIC is switched off by its base MSR, as it is by its software enable bit from
 * the start. */
static int hold_lapic_keys(int kvm)
{
	struct kvm_sregs sregs;
	int vm = create(kvm, KVM_CREATE_VM, "KVM_CREATE_VM"), vcpu;

	if (vm < 0 || create(vm, KVM_CREATE_IRQCHIP, "KVM_CREATE_IRQCHIP") < 0)
		return -1;
	vcpu = create(vm, KVM_CREATE_VCPU, "KVM_CREATE_VCPU");
	if (vcpu < 0 || ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		return -1;
	sregs.apic_base = 0;
	return ioctl(vcpu, KVM_SET_SREGS, &sregs);
}

/* A vCPU that has no local APIC. */
static int hold_no_lapic_key(int kvm)
{
	int vm = create(kvm, KVM_CREATE_VM, "KVM_CREATE_VM");

	return vm < 0 ? vm : create(vm, KVM_CREATE_VCPU, "KVM_CREATE_VCPU");
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0 || hold_lapic_keys(kvm) < 0 || hold_no_lapic_key(kvm) < 0) {
		perror("hold");
		return 1;
	}
	if (fork())
		return 0;
	for (;;)
		pause();
}
