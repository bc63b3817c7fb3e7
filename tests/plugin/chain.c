/* SPDX-License-Identifier: Apache-2.0 */
/* Chains of layers: their order, what is masked, what is refused, and that nothing stays open. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <impost/impost.h>

#include "fake.h"

static char folder[] = "/tmp/impost-chain-XXXXXX", lines[4096];
static struct impost_context *ctx;

/* Collects what layers say. */
static void note(void *opaque, uint32_t level, const char *text)
{
	size_t len = strlen(lines);

	(void)opaque, (void)level;
	if (strncmp(text, "option ", 7) != 0 && strncmp(text, "VM made", 7) != 0)
		snprintf(lines + len, sizeof(lines) - len, "%s\n", text);
}

static void install(const char *name)
{
	char command[8192];

	snprintf(command, sizeof(command), "install -m 644 %s/%s.so %s", FAKE_DIR, name, folder);
	cr_assert(system(command) == 0);
}

static void begin(void)
{
	static const char *const plugins[] = {"fake", "outer", "inner", "in-file", "bare"};

	cr_assert(mkdtemp(folder));
	chmod(folder, 0755);
	for (size_t i = 0; i < sizeof(plugins) / sizeof(plugins[0]); i++)
		install(plugins[i]);
	cr_assert(impost_context_open(note, NULL, &ctx) == 0);
	cr_assert(impost_context_set(ctx, "impost", "plugin_dir", folder) == 0);
	cr_assert(impost_context_set(ctx, "impost", "backend", "fake") == 0);
	cr_assert(impost_context_set(ctx, "impost", "log", "info") == 0);
}

static void end(void)
{
	char command[64];

	cr_assert(impost_context_close(ctx) == 0);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	cr_assert(system(command) == 0);
}

TestSuite(chain, .init = begin, .fini = end);

static void set(const char *section, const char *key, const char *value)
{
	cr_assert(impost_context_set(ctx, section, key, value) == 0, "%s", impost_error(ctx));
}

static struct impost_vm *create(const char *layers)
{
	struct impost_vm *vm;

	if (layers)
		set("impost", "layers", layers);
	cr_assert(impost_vm_create(ctx, NULL, &vm) == 0, "%s", impost_error(ctx));
	return vm;
}

/* What layers have said since the last time. */
static void expect_lines(const char *expected)
{
	cr_expect(strcmp(lines, expected) == 0, "'%s' is not '%s'", lines, expected);
	lines[0] = '\0';
}

/* WORDS are in the error text. */
static void expect_error(int err, int expected, const char *words)
{
	cr_expect(err == expected, "%d: %s", err, impost_error(ctx));
	cr_expect(strstr(impost_error(ctx), words), "'%s' has no '%s'", impost_error(ctx), words);
}

static void refuse_layers(const char *layers, const char *words)
{
	expect_error(impost_context_set(ctx, "impost", "layers", layers), -IMPOST_ECONFIG, words);
}

static void refuse_vm(int expected, const char *words)
{
	struct impost_vm *vm = NULL;

	expect_error(impost_vm_create(ctx, NULL, &vm), expected, words);
	cr_expect(!vm);
}

/* The last named is opened first, and is called last. */
Test(chain, the_first_named_is_nearest_to_the_host)
{
	struct impost_exit exit = {.size = sizeof(exit)};
	struct impost_vm *vm = create("outer:o, inner:i");
	struct impost_vcpu *vcpu;

	expect_lines("inner i: open\nouter o: open\nouter o: vm_create\ninner i: vm_create\n");
	cr_expect(strcmp(impost_vm_backend(vm), "fake") == 0);
	cr_expect(strcmp(impost_vm_layers(vm), "outer:o, inner:i") == 0);
	cr_assert(impost_vcpu_create(vm, 0, &vcpu) == 0);
	expect_lines("outer o: vcpu_create\ninner i: vcpu_create\n");
	cr_expect(impost_vcpu_run(vcpu, &exit) == 0 && exit.kind == IMPOST_EXIT_INTR);
	expect_lines("outer o: run\ninner i: run\n");
	cr_expect(impost_vcpu_destroy(vcpu) == 0 && impost_vm_destroy(vm) == 0);
	expect_lines("outer o: vcpu destroy\ninner i: vcpu destroy\nouter o: vm destroy\n"
		     "inner i: vm destroy\nouter o: close\ninner i: close\n");
}

