/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table with every public function, for a host that does not link with the library: it opens it
 * with dlopen(3), and needs one dlsym(3).
 *
 *	void *library = dlopen("libimpost.so.0", RTLD_NOW | RTLD_LOCAL);
 *	impost_api_fn get = (impost_api_fn)dlsym(library, IMPOST_API_SYMBOL);
 *	const struct impost_api *api = get(IMPOST_API_VERSION);
 *	...
 *	err = api->context_open(NULL, NULL, &ctx);
 *
 * A member is named as its function is, without impost_, and is described where that one is
 * declared; examples/dlopen-host.c is a whole host.
 *
 * Versions. Functions are only ever added, at the table's end: that changes `size` and no version.
 * A host that wants to run with libraries older than the headers that it was built with asks
 * IMPOST_API_HAS(api, member) before it calls what was added later. The version changes when a
 * function that the table has is taken away, or changes what it takes, returns or means; a library
 * may have the tables of several versions.
 *
 * Inline functions of the headers that call into the library (vm.h, view.h, x86_64/boot.h) call it
 * by name, which a host without the library does not have. It sets the size and calls what is
 * inside instead
 *
 *	struct impost_vm_config config = {.size = sizeof(config)};
 *	err = api->vm_config_fill(ctx, &config);
 *
 * or, to use them as they are, gives itself the names that its linker asks for, a line for each:
 *
 *	int impost_view_read_any(struct impost_view *view, uint64_t gpa, void *buf, size_t bytes)
 *	{
 *		return api->view_read_any(view, gpa, buf, bytes);
 *	}
 *
 * The library stays in memory after dlclose(3), and so does the table: opening it again gives the
 * same. Several users of one process open it each for itself, and need not know of each other.
 */
#ifndef IMPOST_API_H
#define IMPOST_API_H

#include <stddef.h>
#include <stdint.h>

#include <impost/impost.h>

/* The version of the table below. */
#define IMPOST_API_VERSION 1

/* What dlsym(3) is asked for: of type impost_api_fn. */
#define IMPOST_API_SYMBOL "impost_api"

/* Whether the library whose table API is has the function MEMBER. */
#define IMPOST_API_HAS(api, member) \
	((api)->size >= offsetof(struct impost_api, member) + sizeof((api)->member))

/* Made by scripts/api-table from core/api.def and the headers. */
struct impost_api {
	uint32_t size;	 /* of the library's table, in bytes */
	uint32_t number; /* the number asked for */

	/* context.h */
	int (*context_open)(impost_log_fn log, void *opaque, struct impost_context **ret_ctx);
	int (*context_close)(struct impost_context *ctx);
	int (*context_load_file)(struct impost_context *ctx, const char *path);
	int (*context_load_buffer)(struct impost_context *ctx, const char *name, const char *text,
				   size_t len);
	int (*context_set)(struct impost_context *ctx, const char *section, const char *key,
			   const char *value);
	const char *(*context_get)(struct impost_context *ctx, const char *section,
				   const char *key);
	int (*context_get_number)(struct impost_context *ctx, const char *section, const char *key,
				  uint64_t *ret_number);
	int (*plugin_info)(struct impost_context *ctx, uint32_t index,
			   struct impost_plugin_info *ret_info);
	int (*backend_probe)(struct impost_context *ctx, const char *name,
			     struct impost_caps *ret_caps);
	const char *(*cap_name)(uint32_t cap);
	const char *(*cap_meaning)(uint32_t cap);

	/* device.h */
	int (*vm_add_device)(struct impost_vm *vm, const char *name, uint32_t instance,
			     const struct impost_record *record, void *runtime);
	int (*vm_remove_device)(struct impost_vm *vm, const char *name, uint32_t instance);

	/* dirty.h */
	int (*dirty_create)(struct impost_memory *memory, const struct impost_dirty_config *config,
			    struct impost_dirty **ret_dirty);
	int (*dirty_destroy)(struct impost_dirty *dirty);
	struct impost_memory *(*dirty_memory)(const struct impost_dirty *dirty);
	int (*dirty_sync)(struct impost_dirty *dirty);
	int (*dirty_take)(struct impost_dirty *dirty, struct impost_range *ranges,
			  uint64_t capacity, uint64_t *ret_count);
	int (*dirty_stats)(struct impost_dirty *dirty, struct impost_dirty_stats *ret_stats);
	int (*dirty_region)(struct impost_dirty *dirty, uint64_t gpa, uint64_t *ret_pages);

