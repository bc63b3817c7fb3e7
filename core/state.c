/* SPDX-License-Identifier: Apache-2.0 */
/* A state: named sections, judged as they are added, and what they say. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record.h"
#include "state_steps.h"
#include "text.h"
#include "vm.h"

static int no_memory(struct impost_context *ctx)
{
	return impost_error_set(ctx, -ENOMEM, "no memory for a VM's state");
}

/* --- names --- */

static const struct section_kind {
	const char *prefix; /* or the whole name, if nothing follows */
	enum state_kind kind;
	bool follows;
} kinds[] = {
	{"machine", STATE_MACHINE, false}, {"vm", STATE_VM, false},	{"vcpu.", STATE_VCPU, true},
	{"device.", STATE_DEVICE, true},   {"host.", STATE_HOST, true},
};

static bool is_name(const char *text)
{
	size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				  "0123456789_.-");

	return len > 0 && !text[len];
}

/* A decimal number as it is written: no sign, no leading zero. */
static bool parse_id(const char *text, uint32_t *ret_id)
{
	char back[16];
	unsigned long id = strtoul(text, NULL, 10);

	snprintf(back, sizeof(back), "%u", (unsigned)id);
	if (id >= UINT32_MAX || strcmp(back, text) != 0)
		return false;
	*ret_id = (uint32_t)id;
	return true;
}

/* "NAME.INSTANCE", of a device. */
static bool has_instance(const char *text)
{
	const char *dot = strrchr(text, '.');
	uint32_t instance;

	return dot && dot > text && parse_id(dot + 1, &instance);
}

/* What a section called NAME is; -EINVAL: none is called so. */
static int parse_name(struct impost_context *ctx, const char *name, struct state_section *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds) && strlen(name) < IMPOST_STATE_NAME_MAX; i++) {
		size_t len = strlen(kinds[i].prefix);
		bool ok = !strncmp(name, kinds[i].prefix, len) && is_name(name) &&
			  (name[len] != '\0') == kinds[i].follows;

		if (ok && kinds[i].kind == STATE_VCPU)
			ok = parse_id(name + len, &ret->id);
		if (ok && kinds[i].kind == STATE_DEVICE)
			ok = has_instance(name + len);
		if (!ok)
			continue;
		ret->kind = kinds[i].kind;
		snprintf(ret->name, sizeof(ret->name), "%s", name);
		return 0;
	}
	return impost_error_set(ctx, -EINVAL,
				"\"%.64s\" is no section of a state: these are machine, vm, "
				"vcpu.N, device.NAME.INSTANCE and host.NAME",
				name);
}

static const struct impost_record *record_of(enum state_kind kind)
{
	switch (kind) {
	case STATE_MACHINE:
		return state_machine_record;
	case STATE_VM:
		return state_vm_record;
	case STATE_VCPU:
		return state_vcpu_record;
	default:
		return NULL;
	}
}

/* --- judging what is decoded, beyond what its description says --- */

int state_wrong(struct impost_context *ctx, const char *name, const char *what)
{
	return impost_error_set(ctx, -IMPOST_EFORMAT, "state: section %s: %s", name, what);
}

static const char *judge_machine(const struct state_machine *m)
{
	if (!m->backend[0] || !m->cpus)
		return "it names no backend, or is of a VM without vCPUs";
	if (!m->memory || m->memory % IMPOST_PAGE_SIZE)
		return "the VM's memory is not whole pages";
	if (m->irqchip < IMPOST_IRQCHIP_NONE || m->irqchip > IMPOST_IRQCHIP_FULL)
		return "there is no such irqchip";
	if (m->nvcpus > m->cpus)
		return "it has more vCPUs than the VM was made for";
	for (uint32_t i = 1; i < m->nvcpus; i++)
		if (m->vcpus[i] <= m->vcpus[i - 1])
			return "APIC ids do not rise";
	for (uint32_t i = 0; i < m->nregions; i++) {
		const struct impost_state_region *r = &m->regions[i];

		if (!r->bytes || (r->gpa | r->bytes) % IMPOST_PAGE_SIZE ||
		    r->gpa + (r->bytes - 1) < r->gpa)
			return "a region is not of whole pages";
		if (r->flags & ~IMPOST_REGION_READONLY)
			return "a region has unknown flags";
		if (i && r->gpa - r[-1].gpa < r[-1].bytes)
			return "regions overlap, or are not in order";
		if (i && r->gpa < r[-1].gpa)
			return "regions are not in order";
	}
	return NULL;
}