Test(chain, without_layers_there_are_none)
{
	struct impost_vm *vm = create(NULL);

	cr_expect(strcmp(impost_vm_layers(vm), "") == 0);
	cr_expect(impost_vm_destroy(vm) == 0);
	vm = create("");
	cr_expect(strcmp(impost_vm_layers(vm), "") == 0);
	cr_expect(impost_vm_destroy(vm) == 0);
	expect_lines("");
}

/* A value is of one instance; without one, what the layer's section says counts. */
Test(chain, a_layer_may_stand_several_times)
{
	struct impost_vm *vm;
	char layers[256] = "outer:0", expected[1024] = "", opened[64];

	set("layer.outer", "value", "section");
	vm = create("outer:x,outer,outer:y z");
	expect_lines("outer y z: open\nouter section: open\nouter x: open\nouter x: vm_create\n"
		     "outer section: vm_create\nouter y z: vm_create\n");
	cr_expect(strcmp(impost_vm_layers(vm), "outer:x, outer, outer:y z") == 0, "%s",
		  impost_vm_layers(vm));
	cr_expect(impost_vm_destroy(vm) == 0);
	lines[0] = '\0';

	for (int i = 1; i < 10; i++)
		snprintf(layers + strlen(layers), sizeof(layers) - strlen(layers), ",outer:%d", i);
	for (int i = 19; i >= 0; i--) {
		snprintf(opened, sizeof(opened), "outer %d: %s\n", i >= 10 ? i - 10 : 9 - i,
			 i >= 10 ? "open" : "vm_create");
		strcat(expected, opened);
	}
	vm = create(layers);
	expect_lines(expected);
	cr_expect(impost_vm_destroy(vm) == 0);
}

Test(chain, the_config_beats_the_configuration)
{
	struct impost_vm_config config;
	struct impost_vm *vm;

	set("impost", "layers", "outer:o");
	cr_assert(impost_vm_config_init(ctx, &config) == 0 && !config.layers);
	config.layers = "inner:i";
	cr_assert(impost_vm_create(ctx, &config, &vm) == 0, "%s", impost_error(ctx));
	cr_expect(strcmp(impost_vm_layers(vm), "inner:i") == 0);
	cr_expect(impost_vm_config(vm)->layers == impost_vm_layers(vm));
	cr_expect(impost_vm_destroy(vm) == 0);
	config.layers = "";
	cr_assert(impost_vm_create(ctx, &config, &vm) == 0);
	cr_expect(strcmp(impost_vm_layers(vm), "") == 0);
	cr_expect(impost_vm_destroy(vm) == 0);
	config.layers = "none";
	expect_error(impost_vm_create(ctx, &config, &vm), -IMPOST_ECONFIG,
		     "struct impost_vm_config: layers: there is no plugin none.so");
	config.layers = NULL; /* and so do hosts of an earlier release, who have no such member */
	config.size = offsetof(struct impost_vm_config, layers);
	cr_assert(impost_vm_create(ctx, &config, &vm) == 0);
	cr_expect(strcmp(impost_vm_layers(vm), "outer:o") == 0);
	cr_expect(impost_vm_destroy(vm) == 0);
}