	/* error.h */
	const char *(*error)(const struct impost_context *ctx);
	int (*error_set)(struct impost_context *ctx, int err, const char *fmt, ...)
		IMPOST_PRINTF(3, 4);
	int (*error_vset)(struct impost_context *ctx, int err, const char *fmt, va_list ap)
		IMPOST_PRINTF(3, 0);
	const char *(*error_name)(int err);

	/* exit.h */
	const char *(*exit_name)(const struct impost_exit *exit);
	int (*exit_format)(const struct impost_exit *exit, char *buf, size_t size);

	/* log.h */
	const char *(*log_level_name)(uint32_t level);

	/* memory.h */
	int (*memory_create)(struct impost_context *ctx, struct impost_memory **ret_memory);
	int (*memory_destroy)(struct impost_memory *memory);
	struct impost_context *(*memory_context)(const struct impost_memory *memory);
	int (*region_fill)(struct impost_context *ctx, struct impost_region *region);
	int (*memory_add)(struct impost_memory *memory, const struct impost_region *region);
	int (*memory_remove)(struct impost_memory *memory, uint64_t gpa);
	int (*memory_get)(struct impost_memory *memory, uint32_t index,
			  struct impost_region *ret_region);
	int (*memory_ptr)(struct impost_memory *memory, uint64_t gpa, uint64_t bytes,
			  void **ret_hva);
	int (*memory_read)(struct impost_memory *memory, uint64_t gpa, void *buf, size_t bytes);
	int (*memory_write)(struct impost_memory *memory, uint64_t gpa, const void *buf,
			    size_t bytes);
	int (*memory_fill)(struct impost_memory *memory, uint64_t gpa, uint8_t byte,
			   uint64_t bytes);
	int (*memory_load_fd)(struct impost_memory *memory, uint64_t gpa, int fd, uint64_t offset,
			      uint64_t bytes, uint32_t flags, uint64_t *ret_done);
	int (*memory_store_fd)(struct impost_memory *memory, uint64_t gpa, int fd, uint64_t offset,
			       uint64_t bytes, uint32_t flags, uint64_t *ret_done);

	/* migrate.h */
	int (*migration_create)(struct impost_context *ctx,
				const struct impost_migration_config *config,
				struct impost_migration **ret_migration);
	void (*migration_destroy)(struct impost_migration *migration);
	int (*migration_send)(struct impost_migration *migration, struct impost_vm *vm);
	int (*migration_receive)(struct impost_migration *migration, struct impost_vm **ret_vm);
	int (*migration_wait)(struct impost_migration *migration);
	void (*migration_cancel)(struct impost_migration *migration);
	int (*migration_status)(struct impost_migration *migration,
				struct impost_migration_status *ret_status);
	const char *(*migration_refusal)(const struct impost_migration *migration);
	int (*migration_settle)(struct impost_migration *migration, uint32_t what);
	const char *(*migration_state_name)(uint32_t state);

	/* pages.h */
	int (*pages_zero)(struct impost_memory *memory, struct impost_range *range,
			  struct impost_range *ranges, uint64_t capacity, uint64_t *count);
	int (*pages_populated)(struct impost_memory *memory, struct impost_range *range,
			       struct impost_range *ranges, uint64_t capacity, uint64_t *count);
	int (*pages_discard)(struct impost_memory *memory, uint64_t gpa, uint64_t bytes,
			     uint32_t flags);

	/* range.h */
	int (*bitmap_ranges)(const struct impost_bitmap *bitmap, uint64_t *next,
			     struct impost_range *ranges, uint64_t capacity, uint64_t *count);
	uint64_t (*bitmap_count)(const uint64_t *words, uint64_t pages);

