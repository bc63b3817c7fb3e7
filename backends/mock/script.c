/* SPDX-License-Identifier: Apache-2.0 */
/* Reads scripts: INI lines by libinih, steps by the table of verbs below. */
#include "script.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCRIPT_MAX    (4u << 20)
#define MAX_NESTING   8u
#define MAX_VCPU_ID   4095u
#define MAX_LINE_DATA 256u /* a line of libinih is shorter than that */

struct parser {
	const char *name;
	const char *at, *end; /* what is not yet read */
	unsigned line;	      /* counted from 1; 0: the file as a whole */
	struct mock_script *script;
	struct mock_part *part; /* of the section that we are in; NULL before the first */
	unsigned depth;
	uint32_t loop_start[MAX_NESTING];
	uint64_t loop_count[MAX_NESTING];
	unsigned loop_line[MAX_NESTING];
	int err;
	char *error;
	size_t error_size;
};

/* What the fields of a step were read into. */
struct args {
	uint64_t
		number[7]; /* in the order of the fields; for hypercalls the arguments behind [0] */
	unsigned count;	   /* numbers */
	uint32_t size;	   /* of the access */
	bool has_expect;
	uint64_t expect;
	bool expect_word; /* expect was "refused" (1) or "accepted" (0), not a value */
	uint8_t data[MAX_LINE_DATA];
	uint32_t bytes;
};

struct verb {
	const char *name;
	const char *fields; /* one letter for each field: see read_field() */
	const char *usage;
	uint32_t op;
	uint32_t kind; /* of exit, for IMPOST_MOCK_EXIT */
	uint8_t dir;
};