/* Items of an opaque section are given to a backend together. */
static const char *judge_opaque(const struct state_opaque *items, uint32_t count)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < count; i++)
		bytes += sizeof(struct impost_x86_opaque) + items[i].nbytes;
	return bytes > STATE_SCRATCH ? "the backend's own state is too long" : NULL;
}

static const char *judge_vcpu(const struct state_section *s, struct state_vcpu *v)
{
	const struct state_xsave *x = v->xsave;
	const char *wrong = judge_opaque(v->opaque, v->nopaque);

	if (wrong)
		return wrong;
	if (v->id != s->id)
		return "it says that it is another vCPU's";
	for (uint32_t i = 0; v->nxsave && i < x->ncomponents; i++)
		if (x->component[i].offset > x->nbytes ||
		    x->component[i].bytes > x->nbytes - x->component[i].offset)
			return "an XSAVE component lies outside of the area";
	if (v->nxsave && x->nbytes < 576)
		return "the XSAVE area has less than 576 bytes";
	return state_count_entries(v);
}

static int judge(struct impost_context *ctx, const struct state_section *s)
{
	const char *wrong = NULL;

	if (s->kind == STATE_MACHINE)
		wrong = judge_machine(s->decoded);
	else if (s->kind == STATE_VM)
		wrong = judge_opaque(((const struct state_vm *)s->decoded)->opaque,
				     ((const struct state_vm *)s->decoded)->nopaque);
	else if (s->kind == STATE_VCPU)
		wrong = judge_vcpu(s, s->decoded);
	return wrong ? state_wrong(ctx, s->name, wrong) : 0;
}

/* --- sections --- */

static void free_section(struct state_section *s)
{
	if (s->decoded)
		record_free(record_of(s->kind), s->decoded);
	free(s->data);
}

static bool before(const struct state_section *a, const struct state_section *b)
{
	if (a->kind != b->kind)
		return a->kind < b->kind;
	if (a->kind == STATE_VCPU)
		return a->id < b->id;
	return strcmp(a->name, b->name) < 0;
}

/* Puts S, which is the state's from then on, in its place. */
static int insert(struct impost_state *state, const struct state_section *s)
{
	struct state_section *grown;
	uint32_t at = state->count;

	if (state->count == IMPOST_STATE_SECTIONS_MAX)
		return impost_error_set(state->ctx, -ENOSPC, "a state has %u sections at the most",
					IMPOST_STATE_SECTIONS_MAX);
	grown = realloc(state->sections, (state->count + 1) * sizeof(*grown));
	if (!grown)
		return no_memory(state->ctx);
	state->sections = grown;
	for (; at > 0 && before(s, &grown[at - 1]); at--)
		grown[at] = grown[at - 1];
	grown[at] = *s;
	state->count++;
	return 0;
}

static pthread_once_t orders_kept = PTHREAD_ONCE_INIT;

static void keep_orders(void)
{
	record_keep_orders(state_machine_record);
	record_keep_orders(state_vm_record);
	record_keep_orders(state_vcpu_record);
}

int impost_state_create(struct impost_context *ctx, struct impost_state **ret_state)
{
	struct impost_state *state;

	if (!ret_state)
		return impost_error_set(ctx, -EINVAL, "impost_state_create: ret_state is NULL");
	pthread_once(&orders_kept, keep_orders);
	state = calloc(1, sizeof(*state));
	if (!state)
		return no_memory(ctx);
	state->ctx = ctx;
	*ret_state = state;
	return 0;
}

void impost_state_free(struct impost_state *state)
{
	if (!state)
		return;
	for (uint32_t i = 0; i < state->count; i++)
		free_section(&state->sections[i]);
	free(state->sections);
	free(state);
}

static int find(const struct impost_state *state, const char *name)
{
	for (uint32_t i = 0; i < state->count; i++)
		if (strcmp(state->sections[i].name, name) == 0)
			return (int)i;
	return -1;
}