	/* record.h */
	int (*record_verify)(struct impost_context *ctx, const struct impost_record *record);
	int (*record_encode)(struct impost_context *ctx, const struct impost_record *record,
			     const void *saved, void *buf, size_t capacity, size_t *ret_len);
	int (*record_decode)(struct impost_context *ctx, const struct impost_record *record,
			     const void *data, size_t len, void *ret_saved, size_t capacity,
			     uint32_t *ret_version);
	int (*record_measure)(struct impost_context *ctx, const struct impost_record *record,
			      const void *data, size_t len, size_t *ret_bytes);
	void (*record_release)(const struct impost_record *record, void *saved);
	int (*record_save)(struct impost_context *ctx, const struct impost_record *record,
			   void *runtime, void *buf, size_t capacity, size_t *ret_len);
	int (*record_save_new)(struct impost_context *ctx, const struct impost_record *record,
			       void *runtime, void **ret_data, size_t *ret_len);
	int (*record_load)(struct impost_context *ctx, const struct impost_record *record,
			   void *runtime, const void *data, size_t len);
	int (*record_print)(struct impost_context *ctx, const struct impost_record *record,
			    const void *saved, impost_write_fn write, void *opaque);
	int (*record_json)(struct impost_context *ctx, const struct impost_record *record,
			   const void *saved, impost_write_fn write, void *opaque);
	int (*record_diff)(struct impost_context *ctx, const struct impost_record *record,
			   const void *a, const void *b, impost_difference_fn fn, void *opaque);
	int (*cbor_check)(struct impost_context *ctx, const void *data, size_t len);
	int (*cbor_print)(struct impost_context *ctx, const struct impost_record *record,
			  const void *data, size_t len, impost_write_fn write, void *opaque);
	int (*cbor_json)(struct impost_context *ctx, const struct impost_record *record,
			 const void *data, size_t len, impost_write_fn write, void *opaque);
	int (*cbor_diff)(struct impost_context *ctx, const struct impost_record *record,
			 const void *a, size_t a_len, const void *b, size_t b_len,
			 impost_difference_fn fn, void *opaque);
	int (*record_document)(struct impost_context *ctx, const struct impost_record *record,
			       impost_write_fn write, void *opaque);

	/* snapshot.h */
	int (*snapshot_save)(struct impost_vm *vm, const char *path,
			     const struct impost_snapshot_save_options *options,
			     struct impost_snapshot_saved *ret_saved);
	int (*snapshot_key_make)(struct impost_context *ctx, const void *secret, uint64_t bytes,
				 struct impost_snapshot_key *ret_key);
	int (*snapshot_key_read)(struct impost_context *ctx, const char *path,
				 struct impost_snapshot_key *ret_key);
	int (*snapshot_open)(struct impost_context *ctx, const char *path,
			     const struct impost_snapshot_open_options *options,
			     struct impost_snapshot **ret_snapshot);
	void (*snapshot_close)(struct impost_snapshot *snapshot);
	int (*snapshot_info)(struct impost_snapshot *snapshot,
			     struct impost_snapshot_info *ret_info);
	int (*snapshot_section)(struct impost_snapshot *snapshot, uint32_t index,
				struct impost_snapshot_section *ret_section);
	const struct impost_state *(*snapshot_state)(const struct impost_snapshot *snapshot);
	int (*snapshot_region)(struct impost_snapshot *snapshot, uint32_t index,
			       struct impost_snapshot_region *ret_region);
	int (*snapshot_extent)(struct impost_snapshot *snapshot, uint64_t *gpa,
			       struct impost_snapshot_extent *ret_extent);
	int (*snapshot_read)(struct impost_snapshot *snapshot, uint64_t gpa, void *buf,
			     uint64_t bytes);
	int (*snapshot_verify)(struct impost_snapshot *snapshot, uint32_t threads,
			       impost_snapshot_progress_fn progress, void *opaque);
	int (*snapshot_check)(struct impost_snapshot *snapshot, const char *backend,
			      impost_state_mismatch_fn mismatch, void *opaque);
	int (*snapshot_restore)(struct impost_snapshot *snapshot,
				const struct impost_snapshot_restore_options *options,
				struct impost_vm **ret_vm);
	int (*snapshot_load)(struct impost_snapshot *snapshot, struct impost_vm *vm);
	int (*snapshot_flatten)(struct impost_snapshot *snapshot, const char *path,
				const struct impost_snapshot_save_options *options,
				struct impost_snapshot_saved *ret_saved);

	/* state.h */
	int (*state_take)(struct impost_vm *vm, struct impost_state **ret_state);
	int (*state_create)(struct impost_context *ctx, struct impost_state **ret_state);
	int (*state_add)(struct impost_state *state, const char *name, const void *data,
			 size_t len);
	void (*state_free)(struct impost_state *state);
	int (*state_at)(const struct impost_state *state, uint32_t index, const char **ret_name,
			const void **ret_data, size_t *ret_len);
	int (*state_find)(const struct impost_state *state, const char *name, const void **ret_data,
			  size_t *ret_len);
	int (*state_config)(const struct impost_state *state, struct impost_vm_config *config);
	const char *(*state_backend)(const struct impost_state *state);
	int (*state_region)(const struct impost_state *state, uint32_t index,
			    struct impost_state_region *ret_region);
	int (*state_vcpu)(const struct impost_state *state, uint32_t index, uint32_t *ret_id);
	int (*state_check)(const struct impost_state *state, const char *backend,
			   impost_state_mismatch_fn mismatch, void *opaque);
	int (*state_load)(const struct impost_state *state, struct impost_vm *vm);
	int (*state_print)(const struct impost_state *state, impost_write_fn write, void *opaque);
	int (*state_json)(const struct impost_state *state, impost_write_fn write, void *opaque);
	int (*state_diff)(const struct impost_state *a, const struct impost_state *b,
			  impost_state_difference_fn difference, void *opaque);
	int (*state_document)(impost_write_fn write, void *opaque);