static int fail(struct parser *p, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int fail(struct parser *p, int err, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (p->err)
		return p->err;
	p->err = err;
	n = p->line ? snprintf(p->error, p->error_size, "%s:%u: ", p->name, p->line)
		    : snprintf(p->error, p->error_size, "%s: ", p->name);
	if (n > 0 && (size_t)n < p->error_size) {
		va_start(ap, fmt);
		vsnprintf(p->error + n, p->error_size - (size_t)n, fmt, ap);
		va_end(ap);
	}
	return err;
}

/* --- words and numbers --- */

static const char *skip_blanks(const char *s)
{
	while (isblank((unsigned char)*s))
		s++;
	return s;
}

static size_t word_length(const char *s)
{
	return strcspn(s, " \t");
}

static bool word_is(const char *s, const char *word)
{
	return word_length(s) == strlen(word) && !strncmp(s, word, strlen(word));
}

/* A number that is a whole word, decimal or 0x, up to MAX. Moves *AT behind it. */
static bool read_number(const char **at, uint64_t max, uint64_t *ret)
{
	const char *s = skip_blanks(*at);
	int base = s[0] == '0' && (s[1] == 'x' || s[1] == 'X') ? 16 : 10;
	char *end;
	uint64_t value;

	if (base == 16 ? !isxdigit((unsigned char)s[2]) : !isdigit((unsigned char)s[0]))
		return false;
	errno = 0;
	value = strtoull(s, &end, base);
	if (errno || value > max || (*end && !isblank((unsigned char)*end)))
		return false;
	*at = end;
	*ret = value;
	return true;
}

static bool read_hex_byte(const char *s, uint8_t *ret)
{
	char digits[3] = {s[0], s[0] ? s[1] : '\0', '\0'};

	if (!isxdigit((unsigned char)digits[0]) || !isxdigit((unsigned char)digits[1]))
		return false;
	*ret = (uint8_t)strtoul(digits, NULL, 16);
	return true;
}

/* One character of a string, perhaps escaped. Moves *AT behind it. */
static bool read_char(const char **at, uint8_t *ret)
{
	static const char escapes[] = "n\nr\rt\t\\\\\"\"";
	const char *s = *at;
	const char *e;

	if (*s != '\\') {
		*ret = (uint8_t)*s;
		*at = s + 1;
		return true;
	}
	if (s[1] == 'x') {
		*at = s + 4;
		return read_hex_byte(s + 2, ret);
	}
	*at = s + 2;
	if (s[1] == '0') {
		*ret = 0;
		return true;
	}
	for (e = escapes; *e; e += 2)
		if (*e == s[1]) {
			*ret = (uint8_t)e[1];
			return true;
		}
	return false;
}

/* --- fields --- */

static bool read_string(struct args *a, const char **at)
{
	const char *s = skip_blanks(*at);

	if (*s++ != '"')
		return false;
	while (*s && *s != '"') {
		if (a->bytes == MAX_LINE_DATA || !read_char(&s, &a->data[a->bytes++]))
			return false;
	}
	if (*s != '"' || !a->bytes)
		return false;
	*at = s + 1;
	return true;
}

static bool read_hex(struct args *a, const char **at)
{
	const char *s = skip_blanks(*at);

	while (*s) {
		if (a->bytes == MAX_LINE_DATA || !read_hex_byte(s, &a->data[a->bytes]))
			return false;
		a->bytes++;
		s = skip_blanks(s + 2);
	}
	*at = s;
	return a->bytes;
}

static bool read_size(struct args *a, const char **at, uint64_t max)
{
	const char *s = *at;
	uint64_t size;

	if (!read_number(&s, max, &size) || !size || (size & (size - 1)))
		return false;
	a->size = (uint32_t)size;
	*at = s;
	return true;
}

static uint64_t size_mask(uint32_t size)
{
	return size == 0 || size >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1;
}

/* `expect` and a value, or the word that WORDS (1: refused; 2: accepted, too) allows. May be
 * missing. */
static bool read_expect(struct args *a, const char **at, unsigned words, bool number)
{
	const char *s = skip_blanks(*at);

	if (!*s)
		return true;
	if (!word_is(s, "expect"))
		return false;
	s = skip_blanks(s + word_length(s));
	a->has_expect = true;
	if ((words && word_is(s, "refused")) || (words > 1 && word_is(s, "accepted"))) {
		a->expect_word = true;
		a->expect = word_is(s, "refused");
		*at = s + word_length(s);
		return true;
	}
	*at = s;
	return number && read_number(at, size_mask(a->size), &a->expect);
}

/* One of the words of LIST, separated by '|', as its number counted from FIRST. */
static bool read_choice(struct args *a, const char **at, const char *list, uint64_t first)
{
	const char *s = skip_blanks(*at);
	size_t len = word_length(s);
	uint64_t i;

	for (i = first; *list; i++) {
		size_t n = strcspn(list, "|");

		if (len == n && !strncmp(s, list, n)) {
			a->number[a->count++] = i;
			*at = s + len;
			return true;
		}
		list += n + (list[n] == '|');
	}
	return false;
}

static bool read_delay(struct args *a, const char **at)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};
	const char *s = skip_blanks(*at);
	char *end;
	uint64_t n;
	size_t i;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	n = strtoull(s, &end, 10);
	s = skip_blanks(end);
	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (!errno && word_is(s, units[i].name) && n <= INT64_MAX / units[i].ns) {
			a->number[a->count++] = n * units[i].ns;
			*at = s + word_length(s);
			return true;
		}
	return false;
}

static bool read_plain(struct args *a, const char **at, uint64_t max)
{
	if (!read_number(at, max, &a->number[a->count]))
		return false;
	a->count++;
	return true;
}

/* Up to six further numbers. */
static bool read_arguments(struct args *a, const char **at)
{
	while (a->count < 7 && isdigit((unsigned char)*skip_blanks(*at)))
		if (!read_plain(a, at, UINT64_MAX))
			return false;
	return true;
}

static bool read_repeat(struct args *a, const char **at)
{
	const char *s = skip_blanks(*at);

	if (word_is(s, "forever")) {
		*at = s + word_length(s);
		a->count++; /* of 0 */
		return true;
	}
	if (!read_plain(a, &s, UINT32_MAX) || !a->number[a->count - 1])
		return false;
	*at = s;
	return true;
}

#define REGISTERS "rax|rbx|rcx|rdx|rsi|rdi|rsp|rbp|r8|r9|r10|r11|r12|r13|r14|r15|rip|rflags"

