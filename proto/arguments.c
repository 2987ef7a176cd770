/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "arguments.h"

#include "nearest.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- help ---- */

enum { KEY_HELP = 'h', KEY_VERSION = 'V', KEY_USAGE = 0x2000 };

static const struct argp_option help_entries[] = {
    {NULL, 0, NULL, 0, "Help", -1},
    {"help", KEY_HELP, NULL, 0, "Give this help", -1},
    {"usage", KEY_USAGE, NULL, 0, "Give the options in short", -1},
    {"version", KEY_VERSION, NULL, 0, "Print the version", -1},
    {0}};

static error_t parse_help(int key, char *arg, struct argp_state *state)
{
    (void)arg;
    switch (key) {
    case KEY_HELP: argp_state_help(state, stdout, ARGP_HELP_STD_HELP); return 0;
    case KEY_USAGE: argp_state_help(state, stdout, ARGP_HELP_USAGE | ARGP_HELP_EXIT_OK); return 0;
    case KEY_VERSION: puts(argp_program_version); exit(EXIT_SUCCESS);
    default: return ARGP_ERR_UNKNOWN;
    }
}

const struct argp arguments_help = {help_entries, parse_help, NULL, NULL, NULL, NULL, NULL};

/* ---- words ---- */

static bool is_listed(const struct argp_option *o) { return o->name || o->key || o->doc; }

/* The option of that name or, as getopt has it, the first whose name begins so. */
static const struct argp_option *find_name(const struct argp_option *known, const char *name,
                                           size_t length)
{
    const struct argp_option *found = NULL;
    for (; is_listed(known); known++) {
        if (!known->name || strncmp(known->name, name, length) != 0) continue;
        if (!known->name[length]) return known;
        if (!found) found = known;
    }
    return found;
}

static const struct argp_option *find_letter(const struct argp_option *known, char letter)
{
    for (; is_listed(known); known++)
        if (known->key == (unsigned char)letter && isalpha((unsigned char)letter)) return known;
    return NULL;
}

typedef enum { WORD_PLAIN, WORD_OPTION, WORD_WITH_VALUE, WORD_UNKNOWN } word_t;

/* What a word is; WORD_WITH_VALUE is an option whose value is the next word. */
static word_t word_kind(const struct argp_option *known, const char *word)
{
    if (word[0] != '-' || !word[1] || isdigit((unsigned char)word[1]) || word[1] == '.')
        return WORD_PLAIN;
    if (word[1] == '-') {
        size_t length = strcspn(word + 2, "=");
        const struct argp_option *option = find_name(known, word + 2, length);
        if (!option) option = find_name(help_entries, word + 2, length);
        if (!option) return WORD_UNKNOWN;
        return option->arg && !word[2 + length] ? WORD_WITH_VALUE : WORD_OPTION;
    }
    for (const char *letter = word + 1; *letter; letter++) {
        const struct argp_option *option = find_letter(known, *letter);
        if (!option) option = find_letter(help_entries, *letter);
        if (!option) return WORD_UNKNOWN;
        if (option->arg) return letter[1] ? WORD_OPTION : WORD_WITH_VALUE;
    }
    return WORD_OPTION;
}

const char *arguments_unknown(const struct argp_option *known, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        word_t kind = word_kind(known, argv[i]);
        if (kind == WORD_UNKNOWN) return argv[i];
        if (kind == WORD_WITH_VALUE) i++;
    }
    return NULL;
}

void arguments_explain(const struct argp_option *known, const char *word, char *text, size_t size)
{
    enum { MOST = 128, LENGTH = 64 };
    const char *names[MOST], *letters = word + strspn(word, "-");
    size_t count = 0;
    char name[LENGTH];
    for (const struct argp_option *o = known; is_listed(o) && count < MOST; o++)
        if (o->name && !(o->flags & OPTION_HIDDEN)) names[count++] = o->name;
    for (const struct argp_option *o = help_entries; is_listed(o) && count < MOST; o++)
        if (o->name) names[count++] = o->name;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(letters, "="), letters);
    const char *meant = nearest(name, names, count);
    if (meant)
        snprintf(text, size, "'%.100s' is not an option: did you mean --%s?", word, meant);
    else
        snprintf(text, size, "'%.100s' is not an option (--help lists them)", word);
}

char **arguments_sort(const struct argp_option *known, int *argc, char **argv)
{
    char **sorted = calloc((size_t)*argc + 2, sizeof *sorted);
    char **plain = calloc((size_t)*argc + 1, sizeof *plain);
    int options = 0, others = 0, i = 1;
    if (!sorted || !plain) {
        free(sorted);
        free(plain);
        return NULL;
    }
    sorted[options++] = argv[0];
    for (; i < *argc && strcmp(argv[i], "--") != 0; i++) {
        word_t kind = word_kind(known, argv[i]);
        if (kind == WORD_PLAIN)
            plain[others++] = argv[i];
        else
            sorted[options++] = argv[i];
        if (kind == WORD_WITH_VALUE && i + 1 < *argc) sorted[options++] = argv[++i];
    }
    for (i++; i < *argc; i++) plain[others++] = argv[i];
    /* Not behind an option that lacks its value: it would take this for it. */
    if (others > 0) sorted[options++] = "--";
    for (int j = 0; j < others; j++) sorted[options++] = plain[j];
    free(plain);
    *argc = options;
    return sorted;
}