	/* vcpu.h */
	int (*vcpu_create)(struct impost_vm *vm, uint32_t id, struct impost_vcpu **ret_vcpu);
	int (*vcpu_destroy)(struct impost_vcpu *vcpu);
	uint32_t (*vcpu_id)(const struct impost_vcpu *vcpu);
	struct impost_vm *(*vcpu_vm)(const struct impost_vcpu *vcpu);
	int (*vcpu_run)(struct impost_vcpu *vcpu, struct impost_exit *ret_exit);
	int (*vcpu_complete)(struct impost_vcpu *vcpu, struct impost_exit *ret_exit);
	int (*vcpu_kick)(struct impost_vcpu *vcpu);
	int (*vcpu_loop)(struct impost_vcpu *vcpu, const struct impost_handlers *handlers,
			 void *opaque, struct impost_exit *ret_exit);
	int (*vcpu_nmi)(struct impost_vcpu *vcpu);
	int (*vcpu_irq_inject)(struct impost_vcpu *vcpu, uint32_t vector);
	int (*vcpu_irq_window)(struct impost_vcpu *vcpu, uint32_t on);
	int (*vcpu_guest_debug)(struct impost_vcpu *vcpu, const struct impost_guest_debug *debug);
	int (*vcpu_translate)(struct impost_vcpu *vcpu, uint64_t gva, uint64_t *ret_gpa);
	int (*vcpu_get)(struct impost_vcpu *vcpu, uint32_t section, void *buf, uint32_t capacity,
			uint32_t *ret_size);
	int (*vcpu_set)(struct impost_vcpu *vcpu, uint32_t section, const void *buf,
			uint32_t bytes);
	int (*vcpu_get_regs)(struct impost_vcpu *vcpu, struct impost_x86_regs *ret_regs);
	int (*vcpu_set_regs)(struct impost_vcpu *vcpu, const struct impost_x86_regs *regs);
	int (*vcpu_get_sregs)(struct impost_vcpu *vcpu, struct impost_x86_sregs *ret_sregs);
	int (*vcpu_set_sregs)(struct impost_vcpu *vcpu, const struct impost_x86_sregs *sregs);
	int (*vcpu_get_msrs)(struct impost_vcpu *vcpu, struct impost_x86_msr *msrs, uint32_t count,
			     uint32_t *ret_done);
	int (*vcpu_set_msrs)(struct impost_vcpu *vcpu, const struct impost_x86_msr *msrs,
			     uint32_t count, uint32_t *ret_done);
	int (*vcpu_set_cpuid)(struct impost_vcpu *vcpu, const struct impost_x86_cpuid *entries,
			      uint32_t count);
	int (*vcpu_get_cpuid)(struct impost_vcpu *vcpu, struct impost_x86_cpuid *entries,
			      uint32_t capacity, uint32_t *ret_count);

	/* version.h */
	const char *(*version)(void);

	/* view.h */
	int (*view_begin)(struct impost_memory *memory, struct impost_view *ret_view);
	void (*view_end)(struct impost_view *view);
	int (*view_read_any)(struct impost_view *view, uint64_t gpa, void *buf, uint64_t bytes);
	int (*view_write_any)(struct impost_view *view, uint64_t gpa, const void *buf,
			      uint64_t bytes);
	int (*view_load_any)(struct impost_view *view, uint64_t gpa, void *ret_value,
			     uint32_t bytes);
	int (*view_store_any)(struct impost_view *view, uint64_t gpa, const void *value,
			      uint32_t bytes);
	int (*view_ptr_any)(struct impost_view *view, uint64_t gpa, uint64_t bytes, void **ret_hva);
	int (*view_read_some)(struct impost_view *view, uint64_t gpa, void *buf, uint64_t bytes,
			      uint64_t *ret_done);
	int (*view_write_some)(struct impost_view *view, uint64_t gpa, const void *buf,
			       uint64_t bytes, uint64_t *ret_done);
	int (*view_fill)(struct impost_view *view, uint64_t gpa, uint8_t byte, uint64_t bytes);
	int (*view_read_string)(struct impost_view *view, uint64_t gpa, char *buf,
				uint64_t capacity, uint64_t *ret_length);
	int (*view_atomic)(struct impost_view *view, uint64_t gpa, uint32_t bytes, uint32_t op,
			   uint32_t order, uint64_t operand, uint64_t *ret_old);
	int (*view_compare_exchange)(struct impost_view *view, uint64_t gpa, uint32_t bytes,
				     uint32_t order, uint64_t expected, uint64_t desired,
				     uint64_t *ret_old);
	int (*view_span)(struct impost_view *view, uint64_t gpa, uint64_t bytes, void **ret_hva,
			 uint64_t *ret_len);
	int (*view_iovec)(struct impost_view *view, const struct impost_range *ranges,
			  uint64_t count, struct iovec *iov, uint64_t capacity,
			  uint64_t *ret_count);
	int (*view_mark_dirty)(struct impost_view *view, uint64_t gpa, uint64_t bytes);

