/* SPDX-License-Identifier: Apache-2.0 */
/* Pre-flight: all that keeps a state from being loaded on a backend of this host, by name. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <impost/x86_64/cpuid.h>

#include "state_check.h"
#include "text.h"

/* --- telling --- */

/* Where WHAT stands, or belongs, among what was told: thousands of vCPUs may have it. */
static int place(const struct check *c, const char *what)
{
	int from = 0, to = c->count;

	while (from < to) {
		int middle = from + (to - from) / 2;

		if (strcmp(c->told[middle], what) < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

static int remember(struct check *c, const char *what, int at)
{
	char **grown = realloc(c->told, ((size_t)c->count + 1) * sizeof(*grown));
	char *copy = grown ? strdup(what) : NULL;

	if (grown)
		c->told = grown;
	if (!copy) {
		c->err = impost_error_set(c->ctx, -ENOMEM, "no memory to check a state");
		return c->err;
	}
	memmove(&grown[at + 1], &grown[at], (size_t)(c->count - at) * sizeof(*grown));
	grown[at] = copy;
	c->count++;
	return 0;
}

bool check_is_over(const struct check *c)
{
	return c->err || c->count >= CHECK_MISMATCHES_MAX;
}

void check_mismatch(struct check *c, const char *kind, const char *name, const char *fmt, ...)
{
	char what[128], reason[256];
	va_list ap;
	int at;

	if (check_is_over(c))
		return;
	snprintf(what, sizeof(what), "%s %s", kind, name);
	at = place(c, what);
	if ((at < c->count && strcmp(c->told[at], what) == 0) || remember(c, what, at) || !c->tell)
		return;
	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	c->tell(c->opaque, kind, name, reason);
}

/* --- the machine --- */

static bool has(const struct check *c, enum impost_cap cap)
{
	return impost_caps_has(&c->backend->caps, cap);
}

static void need(struct check *c, const char *kind, enum impost_cap cap, const char *why)
{
	if (!has(c, cap))
		check_mismatch(c, kind, impost_cap_name(cap),
			       "%s, and backend %s has none of it: %s", why, c->name,
			       impost_cap_meaning(cap));
}

static void check_vcpu_ids(struct check *c)
{
	const struct state_machine *m = c->machine;
	const struct impost_caps *caps = &c->backend->caps;
	uint32_t highest = m->nvcpus ? m->vcpus[m->nvcpus - 1] : 0;

	if (m->cpus > caps->max_vcpus)
		check_mismatch(c, "vcpus", "count",
			       "the VM was made for %u, backend %s has %u at the most", m->cpus,
			       c->name, caps->max_vcpus);
	if (highest > caps->max_vcpu_id)
		check_mismatch(c, "vcpus", "id", "there is APIC id %u, backend %s has ids up to %u",
			       highest, c->name, caps->max_vcpu_id);
	if (highest >= 255)
		need(c, "vcpus", IMPOST_CAP_X2APIC_IDS, "there are APIC ids of 255 and above");
}

static void check_regions(struct check *c)
{
	const struct state_machine *m = c->machine;
	const struct impost_caps *caps = &c->backend->caps;
	uint32_t bits = caps->phys_bits;

	if (m->nregions > caps->max_slots)
		check_mismatch(c, "memory", "regions",
			       "there are %u, backend %s has %u at the most", m->nregions, c->name,
			       caps->max_slots);
	for (uint32_t i = 0; i < m->nregions; i++) {
		const struct impost_state_region *r = &m->regions[i];
		char name[32];

		snprintf(name, sizeof(name), "0x%" PRIx64, r->gpa);
		if (bits && bits < 64 && (r->gpa + (r->bytes - 1)) >> bits)
			check_mismatch(c, "memory", name,
				       "it ends above the %u address bits of backend %s", bits,
				       c->name);
		if (r->flags && !has(c, IMPOST_CAP_MEM_READONLY) &&
		    !has(c, IMPOST_CAP_MEM_ROM_DROP))
			check_mismatch(
				c, "memory", name,
				"the guest cannot write it, and backend %s has no such memory",
				c->name);
	}
}

static void check_routes(struct check *c)
{
	const struct state_machine *m = c->machine;

	if (m->nroutes)
		need(c, "capability", IMPOST_CAP_GSI_ROUTES, "interrupt routes are set");
	for (uint32_t i = 0; i < m->nroutes; i++)
		if (m->routes[i].gsi >= c->backend->caps.max_gsis)
			check_mismatch(c, "irqchip", "gsi",
				       "there is a route for line %u, backend %s has %u",
				       m->routes[i].gsi, c->name, c->backend->caps.max_gsis);
}

/* What only BACKEND can read, on another. */
static void check_opaque(struct check *c, const struct state_opaque *items, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct state_opaque *o = &items[i];

		if (strcmp(o->backend, c->name) != 0)
			check_mismatch(c, "opaque", o->what,
				       "only backend %s can read it, and this is %s", o->backend,
				       c->name);
		else if (strcmp(o->what, "nested") == 0)
			need(c, "capability", IMPOST_CAP_NESTED,
			     "the guest runs guests of its own");
	}
}

static void check_machine(struct check *c)
{
	enum impost_cap cap = (enum impost_cap)(IMPOST_CAP_IRQCHIP_NONE + c->machine->irqchip -
						IMPOST_IRQCHIP_NONE);

	need(c, "irqchip", cap, "the VM was made so");
	check_vcpu_ids(c);
	check_regions(c);
	check_routes(c);
	if (c->vm->nclock)
		need(c, "capability", IMPOST_CAP_CLOCK, "the VM has a clock");
	check_opaque(c, c->vm->opaque, c->vm->nopaque);
}

/* --- sections of vCPUs --- */

static uint64_t area_word(const struct state_xsave *x, uint32_t offset)
{
	uint64_t word;

	memcpy(&word, x->area + offset, sizeof(word));
	return word;
}

/* Components that the guest has switched on, or that hold something (SDM vol. 1, 13.4.2). */
static void check_xcr0(struct check *c, const struct state_xsave *x)
{
	const struct impost_x86_cpuid *leaf = impost_x86_cpuid_find(c->cpuid, c->ncpuid, 0xd, 0);
	uint64_t have = leaf ? (uint64_t)leaf->edx << 32 | leaf->eax : 3;
	uint64_t missing = x->xcr0 ? (x->xcr0 | area_word(x, 512)) & ~have : 0;

	if (x->xcr0 & ~UINT64_C(3))
		need(c, "capability", IMPOST_CAP_XSAVE, "the guest uses extended state");
	for (; missing; missing &= missing - 1) {
		uint32_t bit = (uint32_t)__builtin_ctzll(missing);
		const struct impost_x86_cpuid_field *field = impost_x86_cpuid_field_at(
			0xd, 0, bit < 32 ? IMPOST_X86_EAX : IMPOST_X86_EDX, bit % 32);
		char name[24];

		snprintf(name, sizeof(name), "XCR0 bit %u", bit);
		check_mismatch(c, "xcr0", field ? field->name : name,
			       "the guest uses this state component, and backend %s has none here",
			       c->name);
	}
}

static bool within_ppm(uint32_t a, uint32_t b, uint32_t ppm)
{
	uint32_t apart = a > b ? a - b : b - a;

	return (uint64_t)apart * 1000000 <= (uint64_t)b * ppm;
}

/* The rate of a new vCPU in a VM of nothing else; 0: not to be had. */
static uint32_t new_vcpus_khz(struct check *c)
{
	struct impost_x86_tsc tsc = {.khz = 0};
	struct impost_vm_config config;
	struct impost_vcpu *vcpu;
	struct impost_vm *vm;
	uint32_t size;

	if (impost_vm_config_init(c->ctx, &config))
		return 0;
	config.backend = c->name;
	if (impost_vm_create(c->ctx, &config, &vm))
		return 0;
	if (!impost_vcpu_create(vm, 0, &vcpu)) {
		impost_vcpu_get(vcpu, IMPOST_SECTION_TSC, &tsc, sizeof(tsc), &size);
		impost_vcpu_destroy(vcpu);
	}
	impost_vm_destroy(vm);
	return tsc.khz;
}

/* Where the processor does not tell its rate the hypervisor does, of a vCPU. */
static uint32_t host_khz(struct check *c)
{
	if (!c->alone || c->backend->caps.tsc_khz)
		return c->backend->caps.tsc_khz;
	/* Once, if it fails too: thousands of vCPUs may ask. */
	if (!c->made_vcpu)
		c->new_vcpus_khz = new_vcpus_khz(c);
	c->made_vcpu = true;
	return c->new_vcpus_khz;
}

/* Kernels take what is within 250 ppm for the same rate. */
static void check_tsc(struct check *c, const struct state_tsc *tsc)
{
	uint32_t host;

	if (!tsc->khz || has(c, IMPOST_CAP_TSC_SCALING))
		return;
	host = host_khz(c);
	if (host && !within_ppm(tsc->khz, host, 250))
		check_mismatch(
			c, "tsc", "rate",
			"the guest's is %u kHz, the host's %u kHz, and backend %s cannot scale it",
			tsc->khz, host, c->name);
}

static void check_sections(struct check *c, const struct state_vcpu *v)
{
	const struct impost_x86_events *e = v->events;

	if (v->ndebugregs)
		need(c, "capability", IMPOST_CAP_DEBUGREGS, "debug registers are in the state");
	if (v->nevents)
		need(c, "capability", IMPOST_CAP_EVENTS, "pending events are in the state");
	if (v->nevents && (e->flags & IMPOST_X86_EVENTS_PAYLOAD) && e->exception.pending)
		need(c, "capability", IMPOST_CAP_EVENT_PAYLOAD, "an exception is pending");
	if (v->nevents && (e->flags & IMPOST_X86_EVENTS_SMM) && (e->smi.smm || e->smi.pending))
		need(c, "capability", IMPOST_CAP_SMM, "a vCPU is in system-management mode");
	if (v->nxsave)
		check_xcr0(c, v->xsave);
	if (v->ntsc)
		check_tsc(c, v->tsc);
	check_opaque(c, v->opaque, v->nopaque);
}

/* --- the backend --- */

static int no_memory(struct check *c)
{
	return impost_error_set(c->ctx, -ENOMEM, "no memory to check a state");
}

/* What array operation OP gave, which says how many there are: ERR and COUNT, where there is ROOM.
 * SERIAL is that of the text before the call. */
static int judge_call(struct check *c, uint64_t serial, int32_t err, const char *op, uint32_t count,
		      uint32_t room)
{
	if (err >= 0 && count > room)
		return impost_error_set(c->ctx, -EIO,
					"backend %s: %s says that it gave %u where there is room "
					"for %u",
					c->name, op, count, room);
	if (err >= 0)
		return 0;
	if (error_serial(c->ctx) == serial)
		impost_error_set(c->ctx, err, "backend %s: %s failed", c->name, op);
	return err;
}

static int ask_cpuid(struct check *c)
{
	const struct impost_backend_ops *ops = &c->backend->ops->backend;
	uint64_t serial = error_serial(c->ctx);
	uint32_t room = 0, count = 0;
	int32_t err;

	if (!ops->cpuid_supported)
		return 0;
	err = ops->cpuid_supported(c->backend->handle, NULL, 0, &room);
	if (err != -ENOSPC)
		return judge_call(c, serial, err, "cpuid_supported", room, 0);
	c->cpuid = calloc((size_t)room + 1, sizeof(*c->cpuid));
	if (!c->cpuid)
		return no_memory(c);
	serial = error_serial(c->ctx);
	err = ops->cpuid_supported(c->backend->handle, c->cpuid, room, &count);
	err = judge_call(c, serial, err, "cpuid_supported", count, room);
	c->ncpuid = err ? 0 : count;
	return err;
}

static int ask_msrs(struct check *c)
{
	const struct impost_backend_ops *ops = &c->backend->ops->backend;
	uint64_t serial = error_serial(c->ctx);
	uint32_t room = 0, count = 0;
	int32_t err;

	if (!ops->msr_list)
		return 0;
	err = ops->msr_list(c->backend->handle, NULL, 0, &room);
	if (err != -ENOSPC)
		return judge_call(c, serial, err, "msr_list", room, 0);
	c->msrs = calloc((size_t)room + 1, sizeof(*c->msrs));
	if (!c->msrs)
		return no_memory(c);
	serial = error_serial(c->ctx);
	err = ops->msr_list(c->backend->handle, c->msrs, room, &count);
	err = judge_call(c, serial, err, "msr_list", count, room);
	c->nmsrs = err ? 0 : count;
	qsort(c->msrs, c->nmsrs, sizeof(*c->msrs), check_by_number);
	return err;
}

static int ask_features(struct check *c)
{
	const struct impost_backend_ops *ops = &c->backend->ops->backend;
	uint64_t serial = error_serial(c->ctx);
	uint32_t room = 0, count = 0;
	int32_t err;

	if (!ops->feature_msrs)
		return 0;
	err = ops->feature_msrs(c->backend->handle, NULL, 0, &room);
	if (err != -ENOSPC)
		return judge_call(c, serial, err, "feature_msrs", room, 0);
	c->features = calloc((size_t)room + 1, sizeof(*c->features));
	if (!c->features)
		return no_memory(c);
	serial = error_serial(c->ctx);
	err = ops->feature_msrs(c->backend->handle, c->features, room, &count);
	err = judge_call(c, serial, err, "feature_msrs", count, room);
	c->nfeatures = err ? 0 : count;
	qsort(c->features, c->nfeatures, sizeof(*c->features), check_by_number);
	return err;
}

static int run(struct check *c)
{
	int err = ask_cpuid(c);

	if (!err)
		err = ask_msrs(c);
	if (!err)
		err = ask_features(c);
	if (err)
		return err;
	while (impost_x86_cpuid_field(c->nfields))
		c->nfields++;
	check_machine(c);
	for (uint32_t i = 0; i < c->machine->nvcpus && !check_is_over(c); i++) {
		const struct state_vcpu *v =
			state_section(c->state, STATE_VCPU, c->machine->vcpus[i])->decoded;

		check_sections(c, v);
		check_cpuid(c, v);
		check_msrs(c, v);
	}
	return c->err ? c->err : c->count;
}

static int check_on(const struct impost_state *state, const struct backend *backend, bool alone,
		    impost_state_mismatch_fn tell, void *opaque)
{
	struct check c = {
		.ctx = state->ctx,
		.state = state,
		.backend = backend,
		.name = backend->plugin->name,
		.alone = alone,
		.tell = tell,
		.opaque = opaque,
	};
	int err = state_whole(state);

	if (err)
		return err;
	c.machine = state_machine(state);
	c.vm = state_section(state, STATE_VM, 0)->decoded;
	err = run(&c);
	for (int i = 0; i < c.count; i++)
		free(c.told[i]);
	free(c.told);
	free(c.cpuid);
	free(c.msrs);
	free(c.features);
	return err;
}

int state_check_on(const struct impost_state *state, const struct backend *backend,
		   impost_state_mismatch_fn tell, void *opaque)
{
	return check_on(state, backend, false, tell, opaque);
}

/* Opens NAME, or the first of the comma-separated names that can run here. */
static int open_first(struct impost_context *ctx, char *names, struct backend *backend)
{
	char *rest = names, *name;
	int err = impost_error_set(ctx, -EINVAL, "the list of backends is empty: name one");

	while ((name = strsep(&rest, ",")) != NULL) {
		name += strspn(name, " \t");
		name[strcspn(name, " \t")] = '\0';
		err = registry_open(ctx, name, backend);
		if (!err || err == -EINVAL || err == -ENOMEM)
			return err;
	}
	return err;
}

static int open_backend(struct impost_context *ctx, const char *wanted, struct backend *backend)
{
	char *names;
	int err;

	pthread_mutex_lock(&ctx->lock);
	ctx->registry.looked = true;
	names = strdup(wanted ? wanted : config_get(ctx, "impost", "backend"));
	err = names ? open_first(ctx, names, backend)
		    : impost_error_set(ctx, -ENOMEM, "no memory to check a state");
	pthread_mutex_unlock(&ctx->lock);
	free(names);
	return err;
}

int impost_state_check(const struct impost_state *state, const char *backend,
		       impost_state_mismatch_fn tell, void *opaque)
{
	struct backend opened = {.plugin = NULL};
	int err;

	if (!state || !state->ctx)
		return -EINVAL;
	if (context_forked(state->ctx))
		return context_refuse_fork(state->ctx);
	err = state_whole(state);
	if (!err)
		err = open_backend(state->ctx, backend, &opened);
	if (err)
		return err;
	err = check_on(state, &opened, true, tell, opaque);
	pthread_mutex_lock(&state->ctx->lock);
	registry_close(&opened);
	pthread_mutex_unlock(&state->ctx->lock);
	return err;
}
