/* SPDX-License-Identifier: Apache-2.0 */
/* The destination of a migration, to which a test says whatever it likes. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

#include "mock.h"

#include "core.h"
#include "migrate.h"
#include "record.h"
#include "state.h"
#include "state_vm.h"

#define PAGE IMPOST_PAGE_SIZE
/* A region that the guest cannot write, with a gap below. */
#define ROM	  UINT64_C(0x800000)
#define ROM_BYTES (2 * PAGE)
#define MORE	  6u

struct talk {
	struct mock m; /* the VM that the state is of */
	struct impost_state *state;
	struct impost_context *ctx; /* the destination's */
	struct impost_migration *migration;
	struct impost_migration_config config;
	pthread_t thread;
	int fd, fds[2];
	int result;
	char text[1024];
	struct impost_vm *vm, *made; /* what came of it; and what prepare() saw */
	int prepared, prepare_says;
	/* Further connections: the source's ends, and the destination's, in order; 0: none. */
	int more[MORE], taken[MORE];
	atomic_uint offered;
	uint32_t accepted;
	struct belongings before;
};

/* --- the destination --- */

/* Descriptors, and the guest's RAM, which is of memfds: threads' stacks and what is allocated stay
 * mapped. */
static struct belongings count_own(void)
{
	struct belongings own = {.fds = count_entries("/proc/self/fd")};
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];

	while (fgets(line, sizeof(line), file))
		own.maps += strstr(line, "/memfd:") != NULL;
	fclose(file);
	return own;
}

static void expect_same_own(struct belongings before)
{
	struct belongings now = count_own();

	cr_expect(now.fds == before.fds, "%zu descriptors became %zu", before.fds, now.fds);
	cr_expect(now.maps == before.maps, "%zu mappings became %zu", before.maps, now.maps);
}

static void *receive(void *opaque)
{
	struct talk *talk = opaque;

	talk->result = impost_migration_receive(talk->migration, &talk->vm);
	snprintf(talk->text, sizeof(talk->text), "%s", impost_error(talk->ctx));
	return NULL;
}

static int prepare(void *opaque, struct impost_vm *vm)
{
	struct talk *talk = opaque;

	cr_expect(vm && impost_vm_vcpu(vm, 0));
	talk->made = vm;
	talk->prepared++;
	return talk->prepare_says;
}

static void begin(struct talk *talk)
{
	struct impost_migration_channel channel = {.size = sizeof(channel)};

	talk->before = count_own();
	cr_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, talk->fds) == 0);
	talk->fd = talk->fds[0];
	channel.fd = talk->fds[1];
	talk->config.channel = &channel;
	expect_ok(talk->ctx, impost_migration_create(talk->ctx, &talk->config, &talk->migration));
	cr_assert(pthread_create(&talk->thread, NULL, receive, talk) == 0);
}

static void destroy_vm(struct impost_vm *vm)
{
	struct impost_vcpu *vcpu;

	while ((vcpu = impost_vm_vcpu(vm, 0)))
		expect_ok(impost_vm_context(vm), impost_vcpu_destroy(vcpu));
	expect_ok(impost_vm_context(vm), impost_vm_destroy(vm));
}

/* It has ended with RESULT and WORDS. */
static void expect_end(struct talk *talk, int result, const char *words)
{
	struct impost_migration_status status = {.size = sizeof(status)};

	pthread_join(talk->thread, NULL);
	cr_expect_eq(talk->result, result, "%d, not %d: %s", talk->result, result, talk->text);
	cr_expect(strstr(result ? talk->text : "", words), "'%s' has no '%s'", talk->text, words);
	cr_expect(!result == !!talk->vm);
	cr_expect(impost_migration_status(talk->migration, &status) == 0);
	cr_expect_eq(status.state, result ? IMPOST_MIGRATION_FAILED : IMPOST_MIGRATION_DONE);
}

static void end(struct talk *talk)
{
	close(talk->fds[0]);
	close(talk->fds[1]);
	impost_migration_destroy(talk->migration);
	if (talk->vm)
		destroy_vm(talk->vm);
	talk->vm = NULL;
}

