/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What layers share: operations that pass everything on, objects for what they make, and one hook
 * around every call.
 *
 * A layer defines a struct layer_kind, an `open` that hands it to layer_open(), and its table with
 * LAYER_BACKEND_OPS(). Its hook gets each call as a number (enum layer_op), a struct of its
 * arguments (struct layer_args_SCOPE_NAME), and what makes the call below: layer_pass(). A hook
 * that does not pass a call on answers it itself: 0 with the outputs set, or an error with a text.
 */
#ifndef PLUGINS_LAYER_H
#define PLUGINS_LAYER_H

#include <impost/backend.h>

/* --- the operations, by number --- */

enum layer_op {
#define LAYER_OP(scope, name, ...)   layer_op_##scope##_##name,
#define LAYER_MAKE(scope, name, ...) layer_op_##scope##_##name,
#define LAYER_END(scope, name)	     layer_op_##scope##_##name,
#define LAYER_OTHER(scope, name)
#include "ops.def"
#undef LAYER_OP
#undef LAYER_MAKE
#undef LAYER_END
#undef LAYER_OTHER
	LAYER_OPS
};

/* "vcpu.run"; its parts are "vcpu" and "run". Static. OP is below LAYER_OPS. */
const char *layer_op_name(uint32_t op);

/* Whether WORD names OP: "vcpu.state_get", or "state_get" for the vCPU's and the VM's both. */
int layer_op_is(uint32_t op, const char *word);

/* --- their arguments: struct layer_args_vm_mark_dirty { uint64_t gpa; uint64_t bytes; } --- */

#define LAYER_MEMBERS_0()
#define LAYER_MEMBERS_1(t, n) t n;
#define LAYER_MEMBERS_2(t, n, ...) \
	t n;                       \
	LAYER_MEMBERS_1(__VA_ARGS__)
#define LAYER_MEMBERS_3(t, n, ...) \
	t n;                       \
	LAYER_MEMBERS_2(__VA_ARGS__)
#define LAYER_MEMBERS_4(t, n, ...) \
	t n;                       \
	LAYER_MEMBERS_3(__VA_ARGS__)

#define LAYER_OP(scope, name, count, ...)          \
	struct layer_args_##scope##_##name {       \
		LAYER_MEMBERS_##count(__VA_ARGS__) \
	};
#define LAYER_MAKE LAYER_OP
#define LAYER_END(scope, name)
#define LAYER_OTHER(scope, name)
#include "ops.def"
#undef LAYER_OP
#undef LAYER_MAKE
#undef LAYER_END
#undef LAYER_OTHER

/* --- objects --- */

struct layer_kind;

/* An open layer. */
struct layer {
	const struct layer_kind *kind;
	const struct impost_host *host;
	const struct impost_backend_ops *ops; /* below */
	void *below;
	const char *backend, *backend_version; /* at the bottom of the chain */
	void *data;			       /* kind->layer_bytes, like those of VM and vCPU */
};

struct layer_vm {
	struct layer *layer;
	void *below;			/* NULL until vm_create has been passed on */
	const struct impost_host *host; /* that the layer was given */
	uint32_t max_vcpus;
	uint32_t reserved;
	void *data;
};

struct layer_vcpu {
	struct layer_vm *vm;
	void *below; /* NULL until vcpu_create has been passed on */
	uint32_t id;
	uint32_t reserved;
	void *data;
};

/* A call on its way down. */
struct layer_call {
	uint32_t op;
	uint32_t reserved;
	struct layer *layer;
	struct layer_vm *vm;	 /* NULL: an operation of the backend, but for vm_create */
	struct layer_vcpu *vcpu; /* NULL: one of the VM, but for vcpu_create */
	void *args; /* struct layer_args_SCOPE_NAME, which may be changed; NULL: none */
	int32_t (*pass)(struct layer_call *call);
};

/* Makes the call below. Of vm_create and vcpu_create *ret_handle is not yet set then: the handle
 * below is in `vm` or `vcpu`. */
static inline int32_t layer_pass(struct layer_call *call)
{
	return call->pass(call);
}

/* The arguments of CALL, which is of that operation. */
#define LAYER_ARGS(call, scope, name) ((struct layer_args_##scope##_##name *)(call)->args)

/* What a layer is. Functions may be NULL, but for `call`. */
struct layer_kind {
	/* Bytes of data of its own, zeroed, at multiples of 64: of the layer, of each VM, of each
	 * vCPU. */
	size_t layer_bytes, vm_bytes, vcpu_bytes;

	/* Reads the options. On failure close is not called. */
	int32_t (*open)(struct layer *layer, const struct impost_open_args *args);
	void (*close)(struct layer *layer);

	/*
	 * The hook around each call. With vm_create and vcpu_create their object is there, and its
	 * data zeroed. destroy must be passed on and returns 0. kick comes in signal handlers too.
	 */
	int32_t (*call)(struct layer_call *call);

	/* What is in the data of a VM, or vCPU, that was destroyed or whose creation has failed. */
	void (*vm_free)(struct layer_vm *vm);
	void (*vcpu_free)(struct layer_vcpu *vcpu);

	/* An interface of the layer's own, by name; NULL: none of that name. */
	const void *(*extension)(struct layer_vm *vm, const char *name, void **ret_handle);
};

/* --- the table --- */

/* Opens a layer of KIND, for a table's `open`. */
int32_t layer_open(const struct layer_kind *kind, const struct impost_open_args *args,
		   void **ret_layer);

extern const struct impost_vm_ops layer_vm_ops;
extern const struct impost_vcpu_ops layer_vcpu_ops;
void layer_close(void *handle);
int32_t layer_caps(void *handle, struct impost_caps *ret_caps);
int32_t layer_vm_create(void *handle, const struct impost_vm_args *args, void **ret_handle);
int32_t layer_cpuid_supported(void *handle, struct impost_x86_cpuid *entries, uint32_t capacity,
			      uint32_t *ret_count);
int32_t layer_msr_list(void *handle, uint32_t *indices, uint32_t capacity, uint32_t *ret_count);
int32_t layer_feature_msrs(void *handle, struct impost_x86_msr *msrs, uint32_t capacity,
			   uint32_t *ret_count);

/* The initializer of a layer's table; OPEN_FN calls layer_open(). */
#define LAYER_BACKEND_OPS(open_fn)                                                    \
	{                                                                             \
		.size = sizeof(struct impost_backend_ops), .vm = &layer_vm_ops,       \
		.vcpu = &layer_vcpu_ops, .open = (open_fn), .close = layer_close,     \
		.caps = layer_caps, .vm_create = layer_vm_create,                     \
		.cpuid_supported = layer_cpuid_supported, .msr_list = layer_msr_list, \
		.feature_msrs = layer_feature_msrs                                    \
	}

/* The value of option KEY; NULL: it was not given. */
const struct impost_option *layer_option(const struct impost_open_args *args, const char *key);

/* The name of an error code, negated or not, as impost_error_name() has it; and the code of a name,
 * positive: 0: there is none. */
const char *layer_error_name(int32_t err);
int32_t layer_error_number(const char *name);

/* Takes CAP out of CAPS. */
static inline void layer_drop_cap(struct impost_caps *caps, enum impost_cap cap)
{
	caps->bits[(unsigned)cap / 64] &= ~(UINT64_C(1) << ((unsigned)cap % 64));
}

#endif