/* Reads the field that LETTER stands for. */
static bool read_field(struct args *a, char letter, const char **at)
{
	switch (letter) {
	case 'p': /* port */
		return read_plain(a, at, UINT16_MAX);
	case 'z': /* size of a port access */
		return read_size(a, at, 4);
	case 'Z': /* size of a memory access */
		return read_size(a, at, 8);
	case 'v': /* value that fits the size */
		return read_plain(a, at, size_mask(a->size));
	case 'n': /* any number */
		return read_plain(a, at, UINT64_MAX);
	case 'm': /* MSR index */
		return read_plain(a, at, UINT32_MAX);
	case 'a':
		return read_arguments(a, at);
	case 'e': /* expected value */
		return read_expect(a, at, 0, true);
	case 'E': /* expected value or refusal */
		return read_expect(a, at, 1, true);
	case 'w': /* expected verdict */
		return read_expect(a, at, 2, false);
	case 's':
		return read_string(a, at);
	case 'h':
		return read_hex(a, at);
	case 'd':
		return read_delay(a, at);
	case 'c':
		return read_choice(a, at, "triple-fault|guest|crash", 1);
	case 'r':
		return read_choice(a, at, REGISTERS, 0);
	case 'b':
		return read_choice(a, at, "db|bp", 0);
	case 'i': /* vCPU id */
		return read_plain(a, at, MAX_VCPU_ID);
	case 'x': /* vector */
		return read_plain(a, at, 0xff);
	default: /* 'l': repetitions */
		return read_repeat(a, at);
	}
}

/* --- steps --- */

static void build_access(const struct verb *verb, const struct args *a,
			 struct impost_mock_step *step)
{
	uint32_t size = a->size ? a->size : 1;
	uint32_t count = a->size ? 1 : a->bytes;

	if (verb->kind == IMPOST_EXIT_IO) {
		step->exit.u.io.port = (uint16_t)a->number[0];
		step->exit.u.io.size = (uint8_t)size;
		step->exit.u.io.dir = verb->dir;
		step->exit.u.io.count = count;
	} else {
		step->exit.u.mmio.gpa = a->number[0];
		step->exit.u.mmio.size = (uint8_t)size;
		step->exit.u.mmio.dir = verb->dir;
		step->exit.u.mmio.count = count;
	}
	if (verb->dir == IMPOST_EXIT_WRITE && a->size) {
		step->data = &a->number[1];
		step->bytes = size;
	}
}

static void build_hypercall(const struct args *a, struct impost_mock_step *step)
{
	step->exit.u.hypercall.number = a->number[0];
	step->exit.u.hypercall.long_mode = 1;
	memcpy(step->exit.u.hypercall.args, &a->number[1], sizeof(step->exit.u.hypercall.args));
}

static void build_exit(const struct verb *verb, const struct args *a, struct impost_mock_step *step)
{
	step->exit.size = sizeof(step->exit);
	step->exit.kind = verb->kind;
	switch (verb->kind) {
	case IMPOST_EXIT_IO:
	case IMPOST_EXIT_MMIO:
		build_access(verb, a, step);
		break;
	case IMPOST_EXIT_WRMSR:
		step->data = &a->number[1];
		step->bytes = 8;
		step->exit.u.msr.index = (uint32_t)a->number[0];
		break;
	case IMPOST_EXIT_RDMSR:
		step->exit.u.msr.index = (uint32_t)a->number[0];
		break;
	case IMPOST_EXIT_HYPERCALL:
		build_hypercall(a, step);
		break;
	case IMPOST_EXIT_SHUTDOWN:
	case IMPOST_EXIT_RESET:
		step->exit.u.shutdown.reason = (uint32_t)a->number[0];
		break;
	case IMPOST_EXIT_DEBUG:
		step->exit.u.debug.vector = a->number[0] ? 3 : 1;
		break;
	case IMPOST_EXIT_OTHER:
		step->exit.u.other.number = a->number[0];
		break;
	default: /* FAIL_ENTRY, INTERNAL_ERROR; HLT has no particulars and a number of 0 */
		step->exit.u.failure.reason = a->number[0];
		break;
	}
}

static void build(const struct verb *verb, const struct args *a, struct impost_mock_step *step)
{
	step->size = sizeof(*step);
	step->op = verb->op;
	step->has_expect = a->has_expect;
	step->expect = a->expect_word ? 0 : a->expect;
	if (a->bytes) {
		step->data = a->data;
		step->bytes = a->bytes;
	}
	switch (verb->op) {
	case IMPOST_MOCK_EXIT:
		build_exit(verb, a, step);
		step->value = a->expect_word ? a->expect : 0;
		break;
	case IMPOST_MOCK_WRITE:
		step->gpa = a->number[0];
		break;
	case IMPOST_MOCK_DELAY:
		step->ns = a->number[0];
		break;
	case IMPOST_MOCK_SET:
	case IMPOST_MOCK_SIPI:
		step->reg = (uint32_t)a->number[0];
		step->value = a->number[1];
		break;
	default:
		break;
	}
}