/* A VM to tell of, and a destination that can be configured still. */
static void open_talk(struct talk *talk)
{
	struct impost_region rom = {.size = sizeof(rom),
				    .gpa = ROM,
				    .bytes = ROM_BYTES,
				    .flags = IMPOST_REGION_READONLY};

	memset(talk, 0, sizeof(*talk));
	mock_open_with(&talk->m, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	expect_ok(talk->m.ctx, impost_memory_add(impost_vm_memory(talk->m.vm), &rom));
	expect_ok(talk->m.ctx, impost_state_take(talk->m.vm, &talk->state));
	cr_assert(impost_context_open(NULL, NULL, &talk->ctx) == 0);
	expect_ok(talk->ctx, impost_context_set(talk->ctx, "impost", "plugin_dir", PLUGIN_DIR));
	expect_ok(talk->ctx, impost_context_set(talk->ctx, "impost", "backend", "mock"));
	expect_ok(talk->ctx, impost_context_set(talk->ctx, "memory", "backing", "memfd"));
	talk->config = (struct impost_migration_config){
		.size = sizeof(talk->config), .prepare = prepare, .opaque = talk};
}

static void close_talk(struct talk *talk)
{
	impost_state_free(talk->state);
	cr_expect(impost_context_close(talk->ctx) == 0);
	mock_close(&talk->m);
}

/* --- the source --- */

static void say_bytes(struct talk *talk, const void *bytes, size_t len)
{
	/* The destination may have gone: what it has said tells. */
	(void)!send(talk->fd, bytes, len, MSG_NOSIGNAL);
}

static void say(struct talk *talk, uint16_t command, const void *payload, uint64_t length)
{
	const struct wire_head head = {.code = command, .length = length};

	say_bytes(talk, &head, sizeof(head));
	if (payload)
		say_bytes(talk, payload, length);
}

/* The answer's status and, in TEXT unless that is NULL, what it says. 0: none. */
static uint16_t hear(struct talk *talk, struct wire_head *head, char *text, size_t room)
{
	char skipped[1024];

	if (recv(talk->fd, head, sizeof(*head), MSG_WAITALL) != (ssize_t)sizeof(*head))
		return 0;
	if (!text) {
		text = skipped;
		room = sizeof(skipped);
	}
	text[0] = '\0';
	if (head->length) {
		cr_assert(head->length < room);
		cr_assert_eq(recv(talk->fd, text, head->length, MSG_WAITALL),
			     (ssize_t)head->length);
		text[head->length] = '\0';
	}
	return head->code;
}

static void expect_heard(struct talk *talk)
{
	struct wire_head head = {0};
	char text[4096] = "";

	cr_expect_eq(hear(talk, &head, text, sizeof(text)), WIRE_OK, "%s", text);
	cr_expect(head.length == 0 && head.version == 0 && head.features == 0);
}

static void expect_refused(struct talk *talk, const char *words)
{
	struct wire_head head = {0};
	char text[4096] = "";

	cr_expect_eq(hear(talk, &head, text, sizeof(text)), WIRE_ERROR);
	cr_expect(strstr(text, words), "'%s' has no '%s'", text, words);
}

static void start(struct talk *talk, uint16_t version, uint32_t features)
{
	const struct wire_head head = {
		.code = WIRE_START, .version = version, .features = features};
	struct wire_head answer;

	say_bytes(talk, &head, sizeof(head));
	if (version > WIRE_VERSION)
		return;
	cr_assert_eq(hear(talk, &answer, NULL, 0), WIRE_OK);
	cr_expect_eq(answer.version, version);
	cr_expect_eq(answer.features & ~features, 0);
}

static void say_config(struct talk *talk, const struct migrate_config *config)
{
	const struct migrate_config plain = {.connections = 1};
	uint64_t len = 0;
	void *data = NULL;

	expect_ok(talk->m.ctx, migrate_encode_config(talk->m.ctx, config ? config : &plain,
						     talk->state, &data, &len));
	say(talk, WIRE_CONFIG, data, len);
	free(data);
}

static void say_state(struct talk *talk)
{
	uint64_t len = 0;
	void *data = NULL;

	expect_ok(talk->m.ctx, migrate_encode_state(talk->m.ctx, talk->state, &data, &len));
	say(talk, WIRE_STATE, data, len);
	free(data);
}

#define FEATURES (IMPOST_MIGRATION_TEXTS | IMPOST_MIGRATION_ZERO_PAGES)

/* Up to where memory may come. */
static void begin_memory(struct talk *talk)
{
	begin(talk);
	start(talk, 1, FEATURES);
	say_config(talk, NULL);
	expect_heard(talk);
}

static void say_table(struct talk *talk, const struct wire_row *rows, uint64_t count)
{
	say(talk, WIRE_MEMORY, rows, count * sizeof(*rows));
}

static void finish(struct talk *talk)
{
	say_state(talk);
	expect_heard(talk);
	say(talk, WIRE_COMPLETE, NULL, 0);
	expect_heard(talk);
	expect_end(talk, 0, "");
}

static void expect_page(struct talk *talk, uint64_t gpa, uint8_t byte)
{
	uint8_t page[PAGE], want[PAGE];

	memset(want, byte, sizeof(want));
	expect_ok(talk->ctx, impost_memory_read(impost_vm_memory(talk->vm), gpa, page, PAGE));
	cr_expect(memcmp(page, want, PAGE) == 0, "at %#llx is not %u", (unsigned long long)gpa,
		  byte);
}

/* --- what goes well --- */

static void move(struct talk *talk, uint16_t version, uint32_t features)
{
	static const struct wire_row rows[] = {
		{0x10000, PAGE}, {0x3000, 2 * PAGE}, {ROM, ROM_BYTES}, {MEMORY - PAGE, PAGE}};
	static const struct wire_row zeros[] = {{0x4001, PAGE}, {0x100001, 0x100000}};
	uint8_t contents[6 * PAGE];

	begin(talk);
	start(talk, version, features);
	say_config(talk, NULL);
	expect_heard(talk);
	cr_expect_eq(talk->prepared, 1);
	say_table(talk, rows, 4);
	for (size_t i = 0; i < sizeof(contents); i++)
		contents[i] = (uint8_t)(i / PAGE + 1);
	say_bytes(talk, contents, sizeof(contents));
	expect_heard(talk);
	if (features & IMPOST_MIGRATION_ZERO_PAGES) {
		say_table(talk, zeros, 2);
		expect_heard(talk);
	}
	finish(talk);
	expect_page(talk, 0x10000, 1);
	expect_page(talk, 0x3000, 2);
	expect_page(talk, 0x4000, features & IMPOST_MIGRATION_ZERO_PAGES ? 0 : 3);
	expect_page(talk, ROM, 4);
	expect_page(talk, ROM + PAGE, 5);
	expect_page(talk, MEMORY - PAGE, 6);
	expect_page(talk, 0x100000, 0);
}

static void expect_same_state(struct talk *talk)
{
	struct impost_state *arrived = NULL;
	uint32_t id = 9;

	expect_ok(talk->ctx, impost_state_take(talk->vm, &arrived));
	cr_expect(impost_state_vcpu(arrived, 1, &id) == 0 && id == 1);
	cr_expect(impost_vcpu_id(impost_vm_vcpu(talk->vm, 1)) == 1);
	impost_state_free(arrived);
}

Test(migrate_receive, whole)
{
	struct talk talk;

	open_talk(&talk);
	move(&talk, 1, FEATURES);
	expect_same_state(&talk);
	end(&talk);
	expect_same_own(talk.before);
	close_talk(&talk);
}

/* A source that knows only the framing leaves all headers 0, and so does its destination. */
Test(migrate_receive, framing_only)
{
	struct talk talk;

	open_talk(&talk);
	move(&talk, 0, 0);
	end(&talk);
	close_talk(&talk);
}

/* --- memory that is wrong --- */

Test(migrate_receive, wrong_tables)
{
	static const struct {
		uint32_t features;
		struct wire_row row;
		const char *words;
	} cases[] = {
		{FEATURES, {MEMORY, PAGE}, "there is no memory"},
		{FEATURES, {UINT64_MAX - 0xfff, PAGE}, "there is no memory"},
		{FEATURES, {MEMORY - PAGE, 2 * PAGE}, "beyond its region"},
		{FEATURES, {ROM, ROM_BYTES + PAGE}, "beyond its region"},
		{FEATURES, {0, ROM + PAGE}, "beyond its region"},
		{FEATURES, {0x1000, UINT64_MAX - 0xfff}, "beyond its region"},
		{FEATURES, {0, 0}, "not whole pages"},
		{FEATURES, {0x1000, PAGE + 1}, "not whole pages"},
		{FEATURES, {0x1000, 512}, "not whole pages"},
		{FEATURES, {0x1004, PAGE}, "flags that were not agreed"},
		{FEATURES, {0x1002, PAGE}, "flags that were not agreed"},
		{FEATURES, {0x1003, PAGE}, "flags that were not agreed"},
		{FEATURES, {0x1800, PAGE}, "flags that were not agreed"},
		{IMPOST_MIGRATION_TEXTS, {0x1001, PAGE}, "flags that were not agreed"},
	};
	struct talk talk;

	open_talk(&talk);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* The wrong one comes behind a right one, of which nothing is read. */
		const struct wire_row rows[] = {{0, PAGE}, cases[i].row};

		begin(&talk);
		start(&talk, 1, cases[i].features);
		say_config(&talk, NULL);
		expect_heard(&talk);
		say_table(&talk, rows, 2);
		expect_refused(&talk, cases[i].words);
		expect_end(&talk, -EPROTO, cases[i].words);
		end(&talk);
		expect_same_own(talk.before);
	}
	close_talk(&talk);
}

