/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two sides of a migration in one process, on the mock: a source whose VM has memory, vCPUs and a
 * device, a connection, and a thread that receives. And the judge of how it ended: exactly one of
 * the two can run the VM, and it is the same VM.
 *
 * A test's file that is not Criterion's defines expect_ok() and expect_true() before it includes
 * this.
 *
 *	struct pair pair;
 *
 *	pair_open(&pair, &(struct pair_setup){.cpus = 2});
 *	pair_migrate(&pair);
 *	expect_true(pair_judge(&pair) == PAIR_MOVED);
 *	pair_close(&pair);
 */
#ifndef TESTS_UNIT_MIGRATE_PAIR_H
#define TESTS_UNIT_MIGRATE_PAIR_H

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <impost/impost.h>
#include <impost/migrate.h>

#ifndef expect_ok
#include "core.h"
#endif
#ifndef expect_true
#define expect_true(condition) cr_assert(condition)
#endif
#include "random.h"

#define PAIR_PAGE  IMPOST_PAGE_SIZE
#define PAIR_BYTES (64 * PAIR_PAGE)
/* Memory that the guest cannot write. */
#define PAIR_ROM       UINT64_C(0xff000000)
#define PAIR_ROM_BYTES (2 * PAIR_PAGE)
#define PAIR_CPUS      8u
#define PAIR_WIRES     256u
/* No test waits longer for anything. */
#define PAIR_LONG_MS 20000u

struct pair;

/* Makes a connection: CHANNELS[0] is the source's, [1] the destination's. */
typedef void (*pair_wire_fn)(struct pair *pair, struct impost_migration_channel channels[2]);

/* What a pair is to be: what is 0 has a default. */
struct pair_setup {
	uint32_t cpus;	      /* 1 */
	uint64_t bytes;	      /* of RAM, which begins at 0: PAIR_BYTES */
	uint32_t kind, flags; /* of RAM: IMPOST_REGION_ANONYMOUS; _MEMFD: on both sides */
	const char *plugins;  /* folder: PLUGIN_DIR */
	pair_wire_fn wire;    /* pair_wire_unix */
	/* Of both migrations; size, channel, connect, prepare and opaque are the pair's. */
	struct impost_migration_config source, destination;
	void *opaque; /* the test's */
};

/* A device with something to save. Its steps fail when they are told to. */
struct pair_device {
	uint64_t number;
	int save_fails, load_fails; /* 0, or the error */
	long save_ns;		    /* how long it takes at least */
};

/* A thread that runs a vCPU, and writes pages in the guest's stead. */
struct pair_guest {
	struct pair *pair;
	struct impost_vcpu *vcpu;
	uint32_t number;
	pthread_t thread;
	atomic_bool stop;
	atomic_uint rounds; /* exits so far */
	int ended;	    /* what ended it: 0, or run's error */
};

struct pair {
	struct pair_setup setup;
	struct impost_context *source_ctx, *destination_ctx;
	struct impost_vm *vm;
	struct impost_vcpu *cpu[PAIR_CPUS];
	struct pair_device device, arrived_device;
	struct pair_guest guests[PAIR_CPUS];
	uint32_t nguests;
	atomic_bool kicked_enough;

	/* A migration: between pair_begin() and pair_forget(). */
	struct impost_migration *sending, *receiving;
	pthread_t receiver;
	int sent, received; /* what send and receive have returned */
	char sent_text[512], received_text[512];
	struct impost_vm *arrived; /* what receive has given */

	/* Connections: the destination takes in turn what the source has made. */
	pthread_mutex_t lock;
	pthread_cond_t offered;
	struct impost_migration_channel accepted[PAIR_WIRES];
	uint32_t noffered, ntaken;
	int fds[4 * PAIR_WIRES];
	uint32_t nfds;

	char script[32];
	int script_fd;
};

/* --- connections --- */

/* FD is closed when the migration is forgotten. */
static inline int pair_keep_fd(struct pair *pair, int fd)
{
	expect_true(fd >= 0 && pair->nfds < 4 * PAIR_WIRES);
	pair->fds[pair->nfds++] = fd;
	return fd;
}