/* Copies and decodes LEN bytes at DATA into S. */
static int fill(struct impost_state *state, struct state_section *s, const void *data, size_t len)
{
	const struct impost_record *record = record_of(s->kind);
	size_t bytes;
	int err =
		record ? record_decode_new(state->ctx, record, data, len, &s->decoded, &bytes, NULL)
		       : impost_cbor_check(state->ctx, data, len);

	if (!err)
		err = judge(state->ctx, s);
	if (err)
		return err;
	s->len = len;
	s->data = malloc(len + 1);
	if (!s->data)
		return no_memory(state->ctx);
	memcpy(s->data, data, len);
	return 0;
}

int impost_state_add(struct impost_state *state, const char *name, const void *data, size_t len)
{
	struct state_section s = {.kind = STATE_MACHINE};
	int err;

	if (!state || !name || !data)
		return impost_error_set(state ? state->ctx : NULL, -EINVAL,
					"impost_state_add: an argument is NULL");
	err = parse_name(state->ctx, name, &s);
	if (!err && find(state, name) >= 0)
		err = impost_error_set(state->ctx, -EEXIST, "the state has a section %s already",
				       name);
	if (!err)
		err = fill(state, &s, data, len);
	if (!err)
		err = insert(state, &s);
	if (err)
		free_section(&s);
	return err;
}

int impost_state_at(const struct impost_state *state, uint32_t index, const char **ret_name,
		    const void **ret_data, size_t *ret_len)
{
	if (!state || index >= state->count)
		return impost_error_set(state ? state->ctx : NULL, -ENOENT,
					"the state has %u sections", state ? state->count : 0);
	if (ret_name)
		*ret_name = state->sections[index].name;
	if (ret_data)
		*ret_data = state->sections[index].data;
	if (ret_len)
		*ret_len = state->sections[index].len;
	return 0;
}

int impost_state_find(const struct impost_state *state, const char *name, const void **ret_data,
		      size_t *ret_len)
{
	int at = state && name ? find(state, name) : -1;

	if (at < 0)
		return impost_error_set(state ? state->ctx : NULL, -ENOENT,
					"the state has no section %.64s", name ? name : "(NULL)");
	return impost_state_at(state, (uint32_t)at, NULL, ret_data, ret_len);
}

/* --- what it says --- */

const struct state_section *state_section(const struct impost_state *state, enum state_kind kind,
					  uint32_t id)
{
	for (uint32_t i = 0; i < state->count; i++)
		if (state->sections[i].kind == kind && state->sections[i].id == id)
			return &state->sections[i];
	return NULL;
}

const struct state_machine *state_machine(const struct impost_state *state)
{
	const struct state_section *s = state_section(state, STATE_MACHINE, 0);

	return s ? s->decoded : NULL;
}

int state_whole(const struct impost_state *state)
{
	const struct state_machine *m = state_machine(state);
	uint32_t vcpus = 0;

	if (!m)
		return state_wrong(state->ctx, "machine", "it is missing");
	if (!state_section(state, STATE_VM, 0))
		return state_wrong(state->ctx, "vm", "it is missing");
	for (uint32_t i = 0; i < state->count; i++)
		vcpus += state->sections[i].kind == STATE_VCPU;
	for (uint32_t i = 0; i < m->nvcpus; i++)
		if (!state_section(state, STATE_VCPU, m->vcpus[i]))
			return state_wrong(state->ctx, "machine",
					   "the section of one of its vCPUs is missing");
	return vcpus == m->nvcpus
		       ? 0
		       : state_wrong(state->ctx, "machine",
				     "there are sections of vCPUs that it does not name");
}

static const struct state_machine *need_machine(const struct impost_state *state)
{
	const struct state_machine *m = state ? state_machine(state) : NULL;

	if (!m)
		state_wrong(state ? state->ctx : NULL, "machine", "it is missing");
	return m;
}

int impost_state_config(const struct impost_state *state, struct impost_vm_config *config)
{
	const struct state_machine *m = need_machine(state);
	int err;

	if (!m)
		return -IMPOST_EFORMAT;
	err = abi_check(state->ctx, "impost_vm_config", config,
			ABI_UP_TO(struct impost_vm_config, backend));
	if (err)
		return err;
	config->cpus = m->cpus;
	config->memory = m->memory;
	config->irqchip = m->irqchip;
	return 0;
}

