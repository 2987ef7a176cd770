/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "items.h"

#include "input.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_MAX = 50000000 }; /* items that are made all at once */

/* A word of the command line: a range, something to read, or else one value. */
typedef struct {
    bool is_range;
    int64_t next, last;
    input_t *input;
    peach_value_t *value;
} word_t;

struct items {
    word_t *words;
    size_t count, at; /* words[at] is next */
    uint64_t total;   /* 0: not known */
    bool lines, stopped, waiting, broken;
    joblog_t *log;
};

bool items_read_file(const items_t *self, const struct stat *file)
{
    struct stat input;
    for (size_t i = 0; i < self->count; i++)
        if (self->words[i].input && fstat(input_fd(self->words[i].input), &input) == 0 &&
            input.st_dev == file->st_dev && input.st_ino == file->st_ino)
            return true;
    return false;
}

/* ---- words ---- */

static void complain_json(const char *what, int status, const char *error)
{
    complain("%s%s %s", what, status == PEACH_E_JSON ? " is not JSON:" : ":", error);
}

peach_value_t *item_parse(const char *text, const char *what)
{
    char error[512], where[128];
    peach_value_t *value;
    int rc = peach_value_from_json(text, strlen(text), &value, error, sizeof error);
    if (rc == 0) return value;
    bool word = isalpha((unsigned char)*text) || *text == '_';
    size_t used = strlen(error);
    if (word && used < sizeof error)
        snprintf(error + used, sizeof error - used, "; a string is '\"%.40s\"'", text);
    snprintf(where, sizeof where, "%s '%.60s%s'", what, text, strlen(text) > 60 ? "..." : "");
    complain_json(where, rc, error);
    return NULL;
}

/* FIRST..LAST. 1 when it is one; 0 when it is something else; -1 after a complaint. */
static int parse_range(const char *text, word_t *word)
{
    char *dots, *end;
    errno = 0;
    word->next = strtoll(text, &dots, 10);
    if (dots == text || strncmp(dots, "..", 2) != 0) return 0;
    word->last = strtoll(dots + 2, &end, 10);
    if (end == dots + 2 || *end) return 0;
    word->is_range = true;
    if (errno)
        complain("range '%s': its ends are to fit into 64 bits", text);
    else if (word->next > word->last)
        complain("range '%s' is empty: it goes up (%lld..%lld); no items at all is - with nothing "
                 "on standard input",
                 text, (long long)word->last, (long long)word->next);
    else
        return 1;
    return -1;
}

static bool parse_word(const char *text, word_t *word, bool *has_stdin)
{
    if (strcmp(text, "-") == 0) {
        if (*has_stdin) complain("standard input (-) can be read once");
        if (*has_stdin) return false;
        *has_stdin = true;
        return (word->input = input_open(NULL)) != NULL;
    }
    if (*text == '@') return (word->input = input_open(text + 1)) != NULL;
    int range = parse_range(text, word);
    if (range) return range > 0;
    return (word->value = item_parse(text, "item")) != NULL;
}

static uint64_t count_items(const items_t *self)
{
    uint64_t total = 0;
    for (const word_t *w = self->words; w < self->words + self->count; w++) {
        if (w->input) return 0;
        uint64_t more = w->is_range ? (uint64_t)w->last - (uint64_t)w->next : 0;
        if (more >= UINT64_MAX - total) return 0;
        total += more + 1;
    }
    return total;
}

items_t *items_new(char **args, size_t count, bool lines)
{
    char *stdin_only[] = {"-"};
    bool has_stdin = false, good = true;
    if (count == 0 && lines) {
        args = stdin_only;
        count = 1;
    }
    items_t *self = calloc(1, sizeof *self);
    if (self) self->words = calloc(count + 1, sizeof *self->words);
    if (!self || !self->words) {
        complain("%s", peach_status_text(PEACH_E_MEMORY));
        items_destroy(&self);
        return NULL;
    }
    self->lines = lines;
    self->count = count;
    for (size_t i = 0; i < count && good; i++)
        good = parse_word(args[i], &self->words[i], &has_stdin);
    self->total = good ? count_items(self) : 0;
    if (!good) items_destroy(&self);
    return self;
}

