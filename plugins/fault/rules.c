/* SPDX-License-Identifier: Apache-2.0 */
/* The language of faults: words OP[#N][~P][=ERROR][+DELAY] with blanks between. */
#include "fault.h"

#include <stdio.h>
#include <string.h>

#define BLANKS	   " \t"
#define PARTS	   "#~=+"
#define MOST_DELAY UINT64_C(60000000000) /* a minute: no call waits for ever */

/* Where a word is wrong. */
struct complaint {
	const char *word;
	char *why;
	size_t size;
};

static int wrong(const struct complaint *complaint, const char *right)
{
	snprintf(complaint->why, complaint->size, "rule '%s': %s", complaint->word, right);
	return -1;
}

/* Decimal digits at *AT, which goes behind them, to a number below 10^15. */
static int read_digits(const char **at, uint64_t *ret_number)
{
	size_t len = strspn(*at, "0123456789");
	uint64_t number = 0;

	if (!len || len > 15)
		return -1;
	for (; len; len--)
		number = number * 10 + (uint64_t)(*(*at)++ - '0');
	*ret_number = number;
	return 0;
}

static int read_nth(struct fault_rule *rule, const char *text, const struct complaint *complaint)
{
	if (read_digits(&text, &rule->nth) || *text || !rule->nth)
		return wrong(complaint, "behind '#' goes the number of a call, from 1");
	return 0;
}

/* 0, 1, or what is between, such as 0.025. */
static int read_chance(struct fault_rule *rule, const char *text, const struct complaint *complaint)
{
	uint64_t whole, part = 0, scale = 1;
	const char *digits;

	if (read_digits(&text, &whole))
		whole = 2;
	if (*text == '.') {
		digits = ++text;
		if (read_digits(&text, &part) || text - digits > 9)
			whole = 2;
		for (; digits < text && scale < 1000000000; digits++)
			scale *= 10;
	}
	if (*text || whole > 1 || (whole == 1 && part))
		return wrong(complaint, "behind '~' goes a probability, 0 to 1, such as 0.025");
	rule->chance = (whole << 32) + (part << 32) / scale;
	return 0;
}

static int read_error(struct fault_rule *rule, const char *text, const struct complaint *complaint)
{
	uint64_t number = 0;
	const char *at = text;

	rule->error = layer_error_number(text);
	if (!rule->error && read_digits(&at, &number) == 0 && !*at && number <= 4095)
		rule->error = (int32_t)number;
	return rule->error ? 0
			   : wrong(complaint,
				   "behind '=' goes an error's name, such as EIO, or number");
}

static int read_delay(struct fault_rule *rule, const char *text, const struct complaint *complaint)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};
	uint64_t number;

	if (read_digits(&text, &number) == 0)
		for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
			if (strcmp(text, units[i].name) == 0 &&
			    number <= MOST_DELAY / units[i].ns) {
				rule->delay = number * units[i].ns;
				return 0;
			}
	return wrong(complaint, "behind '+' goes a time of a minute at most, such as 2ms");
}

static int read_op(struct fault_rule *rule, const char *name, const struct complaint *complaint)
{
	int any = strcmp(name, "*") == 0, found = 0;

	for (uint32_t op = 0; op < LAYER_OPS; op++) {
		if (op == layer_op_vm_destroy || op == layer_op_vcpu_destroy)
			continue;
		rule->op[op] = any || layer_op_is(op, name);
		found |= rule->op[op];
	}
	return found ? 0
		     : wrong(complaint, "there is no such operation that can fail; the layer "
					"trace names those that are called, such as vcpu.run");
}

/* Reads a part, which begins with MARK. */
static int read_part(struct fault_rule *rule, char mark, const char *text,
		     const struct complaint *complaint)
{
	switch (mark) {
	case '#':
		return rule->nth ? wrong(complaint, "it has '#' twice")
				 : read_nth(rule, text, complaint);
	case '~':
		return read_chance(rule, text, complaint);
	case '=':
		return rule->error ? wrong(complaint, "it has '=' twice")
				   : read_error(rule, text, complaint);
	default:
		return rule->delay ? wrong(complaint, "it has '+' twice")
				   : read_delay(rule, text, complaint);
	}
}

/* WORD has LEN characters. */
static int read_word(const char *word, size_t len, struct fault_rule *rule, char *why, size_t size)
{
	char copy[sizeof(rule->word)], *at = copy, mark;
	struct complaint complaint = {rule->word, why, size};
	int failing;

	*rule = (struct fault_rule){.chance = UINT64_C(1) << 32};
	if (len >= sizeof(rule->word)) {
		snprintf(why, size, "a rule of %zu characters: they have %zu at most", len,
			 sizeof(rule->word) - 1);
		return -1;
	}
	memcpy(rule->word, word, len);
	memcpy(copy, rule->word, sizeof(copy));
	at += strcspn(at, PARTS);
	mark = *at;
	*at = '\0';
	if (read_op(rule, copy, &complaint))
		return -1;
	while (mark) {
		char *text = at + 1, part = mark;

		at = text + strcspn(text, PARTS);
		mark = *at;
		*at = '\0';
		if (read_part(rule, part, text, &complaint))
			return -1;
	}
	failing = rule->error || !strchr(rule->word, '+');
	rule->error = failing && !rule->error ? EIO : rule->error;
	return 0;
}

int fault_read(const char *text, struct fault_rule *rules, char *why, size_t size)
{
	uint32_t count = 0;

	for (text += strspn(text, BLANKS); *text; text += strspn(text, BLANKS)) {
		size_t len = strcspn(text, BLANKS);

		if (count == FAULT_MOST_RULES) {
			snprintf(why, size, "more than %u rules", FAULT_MOST_RULES);
			return -1;
		}
		if (read_word(text, len, &rules[count], why, size))
			return -1;
		text += len;
		count++;
	}
	return (int)count;
}