/* A table of sixteen bytes a row would keep the destination busy for long, were they all of all. */
Test(migrate_receive, a_table_of_more_than_there_is)
{
	static const struct wire_row rows[] = {{1, MEMORY}, {ROM | 1, ROM_BYTES}, {1, PAGE}};
	struct talk talk;

	open_talk(&talk);
	begin_memory(&talk);
	say_table(&talk, rows, 2);
	expect_heard(&talk);
	say_table(&talk, rows, 3);
	expect_refused(&talk, "row 2 of a table of memory, 0x1 and 4096 bytes: with those before");
	expect_end(&talk, -EPROTO, "more than there is of memory");
	end(&talk);
	expect_same_own(talk.before);
	close_talk(&talk);
}

/* Zeros give no memory to what was never touched, and clear what was. */
Test(migrate_receive, zeros_take_no_memory)
{
	static const struct wire_row content = {0x5000, PAGE}, all = {1, MEMORY};
	struct impost_range range = {0, MEMORY}, populated[64];
	static const uint8_t page[PAGE] = {1};
	uint64_t count = 0;
	struct talk talk;

	open_talk(&talk);
	begin_memory(&talk);
	say_table(&talk, &content, 1);
	say_bytes(&talk, page, PAGE);
	expect_heard(&talk);
	say_table(&talk, &all, 1);
	expect_heard(&talk);
	finish(&talk);
	/* Before it is looked at, which gives it memory. */
	expect_ok(talk.ctx,
		  impost_pages_populated(impost_vm_memory(talk.vm), &range, populated, 64, &count));
	cr_expect(count <= 1 && (!count || populated[0].bytes <= 2 << 20), "%llu ranges",
		  (unsigned long long)count);
	expect_page(&talk, 0x5000, 0);
	end(&talk);
	close_talk(&talk);
}

/* What is known to be zero is not written again: who says so without end has the destination do
 * nothing. The byte that says so is written behind the engine's back. */
Test(migrate_receive, zeros_again)
{
	static const struct wire_row content = {0x5000, PAGE}, all = {1, MEMORY};
	static const uint8_t page[PAGE] = {1};
	struct talk talk;

	open_talk(&talk);
	begin_memory(&talk);
	for (int i = 0; i < 2; i++) {
		say_table(&talk, &content, 1);
		say_bytes(&talk, page, PAGE);
		expect_heard(&talk);
		say_table(&talk, &all, 1);
		expect_heard(&talk);
	}
	expect_ok(talk.ctx, impost_memory_fill(impost_vm_memory(talk.made), 0x5000, 7, PAGE));
	say_table(&talk, &all, 1);
	expect_heard(&talk);
	finish(&talk);
	expect_page(&talk, 0x4000, 0);
	expect_page(&talk, 0x5000, 7);
	end(&talk);
	close_talk(&talk);
}