	/* vm.h */
	int (*vm_config_fill)(struct impost_context *ctx, struct impost_vm_config *config);
	int (*vm_create)(struct impost_context *ctx, const struct impost_vm_config *config,
			 struct impost_vm **ret_vm);
	int (*vm_destroy)(struct impost_vm *vm);
	struct impost_context *(*vm_context)(const struct impost_vm *vm);
	struct impost_memory *(*vm_memory)(struct impost_vm *vm);
	const char *(*vm_backend)(const struct impost_vm *vm);
	const struct impost_caps *(*vm_caps)(const struct impost_vm *vm);
	const struct impost_vm_config *(*vm_config)(const struct impost_vm *vm);
	struct impost_vcpu *(*vm_vcpu)(struct impost_vm *vm, uint32_t index);
	uint32_t (*vm_irqchip)(const struct impost_vm *vm);
	int (*vm_passed_over)(const struct impost_vm *vm, uint32_t index, const char **ret_name,
			      const char **ret_reason);
	int (*vm_irq_line)(struct impost_vm *vm, uint32_t gsi, uint32_t level);
	int (*vm_msi)(struct impost_vm *vm, uint64_t address, uint32_t data);
	int (*vm_set_gsi_routes)(struct impost_vm *vm, const struct impost_gsi_route *routes,
				 uint32_t count);
	int (*vm_irqfd)(struct impost_vm *vm, const struct impost_irqfd *irqfd);
	int (*vm_ioeventfd)(struct impost_vm *vm, const struct impost_ioeventfd *ioeventfd);
	int (*vm_set_msr_exits)(struct impost_vm *vm, const struct impost_msr_range *ranges,
				uint32_t count, uint32_t unknown);
	int (*vm_io_claim)(struct impost_vm *vm, uint32_t space, uint64_t first, uint64_t last);
	int (*vm_io_release)(struct impost_vm *vm, uint32_t space, uint64_t first, uint64_t last);
	int (*vm_pause)(struct impost_vm *vm);
	int (*vm_resume)(struct impost_vm *vm);
	int (*vm_hold)(struct impost_vm *vm, uint32_t timeout_ms);
	int (*vm_release)(struct impost_vm *vm);
	int (*vm_event)(struct impost_vm *vm, struct impost_exit *ret_exit);
	int (*vm_event_fd)(struct impost_vm *vm, int *ret_fd);
	int (*vm_cpuid_supported)(struct impost_vm *vm, struct impost_x86_cpuid *entries,
				  uint32_t capacity, uint32_t *ret_count);
	int (*vm_msr_list)(struct impost_vm *vm, uint32_t *indices, uint32_t capacity,
			   uint32_t *ret_count);
	int (*vm_set_cpuid)(struct impost_vm *vm, const struct impost_x86_cpuid *entries,
			    uint32_t count);
	int (*vm_get)(struct impost_vm *vm, uint32_t section, void *buf, uint32_t capacity,
		      uint32_t *ret_size);
	int (*vm_set)(struct impost_vm *vm, uint32_t section, const void *buf, uint32_t bytes);
	int (*vm_dirty_start)(struct impost_vm *vm, uint64_t gpa);
	int (*vm_dirty_stop)(struct impost_vm *vm, uint64_t gpa);
	int (*vm_dirty_fetch)(struct impost_vm *vm, uint64_t gpa, uint64_t *bitmap,
			      uint64_t nwords);
	int (*vm_dirty_clear)(struct impost_vm *vm, uint64_t gpa, uint64_t first, uint64_t npages,
			      const uint64_t *bitmap);
	int (*vm_extension)(struct impost_vm *vm, const char *name, const void **ret_table,
			    void **ret_handle);