/* The layer has operations that the fake has not, and lacks some that it has: either is missing. */
Test(chain, what_is_missing_below_is_missing_above)
{
	const struct impost_gsi_route route = {.type = IMPOST_ROUTE_IOAPIC};
	struct impost_vm *vm;
	struct impost_vcpu *vcpu;
	uint64_t gpa;

	set("backend.fake", "caps", "mem-host,irqchip-none,irq-line,irq-inject");
	vm = create("outer");
	cr_assert(impost_vcpu_create(vm, 0, &vcpu) == 0);
	cr_expect(impost_vm_set_gsi_routes(vm, &route, 1) == -ENOTSUP);
	cr_expect(impost_vcpu_translate(vcpu, 0, &gpa) == -ENOTSUP);
	cr_expect(impost_vm_irq_line(vm, 1, 1) == 0);
	lines[0] = '\0';
	cr_expect(impost_vcpu_irq_inject(vcpu, 32) == 0);
	expect_lines("outer : irq_inject\n");
	expect_error(impost_vcpu_nmi(vcpu), -ENOTSUP, "nmi"); /* the fake has it */
	cr_expect(impost_vcpu_destroy(vcpu) == 0 && impost_vm_destroy(vm) == 0);
}

Test(chain, claims_are_judged_at_each_level)
{
	char text[16];

	set("impost", "layers", "inner, outer:o");
	/* gsi-routes: a layer has the operation, what is below it has not. */
	snprintf(text, sizeof(text), "%d", IMPOST_CAP_GSI_ROUTES);
	set("layer.outer", "claim", text);
	refuse_vm(-IMPOST_EABI,
		  "layer outer claims gsi-routes and has no operation gsi_routes below it");
	expect_lines("outer o: open\nouter o: close\n"); /* and not inner */
	/* ioeventfd: the layer itself has it not. */
	snprintf(text, sizeof(text), "%d", IMPOST_CAP_IOEVENTFD);
	set("layer.outer", "claim", text);
	refuse_vm(-IMPOST_EABI, "layer outer claims ioeventfd and has no operation ioeventfd");
}

/* A capability that is taken away is not there. */
Test(chain, a_layer_takes_a_capability_away)
{
	struct impost_vm *vm;
	char text[16];

	snprintf(text, sizeof(text), "%d", IMPOST_CAP_MEM_HOST);
	set("backend.fake", "caps", "mem-host,irqchip-none,irq-inject");
	set("layer.inner", "drop", text);
	vm = create("outer, inner");
	cr_expect(!impost_caps_has(impost_vm_caps(vm), IMPOST_CAP_MEM_HOST));
	cr_expect(impost_caps_has(impost_vm_caps(vm), IMPOST_CAP_IRQ_INJECT));
	cr_expect(impost_vm_destroy(vm) == 0);
}

/* What was opened below is closed, nothing above is opened, and no other backend takes its place.
 */
Test(chain, a_layer_that_does_not_open_fails_the_vm)
{
	install("smaller");
	set("impost", "backend", "fake,smaller");
	set("impost", "layers", "outer:top, in-file, inner:i");
	set("layer.in-file", "fail", "5");
	refuse_vm(-EIO, "layer in-file: it was to fail (command line)");
	expect_lines("inner i: open\ninner i: close\n");
}

Test(chain, extensions_are_reached_through_layers)
{
	struct impost_vm *vm = create("outer:o, inner:i");
	const void *table;
	void *handle;

	cr_assert(impost_vm_extension(vm, FAKE_CONTROL, &table, &handle) == 0);
	cr_expect(table == handle);
	cr_assert(impost_vm_extension(vm, "inner", &table, &handle) == 0);
	cr_expect(strcmp(handle, "i") == 0);
	cr_expect(impost_vm_extension(vm, "other", &table, &handle) == -ENOENT);
	cr_expect(impost_vm_destroy(vm) == 0);
}

/* `smaller` has no extension: the layer's own is there all the same. */
Test(chain, a_layers_extension_needs_none_below)
{
	struct impost_vm *vm;
	const void *table;
	void *handle;

	install("smaller");
	set("impost", "backend", "smaller");
	vm = create("outer:o");
	cr_expect(impost_vm_extension(vm, "outer", &table, &handle) == 0);
	cr_expect(impost_vm_extension(vm, FAKE_CONTROL, &table, &handle) == -ENOENT);
	cr_expect(impost_vm_destroy(vm) == 0);
}