static int add_step(struct parser *p, const struct impost_mock_step *step)
{
	int err = mock_steps_add(&p->part->steps, step);

	if (err == -ENOSPC)
		return fail(p, -EINVAL, "more than %u steps for one vCPU: use repeat",
			    MOCK_STEPS_MAX);
	return err ? fail(p, err, "out of memory") : 0;
}

/* `text`: a copy of the step for each character. */
static int add_text(struct parser *p, struct impost_mock_step *step, const struct args *a)
{
	uint32_t i;

	step->exit.u.io.count = 1;
	step->bytes = 1;
	for (i = 0; i < a->bytes; i++) {
		step->data = &a->data[i];
		if (add_step(p, step))
			return p->err;
	}
	return 0;
}

static int begin_loop(struct parser *p, uint64_t count)
{
	if (p->depth == MAX_NESTING)
		return fail(p, -EINVAL, "repeat: nested more than %u deep", MAX_NESTING);
	p->loop_start[p->depth] = p->part->steps.count;
	p->loop_line[p->depth] = p->line;
	p->loop_count[p->depth++] = count;
	return 0;
}

static int end_loop(struct parser *p)
{
	struct impost_mock_step step = {.size = sizeof(step), .op = MOCK_STEP_LOOP};

	if (!p->depth)
		return fail(p, -EINVAL, "end: there is no repeat before it in this section");
	step.reg = p->loop_start[--p->depth];
	step.value = p->loop_count[p->depth];
	if (step.reg == p->part->steps.count)
		return fail(p, -EINVAL, "end: there is no step since the repeat of line %u",
			    p->loop_line[p->depth]);
	return add_step(p, &step);
}

/* Verbs that are not one step each. */
#define OP_TEXT	   1000u
#define OP_REPEAT  1001u
#define OP_END	   1002u

#define EXIT(kind) IMPOST_MOCK_EXIT, IMPOST_EXIT_##kind
static const struct verb verbs[] = {
	{"out", "pzv", "PORT SIZE VALUE, with SIZE 1, 2 or 4", EXIT(IO), IMPOST_EXIT_WRITE},
	{"in", "pze", "PORT SIZE [expect VALUE], with SIZE 1, 2 or 4", EXIT(IO), IMPOST_EXIT_READ},
	{"text", "ps", "PORT \"STRING\"", OP_TEXT, IMPOST_EXIT_IO, IMPOST_EXIT_WRITE},
	{"outs", "ps", "PORT \"STRING\"", EXIT(IO), IMPOST_EXIT_WRITE},
	{"mmio-write", "nZv", "GPA SIZE VALUE, with SIZE 1, 2, 4 or 8", EXIT(MMIO),
	 IMPOST_EXIT_WRITE},
	{"mmio-read", "nZe", "GPA SIZE [expect VALUE], with SIZE 1, 2, 4 or 8", EXIT(MMIO),
	 IMPOST_EXIT_READ},
	{"rdmsr", "mE", "INDEX [expect VALUE or refused]", EXIT(RDMSR), 0},
	{"wrmsr", "mnw", "INDEX VALUE [expect accepted or refused]", EXIT(WRMSR), 0},
	{"hypercall", "nae", "NUMBER [ARGUMENT...] [expect VALUE], with at most 6 arguments",
	 EXIT(HYPERCALL), 0},
	{"hlt", "", "(nothing)", EXIT(HLT), 0},
	{"halt", "", "(nothing)", IMPOST_MOCK_HALT, 0, 0},
	{"write", "nh", "GPA HH HH ...", IMPOST_MOCK_WRITE, 0, 0},
	{"set", "rn", "REGISTER VALUE, with rax to r15, rip or rflags", IMPOST_MOCK_SET, 0, 0},
	{"delay", "d", "NUMBER ns, us, ms or s", IMPOST_MOCK_DELAY, 0, 0},
	{"sipi", "ix", "VCPU VECTOR, with VECTOR 0 to 255", IMPOST_MOCK_SIPI, 0, 0},
	{"shutdown", "c", "triple-fault, guest or crash", EXIT(SHUTDOWN), 0},
	{"reset", "c", "triple-fault, guest or crash", EXIT(RESET), 0},
	{"debug", "b", "db or bp", EXIT(DEBUG), 0},
	{"fail-entry", "n", "REASON", EXIT(FAIL_ENTRY), 0},
	{"internal-error", "n", "REASON", EXIT(INTERNAL_ERROR), 0},
	{"other", "n", "NUMBER", EXIT(OTHER), 0},
	{"repeat", "l", "N or forever, with N not 0", OP_REPEAT, 0, 0},
	{"end", "", "(nothing)", OP_END, 0, 0},
};

