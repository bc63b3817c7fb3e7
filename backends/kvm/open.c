/* SPDX-License-Identifier: Apache-2.0 */
/* Opens the KVM device and says, when that does not work, what to do about it. */
#include <cpuid.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "access.h"
#include "amx.h"
#include "internal.h"

#define DEVICE "/dev/kvm"

/* The number of KVM's device, whatever its name (kernel, Documentation/admin-guide/devices.txt). */
#define DEVICE_NUMBER makedev(10, 232)

/* SDM vol. 2, CPUID leaf 1; APM vol. 3, CPUID Fn8000_0001. */
#define CPUID_1_ECX_VMX	       (1u << 5)
#define CPUID_80000001_ECX_SVM (1u << 2)

const struct impost_option_desc impost_kvm_options[] = {
	{
		.size = sizeof(struct impost_option_desc),
		.type = IMPOST_OPTION_PATH,
		.key = "device",
		.default_value = DEVICE,
		.help = "the KVM device",
	},
	{
		.size = sizeof(struct impost_option_desc),
		.type = IMPOST_OPTION_ENUM,
		.key = "irqchip",
		.choices = "full|split|none",
		.default_value = "full",
		.help = "interrupt controllers inside the kernel: all, local APICs only, or none",
	},
	{
		.size = sizeof(struct impost_option_desc),
		.type = IMPOST_OPTION_BOOL,
		.key = "amx",
		.default_value = "yes",
		.help = "let guests have AMX, for which this process asks the kernel once",
	},
	{
		.size = sizeof(struct impost_option_desc),
		.type = IMPOST_OPTION_ENUM,
		.key = "dirty_log",
		.choices = "auto|manual|bitmap|ring",
		.default_value = "auto",
		.help = "how the kernel keeps dirty logs; auto: manual where there, else bitmap",
	},
	{
		.size = sizeof(struct impost_option_desc),
		.type = IMPOST_OPTION_UINT,
		.key = "dirty_ring_entries",
		.default_value = "4096",
		.help = "pages in each vCPU's dirty ring, a power of two; with dirty_log = ring",
	},
};

int32_t kvm_error(const struct impost_host *host, int err, const char *what)
{
	const char *reason = strerrordesc_np(err);

	return impost_host_error(host, -err, "%s: %s", what, reason ? reason : "unknown error");
}

int32_t kvm_ioctl(const struct impost_host *host, int fd, unsigned long request, const char *name,
		  const void *arg)
{
	int r;

	do {
		r = ioctl(fd, request, arg);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? kvm_error(host, errno, name) : r;
}

uint32_t kvm_extension(int fd, uint32_t extension)
{
	int r = ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)extension);

	return r > 0 ? (uint32_t)r : 0;
}

/* Which module drives this processor, and whether the processor offers virtualisation at all. */
static const char *module_advice(void)
{
	uint32_t eax, ebx, ecx, edx;

	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & CPUID_1_ECX_VMX))
		return "load the kernel module kvm_intel";
	if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && (ecx & CPUID_80000001_ECX_SVM))
		return "load the kernel module kvm_amd";
	return "this processor offers no virtualisation (kvm_intel, kvm_amd): enable VT-x or "
	       "AMD-V in the firmware, or nested virtualisation if this is a virtual machine";
}

#define CHECK_SETTING "check device = in [backend.kvm]: KVM's is " DEVICE