void items_destroy(items_t **self_p)
{
    items_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    for (size_t i = 0; self->words && i < self->count; i++) {
        input_close(&self->words[i].input);
        peach_value_destroy(&self->words[i].value);
    }
    free(self->words);
    free(self);
}

void items_set_log(items_t *self, joblog_t *log) { self->log = log; }
bool items_broken(const items_t *self) { return self->broken; }
void items_stop(items_t *self) { self->stopped = true; }
int items_fd(const items_t *self)
{
    return self->waiting && !self->stopped ? input_fd(self->words[self->at].input) : -1;
}

uint64_t items_total(const items_t *self)
{
    return self->total && self->log ? self->total - joblog_skipped(self->log) : self->total;
}

/* ---- one after the other ---- */

/* The line as a value; NULL after a complaint. */
static peach_value_t *line_value(items_t *self, input_t *input, char *text, size_t size)
{
    char error[512];
    peach_value_t *value;
    if (self->lines) {
        value = peach_value_string_n(text, size);
        if (!value) complain("%s is not UTF-8", input_place(input));
        return value;
    }
    int rc = peach_value_from_json(text, size, &value, error, sizeof error);
    if (rc) complain_json(input_place(input), rc, error);
    return value;
}

/* The next line that is an item: of JSON, empty ones are none. */
static peach_value_t *next_line(items_t *self, input_t *input, int *status)
{
    char *text;
    size_t size;
    while ((*status = input_next(input, &text, &size)) == 0) {
        if (!self->lines && strspn(text, " \t\r") == size) continue;
        peach_value_t *value = line_value(self, input, text, size);
        if (!value) *status = PEACH_E_JSON;
        return value;
    }
    return NULL;
}

/* NULL with *status: 0 at the end, PEACH_E_TIMEOUT, or an error that was told. */
static peach_value_t *next_value(items_t *self, int *status)
{
    peach_value_t *value = NULL;
    self->waiting = false;
    *status = 0;
    for (; self->at < self->count && !self->stopped; self->at++) {
        word_t *word = &self->words[self->at];
        if (word->input) {
            value = next_line(self, word->input, status);
            self->waiting = *status == PEACH_E_TIMEOUT;
            if (*status != PEACH_END) return value;
            *status = 0;
        } else if (word->is_range) {
            value = peach_value_int(word->next);
            if (word->next++ == word->last) self->at++;
            return value;
        } else {
            value = word->value;
            word->value = NULL;
            self->at++;
            return value;
        }
    }
    return NULL;
}

static peach_value_t *next_item(void *arg, int *status)
{
    items_t *self = arg;
    peach_value_t *value;
    while ((value = next_value(self, status)) != NULL && self->log) {
        *status = joblog_item(self->log, value);
        if (*status == 0) return value;
        peach_value_destroy(&value);
        if (*status != PEACH_END) break;
    }
    self->broken = *status < 0 && *status != PEACH_E_TIMEOUT;
    return value;
}

peach_job_t *items_map(items_t *self, peach_t *fleet, const char *function,
                       const peach_job_options_t *options, bool one_by_one)
{
    if (one_by_one || self->log || self->total == 0 || self->total > BLOCK_MAX)
        return peach_map_from(fleet, function, next_item, self, options);
    const word_t *first = &self->words[0];
    peach_value_t *items = self->count == 1 && first->is_range
                               ? peach_value_range(first->next, first->last)
                               : peach_value_list();
    peach_value_t *item;
    int status = 0;
    while (items && peach_value_kind(items) == PEACH_LIST &&
           (item = next_item(self, &status)) != NULL)
        if (peach_value_append(items, &item) != 0) peach_value_destroy(&items);
    return items ? peach_map(fleet, function, &items, options)
                 : peach_map_from(fleet, function, next_item, self, options);
}