static const struct verb *find_verb(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

static int add_verb(struct parser *p, const struct verb *verb, const struct args *a)
{
	struct impost_mock_step step = {0};

	switch (verb->op) {
	case OP_REPEAT:
		return begin_loop(p, a->number[0]);
	case OP_END:
		return end_loop(p);
	default:
		build(verb, a, &step);
		if (step.op == IMPOST_MOCK_WRITE && step.gpa + step.bytes < step.gpa)
			return fail(p, -EINVAL, "write: goes beyond the last address");
		if (verb->op != OP_TEXT)
			return add_step(p, &step);
		step.op = IMPOST_MOCK_EXIT;
		build_exit(verb, a, &step);
		return add_text(p, &step, a);
	}
}

/* libinih's handler: one line `name = value`. */
static int take_line(void *user, const char *section, const char *name, const char *value)
{
	struct parser *p = user;
	const struct verb *verb = find_verb(name);
	const char *at = value;
	struct args a = {0};
	const char *f;

	(void)section; /* read_line() has seen to it, with sections that have no steps */
	if (p->err)
		return 0;
	if (!p->part)
		return !fail(p, -EINVAL, "'%s' before the first section: begin with [vcpu 0]",
			     name);
	if (!verb)
		return !fail(p, -EINVAL, "unknown step '%s': see the steps in docs/mock.md", name);
	for (f = verb->fields; *f; f++)
		if (!read_field(&a, *f, &at))
			return !fail(p, -EINVAL, "%s: cannot take '%s': write %s = %s", name,
				     skip_blanks(at), name, verb->usage);
	at = skip_blanks(at);
	if (*at)
		return !fail(p, -EINVAL, "%s: '%s' is too much: write %s = %s", name, at, name,
			     verb->usage);
	return !add_verb(p, verb, &a);
}

/* --- lines and sections --- */

static int close_section(struct parser *p)
{
	if (!p->depth)
		return 0;
	p->line = p->loop_line[p->depth - 1];
	return fail(p, -EINVAL, "repeat: there is no end for it in this section");
}

static int open_part(struct parser *p, uint32_t id)
{
	struct mock_script *s = p->script;
	struct mock_part *part;
	uint32_t i;

	for (i = 0; i < s->count; i++)
		if (s->part[i].id == id) {
			p->part = &s->part[i];
			return 0;
		}
	part = realloc(s->part, (s->count + 1) * sizeof(*part));
	if (!part)
		return fail(p, -ENOMEM, "out of memory");
	s->part = part;
	p->part = &part[s->count++];
	*p->part = (struct mock_part){.id = id};
	return 0;
}

/* A line that starts with '['. libinih passes over sections without keys and what stands behind
 * ']'. */
static int take_section(struct parser *p, const char *line)
{
	const char *close = strchr(line, ']');
	const char *rest = close ? skip_blanks(close + 1) : "";
	char number[16] = "";
	const char *at = number;
	uint64_t id;
	size_t len;

	if (close_section(p))
		return p->err;
	if (!close || strncmp(line, "[vcpu ", 6) || (*rest && *rest != ';' && *rest != '#'))
		return fail(p, -EINVAL, "a section is written [vcpu N], alone on its line");
	len = (size_t)(close - line) - 6;
	if (len >= sizeof(number))
		len = 0;
	memcpy(number, line + 6, len);
	number[len] = '\0';
	if (!read_number(&at, MAX_VCPU_ID, &id) || *at)
		return fail(p, -EINVAL, "[vcpu N] takes a number from 0 to %u", MAX_VCPU_ID);
	return open_part(p, (uint32_t)id);
}

/*
 * libinih's reader. It hands over one line at a time, without the blanks before it (an indented
 * line would be taken for a continuation), and counts: the handler is not told line numbers.
 */
static char *read_line(char *buf, int size, void *stream)
{
	struct parser *p = stream;
	const char *eol;
	size_t len;

	if (p->err || p->at == p->end)
		return NULL;
	p->line++;
	eol = memchr(p->at, '\n', (size_t)(p->end - p->at));
	if (!eol)
		eol = p->end;
	while (p->at < eol && (isblank((unsigned char)*p->at) || *p->at == '\r'))
		p->at++;
	len = (size_t)(eol - p->at);
	if (memchr(p->at, '\0', len)) {
		fail(p, -EINVAL, "a NUL byte: scripts are text");
		return NULL;
	}
	if (len + 2 >= (size_t)size) {
		fail(p, -EINVAL, "longer than %d bytes: split it", size - 3);
		return NULL;
	}
	memcpy(buf, p->at, len);
	while (len && buf[len - 1] == '\r')
		len--;
	buf[len] = '\0';
	p->at = eol < p->end ? eol + 1 : p->end;
	if (buf[0] == '[' && take_section(p, buf))
		return NULL;
	/* An empty line is not handed over as "", which would be taken for the end. */
	buf[len] = '\n';
	buf[len + 1] = '\0';
	return buf;
}

static bool has_steps(const struct mock_script *script)
{
	uint32_t i;

	for (i = 0; i < script->count; i++)
		if (script->part[i].steps.count)
			return true;
	return false;
}

int mock_script_parse(const char *name, const char *text, size_t len,
		      struct mock_script **ret_script, char *error, size_t error_size)
{
	struct parser p = {.name = name, .at = text, .end = text + len, .error = error};
	int line;

	p.error_size = error_size;
	p.script = calloc(1, sizeof(*p.script));
	if (!p.script)
		return fail(&p, -ENOMEM, "out of memory");
	line = ini_parse_stream(read_line, &p, take_line, &p);
	if (line > 0 && (!p.err || (unsigned)line < p.line)) {
		p.err = 0;
		p.line = (unsigned)line;
		fail(&p, -EINVAL, "neither a section [vcpu N] nor a step: write STEP = ...");
	}
	if (line < 0)
		fail(&p, -ENOMEM, "out of memory");
	if (!p.err)
		close_section(&p);
	if (!p.err && !has_steps(p.script)) {
		p.line = 0;
		fail(&p, -EINVAL, "the script has no step: write [vcpu 0], and steps below it");
	}
	if (p.err) {
		mock_script_free(p.script);
		return p.err;
	}
	*ret_script = p.script;
	return 0;
}

static int read_all(int fd, char *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENODATA;
		done += (size_t)n;
	}
	return 0;
}