Test(chain, lists_that_are_wrong_are_refused)
{
	refuse_layers("outer,,inner", "'' is no plugin's name");
	refuse_layers(",", "'' is no plugin's name");
	refuse_layers("outer inner", "is no plugin's name");
	refuse_layers("none", "command line: layers: there is no plugin none.so");
	refuse_layers("../outer", "is no plugin's name");
	refuse_layers("outer, fake", "plugin fake is a backend, not a layer");
	refuse_layers("bare:x", "bare takes no value, and is given 'x'");
	refuse_layers("in-file:", "[layer.in-file] value = : must be a path");
	expect_error(impost_context_set(ctx, "impost", "backend", "outer"), 0, "");
	refuse_vm(-IMPOST_EPLUGIN, "plugin outer is a layer, not a backend");
	expect_error(impost_context_set(ctx, "layer.fake", "caps", ""), -IMPOST_ECONFIG,
		     "plugin fake is a backend, not a layer");
	expect_error(impost_context_set(ctx, "backend.outer", "value", ""), -IMPOST_ECONFIG,
		     "plugin outer is a layer, not a backend");
	expect_error(impost_context_set(ctx, "layer.outer", "valeu", ""), -IMPOST_ECONFIG,
		     "did you mean value?");
	expect_error(impost_context_set(ctx, "layer.outer", "fail", "x"), -IMPOST_ECONFIG,
		     "must be a number");
	expect_error(impost_context_set(ctx, "layer.Outer", "fail", "1"), -IMPOST_ECONFIG,
		     "unknown section");
}

static int load(const char *ini)
{
	return impost_context_load_buffer(ctx, "x.ini", ini, strlen(ini));
}

Test(chain, an_ini_names_layers)
{
	struct impost_vm *vm;
	char expected[4096], *cwd = getcwd(NULL, 0);

	cr_assert(load("[impost]\nlayers = outer:run#2 *=EIO , in-file:a b\n"
		       "[layer.outer]\ndrop = 3\n") == 0,
		  "%s", impost_error(ctx));
	vm = create(NULL);
	snprintf(expected, sizeof(expected), "outer:run#2 *=EIO, in-file:%s/a b", cwd);
	cr_expect(strcmp(impost_vm_layers(vm), expected) == 0, "%s", impost_vm_layers(vm));
	cr_expect(strcmp(impost_context_get(ctx, "impost", "layers"), expected) == 0);
	cr_expect(impost_vm_destroy(vm) == 0);
	free(cwd);
}

Test(chain, an_inis_wrong_layers_are_named_with_their_line)
{
	expect_error(load("[impost]\nlayers = outer, gone\n"), -IMPOST_ECONFIG,
		     "x.ini:2: layers: there is no plugin gone.so");
	expect_error(load("[layer.outer]\nfail = 1\nvalu = 2\n"), -IMPOST_ECONFIG, "x.ini:3");
	expect_error(load("[layer.gone]\n"), -IMPOST_ECONFIG,
		     "x.ini:1: [layer.gone]: there is no plugin");
}

/* Other folders, in which the layers are not. */
Test(chain, the_folder_is_judged_with_the_layers)
{
	set("impost", "layers", "outer");
	expect_error(impost_context_set(ctx, "impost", "plugin_dir", "/"), -IMPOST_ECONFIG,
		     "layers: there is no plugin outer.so in /");
}

/* A probe tells what the backend has. */
Test(chain, a_probe_opens_the_backend_alone)
{
	struct impost_caps caps = {.size = sizeof(caps)};

	set("impost", "layers", "outer:o");
	cr_expect(impost_backend_probe(ctx, "fake", &caps) == 0);
	expect_lines("");
	cr_expect(impost_backend_probe(ctx, "outer", &caps) == -IMPOST_EPLUGIN);
}

Test(chain, a_layer_in_use_is_not_unloaded)
{
	struct impost_vm *vm = create("outer");

	cr_expect(impost_context_close(ctx) == -EBUSY);
	cr_expect(impost_vm_destroy(vm) == 0);
}