static inline void pair_sockets(struct pair *pair, int fds[2])
{
	expect_true(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	pair_keep_fd(pair, fds[0]);
	pair_keep_fd(pair, fds[1]);
}

static inline struct impost_migration_channel pair_socket_channel(int fd)
{
	return (struct impost_migration_channel){.size = sizeof(struct impost_migration_channel),
						 .fd = fd};
}

static inline void pair_wire_unix(struct pair *pair, struct impost_migration_channel channels[2])
{
	int fds[2];

	pair_sockets(pair, fds);
	for (int i = 0; i < 2; i++)
		channels[i] = pair_socket_channel(fds[i]);
}

static inline void pair_wire_tcp(struct pair *pair, struct impost_migration_channel channels[2])
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(address);
	struct sockaddr *any = (struct sockaddr *)&address;
	int fds[2];

	expect_true(listener >= 0 && bind(listener, any, len) == 0 && listen(listener, 1) == 0);
	expect_true(getsockname(listener, any, &len) == 0);
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	expect_true(connect(fds[0], any, len) == 0);
	fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	for (int i = 0; i < 2; i++)
		channels[i] = pair_socket_channel(pair_keep_fd(pair, fds[i]));
}

/* The functions of a channel whose opaque is a socket's number. */
static inline int64_t pair_read_fd(void *opaque, void *buf, uint64_t bytes, uint32_t timeout_ms)
{
	struct pollfd ready = {.fd = (int)(intptr_t)opaque, .events = POLLIN};
	ssize_t n;

	if (poll(&ready, 1, (int)timeout_ms) <= 0)
		return -EAGAIN;
	n = recv(ready.fd, buf, bytes, MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

static inline int64_t pair_write_fd(void *opaque, const void *buf, uint64_t bytes,
				    uint32_t timeout_ms)
{
	struct pollfd ready = {.fd = (int)(intptr_t)opaque, .events = POLLOUT};
	ssize_t n;

	if (poll(&ready, 1, (int)timeout_ms) <= 0)
		return -EAGAIN;
	n = send(ready.fd, buf, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

static inline void pair_wire_functions(struct pair *pair,
				       struct impost_migration_channel channels[2])
{
	int fds[2];

	pair_sockets(pair, fds);
	for (int i = 0; i < 2; i++)
		channels[i] = (struct impost_migration_channel){
			.size = sizeof(channels[i]),
			.fd = -1,
			.read = pair_read_fd,
			.write = pair_write_fd,
			.opaque = (void *)(intptr_t)fds[i],
		};
}

/* The source makes another connection, whose other end is the destination's next. */
static inline int pair_connect(void *opaque, uint32_t timeout_ms,
			       struct impost_migration_channel *ret_channel)
{
	struct impost_migration_channel channels[2];
	struct pair *pair = opaque;

	(void)timeout_ms;
	pthread_mutex_lock(&pair->lock);
	expect_true(pair->noffered < PAIR_WIRES);
	pair->setup.wire(pair, channels);
	pair->accepted[pair->noffered++] = channels[1];
	pthread_cond_broadcast(&pair->offered);
	pthread_mutex_unlock(&pair->lock);
	*ret_channel = channels[0];
	return 0;
}

static inline int pair_accept(void *opaque, uint32_t timeout_ms,
			      struct impost_migration_channel *ret_channel)
{
	struct pair *pair = opaque;
	struct timespec until;
	int err = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	until.tv_sec += (long)(timeout_ms / 1000) + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&pair->lock);
	while (!err && pair->ntaken == pair->noffered)
		err = pthread_cond_timedwait(&pair->offered, &pair->lock, &until);
	if (!err)
		*ret_channel = pair->accepted[pair->ntaken++];
	pthread_mutex_unlock(&pair->lock);
	return -err;
}

/* --- the device --- */

struct pair_device_saved {
	uint64_t number;
	uint8_t bytes[16];
};

static inline int pair_device_save(const void *runtime, void *saved)
{
	const struct pair_device *device = runtime;
	struct pair_device_saved *to = saved;

	if (device->save_ns)
		nanosleep(&(struct timespec){.tv_nsec = device->save_ns}, NULL);
	to->number = device->number;
	memset(to->bytes, (int)(device->number & 0xff), sizeof(to->bytes));
	return device->save_fails;
}

static inline int pair_device_load(const void *saved, void *runtime)
{
	struct pair_device *device = runtime;
	int err = device->load_fails;

	device->load_fails = 0; /* what is given back does not fail */
	if (!err)
		device->number = ((const struct pair_device_saved *)saved)->number;
	return err;
}

IMPOST_FIELDS(pair_fields, IMPOST_FIELD_UINT(struct pair_device_saved, number, 1, 0, "A number"),
	      IMPOST_FIELD_BYTES(struct pair_device_saved, bytes, 1, "It again, often"))
IMPOST_RECORD(pair_record, "pair", struct pair_device_saved, 1, 1, 1, pair_fields,
	      "A device of tests", .to_saved = pair_device_save, .from_saved = pair_device_load)

/* --- the two sides --- */

/* All vCPUs read a port for ever. A guest's state has how far it is in the script, so that both
 * sides have the same. It has no name on a disk. */
static inline void pair_write_script(struct pair *pair)
{
	int fd = memfd_create("script", MFD_CLOEXEC);

	expect_true(fd >= 0);
	for (uint32_t id = 0; id < pair->setup.cpus; id++)
		dprintf(fd, "[vcpu %u]\nrepeat = forever\nin = 0x60 1\nend =\n", id);
	snprintf(pair->script, sizeof(pair->script), "/proc/self/fd/%d", fd);
	pair->script_fd = fd;
}

static inline struct impost_context *pair_context(const struct pair *pair)
{
	const char *const options[][3] = {
		{"impost", "plugin_dir", pair->setup.plugins},
		{"impost", "backend", "mock"},
		{"backend.mock", "check_entry", "no"},
		{"backend.mock", "script", pair->script},
	};
	struct impost_context *of = NULL;

	expect_true(impost_context_open(NULL, NULL, &of) == 0);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		expect_ok(of, impost_context_set(of, options[i][0], options[i][1], options[i][2]));
	return of;
}

/* Writes page NUMBER of VM's memory with what SEED says: every third is of zeros. */
static inline void pair_write_page(struct impost_vm *vm, uint64_t gpa, uint64_t seed)
{
	uint64_t words[PAIR_PAGE / 8] = {0}, state = (gpa + seed) | 1;

	for (size_t i = 0; gpa / PAIR_PAGE % 3 != 0 && i < PAIR_PAGE / 8; i++)
		words[i] = random_number(&state);
	expect_ok(impost_vm_context(vm),
		  impost_memory_write(impost_vm_memory(vm), gpa, words, PAIR_PAGE));
}

/* RAM, the last quarter of which is never touched, and a ROM. */
static inline void pair_add_memory(struct pair *pair)
{
	const struct impost_region regions[] = {
		{.size = sizeof(regions[0]),
		 .bytes = pair->setup.bytes,
		 .kind = pair->setup.kind,
		 .flags = pair->setup.flags},
		{.size = sizeof(regions[0]),
		 .gpa = PAIR_ROM,
		 .bytes = PAIR_ROM_BYTES,
		 .kind = pair->setup.kind,
		 .flags = pair->setup.flags | IMPOST_REGION_READONLY},
	};

	for (size_t i = 0; i < 2; i++) {
		uint64_t bytes = i ? regions[i].bytes : regions[i].bytes / 4 * 3;

		expect_ok(pair->source_ctx,
			  impost_memory_add(impost_vm_memory(pair->vm), &regions[i]));
		for (uint64_t at = 0; at < bytes; at += PAIR_PAGE)
			pair_write_page(pair->vm, regions[i].gpa + at, 1);
	}
}

static inline void pair_add_cpu(struct pair *pair, uint32_t id)
{
	struct impost_x86_runstate running = {sizeof(running), IMPOST_X86_RUNNING};
	struct impost_x86_regs regs = {.rip = 0x1000, .rflags = 2, .rax = 0x1234567 + id};

	expect_ok(pair->source_ctx, impost_vcpu_create(pair->vm, id, &pair->cpu[id]));
	expect_ok(pair->source_ctx, impost_vcpu_set_regs(pair->cpu[id], &regs));
	expect_ok(pair->source_ctx, impost_vcpu_set(pair->cpu[id], IMPOST_SECTION_RUNSTATE,
						    &running, sizeof(running)));
}

/* Opens both sides, and makes the source's VM. */
static inline void pair_open(struct pair *pair, const struct pair_setup *setup)
{
	struct impost_vm_config config;

	memset(pair, 0, sizeof(*pair));
	pthread_mutex_init(&pair->lock, NULL);
	pthread_cond_init(&pair->offered, NULL);
	pair->setup = *setup;
	if (!setup->cpus)
		pair->setup.cpus = 1;
	if (!setup->bytes)
		pair->setup.bytes = PAIR_BYTES;
	if (!setup->plugins)
		pair->setup.plugins = PLUGIN_DIR;
	if (!setup->wire)
		pair->setup.wire = pair_wire_unix;
	expect_true(pair->setup.cpus <= PAIR_CPUS);
	pair_write_script(pair);
	pair->source_ctx = pair_context(pair);
	pair->destination_ctx = pair_context(pair);
	if (setup->kind == IMPOST_REGION_MEMFD)
		expect_ok(pair->destination_ctx,
			  impost_context_set(pair->destination_ctx, "memory", "backing", "memfd"));
	expect_ok(pair->source_ctx, impost_vm_config_init(pair->source_ctx, &config));
	config.cpus = pair->setup.cpus;
	expect_ok(pair->source_ctx, impost_vm_create(pair->source_ctx, &config, &pair->vm));
	pair_add_memory(pair);
	for (uint32_t id = 0; id < pair->setup.cpus; id++)
		pair_add_cpu(pair, id);
	pair->device.number = 0x5eed;
	expect_ok(pair->source_ctx,
		  impost_vm_add_device(pair->vm, "pair", 0, &pair_record, &pair->device));
}

static inline void pair_destroy_vm(struct impost_vm *vm)
{
	struct impost_vcpu *vcpu;

	while ((vcpu = impost_vm_vcpu(vm, 0)))
		expect_ok(impost_vm_context(vm), impost_vcpu_destroy(vcpu));
	expect_ok(impost_vm_context(vm), impost_vm_destroy(vm));
}

/* --- guests --- */

/* As a processor writes: ThreadSanitizer sees nothing of a guest. */
__attribute__((no_sanitize("thread"))) static inline void pair_guest_store(volatile uint64_t *page,
									   uint64_t number)
{
	for (size_t i = 0; i < PAIR_PAGE / 8; i++)
		page[i] = number + i;
}

static inline void pair_guest_write(struct pair *pair, uint64_t gpa, uint64_t number)
{
	struct impost_view view;
	uint64_t bytes;
	void *page;

	expect_ok(pair->source_ctx, impost_view_begin(impost_vm_memory(pair->vm), &view));
	expect_ok(pair->source_ctx, impost_view_span(&view, gpa, PAIR_PAGE, &page, &bytes));
	if (bytes == PAIR_PAGE)
		pair_guest_store(page, number);
	impost_view_mark_dirty(&view, gpa, PAIR_PAGE);
	impost_view_end(&view);
}

/* Some pages of RAM, now one and now some in a row. The exit is in hand: nobody holds the VM. */
static inline void pair_guest_writes(struct pair_guest *guest, uint64_t *state)
{
	uint32_t pages = (uint32_t)(guest->pair->setup.bytes / PAIR_PAGE);
	uint32_t first = random_below(state, pages), count = 1 + random_below(state, 4);

	for (uint32_t i = first; i < first + count && i < pages; i++)
		pair_guest_write(guest->pair, i * (uint64_t)PAIR_PAGE, random_number(state));
}

static inline void *pair_guest_run(void *arg)
{
	const struct timespec a_little = {.tv_nsec = 50000};
	struct pair_guest *guest = arg;
	uint64_t state = guest->number + 1;
	struct impost_exit exit;

	while (!atomic_load(&guest->stop) && !guest->ended) {
		guest->ended = impost_vcpu_run(guest->vcpu, &exit);
		if (guest->ended || exit.kind != IMPOST_EXIT_IO)
			continue;
		pair_guest_writes(guest, &state);
		atomic_fetch_add(&guest->rounds, 1);
		nanosleep(&a_little, NULL); /* others get the processor too */
	}
	if (!guest->ended) /* what was in hand comes back */
		impost_vcpu_complete(guest->vcpu, &exit);
	return NULL;
}

/* From now on the source's vCPUs run, and write memory: each has begun to. Not while the VM is
 * held.
 */
static inline void pair_start_guests(struct pair *pair)
{
	for (pair->nguests = 0; pair->nguests < pair->setup.cpus; pair->nguests++) {
		struct pair_guest *guest = &pair->guests[pair->nguests];

		memset(guest, 0, sizeof(*guest));
		guest->pair = pair;
		guest->vcpu = pair->cpu[pair->nguests];
		guest->number = pair->nguests;
		expect_true(pthread_create(&guest->thread, NULL, pair_guest_run, guest) == 0);
	}
	for (uint32_t i = 0; i < pair->nguests; i++)
		while (!atomic_load(&pair->guests[i].rounds))
			nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

/* Each ends with what `ended` says: by itself, when the VM has moved. */
static inline void pair_join_guests(struct pair *pair)
{
	for (uint32_t i = 0; i < pair->nguests; i++)
		pthread_join(pair->guests[i].thread, NULL);
	pair->nguests = 0;
}

/* Not while the VM is held. */
static inline void pair_stop_guests(struct pair *pair)
{
	for (uint32_t i = 0; i < pair->nguests; i++) {
		atomic_store(&pair->guests[i].stop, true);
		impost_vcpu_kick(pair->guests[i].vcpu);
	}
	pair_join_guests(pair);
}

/* --- a migration --- */

static inline int pair_prepare(void *opaque, struct impost_vm *vm)
{
	struct pair *pair = opaque;

	return impost_vm_add_device(vm, "pair", 0, &pair_record, &pair->arrived_device);
}

/*
 * A host has no more use for a connection over which its side has failed, perhaps in the middle of
 * a word. Of each two descriptors the first is the source's.
 */
static inline void pair_hang_up(struct pair *pair, uint32_t side)
{
	pthread_mutex_lock(&pair->lock);
	for (uint32_t i = side; i < pair->nfds; i += 2)
		shutdown(pair->fds[i], SHUT_RDWR);
	pthread_mutex_unlock(&pair->lock);
}

static inline void *pair_receive(void *arg)
{
	struct pair *pair = arg;

	pair->received = impost_migration_receive(pair->receiving, &pair->arrived);
	snprintf(pair->received_text, sizeof(pair->received_text), "%s",
		 pair->received ? impost_error(pair->destination_ctx) : "");
	if (pair->received)
		pair_hang_up(pair, 1);
	return NULL;
}

static inline struct impost_migration *pair_make(struct pair *pair, struct impost_context *of,
						 const struct impost_migration_config *wanted,
						 const struct impost_migration_channel *channel,
						 impost_migration_connect_fn connect)
{
	struct impost_migration_config config = *wanted;
	struct impost_migration *migration = NULL;

	config.size = sizeof(config);
	config.channel = channel;
	config.connect = connect;
	config.opaque = pair;
	if (connect == pair_accept && !config.prepare)
		config.prepare = pair_prepare;
	expect_ok(of, impost_migration_create(of, &config, &migration));
	return migration;
}

/* Connects the two, and starts the thread that receives. */
static inline void pair_begin(struct pair *pair)
{
	struct impost_migration_channel channels[2];

	pair->setup.wire(pair, channels);
	pair->sending =
		pair_make(pair, pair->source_ctx, &pair->setup.source, &channels[0], pair_connect);
	pair->receiving = pair_make(pair, pair->destination_ctx, &pair->setup.destination,
				    &channels[1], pair_accept);
	expect_true(pthread_create(&pair->receiver, NULL, pair_receive, pair) == 0);
}

static inline int pair_send(struct pair *pair)
{
	pair->sent = impost_migration_send(pair->sending, pair->vm);
	snprintf(pair->sent_text, sizeof(pair->sent_text), "%s",
		 pair->sent ? impost_error(pair->source_ctx) : "");
	if (pair->sent)
		pair_hang_up(pair, 0);
	return pair->sent;
}

/* Waits until the destination is done, too. */
static inline void pair_end(struct pair *pair)
{
	pthread_join(pair->receiver, NULL);
}

/* All of it. */
static inline void pair_migrate(struct pair *pair)
{
	pair_begin(pair);
	pair_send(pair);
	pair_end(pair);
}

/* The migration is over, and what has arrived is no more. Another may begin, if the VM stayed. */
static inline void pair_forget(struct pair *pair)
{
	impost_migration_destroy(pair->sending);
	impost_migration_destroy(pair->receiving);
	if (pair->arrived)
		pair_destroy_vm(pair->arrived);
	for (uint32_t i = 0; i < pair->nfds; i++)
		close(pair->fds[i]);
	pair->sending = pair->receiving = NULL;
	pair->arrived = NULL;
	pair->nfds = pair->noffered = pair->ntaken = 0;
}

static inline void pair_close(struct pair *pair)
{
	pair_stop_guests(pair);
	pair_forget(pair);
	pair_destroy_vm(pair->vm);
	expect_true(impost_context_close(pair->source_ctx) == 0);
	expect_true(impost_context_close(pair->destination_ctx) == 0);
	pthread_mutex_destroy(&pair->lock);
	pthread_cond_destroy(&pair->offered);
	close(pair->script_fd);
}

/* --- the judge --- */

/* A thread of the caller's can run VCPU, which nobody else does. */
static inline void pair_expect_runs(struct impost_context *of, struct impost_vcpu *vcpu)
{
	struct impost_exit exit;

	do
		expect_ok(of, impost_vcpu_run(vcpu, &exit));
	while (exit.kind == IMPOST_EXIT_INTR); /* a kick of before */
	expect_true(exit.kind == IMPOST_EXIT_IO);
	expect_ok(of, impost_vcpu_complete(vcpu, &exit));
}

/* The source's VM is held by nobody, and each vCPU runs. */
static inline void pair_expect_source_runs(struct pair *pair)
{
	expect_ok(pair->source_ctx, impost_vm_hold(pair->vm, PAIR_LONG_MS));
	expect_ok(pair->source_ctx, impost_vm_release(pair->vm));
	for (uint32_t i = 0; i < pair->setup.cpus; i++) {
		unsigned rounds = atomic_load(&pair->guests[i].rounds);

		if (!pair->nguests)
			pair_expect_runs(pair->source_ctx, pair->cpu[i]);
		for (unsigned ms = 0; pair->nguests && ms < PAIR_LONG_MS; ms++) {
			if (atomic_load(&pair->guests[i].rounds) != rounds)
				break;
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		}
		expect_true(!pair->nguests || atomic_load(&pair->guests[i].rounds) != rounds);
	}
}

static inline void *pair_kick_often(void *arg)
{
	struct pair *pair = arg;

	while (!atomic_load(&pair->kicked_enough)) {
		impost_vcpu_kick(pair->cpu[0]);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	return NULL;
}

/* It neither runs nor is gone, whatever the host does: runs wait, until they are kicked. */
static inline void pair_expect_source_held(struct pair *pair)
{
	struct impost_exit exit;
	pthread_t kicker;

	expect_true(impost_vm_release(pair->vm) == -EINVAL);
	expect_ok(pair->source_ctx, impost_vm_hold(pair->vm, 0));
	expect_ok(pair->source_ctx, impost_vm_release(pair->vm));
	for (uint32_t i = 0; i < pair->nguests; i++) {
		unsigned rounds = atomic_load(&pair->guests[i].rounds);

		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
		expect_true(atomic_load(&pair->guests[i].rounds) == rounds);
	}
	if (pair->nguests)
		return;
	atomic_store(&pair->kicked_enough, false);
	expect_true(pthread_create(&kicker, NULL, pair_kick_often, pair) == 0);
	for (int i = 0; i < 3; i++) {
		expect_ok(pair->source_ctx, impost_vcpu_run(pair->cpu[0], &exit));
		expect_true(exit.kind == IMPOST_EXIT_INTR);
	}
	atomic_store(&pair->kicked_enough, true);
	pthread_join(kicker, NULL);
}

/* It is gone for good: for threads that run it, and for those that begin to. */
static inline void pair_expect_source_moved(struct pair *pair)
{
	bool ran = pair->nguests > 0;
	struct impost_exit exit;

	pair_join_guests(pair);
	for (uint32_t i = 0; i < pair->setup.cpus; i++) {
		expect_true(!ran || pair->guests[i].ended == -IMPOST_EMOVED);
		expect_true(impost_vcpu_run(pair->cpu[i], &exit) == -IMPOST_EMOVED);
	}
}

static inline void pair_expect_same_memory(struct impost_vm *a, struct impost_vm *b, uint64_t gpa,
					   uint64_t bytes)
{
	uint8_t x[PAIR_PAGE], y[PAIR_PAGE];

	for (uint64_t at = gpa; at < gpa + bytes; at += PAIR_PAGE) {
		expect_ok(impost_vm_context(a),
			  impost_memory_read(impost_vm_memory(a), at, x, PAIR_PAGE));
		expect_ok(impost_vm_context(b),
			  impost_memory_read(impost_vm_memory(b), at, y, PAIR_PAGE));
		if (memcmp(x, y, PAIR_PAGE) != 0)
			fprintf(stderr, "# memory differs at %#llx\n", (unsigned long long)at);
		expect_true(memcmp(x, y, PAIR_PAGE) == 0);
	}
}

/* The time at which a state was taken is its own. */
static inline void pair_tell_difference(void *opaque, const char *section, const char *path,
					const char *a, const char *b)
{
	unsigned *count = opaque;

	if (strcmp(path, "realtime_ns") == 0)
		return;
	fprintf(stderr, "# %s: %s: %s became %s\n", section, path, a, b);
	++*count;
}

/* Both sides' states are alike in everything else. */
static inline void pair_expect_same_state(struct impost_vm *a, struct impost_vm *b)
{
	struct impost_state *x = NULL, *y = NULL;
	unsigned count = 0;

	expect_ok(impost_vm_context(a), impost_state_take(a, &x));
	expect_ok(impost_vm_context(b), impost_state_take(b, &y));
	expect_true(impost_state_diff(x, y, pair_tell_difference, &count) >= 0 && count == 0);
	impost_state_free(x);
	impost_state_free(y);
}

/* What has arrived is what was sent, and runs. */
static inline void pair_expect_arrived(struct pair *pair)
{
	expect_true(pair->arrived != NULL);
	pair_expect_same_memory(pair->vm, pair->arrived, 0, pair->setup.bytes);
	pair_expect_same_memory(pair->vm, pair->arrived, PAIR_ROM, PAIR_ROM_BYTES);
	pair_expect_same_state(pair->vm, pair->arrived);
	expect_true(pair->arrived_device.number == pair->device.number);
	for (uint32_t i = 0; i < pair->setup.cpus; i++)
		pair_expect_runs(pair->destination_ctx, impost_vm_vcpu(pair->arrived, i));
}

/* How it ended. */
enum pair_end {
	PAIR_STAYED,	/* send failed, and the source runs on */
	PAIR_MOVED,	/* both know that it is the destination's */
	PAIR_UNSETTLED, /* the source did not know, and was told what the destination knew */
};

/* Exactly one side runs the VM. What has arrived is not looked at. */
static inline enum pair_end pair_judge_owner(struct pair *pair)
{
	bool arrived = pair->received == 0;

	expect_true(arrived == (pair->arrived != NULL));
	if (pair->sent == 0) {
		expect_true(arrived);
		pair_expect_source_moved(pair);
		return PAIR_MOVED;
	}
	if (pair->sent != -IMPOST_EUNSETTLED) {
		expect_true(!arrived);
		pair_expect_source_runs(pair);
		return PAIR_STAYED;
	}
	pair_expect_source_held(pair);
	expect_ok(pair->source_ctx,
		  impost_migration_settle(pair->sending, arrived ? IMPOST_MIGRATION_LEAVE
								 : IMPOST_MIGRATION_KEEP));
	if (arrived)
		pair_expect_source_moved(pair);
	else
		pair_expect_source_runs(pair);
	return PAIR_UNSETTLED;
}

/* And what has arrived is the source's VM. */
static inline enum pair_end pair_judge(struct pair *pair)
{
	enum pair_end end = pair_judge_owner(pair);

	if (pair->arrived)
		pair_expect_arrived(pair);
	return end;
}

#endif