/* A fork that cancels does nothing to its parent's. */
Test(migrate_receive, cancelled_in_a_fork)
{
	struct pollfd cancelled = {.events = POLLIN};
	struct talk talk;
	int status;
	pid_t pid;

	open_talk(&talk);
	begin_memory(&talk);
	pid = fork();
	if (pid == 0) {
		impost_migration_cancel(talk.migration);
		_exit(0);
	}
	cr_assert(waitpid(pid, &status, 0) == pid && status == 0);
	cancelled.fd = talk.migration->cancel.fd;
	cr_expect_eq(poll(&cancelled, 1, 0), 0);
	finish(&talk);
	end(&talk);
	close_talk(&talk);
}

/* --- what comes out of its order --- */

Test(migrate_receive, wrong_order)
{
	static const struct {
		uint32_t after; /* 0: nothing, 1: Start, 2: Config, 3: State */
		uint16_t command;
		uint64_t length;
		const char *words;
	} cases[] = {
		{0, WIRE_CONFIG, 1, "says Config out of its order"},
		{0, WIRE_MEMORY, 16, "says Memory out of its order"},
		{0, WIRE_JOIN, 16, "says Join out of its order"},
		{1, WIRE_START, 0, "says Start out of its order"},
		{1, WIRE_MEMORY, 16, "says Memory out of its order"},
		{1, WIRE_STATE, 16, "says State out of its order"},
		{1, WIRE_COMPLETE, 0, "says Complete out of its order"},
		{2, WIRE_CONFIG, 1, "says Config out of its order"},
		{2, WIRE_COMPLETE, 0, "says Complete before State"},
		{2, WIRE_JOIN, 16, "says Join out of its order"},
		{2, WIRE_RESUME, 16, "says Resume out of its order"},
		{2, WIRE_FAULT, 16, "says Fault out of its order"},
		{2, WIRE_POSTPONE, 16, "says Postpone though it was not agreed on"},
		{2, WIRE_MEMORY_FD, 4, "not handed over as descriptors"},
		{3, WIRE_STATE, 16, "says State twice"},
		{2, 0, 0, "command 0, which there is not"},
		{2, 8, 0, "command 0x8, which there is not"},
		{2, WIRE_COMPLETE, 1, "Complete came with a length of 1"},
		{2, WIRE_ABANDON, 1, "Abandon came with a length of 1"},
		{2, WIRE_MEMORY, 0, "Memory came with a length of 0"},
		{2, WIRE_MEMORY, 17, "Memory came with a length of 17"},
		{2, WIRE_MEMORY, (65536 + 1) * 16, "Memory came with a length"},
		{2, WIRE_MEMORY, UINT64_MAX - 15, "Memory came with a length"},
		{2, WIRE_STATE, UINT64_MAX, "State came with a length"},
		{1, WIRE_CONFIG, (64u << 20) + 1, "Config came with a length"},
	};
	struct talk talk;

	open_talk(&talk);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin(&talk);
		if (cases[i].after >= 1)
			start(&talk, 1, FEATURES);
		if (cases[i].after >= 2) {
			say_config(&talk, NULL);
			expect_heard(&talk);
		}
		if (cases[i].after >= 3) {
			say_state(&talk);
			expect_heard(&talk);
		}
		say(&talk, cases[i].command, NULL, cases[i].length);
		if (cases[i].after >= 1)
			expect_refused(&talk, cases[i].words);
		expect_end(&talk, -EPROTO, cases[i].words);
		end(&talk);
		expect_same_own(talk.before);
	}
	close_talk(&talk);
}

Test(migrate_receive, headers_that_are_not_zero)
{
	const struct wire_head heads[] = {
		{.code = WIRE_MEMORY, .version = 1, .length = 16},
		{.code = WIRE_COMPLETE, .features = 1},
	};
	struct talk talk;

	open_talk(&talk);
	for (size_t i = 0; i < 2; i++) {
		begin_memory(&talk);
		say_bytes(&talk, &heads[i], sizeof(heads[i]));
		expect_refused(&talk, "a header that is not zero");
		expect_end(&talk, -EPROTO, "a header that is not zero");
		end(&talk);
	}
	close_talk(&talk);
}

/* Nothing is agreed on, so that there is no text on the wire. */
Test(migrate_receive, unknown_version)
{
	static const struct {
		uint16_t version;
		uint32_t features;
	} cases[] = {{2, FEATURES}, {2, 0}, {0xffff, FEATURES}};
	struct wire_head head;
	struct talk talk;

	open_talk(&talk);
	for (size_t i = 0; i < 3; i++) {
		begin(&talk);
		start(&talk, cases[i].version, cases[i].features);
		cr_expect_eq(hear(&talk, &head, NULL, 0), WIRE_ERROR);
		cr_expect_eq(head.length, 0);
		expect_end(&talk, -EPROTO, "speaks version");
		end(&talk);
	}
	close_talk(&talk);
}

/* --- lengths that are announced --- */

static uint64_t mapped_kib(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	unsigned long long kib = 0;
	char line[128];

	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "VmSize: %llu", &kib) == 1)
			break;
	fclose(file);
	return kib;
}

/* Of 64 MiB that are announced no more is made room for than twice what comes. */
Test(migrate_receive, announced_and_not_sent)
{
	static const uint8_t some[100000];
	struct wire_head head;
	struct talk talk;
	uint64_t before;

	open_talk(&talk);
	/* What the first thread has allocated from stays. */
	begin(&talk);
	shutdown(talk.fd, SHUT_WR);
	expect_end(&talk, -EPIPE, "ended the connection");
	end(&talk);
	talk.config.silence_ms = 300;
	begin(&talk);
	start(&talk, 1, FEATURES);
	before = mapped_kib();
	say(&talk, WIRE_CONFIG, NULL, WIRE_PAYLOAD_MOST);
	say_bytes(&talk, some, sizeof(some));
	cr_expect_eq(hear(&talk, &head, NULL, 0), WIRE_ERROR);
	cr_expect(mapped_kib() < before + 4096);
	expect_end(&talk, -ETIMEDOUT, "silent for 300 ms");
	end(&talk);
	close_talk(&talk);
}

