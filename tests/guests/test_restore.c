/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest is saved and restored at random instants, again and again until it ends: what it says,
 * and the memory that it leaves, are those of a run that nobody disturbed. IMPOST_INSTANTS in the
 * environment: how many instants; IMPOST_SEED: of the random numbers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "machine.h"

#define INSTANTS 40 /* where IMPOST_INSTANTS says nothing */

static void save(struct machine *m, const char *path)
{
	const struct impost_snapshot_save_options options = {
		.size = sizeof(options),
		.flags = IMPOST_SNAPSHOT_NO_SYNC,
	};

	OK(m, impost_snapshot_save(m->vm, path, &options, NULL));
}

static void restore(struct machine *m, const char *path, uint32_t memory)
{
	const struct impost_snapshot_restore_options options = {.size = sizeof(options),
								.memory = memory};
	struct impost_snapshot *snapshot;

	OK(m, impost_snapshot_open(m->ctx, path, NULL, &snapshot));
	OK(m, impost_snapshot_restore(snapshot, &options, &m->vm));
	OK(m, impost_snapshot_load(snapshot, m->vm));
	impost_snapshot_close(snapshot);
	m->vcpu = impost_vm_vcpu(m->vm, 0);
	cr_assert_not_null(m->vcpu);
}

/*
 * The VM is saved as it is when the hold catches it. Then it is thrown away, and goes on from the
 * file. Says whether it did: the guest may have come to its end before.
 */
static bool move(struct machine *m, const char *path, uint32_t memory)
{
	OK(m, impost_vm_hold(m->vm, 10000));
	if (atomic_load(&m->ended))
		return false;
	save(m, path);
	atomic_store(&m->stop, true);
	OK(m, impost_vcpu_kick(m->vcpu));
	machine_join(m);
	machine_destroy_vm(m);
	restore(m, path, memory);
	return true;
}

/* Runs guests, each of which moves at a few random instants, until INSTANTS were seen. */
static void check_instants(const char *backend, const char *script, const char *cmdline)
{
	static const uint32_t kinds[] = {IMPOST_SNAPSHOT_MAP, IMPOST_SNAPSHOT_COPY};
	unsigned long instants = instants_wanted(INSTANTS), seen = 0;
	char path[] = "/tmp/impost-restore-XXXXXX", how[128];
	static struct outcome want, got;
	static struct machine m;
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	close(fd);
	seed_from_environment();
	outcome_learn(backend, script, cmdline, &want);
	while (seen < instants) {
		unsigned long before = seen, first = seed_now();

		machine_open(&m, backend, script);
		machine_boot(&m, cmdline);
		while (machine_run_for(&m, draw(want.exits / 4)) && move(&m, path, kinds[draw(2)]))
			seen++;
		machine_join(&m);
		snprintf(how, sizeof(how), "%lu instants, IMPOST_SEED=%lu", seen - before, first);
		outcome_take(&m, &got);
		machine_close(&m);
		outcome_expect(&got, &want, how);
	}
	unlink(path);
	fprintf(stderr, "%s: %lu instants\n", backend, seen);
}

TestSuite(restore, .timeout = 600);

/* Memory, registers, MSRs, the local APIC with its timer, and what is on the way to the serial
 * port. */
Test(restore, a_guest_on_kvm_does_not_notice)
{
	need_backend("kvm");
	check_instants("kvm", NULL, "pages=64 rounds=100");
}

Test(restore, a_script_on_the_mock_goes_on_where_it_was)
{
	char script[] = "/tmp/impost-restore-XXXXXX";

	write_rounds(script);
	check_instants("mock", script, NULL);
	unlink(script);
}