	/* x86_64/acpi.h */
	int (*x86_acpi_build)(struct impost_context *ctx,
			      const struct impost_x86_acpi_config *config, uint64_t rsdp_gpa,
			      uint64_t tables_gpa, void *buf, size_t capacity,
			      struct impost_x86_acpi_result *ret_result);
	int (*x86_write_acpi)(struct impost_memory *memory,
			      const struct impost_x86_acpi_config *config, uint64_t rsdp_gpa,
			      uint64_t tables_gpa, struct impost_x86_acpi_result *ret_result);

	/* x86_64/aml.h */
	int (*aml_create)(struct impost_context *ctx, void *buf, size_t capacity,
			  struct impost_aml **ret_aml);
	void (*aml_destroy)(struct impost_aml *aml);
	int (*aml_finish)(struct impost_aml *aml, const void **ret_data, size_t *ret_bytes);
	void (*aml_integer)(struct impost_aml *aml, uint64_t value);
	void (*aml_constant)(struct impost_aml *aml, uint64_t value, uint32_t bytes);
	void (*aml_string)(struct impost_aml *aml, const char *text);
	void (*aml_eisaid)(struct impost_aml *aml, const char *id);
	void (*aml_hid)(struct impost_aml *aml, const char *id);
	void (*aml_buffer)(struct impost_aml *aml, const void *data, uint32_t bytes);
	void (*aml_uuid)(struct impost_aml *aml, const char *uuid);
	void (*aml_package)(struct impost_aml *aml);
	void (*aml_ref)(struct impost_aml *aml, const char *path);
	void (*aml_name)(struct impost_aml *aml, const char *path);
	void (*aml_local)(struct impost_aml *aml, uint32_t number);
	void (*aml_arg)(struct impost_aml *aml, uint32_t number);
	void (*aml_scope)(struct impost_aml *aml, const char *path);
	void (*aml_device)(struct impost_aml *aml, const char *path);
	void (*aml_method)(struct impost_aml *aml, const char *path, uint32_t args, int serialized);
	void (*aml_if)(struct impost_aml *aml);
	void (*aml_else)(struct impost_aml *aml);
	void (*aml_while)(struct impost_aml *aml);
	void (*aml_end)(struct impost_aml *aml);
	void (*aml_region)(struct impost_aml *aml, const char *path, uint32_t space,
			   uint64_t offset, uint64_t bytes);
	void (*aml_field)(struct impost_aml *aml, const char *region, uint32_t flags);
	void (*aml_field_unit)(struct impost_aml *aml, const char *name, uint32_t bits);
	void (*aml_op)(struct impost_aml *aml, uint32_t op);
	void (*aml_resources)(struct impost_aml *aml);
	void (*aml_io)(struct impost_aml *aml, uint16_t min, uint16_t max, uint8_t align,
		       uint8_t count);
	void (*aml_memory32)(struct impost_aml *aml, uint32_t gpa, uint32_t bytes, int writable);
	void (*aml_interrupt)(struct impost_aml *aml, const uint32_t *gsis, uint32_t count,
			      uint32_t flags);
	void (*aml_window)(struct impost_aml *aml, const struct impost_aml_window *window);
	void (*aml_terms)(struct impost_aml *aml, const void *data, size_t bytes);

	/* x86_64/boot.h */
	void (*x86_boot_config_fill)(struct impost_context *ctx,
				     struct impost_x86_boot_config *config);
	int (*x86_boot_topology)(struct impost_context *ctx, uint32_t cpus,
				 struct impost_x86_topology *ret_topology);
	int (*x86_boot)(struct impost_vm *vm, struct impost_vcpu *const *vcpus, uint32_t count,
			const struct impost_x86_boot_config *config,
			struct impost_x86_boot_result *ret_result);