/* --- what ends it --- */

Test(migrate_receive, abandoned)
{
	struct talk talk;

	open_talk(&talk);
	for (uint32_t after = 0; after < 4; after++) {
		struct wire_head head;

		begin(&talk);
		if (after >= 1)
			start(&talk, 1, FEATURES);
		if (after >= 2) {
			say_config(&talk, NULL);
			expect_heard(&talk);
		}
		if (after >= 3) {
			say_state(&talk);
			expect_heard(&talk);
		}
		say(&talk, WIRE_ABANDON, NULL, 0);
		expect_end(&talk, -EREMOTEIO, "given the migration up");
		/* It is not answered. */
		shutdown(talk.fds[1], SHUT_WR);
		cr_expect_eq(hear(&talk, &head, NULL, 0), 0);
		end(&talk);
		expect_same_own(talk.before);
	}
	close_talk(&talk);
}

Test(migrate_receive, connection_ends)
{
	struct talk talk;

	open_talk(&talk);
	for (uint32_t i = 0; i < 2; i++) {
		begin_memory(&talk);
		if (i) {
			say_state(&talk);
			expect_heard(&talk);
		}
		shutdown(talk.fd, SHUT_WR);
		expect_end(&talk, -EPIPE, "has ended the connection");
		end(&talk);
		expect_same_own(talk.before);
	}
	close_talk(&talk);
}

Test(migrate_receive, silence)
{
	static const struct wire_row row = {0, 2 * PAGE};
	static const uint8_t page[PAGE];
	struct talk talk;

	open_talk(&talk);
	talk.config.silence_ms = 150;
	begin_memory(&talk);
	say_table(&talk, &row, 1);
	say_bytes(&talk, page, PAGE);
	expect_refused(&talk, "was silent for 150 ms");
	expect_end(&talk, -ETIMEDOUT, "was silent for 150 ms");
	end(&talk);
	begin_memory(&talk);
	expect_refused(&talk, "was silent for 150 ms");
	expect_end(&talk, -ETIMEDOUT, "was silent for 150 ms");
	end(&talk);
	close_talk(&talk);
}

Test(migrate_receive, cancelled)
{
	struct talk talk;

	open_talk(&talk);
	begin_memory(&talk);
	impost_migration_cancel(talk.migration);
	expect_refused(&talk, "cancelled");
	expect_end(&talk, -ECANCELED, "cancelled");
	end(&talk);
	expect_same_own(talk.before);
	close_talk(&talk);
}

/* --- what the host has to say --- */

/* Gives the vCPUs of the state two MSRs that there are not. */
static void spoil(struct talk *talk)
{
	struct impost_state *bad = NULL;
	void *data = NULL;
	size_t len = 0;

	expect_ok(talk->m.ctx, impost_state_create(talk->m.ctx, &bad));
	for (uint32_t i = 0; i < talk->state->count; i++) {
		const struct state_section *section = &talk->state->sections[i];
		struct state_vcpu *vcpu = section->decoded;

		if (section->kind != STATE_VCPU) {
			expect_ok(talk->m.ctx, impost_state_add(bad, section->name, section->data,
								section->len));
			continue;
		}
		cr_assert(vcpu->nmsrs >= 2);
		for (uint32_t k = 0; k < 2; k++) {
			vcpu->msrs[vcpu->nmsrs - 1 - k].index = 0xfff00001 - k;
			vcpu->msrs[vcpu->nmsrs - 1 - k].value = 1;
		}
		expect_ok(talk->m.ctx,
			  record_encode_new(talk->m.ctx, state_vcpu_record, vcpu, &data, &len));
		expect_ok(talk->m.ctx, impost_state_add(bad, section->name, data, len));
		free(data);
	}
	impost_state_free(talk->state);
	talk->state = bad;
}

Test(migrate_receive, cannot_run_here)
{
	static const char *const lines =
		"msr MSR 0xfff00000: it is 0x1, and backend mock has no such MSR here\n"
		"msr MSR 0xfff00001: it is 0x1, and backend mock has no such MSR";
	struct talk talk;

	open_talk(&talk);
	spoil(&talk);
	begin(&talk);
	start(&talk, 1, FEATURES);
	say_config(&talk, NULL);
	expect_refused(&talk, lines);
	expect_end(&talk, -ENOTSUP, "cannot run here, for 2 reasons: msr MSR 0xfff00000");
	cr_expect(strstr(talk.text, "here; msr MSR 0xfff00001"), "%s", talk.text);
	cr_expect_eq(talk.prepared, 0);
	end(&talk);
	expect_same_own(talk.before);
	close_talk(&talk);
}

/* None is passed over in silence, where there is no room for all; nor does a short one come behind
 * one that was left out. */
Test(migrate_receive, more_reasons_than_there_is_room_for)
{
	char text[100], reason[16];
	struct hindrances all = {.text = text, .room = sizeof(text), .between = "\n"};

	hindrances_end(&all);
	for (uint32_t i = 0; i < 12; i++) {
		snprintf(reason, sizeof(reason), i == 4 ? "it is another" : "no %u", i);
		hindrances_add(&all, "msr", "A", reason);
		if (i == 3) {
			hindrances_end(&all);
			cr_expect_str_eq(text,
					 "msr A: no 0\nmsr A: no 1\nmsr A: no 2\nmsr A: no 3");
		}
	}
	hindrances_end(&all);
	cr_expect_str_eq(text, "msr A: no 0\nmsr A: no 1\nmsr A: no 2\nmsr A: no 3\nand 8 more");
}