const char *impost_state_backend(const struct impost_state *state)
{
	const struct state_machine *m = state ? state_machine(state) : NULL;

	return m ? m->backend : "";
}

int impost_state_region(const struct impost_state *state, uint32_t index,
			struct impost_state_region *ret_region)
{
	const struct state_machine *m = need_machine(state);

	if (!m || !ret_region)
		return m ? impost_error_set(state->ctx, -EINVAL,
					    "impost_state_region: ret_region is NULL")
			 : -IMPOST_EFORMAT;
	if (index >= m->nregions)
		return impost_error_set(state->ctx, -ENOENT, "the state has %u regions of memory",
					m->nregions);
	*ret_region = m->regions[index];
	return 0;
}

int impost_state_vcpu(const struct impost_state *state, uint32_t index, uint32_t *ret_id)
{
	const struct state_machine *m = need_machine(state);

	if (!m || !ret_id)
		return m ? impost_error_set(state->ctx, -EINVAL,
					    "impost_state_vcpu: ret_id is NULL")
			 : -IMPOST_EFORMAT;
	if (index >= m->nvcpus)
		return impost_error_set(state->ctx, -ENOENT, "the state has %u vCPUs", m->nvcpus);
	*ret_id = m->vcpus[index];
	return 0;
}

/* --- a VM's --- */

/* Encodes the saved form at FROM, of BYTES, as section NAME. What FROM points to is the state's
 * from then on, and FROM is zeroed. */
static int add_taken(struct impost_state *state, const char *name, void *from, size_t bytes)
{
	struct state_section s = {.kind = STATE_MACHINE};
	void *data = NULL;
	int err = parse_name(state->ctx, name, &s);

	if (!err)
		err = record_encode_new(state->ctx, record_of(s.kind), from, &data, &s.len);
	s.data = data;
	if (!err) {
		s.decoded = malloc(bytes);
		err = s.decoded ? 0 : no_memory(state->ctx);
	}
	if (!err) {
		memcpy(s.decoded, from, bytes);
		err = judge(state->ctx, &s);
	}
	if (!err)
		err = insert(state, &s);
	if (!err) {
		memset(from, 0, bytes);
		return 0;
	}
	free(s.decoded); /* what it points to is FROM's still */
	free(s.data);
	return err;
}

static int add_parts(struct impost_state *state, struct state_parts *parts)
{
	uint32_t nvcpus = parts->machine.nvcpus;
	int err = add_taken(state, "vm", &parts->vm, sizeof(parts->vm));

	for (uint32_t i = 0; !err && i < nvcpus; i++) {
		char name[IMPOST_STATE_NAME_MAX];

		snprintf(name, sizeof(name), "vcpu.%u", parts->vcpus[i].id);
		state_count_words(&parts->vcpus[i]);
		err = add_taken(state, name, &parts->vcpus[i], sizeof(parts->vcpus[i]));
	}
	return err ? err : add_taken(state, "machine", &parts->machine, sizeof(parts->machine));
}

void state_parts_free(struct state_parts *parts)
{
	for (uint32_t i = 0; parts->vcpus && i < parts->machine.nvcpus; i++)
		impost_record_release(state_vcpu_record, &parts->vcpus[i]);
	free(parts->vcpus);
	impost_record_release(state_vm_record, &parts->vm);
	impost_record_release(state_machine_record, &parts->machine);
}

int impost_state_take(struct impost_vm *vm, struct impost_state **ret_state)
{
	struct state_parts parts = {.vcpus = NULL};
	struct impost_state *state = NULL;
	int err = vm_check(vm);

	if (!err && !ret_state)
		err = impost_error_set(vm->ctx, -EINVAL, "impost_state_take: ret_state is NULL");
	if (!err)
		err = impost_state_create(vm->ctx, &state);
	if (!err)
		err = state_take_parts(vm, &parts, state);
	if (!err)
		err = add_parts(state, &parts);
	state_parts_free(&parts);
	if (err) {
		impost_state_free(state);
		return err;
	}
	*ret_state = state;
	return 0;
}
