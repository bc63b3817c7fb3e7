/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty rings, against a model of the kernel's side of them. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define ENTRIES 32u
#define SOFT	24u /* of them end KVM_RUN */
#define NSLOTS	5u
#define PAGES	200u /* of each slot */
#define WORDS	((PAGES + 63) / 64)

/* The kernel's side: virt/kvm/dirty_ring.c. */
struct kernel {
	struct kvm_dirty_gfn entry[ENTRIES];
	uint32_t dirty, reset; /* indices, counting on */
};

static void push(struct kernel *k, uint32_t slot, uint64_t offset)
{
	struct kvm_dirty_gfn *e = &k->entry[k->dirty++ % ENTRIES];

	e->slot = slot;
	e->offset = offset;
	e->flags = KVM_DIRTY_GFN_F_DIRTY;
}

static uint32_t reset(struct kernel *k)
{
	uint32_t count = 0;

	for (; k->entry[k->reset % ENTRIES].flags & KVM_DIRTY_GFN_F_RESET; count++)
		k->entry[k->reset++ % ENTRIES].flags = 0;
	return count;
}

/* A sequence that is the same each time (Marsaglia's xorshift32). */
static uint32_t random32(void)
{
	static uint32_t x = 7;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

struct setup {
	struct kernel kernel;
	struct ring ring;
	struct slot slots[NSLOTS];
	uint64_t log[NSLOTS][WORDS], want[NSLOTS][WORDS];
};

/* Slot 2 has no log, slot 3 is not there. */
static void set_up(struct setup *s)
{
	memset(s, 0, sizeof(*s));
	s->ring = (struct ring){.entry = s->kernel.entry, .mask = ENTRIES - 1};
	for (uint32_t i = 0; i < NSLOTS; i++)
		if (i != 3)
			s->slots[i] = (struct slot){.bytes = PAGES * KVM_PAGE,
						    .used = true,
						    .log = i == 2 ? NULL : s->log[i],
						    .first_word = WORDS};
}

static void compare(const struct setup *s)
{
	for (uint32_t i = 0; i < NSLOTS; i++) {
		if (!s->slots[i].log)
			continue;
		cr_assert_arr_eq(s->log[i], s->want[i], sizeof(s->want[i]));
		for (uint32_t w = 0; w < WORDS; w++)
			cr_assert(!s->log[i][w] ||
					  (w >= s->slots[i].first_word && w < s->slots[i].end_word),
				  "word %u is outside what is fetched", w);
	}
}

Test(kvm_ring, every_entry_is_taken_once_and_in_order)
{
	struct setup s;

	set_up(&s);
	s.ring.next = s.kernel.dirty = s.kernel.reset = UINT32_MAX - 40; /* they wrap around */
	for (int round = 0; round < 1000; round++) {
		uint32_t n = random32() % ENTRIES;
		struct taken t;

		for (uint32_t i = 0; i < n; i++) {
			uint32_t slot = random32() % NSLOTS;
			uint64_t page = random32() % PAGES;

			push(&s.kernel, slot, page);
			s.want[slot][page / 64] |= UINT64_C(1) << (page % 64);
		}
		t = kvm_ring_take(&s.ring, s.slots, NSLOTS);
		cr_assert_eq(t.entries, n);
		cr_assert_eq(t.filled, n);
		cr_assert_eq(t.stray, 0u);
		cr_assert_eq(kvm_ring_take(&s.ring, s.slots, NSLOTS).entries, 0u);
		cr_assert_eq(reset(&s.kernel), n);
		compare(&s);
	}
}

/* Pages beyond their slot, slots beyond the table, other address spaces: nothing is written. */
Test(kvm_ring, what_names_no_page_is_refused)
{
	struct setup s;
	struct taken t;

	set_up(&s);
	push(&s.kernel, 0, PAGES);
	push(&s.kernel, 1, UINT64_MAX);
	push(&s.kernel, 2, PAGES); /* no log: none of our business */
	push(&s.kernel, 3, 0);
	push(&s.kernel, NSLOTS, 0);
	push(&s.kernel, 1u << 16, 1);
	push(&s.kernel, UINT32_MAX, 1);
	push(&s.kernel, 4, PAGES - 1);
	s.want[4][(PAGES - 1) / 64] = UINT64_C(1) << ((PAGES - 1) % 64);
	t = kvm_ring_take(&s.ring, s.slots, NSLOTS);
	cr_assert_eq(t.entries, 8u);
	cr_assert_eq(t.stray, 2u);
	cr_assert_eq(reset(&s.kernel), 8u);
	compare(&s);
}

/*
 * A VM whose guest writes pages, with the kernel's part of it played: two vCPUs, two slots. A page
 * that is protected is logged when it is written, and is not protected from then on.
 */
#define VCPUS 2u
#define SLOTS 2u

static struct machine {
	struct impost_host host;
	struct backend backend;
	struct vm vm;
	struct vcpu vcpu[VCPUS];
	struct kernel kernel[VCPUS];
	struct slot slots[SLOTS];
	bool writable[SLOTS][PAGES];
	bool wanted[SLOTS][PAGES], later[SLOTS][PAGES]; /* by the next fetch; the one after it */
	uint32_t burst;	    /* pages that vCPU 0 writes between taking and resetting */
	bool left;	    /* vCPU 0 has left the guest: it writes none */
	uint32_t interrupt; /* a signal comes before this many entries more; UINT32_MAX: none */
	bool stubborn;	    /* nothing is taken back */
	uint32_t exits;	    /* KVM_EXIT_DIRTY_RING_FULL */
	char error[1024];
} m;

static void on_error(void *ctx, const char *text)
{
	struct machine *machine = ctx;

	snprintf(machine->error, sizeof(machine->error), "%s", text);
}

static void on_log(void *ctx, uint32_t level, const char *text)
{
	(void)ctx;
	(void)level;
	cr_assert_fail("logged: %s", text);
}

/* In the middle of a harvest: what was logged already is told by it, what is not is told later. */
static void write_late(uint32_t slot, uint32_t page)
{
	if (!m.slots[slot].log || m.writable[slot][page])
		return;
	m.writable[slot][page] = true;
	m.later[slot][page] = true;
	push(&m.kernel[0], slot, page);
}

static void write_page(uint32_t cpu, uint32_t slot, uint32_t page)
{
	if (!m.slots[slot].log)
		return;
	m.wanted[slot][page] = true;
	if (m.writable[slot][page])
		return;
	m.writable[slot][page] = true;
	push(&m.kernel[cpu], slot, page);
}

/*
 * One ring; false: interrupted, and the page that was just taken back is not protected. After the
 * last entry nobody could tell.
 */
static bool reset_ring(struct kernel *k, int32_t *count)
{
	const struct kvm_dirty_gfn *last = NULL;

	for (;;) {
		struct kvm_dirty_gfn *e = &k->entry[k->reset % ENTRIES];
		bool more = e->flags & KVM_DIRTY_GFN_F_RESET;

		if (more && m.interrupt == 0) {
			m.interrupt = UINT32_MAX;
			return false;
		}
		if (last && last->slot < SLOTS && last->offset < PAGES)
			m.writable[last->slot][last->offset] = false;
		if (!more)
			return true;
		last = e;
		e->flags = 0;
		k->reset++;
		++*count;
		cr_assert_leq(k->dirty - k->reset, 100 * ENTRIES, "more taken back than filled");
		if (m.interrupt != UINT32_MAX)
			m.interrupt--;
	}
}

int32_t kvm_ioctl(const struct impost_host *host, int fd, unsigned long request, const char *name,
		  const void *arg)
{
	int32_t count = 0;

	(void)host;
	(void)fd;
	(void)arg;
	cr_assert_eq(request, KVM_RESET_DIRTY_RINGS, "%s", name);
	for (; m.burst && !m.left; m.burst--)
		write_late(random32() % SLOTS, random32() % PAGES);
	for (uint32_t i = 0; i < VCPUS && !m.stubborn; i++)
		if (!reset_ring(&m.kernel[i], &count))
			break;
	return count;
}

int32_t kvm_error(const struct impost_host *host, int err, const char *what)
{
	return impost_host_error(host, -err, "%s", what);
}

uint32_t kvm_extension(int fd, uint32_t extension)
{
	(void)fd;
	(void)extension;
	return 0;
}

struct slot *kvm_slot_find(const struct vm *vm, uint32_t number)
{
	return &vm->slots[number];
}

/* A log starts with all pages protected. */
int32_t kvm_slot_set(const struct vm *vm, uint32_t number, const struct slot *s, uint64_t bytes)
{
	(void)vm;
	(void)s;
	(void)bytes;
	memset(m.writable[number], 0, sizeof(m.writable[number]));
	memset(m.wanted[number], 0, sizeof(m.wanted[number]));
	memset(m.later[number], 0, sizeof(m.later[number]));
	return 0;
}

static void boot(void)
{
	for (uint32_t i = 0; i < SLOTS; i++)
		free(m.slots[i].log);
	m = (struct machine){
		.host = {.size = sizeof(m.host), .ctx = &m, .log = on_log, .error = on_error},
		.backend = {.dirty = DIRTY_RING, .ring_entries = ENTRIES},
		.interrupt = UINT32_MAX,
	};
	m.vm = (struct vm){.backend = &m.backend,
			   .host = &m.host,
			   .lock = PTHREAD_MUTEX_INITIALIZER,
			   .slots = m.slots,
			   .nslots = SLOTS,
			   .ringed = &m.vcpu[0]};
	for (uint32_t i = 0; i < SLOTS; i++)
		m.slots[i] = (struct slot){.bytes = PAGES * KVM_PAGE, .used = true};
	for (uint32_t i = 0; i < VCPUS; i++)
		m.vcpu[i] = (struct vcpu){
			.vm = &m.vm,
			.host = &m.host,
			.id = i,
			.ring = {.entry = m.kernel[i].entry, .mask = ENTRIES - 1},
			.next_ringed = i + 1 < VCPUS ? &m.vcpu[i + 1] : NULL,
		};
}

static void start(void)
{
	for (uint32_t i = 0; i < SLOTS; i++)
		cr_assert_eq(kvm_dirty_start(&m.vm, i), 0, "%s", m.error);
}

static void stop(void)
{
	for (uint32_t i = 0; i < SLOTS; i++)
		cr_assert_eq(kvm_dirty_stop(&m.vm, i), 0, "%s", m.error);
}

/* All slots; when that goes well all that is wanted must be there. */
static int32_t fetch(void)
{
	int32_t r = 0;

	for (uint32_t s = 0; s < SLOTS && !r; s++) {
		uint64_t bitmap[WORDS] = {0};

		for (uint32_t p = 0; p < PAGES; p++)
			m.wanted[s][p] |= m.later[s][p];
		memset(m.later[s], 0, sizeof(m.later[s]));
		r = kvm_dirty_fetch(&m.vm, s, bitmap, WORDS);
		for (uint32_t p = 0; p < PAGES && !r; p++)
			cr_assert(!m.wanted[s][p] || bitmap[p / 64] >> (p % 64) & 1,
				  "page %u of slot %u was written and not logged", p, s);
		if (!r)
			memset(m.wanted[s], 0, sizeof(m.wanted[s]));
	}
	return r;
}

/* The guest writes N pages; KVM_RUN ends while there is room, as it should. MEANWHILE: somebody
 * fetches between that exit and what is done about it. */
static void run(uint32_t cpu, uint32_t n, bool meanwhile)
{
	const struct kernel *k = &m.kernel[cpu];

	while (n--) {
		uint32_t most = m.exits + 2 * (k->dirty - k->reset) + 4;

		while (k->dirty - k->reset >= SOFT) {
			cr_assert_lt(m.exits++, most, "KVM_RUN again and again");
			m.left = !cpu;
			if (meanwhile)
				fetch();
			cr_assert_eq(kvm_ring_relieve(&m.vcpu[cpu]), 0, "%s", m.error);
			m.left = false;
		}
		write_page(cpu, random32() % SLOTS, random32() % PAGES);
	}
}

/* The guest writes N pages whether there is room or not, none of them twice. */
static void overrun(uint32_t n)
{
	for (uint32_t page = 0; page < PAGES && n; page++)
		for (uint32_t slot = 0; slot < SLOTS && n; slot++)
			if (!m.writable[slot][page]) {
				write_page(0, slot, page);
				n--;
			}
	cr_assert_eq(n, 0u);
}

static void check_all_is_well(void)
{
	for (uint32_t i = 0; i < 50; i++) {
		run(random32() % VCPUS, random32() % 60, false);
		cr_assert_eq(fetch(), 0, "%s", m.error);
	}
}

static void check_new_start(void)
{
	stop();
	start();
	m.burst = 0;
	m.interrupt = UINT32_MAX;
	for (uint32_t s = 0; s < SLOTS; s++) {
		uint64_t bitmap[WORDS] = {0}, none[WORDS] = {0};

		cr_assert_eq(kvm_dirty_fetch(&m.vm, s, bitmap, WORDS), 0, "%s", m.error);
		cr_assert_arr_eq(bitmap, none, sizeof(none), "a new log is empty");
	}
	check_all_is_well();
}

/* Refused as long as a slot has its log of that time. */
Test(kvm_ring, a_new_start_makes_an_overrun_good)
{
	for (uint32_t k = 0; k < 8 * ENTRIES; k++) {
		boot();
		start();
		run(0, k % 20, false);
		cr_assert_eq(fetch(), 0, "%s", m.error);
		overrun(ENTRIES + k);
		cr_assert_eq(fetch(), -EIO);
		cr_assert(strstr(m.error, "overrun a dirty ring") && strstr(m.error, "anew"), "%s",
			  m.error);
		run(0, k % 7 * 10, false);
		cr_assert_eq(fetch(), -EIO);
		cr_assert_eq(kvm_dirty_stop(&m.vm, 1), 0);
		cr_assert_eq(kvm_dirty_start(&m.vm, 1), 0);
		cr_assert_eq(fetch(), -EIO, "overrun by %u: slot 0 has its log of that time", k);
		check_new_start();
	}
}

/* The kernel fills entries anew that were taken and not reset. */
Test(kvm_ring, a_new_start_makes_good_what_was_overrun_while_it_was_taken)
{
	uint32_t lost = 0;

	for (uint32_t k = 0; k < 2000; k++) {
		boot();
		start();
		run(0, random32() % 300, false);
		run(1, random32() % 300, false);
		m.burst = random32() % 150;
		if (fetch() == -EIO) {
			lost++;
			run(0, random32() % 3 * 20, random32() % 2);
			check_new_start();
		} else {
			check_all_is_well();
		}
	}
	cr_assert(lost > 100 && lost < 1900, "%u of 2000", lost);
}

/* A signal at entry N: at the first nothing has happened yet, and else pages stay unprotected. */
Test(kvm_ring, an_interrupted_reset_is_gone_on_with)
{
	for (uint32_t n = 0; n < 20; n++) {
		boot();
		start();
		overrun(20);
		m.interrupt = n;
		cr_assert_eq(fetch(), n ? -EIO : 0, "at %u: %s", n, m.error);
		cr_assert_eq(m.kernel[0].reset, 20u);
		if (n) {
			cr_assert(strstr(m.error, "interrupted"), "%s", m.error);
			check_new_start();
		}
		check_all_is_well();
	}
}

Test(kvm_ring, a_ring_that_stays_full_is_an_error)
{
	boot();
	start();
	overrun(3 * ENTRIES);
	m.stubborn = true;
	kvm_ring_relieve(&m.vcpu[0]);
	m.error[0] = 0;
	cr_assert_eq(kvm_ring_relieve(&m.vcpu[0]), -EIO);
	cr_assert(strstr(m.error, "vCPU 0's dirty ring full"), "%s", m.error);
}

/* Whatever happens, in any order: a fetch tells everything or fails, a new start helps, the guest
 * runs on. */
Test(kvm_ring, nothing_is_lost_in_silence)
{
	uint32_t good = 0, bad = 0;

	boot();
	start();
	for (uint32_t i = 0; i < 50000; i++) {
		uint32_t what = random32() % 100;

		run(random32() % VCPUS, random32() % 12, what % 3 == 0);
		if (what < 2)
			for (uint32_t n = random32() % 200; n; n--)
				write_page(random32() % VCPUS, random32() % SLOTS,
					   random32() % PAGES);
		else if (what < 4)
			m.burst = random32() % 100;
		else if (what < 5)
			m.interrupt = random32() % 40;
		else if (what < 10 && m.vm.lost)
			check_new_start();
		else if (what < 50)
			*(fetch() ? &bad : &good) += 1;
	}
	cr_assert(good > 5000 && bad > 1000, "%u fetches went well, %u not", good, bad);
}