/* With whatever error: the source hears of it. */
Test(migrate_receive, prepare_fails)
{
	static const int errors[] = {-ENODEV, -EREMOTEIO, -ECANCELED};
	struct talk talk;

	open_talk(&talk);
	for (size_t i = 0; i < 3; i++) {
		talk.prepare_says = errors[i];
		begin(&talk);
		start(&talk, 1, FEATURES);
		say_config(&talk, NULL);
		expect_refused(&talk, "could not be prepared: ");
		expect_end(&talk, errors[i], strerror(-errors[i]));
		end(&talk);
		expect_same_own(talk.before);
	}
	close_talk(&talk);
}

Test(migrate_receive, more_memory_than_is_taken)
{
	struct talk talk;

	open_talk(&talk);
	talk.config.memory_max = MEMORY + ROM_BYTES - 1;
	begin(&talk);
	start(&talk, 1, FEATURES);
	say_config(&talk, NULL);
	expect_refused(&talk, "bytes of memory");
	expect_end(&talk, -EFBIG, "bytes of memory");
	cr_expect_eq(talk.prepared, 0);
	end(&talk);
	talk.config.memory_max++;
	begin_memory(&talk);
	finish(&talk);
	end(&talk);
	close_talk(&talk);
}

Test(migrate_receive, device_that_is_not_registered)
{
	struct talk talk;

	open_talk(&talk);
	expect_ok(talk.m.ctx, impost_state_add(talk.state, "device.uart.0", "\x07", 1));
	begin_memory(&talk);
	say_state(&talk);
	expect_heard(&talk);
	say(&talk, WIRE_COMPLETE, NULL, 0);
	expect_refused(&talk, "uart");
	expect_end(&talk, -EINVAL, "uart");
	end(&talk);
	expect_same_own(talk.before);
	close_talk(&talk);
}

Test(migrate_receive, another_state)
{
	struct impost_state *state;
	struct talk talk;

	open_talk(&talk);
	begin_memory(&talk);
	expect_ok(talk.m.ctx, impost_memory_remove(impost_vm_memory(talk.m.vm), ROM));
	expect_ok(talk.m.ctx, impost_state_take(talk.m.vm, &state));
	impost_state_free(talk.state);
	talk.state = state;
	say_state(&talk);
	expect_refused(&talk, "of another VM");
	expect_end(&talk, -EPROTO, "of another VM");
	end(&talk);
	close_talk(&talk);
}

Test(migrate_receive, malformed)
{
	struct talk talk;

	open_talk(&talk);
	begin(&talk);
	start(&talk, 1, FEATURES);
	say(&talk, WIRE_CONFIG, "\xa0", 1);
	expect_refused(&talk, "Config is malformed");
	expect_end(&talk, -IMPOST_EFORMAT, "Config is malformed");
	end(&talk);
	begin_memory(&talk);
	say(&talk, WIRE_STATE, "\x80", 1);
	expect_refused(&talk, "State is malformed");
	expect_end(&talk, -IMPOST_EFORMAT, "State is malformed");
	end(&talk);
	close_talk(&talk);
}

Test(migrate_receive, calls)
{
	struct talk talk;

	open_talk(&talk);
	begin_memory(&talk);
	expect_error(talk.ctx, impost_migration_receive(talk.migration, NULL), -EINVAL, "NULL");
	finish(&talk);
	expect_error(talk.ctx, impost_migration_receive(talk.migration, &talk.vm), -EALREADY,
		     "begun already");
	end(&talk);
	talk.config.flags = IMPOST_MIGRATION_FINISH;
	begin(&talk);
	pthread_join(talk.thread, NULL);
	cr_expect_eq(talk.result, -EINVAL);
	end(&talk);
	close_talk(&talk);
}

/* --- compressed memory --- */

#define ZSTD_FEATURES (FEATURES | IMPOST_MIGRATION_ZSTD)

/* BYTES of BYTE, as a row has them: length and frame. Returns how long both are. */
static size_t make_frame(uint8_t *room, size_t capacity, uint8_t byte, size_t bytes)
{
	uint8_t *contents = malloc(bytes);
	uint64_t len;

	memset(contents, byte, bytes);
	len = ZSTD_compress(room + 8, capacity - 8, contents, bytes, 1);
	cr_assert(!ZSTD_isError(len));
	memcpy(room, &len, 8);
	free(contents);
	return 8 + len;
}

static void begin_zstd(struct talk *talk)
{
	talk->config.features = ZSTD_FEATURES;
	begin(talk);
	start(talk, 1, ZSTD_FEATURES);
	say_config(talk, NULL);
	expect_heard(talk);
}

Test(migrate_receive, compressed)
{
	static const struct wire_row rows[] = {
		{0x10002, 4 * PAGE}, {0x20000, PAGE}, {0x30001, PAGE}, {0x200002, 1 << 20}};
	static uint8_t page[PAGE], frame[8192];
	struct talk talk;

	open_talk(&talk);
	begin_zstd(&talk);
	say_table(&talk, rows, 4);
	say_bytes(&talk, frame, make_frame(frame, sizeof(frame), 7, 4 * PAGE));
	memset(page, 8, PAGE);
	say_bytes(&talk, page, PAGE);
	say_bytes(&talk, frame, make_frame(frame, sizeof(frame), 9, 1 << 20));
	expect_heard(&talk);
	finish(&talk);
	expect_page(&talk, 0x10000, 7);
	expect_page(&talk, 0x13000, 7);
	expect_page(&talk, 0x14000, 0);
	expect_page(&talk, 0x20000, 8);
	expect_page(&talk, 0x30000, 0);
	expect_page(&talk, 0x2ff000, 9);
	end(&talk);
	expect_same_own(talk.before);
	close_talk(&talk);
}