static int load_fd(int fd, const char *path, struct mock_script **ret_script, char *error,
		   size_t error_size)
{
	struct stat st;
	char *text;
	int err;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		snprintf(error, error_size, "%s: not a regular file", path);
		return -EINVAL;
	}
	if (st.st_size > (off_t)SCRIPT_MAX) {
		snprintf(error, error_size, "%s: larger than 4 MiB", path);
		return -EFBIG;
	}
	text = malloc((size_t)st.st_size + 1);
	if (!text) {
		snprintf(error, error_size, "%s: out of memory", path);
		return -ENOMEM;
	}
	err = read_all(fd, text, (size_t)st.st_size);
	if (err)
		snprintf(error, error_size, "cannot read %s: %s", path, strerror(-err));
	else
		err = mock_script_parse(path, text, (size_t)st.st_size, ret_script, error,
					error_size);
	free(text);
	return err;
}

int mock_script_load(const char *path, struct mock_script **ret_script, char *error,
		     size_t error_size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int err;

	if (fd < 0) {
		err = -errno;
		snprintf(error, error_size, "cannot open the script %s: %s", path, strerror(-err));
		return err;
	}
	err = load_fd(fd, path, ret_script, error, error_size);
	close(fd);
	return err;
}

void mock_script_free(struct mock_script *script)
{
	uint32_t i;

	if (!script)
		return;
	for (i = 0; i < script->count; i++)
		mock_steps_free(&script->part[i].steps);
	free(script->part);
	free(script);
}