/* Whether DEVICE is meant to be KVM's, there or not: then the setting is not at fault. */
static bool is_kvms(const char *device)
{
	struct stat st;

	return strcmp(device, DEVICE) == 0 ||
	       (stat(device, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == DEVICE_NUMBER);
}

/* DEVICE is there, and does not speak KVM's interface. */
static const char *impostor_advice(const char *device)
{
	return is_kvms(device) ? "something else stands in KVM's place: remove it" : CHECK_SETTING;
}

static bool names_user(const struct group *group)
{
	struct passwd user, *found = NULL;
	char buf[4096];

	if (getpwuid_r(geteuid(), &user, buf, sizeof(buf), &found) || !found)
		return false;
	for (char **name = group->gr_mem; *name; name++)
		if (strcmp(*name, user.pw_name) == 0)
			return true;
	return false;
}

static int32_t refused_permission(const struct impost_host *host, const char *device, int err)
{
	struct kvm_access who;
	struct group group, *found = NULL;
	struct stat st;
	char buf[16384], advice[512];

	if (stat(device, &st))
		return impost_host_error(host, -EACCES,
					 "cannot open %s: permission denied on its folder", device);
	if (!is_kvms(device))
		return impost_host_error(
			host, -EACCES, "cannot open %s: permission denied: " CHECK_SETTING, device);
	who = (struct kvm_access){
		.mode = st.st_mode,
		.gid = st.st_gid,
		.passed = err == EPERM, /* EACCES is the mode's word */
		.owner = st.st_uid == geteuid(),
		.member = st.st_gid == getegid() || group_member(st.st_gid),
	};
	if (getgrgid_r(st.st_gid, &group, buf, sizeof(buf), &found) == 0 && found) {
		who.group = group.gr_name;
		who.listed = names_user(&group);
	}
	kvm_access_advice(device, &who, advice, sizeof(advice));
	return impost_host_error(host, -EACCES, "cannot open %s: permission denied: %s", device,
				 advice);
}

static int32_t refused(const struct impost_host *host, const char *device, int err)
{
	switch (err) {
	case EACCES:
	case EPERM:
		return refused_permission(host, device, err);
	case ENOENT:
	case ENOTDIR:
	case ENXIO:
	case ENODEV:
		return impost_host_error(host, -err, "cannot open %s: %s: %s", device,
					 err == ENXIO || err == ENODEV ? "no driver behind it"
								       : "no such device",
					 is_kvms(device) ? module_advice() : CHECK_SETTING);
	case EBUSY:
		return impost_host_error(host, -err,
					 "cannot open %s: busy: another hypervisor has the "
					 "processor's virtualisation: stop it",
					 device);
	default:
		return impost_host_error(host, -err, "cannot open %s: %s", device,
					 strerrordesc_np(err));
	}
}

/* A look before opening: opening a device that is no KVM can have effects of its own. */
static int32_t open_device(const struct impost_host *host, const char *device, int *ret_fd)
{
	struct stat st;
	int fd;

	if (stat(device, &st))
		return refused(host, device, errno);
	if (!S_ISCHR(st.st_mode))
		return impost_host_error(host, -ENODEV, "%s is no KVM: it is not a device: %s",
					 device, impostor_advice(device));
	fd = open(device, O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return refused(host, device, errno);
	*ret_fd = fd;
	return 0;
}

/* The features without which there is no point: all kernels since Linux 4.11 have them. */
static int32_t check_device(const struct impost_host *host, const char *device, int fd)
{
	static const struct {
		uint32_t extension;
		const char *name;
	} needed[] = {
		{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
		{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
	};
	int version = ioctl(fd, KVM_GET_API_VERSION, 0UL);
	int err = errno;

	if (version < 0)
		return impost_host_error(host, -ENODEV, "%s is no KVM: KVM_GET_API_VERSION: %s: %s",
					 device, strerrordesc_np(err), impostor_advice(device));
	if (version != KVM_API_VERSION)
		return impost_host_error(host, -ENOTSUP,
					 "%s speaks version %d of the KVM interface, not %d",
					 device, version, KVM_API_VERSION);
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!kvm_extension(fd, needed[i].extension))
			return impost_host_error(host, -ENOTSUP,
						 "%s lacks %s: the kernel is too old (4.11 or "
						 "later is needed)",
						 device, needed[i].name);
	return 0;
}

struct options {
	const char *device;
	uint32_t irqchip;
	uint32_t dirty; /* enum dirty_kind */
	uint32_t ring_entries;
	bool amx;
};

struct word {
	const char *word;
	uint32_t value;
};

/* What OPT's word stands for in the table WORDS, which ends with NULL. */
static int32_t take_word(const struct impost_host *host, const struct impost_option *opt,
			 const struct word *words, uint32_t *ret)
{
	for (; words->word; words++)
		if (strcmp(opt->value, words->word) == 0) {
			*ret = words->value;
			return 0;
		}
	return impost_host_error(host, -EINVAL, "%s: %s = %s is not known", opt->where, opt->key,
				 opt->value);
}

static int32_t take_count(const struct impost_host *host, const struct impost_option *opt,
			  uint32_t *ret)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(opt->value, &end, 0);
	if (errno || end == opt->value || *end || !value || value > UINT32_MAX)
		return impost_host_error(host, -EINVAL, "%s: %s = %s: a number above 0 is needed",
					 opt->where, opt->key, opt->value);
	*ret = (uint32_t)value;
	return 0;
}

static int32_t take_option(const struct impost_host *host, const struct impost_option *opt,
			   struct options *o)
{
	static const struct word irqchips[] = {
		{"full", IMPOST_IRQCHIP_FULL},
		{"split", IMPOST_IRQCHIP_LAPIC},
		{"none", IMPOST_IRQCHIP_NONE},
		{0},
	};
	static const struct word logs[] = {
		{"auto", DIRTY_AUTO},
		{"manual", DIRTY_MANUAL},
		{"bitmap", DIRTY_BITMAP},
		{"ring", DIRTY_RING},
		{0},
	};

	if (strcmp(opt->key, "device") == 0)
		o->device = opt->value;
	else if (strcmp(opt->key, "amx") == 0)
		o->amx = strcmp(opt->value, "1") == 0;
	else if (strcmp(opt->key, "irqchip") == 0)
		return take_word(host, opt, irqchips, &o->irqchip);
	else if (strcmp(opt->key, "dirty_log") == 0)
		return take_word(host, opt, logs, &o->dirty);
	else if (strcmp(opt->key, "dirty_ring_entries") == 0)
		return take_count(host, opt, &o->ring_entries);
	return 0;
}

static int32_t read_options(const struct impost_open_args *args, struct options *ret)
{
	struct options o = {.device = DEVICE, .irqchip = IMPOST_IRQCHIP_DEFAULT, .amx = true};

	for (uint32_t i = 0; i < args->noptions; i++) {
		int32_t r = take_option(args->host, &args->options[i], &o);

		if (r)
			return r;
	}
	*ret = o;
	return 0;
}

/* What the default irqchip comes to: what the option says if the kernel has it, or else the most.
 */
static int32_t choose_irqchip(struct backend *b, uint32_t wanted)
{
	static const struct {
		uint32_t irqchip;
		enum impost_cap cap;
		const char *word;
	} order[] = {
		{IMPOST_IRQCHIP_FULL, IMPOST_CAP_IRQCHIP_FULL, "full"},
		{IMPOST_IRQCHIP_LAPIC, IMPOST_CAP_IRQCHIP_LAPIC, "split"},
		{IMPOST_IRQCHIP_NONE, IMPOST_CAP_IRQCHIP_NONE, "none"},
	};

	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		if (wanted != IMPOST_IRQCHIP_DEFAULT && wanted != order[i].irqchip)
			continue;
		if (impost_caps_has(&b->caps, order[i].cap)) {
			b->caps.irqchip = order[i].irqchip;
			return 0;
		}
		if (wanted != IMPOST_IRQCHIP_DEFAULT)
			return impost_host_error(b->host, -ENOTSUP,
						 "irqchip = %s: this kernel's KVM has none such",
						 order[i].word);
	}
	return 0;
}

static void backend_close(void *handle)
{
	struct backend *b = handle;

	if (!b)
		return;
	if (b->fd >= 0)
		close(b->fd);
	free(b->cpuid);
	free(b);
}

static int32_t backend_open(const struct impost_open_args *args, void **ret_backend)
{
	const struct impost_host *host = args->host;
	struct backend *b;
	struct options o = {0};
	int32_t r = read_options(args, &o);

	if (r)
		return r;
	b = calloc(1, sizeof(*b));
	if (!b)
		return kvm_error(host, ENOMEM, "opening KVM");
	b->host = host;
	b->fd = -1;
	r = open_device(host, o.device, &b->fd);
	if (!r)
		r = check_device(host, o.device, b->fd);
	if (r)
		goto fail;
	r = KVM_IOCTL_VALUE(host, b->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (r < 0)
		goto fail;
	b->run_bytes = (uint32_t)r;
	b->amx = o.amx;
	if (o.amx)
		kvm_amx_ask();
	kvm_caps_fill(b);
	r = choose_irqchip(b, o.irqchip);
	if (!r)
		r = kvm_dirty_choose(b, (enum dirty_kind)o.dirty, o.ring_entries);
	if (r)
		goto fail;
	*ret_backend = b;
	return 0;
fail:
	backend_close(b);
	return r;
}

const struct impost_backend_ops impost_kvm_ops = {
	.size = sizeof(impost_kvm_ops),
	.vm = &kvm_vm_ops,
	.vcpu = &kvm_vcpu_ops,
	.open = backend_open,
	.close = backend_close,
	.caps = kvm_caps,
	.vm_create = kvm_vm_create,
	.cpuid_supported = kvm_cpuid_supported,
	.msr_list = kvm_msr_list,
	.feature_msrs = kvm_feature_msrs,
};