/* What a frame of 4 pages is not to be. */
static size_t spoil_frame(unsigned how, uint8_t *frame, size_t room)
{
	uint64_t len = make_frame(frame, room, 7, how == 1 ? 3 * PAGE : 4 * PAGE) - 8;

	switch (how) {
	case 0: /* longer than any */
		len = 2 << 20;
		memcpy(frame, &len, 8);
		return 8;
	case 1: /* of another length */
		break;
	case 2: /* garbage */
		memset(frame + 8, 0x55, len);
		break;
	case 3: /* cut */
		len--;
		memcpy(frame, &len, 8);
		break;
	case 4: /* damaged behind its head */
		frame[8 + len - 2] ^= 0xff;
		frame[8 + len - 4] ^= 0xff;
		break;
	default: /* nothing */
		len = 0;
		memcpy(frame, &len, 8);
		break;
	}
	return 8 + len;
}

Test(migrate_receive, wrong_frames)
{
	static const struct wire_row row = {0x10002, 4 * PAGE}, long_row = {2, (1 << 20) + PAGE};
	static uint8_t frame[8192];
	struct talk talk;

	open_talk(&talk);
	for (unsigned how = 0; how < 6; how++) {
		begin_zstd(&talk);
		say_table(&talk, &row, 1);
		say_bytes(&talk, frame, spoil_frame(how, frame, sizeof(frame)));
		expect_refused(&talk, "the compressed memory at 0x10000");
		expect_end(&talk, -EPROTO, "the compressed memory at 0x10000");
		end(&talk);
		expect_same_own(talk.before);
	}
	begin_zstd(&talk);
	say_table(&talk, &long_row, 1);
	expect_refused(&talk, "too long for a row that is compressed");
	expect_end(&talk, -EPROTO, "too long");
	end(&talk);
	close_talk(&talk);
}

/* --- several connections --- */

#define JOIN_FEATURES (FEATURES | IMPOST_MIGRATION_CONNECTIONS)

static const struct migrate_config three = {.connections = 3, .token = {1, 2, [15] = 3}};

/* The destination takes what the source has made. */
static int connect_more(void *opaque, uint32_t timeout_ms,
			struct impost_migration_channel *ret_channel)
{
	struct talk *talk = opaque;
	struct timespec nap = {.tv_nsec = 1000000};

	for (uint32_t ms = 0; ms < timeout_ms; ms++) {
		if (talk->offered > talk->accepted) {
			ret_channel->fd = talk->taken[talk->accepted++];
			return 0;
		}
		nanosleep(&nap, NULL);
	}
	return -ETIMEDOUT;
}

/* Another connection, on which all is said from now on. */
static void connect_next(struct talk *talk)
{
	int fds[2];

	cr_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	talk->more[talk->offered] = talk->fd = fds[0];
	talk->taken[talk->offered] = fds[1];
	talk->offered++;
}

static void begin_three(struct talk *talk)
{
	talk->config.features = JOIN_FEATURES;
	talk->config.connect = connect_more;
	begin(talk);
	start(talk, 1, JOIN_FEATURES);
	say_config(talk, &three);
	expect_heard(talk);
}

static void join_next(struct talk *talk)
{
	connect_next(talk);
	say(talk, WIRE_JOIN, three.token, WIRE_TOKEN);
	expect_heard(talk);
}

static void end_three(struct talk *talk)
{
	impost_migration_destroy(talk->migration);
	talk->migration = NULL;
	for (uint32_t i = 0; i < talk->offered; i++) {
		close(talk->more[i]);
		close(talk->taken[i]);
	}
	talk->offered = talk->accepted = 0;
	end(talk);
	expect_same_own(talk->before);
}

static void say_page(struct talk *talk, uint64_t gpa, uint8_t byte)
{
	const struct wire_row row = {gpa, PAGE};
	uint8_t page[PAGE];

	memset(page, byte, PAGE);
	say_table(talk, &row, 1);
	say_bytes(talk, page, PAGE);
}

Test(migrate_receive, three_connections)
{
	struct impost_migration_status status = {.size = sizeof(status)};
	struct talk talk;

	open_talk(&talk);
	begin_three(&talk);
	join_next(&talk);
	join_next(&talk);
	for (uint8_t i = 0; i < 30; i++) {
		talk.fd = i % 3 ? talk.more[i % 3 - 1] : talk.fds[0];
		say_page(&talk, 0x10000 + i * PAGE, i + 1);
		if (i >= 3) /* two of one connection are not answered yet, at times */
			expect_heard(&talk);
	}
	for (uint32_t i = 0; i < 3; i++) {
		talk.fd = i % 3 ? talk.more[i % 3 - 1] : talk.fds[0];
		expect_heard(&talk);
	}
	talk.fd = talk.fds[0];
	finish(&talk);
	expect_ok(talk.ctx, impost_migration_status(talk.migration, &status));
	cr_expect(status.connections == 3 && status.data_bytes == 30 * PAGE);
	cr_expect(status.guest_bytes == MEMORY + ROM_BYTES);
	for (uint8_t i = 0; i < 30; i++)
		expect_page(&talk, 0x10000 + i * PAGE, i + 1);
	end_three(&talk);
	close_talk(&talk);
}