	/* x86_64/cpuid.h */
	void (*x86_topology_flat)(struct impost_x86_topology *ret_topology, uint32_t cpus);
	int (*x86_topology_check)(struct impost_context *ctx,
				  const struct impost_x86_topology *topology, uint32_t cpus);
	int (*x86_topology_parse)(struct impost_context *ctx, const char *text,
				  struct impost_x86_topology *ret_topology);
	uint32_t (*x86_apic_id)(const struct impost_x86_topology *topology, uint32_t index);
	const struct impost_x86_cpuid *(*x86_cpuid_find)(const struct impost_x86_cpuid *entries,
							 uint32_t count, uint32_t leaf,
							 uint32_t subleaf);
	uint32_t *(*x86_cpuid_register)(struct impost_x86_cpuid *entry, uint32_t reg);
	int (*x86_setup_cpuid)(struct impost_context *ctx,
			       const struct impost_x86_cpuid_config *config,
			       struct impost_x86_cpuid *entries, uint32_t capacity,
			       uint32_t *count);
	const struct impost_x86_cpuid_field *(*x86_cpuid_field)(uint32_t index);
	const struct impost_x86_cpuid_field *(*x86_cpuid_field_find)(const char *name);
	const struct impost_x86_cpuid_field *(*x86_cpuid_field_at)(uint32_t leaf, uint32_t subleaf,
								   uint32_t reg, uint32_t bit);
	uint32_t (*x86_cpuid_get_field)(const struct impost_x86_cpuid *entries, uint32_t count,
					const struct impost_x86_cpuid_field *field);
	const struct impost_x86_msr_info *(*x86_msr_info)(uint32_t number);
	const struct impost_x86_msr_info *(*x86_msr_info_at)(uint32_t index);
	const struct impost_x86_msr_info *(*x86_msr_info_find)(const char *name);
	const struct impost_x86_msr_field *(*x86_msr_field)(uint32_t number);
	const struct impost_x86_msr_field *(*x86_msr_field_at)(uint32_t index, uint32_t bit);
	const struct impost_x86_msr_field *(*x86_msr_field_find)(const char *name);

	/* x86_64/kernel.h */
	const char *(*x86_protocol_name)(uint32_t protocol);
	int (*x86_protocol_from_name)(const char *name, uint32_t *ret_protocol);
	const char *(*x86_mode_name)(uint32_t mode);
	int (*x86_mode_from_name)(const char *name, uint32_t *ret_mode);
	int (*x86_bzimage_parse)(struct impost_context *ctx, const void *head, size_t head_bytes,
				 uint64_t file_bytes, struct impost_x86_kernel *ret_kernel);
	int (*x86_kernel_read)(struct impost_context *ctx, int fd,
			       const struct impost_x86_kernel_want *want,
			       struct impost_x86_kernel *ret_kernel);
	int (*x86_kernel_load)(struct impost_memory *memory, struct impost_x86_layout *layout,
			       int fd, const struct impost_x86_kernel *kernel);
	int (*x86_load_initrd)(struct impost_memory *memory, struct impost_x86_layout *layout,
			       int fd, const struct impost_x86_kernel *kernel,
			       struct impost_x86_initrd *ret_initrd);
	int (*x86_cmdline_init)(struct impost_x86_cmdline *ret_cmdline,
				const struct impost_x86_kernel *kernel, char *buf,
				size_t buf_bytes);
	int (*x86_cmdline_append)(struct impost_context *ctx, struct impost_x86_cmdline *cmdline,
				  const char *words);
	int (*x86_cmdline_set)(struct impost_context *ctx, struct impost_x86_cmdline *cmdline,
			       const char *key, const char *value);
	int (*x86_write_cmdline)(struct impost_memory *memory,
				 const struct impost_x86_kernel *kernel, const char *cmdline);
	int (*x86_write_zero_page)(struct impost_memory *memory,
				   const struct impost_x86_boot_info *info);
	int (*x86_write_start_info)(struct impost_memory *memory,
				    const struct impost_x86_boot_info *info);

	/* x86_64/layout.h */
	int (*x86_split_ram)(uint64_t bytes, uint64_t hole_start, uint64_t hole_end,
			     struct impost_x86_range ret_parts[2]);
	int (*x86_add_ram)(struct impost_memory *memory, uint64_t bytes);
	int (*x86_layout_claim)(struct impost_context *ctx, struct impost_x86_layout *layout,
				const char *what, uint64_t gpa, uint64_t bytes, uint32_t type);
	int (*x86_layout_place)(struct impost_memory *memory, struct impost_x86_layout *layout,
				const struct impost_x86_want *want, uint64_t *ret_gpa);
	int (*x86_e820)(struct impost_memory *memory, const struct impost_x86_layout *layout,
			struct impost_x86_e820 *entries, uint32_t capacity, uint32_t *ret_count);

	/* x86_64/mptable.h */
	int (*x86_mptable_build)(struct impost_context *ctx,
				 const struct impost_x86_mptable_config *config, uint64_t gpa,
				 void *buf, size_t capacity, size_t *ret_bytes);