/* What is wrong on a further connection ends all, with its text. */
Test(migrate_receive, wrong_on_a_further_connection)
{
	static const struct wire_row outside = {MEMORY, PAGE};
	static const struct {
		uint16_t command;
		uint64_t length;
		const void *payload;
		int err;
		const char *words;
	} cases[] = {
		{WIRE_MEMORY, 16, &outside, -EPROTO, "there is no memory"},
		{WIRE_STATE, 1, NULL, -EPROTO, "says State on a further connection"},
		{WIRE_COMPLETE, 0, NULL, -EPROTO, "says Complete on a further connection"},
		{99, 0, NULL, -EPROTO, "command 0x63"},
		{0, 0, NULL, -EPIPE, "has ended the connection"},
	};
	struct talk talk;

	open_talk(&talk);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin_three(&talk);
		join_next(&talk);
		join_next(&talk);
		if (cases[i].command)
			say(&talk, cases[i].command, cases[i].payload, cases[i].length);
		else
			shutdown(talk.fd, SHUT_WR);
		expect_refused(&talk, cases[i].words);
		talk.fd = talk.fds[0];
		expect_refused(&talk, cases[i].words);
		expect_end(&talk, cases[i].err, cases[i].words);
		end_three(&talk);
	}
	close_talk(&talk);
}

Test(migrate_receive, complete_while_memory_comes)
{
	const struct wire_row row = {0, PAGE};
	struct talk talk;

	open_talk(&talk);
	begin_three(&talk);
	join_next(&talk);
	join_next(&talk);
	/* Answered, so that the next one is being read. */
	say_page(&talk, 0x1000, 1);
	say_page(&talk, 0x2000, 1);
	expect_heard(&talk);
	expect_heard(&talk);
	say_table(&talk, &row, 1);
	while (recv(talk.taken[1], &(char){0}, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
		sched_yield();
	talk.fd = talk.fds[0];
	say_state(&talk);
	expect_heard(&talk);
	say(&talk, WIRE_COMPLETE, NULL, 0);
	expect_refused(&talk, "while memory comes on another connection");
	expect_end(&talk, -EPROTO, "while memory comes on another connection");
	end_three(&talk);
	close_talk(&talk);
}

/* Who comes where Join is waited for, and is not the source, is sent away, and ends nothing. */
Test(migrate_receive, strangers_among_the_connections)
{
	static const uint8_t other[WIRE_TOKEN] = {1, 2, [15] = 4};
	struct impost_migration_status status = {.size = sizeof(status)};
	struct talk talk;

	open_talk(&talk);
	begin_three(&talk);
	connect_next(&talk);
	say(&talk, WIRE_JOIN, other, WIRE_TOKEN);
	expect_refused(&talk, "none of this migration");
	join_next(&talk);
	connect_next(&talk);
	say(&talk, WIRE_COMPLETE, NULL, 0);
	expect_refused(&talk, "none of this migration");
	connect_next(&talk);
	say(&talk, 99, NULL, 0);
	expect_refused(&talk, "command 0x63");
	connect_next(&talk);
	shutdown(talk.fd, SHUT_RDWR);
	join_next(&talk);
	say_page(&talk, 0x3000, 3);
	expect_heard(&talk);
	talk.fd = talk.fds[0];
	finish(&talk);
	expect_ok(talk.ctx, impost_migration_status(talk.migration, &status));
	cr_expect_eq(status.connections, 3);
	expect_page(&talk, 0x3000, 3);
	end_three(&talk);
	close_talk(&talk);
}

/* Strangers alone: who says nothing at all is one, too. */
Test(migrate_receive, strangers_alone)
{
	struct talk talk;

	open_talk(&talk);
	talk.config.silence_ms = 200;
	begin_three(&talk);
	for (uint32_t i = 0; i < MORE; i++)
		connect_next(&talk);
	talk.fd = talk.fds[0];
	expect_refused(&talk, "have not come within 200 ms");
	expect_end(&talk, -ETIMEDOUT, "have not come within 200 ms");
	end_three(&talk);
	close_talk(&talk);
}

Test(migrate_receive, wrong_joins)
{
	struct talk talk;

	open_talk(&talk);
	/* Before all have joined nothing is said on the first but Abandon. */
	begin_three(&talk);
	join_next(&talk);
	talk.fd = talk.fds[0];
	say_page(&talk, 0, 1);
	expect_refused(&talk, "says Memory out of its order");
	expect_end(&talk, -EPROTO, "says Memory out of its order");
	end_three(&talk);

	begin_three(&talk);
	join_next(&talk);
	talk.fd = talk.fds[0];
	say(&talk, WIRE_ABANDON, NULL, 0);
	expect_end(&talk, -EREMOTEIO, "given the migration up");
	end_three(&talk);
	close_talk(&talk);
}

Test(migrate_receive, connections_that_do_not_come)
{
	struct talk talk;

	open_talk(&talk);
	talk.config.silence_ms = 200;
	begin_three(&talk);
	expect_refused(&talk, "a further connection: Connection timed out");
	expect_end(&talk, -ETIMEDOUT, "a further connection: Connection timed out");
	end_three(&talk);
	/* Nor were they agreed on where nobody can take them. */
	talk.config.connect = NULL;
	begin(&talk);
	start(&talk, 1, JOIN_FEATURES);
	say_config(&talk, &three);
	expect_refused(&talk, "3 connections, which was not agreed on");
	expect_end(&talk, -EPROTO, "not agreed on");
	end(&talk);
	close_talk(&talk);
}

Test(migrate_receive, cancelled_on_several_connections)
{
	struct talk talk;

	open_talk(&talk);
	begin_three(&talk);
	join_next(&talk);
	impost_migration_cancel(talk.migration);
	expect_refused(&talk, "cancelled");
	expect_end(&talk, -ECANCELED, "cancelled");
	end_three(&talk);
	begin_three(&talk);
	join_next(&talk);
	join_next(&talk);
	impost_migration_cancel(talk.migration);
	expect_refused(&talk, "cancelled");
	expect_end(&talk, -ECANCELED, "cancelled");
	end_three(&talk);
	close_talk(&talk);
}