	/* x86_64/registers.h */
	int (*x86_write_gdt)(struct impost_memory *memory, uint32_t mode);
	int (*x86_paging_for)(struct impost_memory *memory, const struct impost_x86_cpuid *entries,
			      uint32_t count, struct impost_x86_paging *ret_paging);
	int (*x86_page_tables_bytes)(const struct impost_x86_paging *paging, uint64_t *ret_bytes);
	int (*x86_write_page_tables)(struct impost_memory *memory, struct impost_x86_layout *layout,
				     const struct impost_x86_paging *paging, uint64_t *ret_cr3);
	void (*x86_setup_fpu)(struct impost_x86_xsave *xsave);
	void (*x86_setup_regs)(struct impost_x86_regs *regs, const struct impost_x86_kernel *kernel,
			       uint64_t info);
	int (*x86_setup_sregs)(struct impost_x86_sregs *sregs, uint32_t mode, uint64_t entry,
			       const struct impost_x86_paging *paging, uint64_t cr3);
	void (*x86_setup_lapic)(struct impost_x86_lapic *lapic, uint32_t boot_cpu);
	void (*x86_setup_x2apic)(struct impost_x86_sregs *sregs, struct impost_x86_lapic *lapic,
				 uint32_t apic_id);
	int (*x86_setup_msrs)(struct impost_x86_msr *msrs, uint32_t capacity, uint32_t *ret_count);
	int (*x86_setup_mtrrs)(const struct impost_x86_mtrr_config *config,
			       struct impost_x86_msr *msrs, uint32_t capacity, uint32_t *ret_count);

	/* x86_64/smbios.h */
	int (*x86_smbios_build)(struct impost_context *ctx,
				const struct impost_x86_smbios_config *config, uint64_t gpa,
				void *buf, size_t capacity, size_t *ret_bytes);

	/* x86_64/template.h */
	int (*x86_template_load_file)(struct impost_context *ctx, const char *path,
				      struct impost_x86_template **ret_template);
	int (*x86_template_load_buffer)(struct impost_context *ctx, const char *name,
					const char *text, size_t len,
					struct impost_x86_template **ret_template);
	int (*x86_template_open)(struct impost_context *ctx, const char *name,
				 const struct impost_x86_cpuid *entries, uint32_t count,
				 struct impost_x86_template **ret_template);
	const char *(*x86_template_shipped)(uint32_t index);
	const char *(*x86_template_shipped_text)(const char *name);
	int (*x86_template_from_cpu)(struct impost_context *ctx, const char *name,
				     const char *summary, const struct impost_x86_cpuid *entries,
				     uint32_t count, const struct impost_x86_msr *msrs,
				     uint32_t msr_count, struct impost_x86_template **ret_template);
	int (*x86_template_probe)(struct impost_vm *vm, struct impost_x86_template **ret_template);
	int (*x86_template_baseline)(struct impost_context *ctx, const char *name,
				     const struct impost_x86_template *const *cpus, uint32_t count,
				     struct impost_x86_template **ret_template);
	void (*x86_template_free)(struct impost_x86_template *tmpl);
	const char *(*x86_template_name)(const struct impost_x86_template *tmpl);
	const char *(*x86_template_summary)(const struct impost_x86_template *tmpl);
	int (*x86_template_apply)(struct impost_context *ctx,
				  const struct impost_x86_template *tmpl,
				  struct impost_x86_cpuid *entries, uint32_t capacity,
				  uint32_t *count, impost_x86_refused_fn refused, void *opaque);
	int (*x86_template_msr)(const struct impost_x86_template *tmpl, uint32_t index,
				uint32_t *ret_msr);
	int (*x86_template_msrs)(struct impost_context *ctx, const struct impost_x86_template *tmpl,
				 const struct impost_x86_msr *have, uint32_t have_count,
				 struct impost_x86_msr *ret_msrs, uint32_t capacity,
				 uint32_t *ret_count, impost_x86_refused_fn refused, void *opaque);
	int (*x86_template_write)(const struct impost_x86_template *tmpl, impost_x86_write_fn write,
				  void *opaque);
	int (*x86_template_compare)(const struct impost_x86_template *a,
				    const struct impost_x86_template *b,
				    impost_x86_difference_fn difference, void *opaque);

	/* x86_64/vmgenid.h */
	int (*x86_vmgenid_renew)(struct impost_vm *vm, const struct impost_x86_vmgenid *vmgenid);
	int (*x86_vmgenid_add)(struct impost_vm *vm, struct impost_x86_vmgenid *vmgenid);

	/* vm.h */
	const char *(*vm_layers)(const struct impost_vm *vm);
};

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The table of version VERSION: the library's, static storage. NULL: this library has no such
 * version. Any thread.
 */
IMPOST_API const struct impost_api *impost_api(uint32_t version);

typedef const struct impost_api *(*impost_api_fn)(uint32_t version);

#ifdef __cplusplus
}
#endif

#endif
