/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "cli.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_MAX = 50000000 }; /* numbers that are sent out of one block of memory */

struct items {
    char **args;
    int count, at; /* args[at] is next */
    bool in_range;
    int64_t next, last; /* of the range that args[at] is */
    bool has_stdin, broken;
    size_t line;
    char *buffer; /* of getline */
    size_t buffer_size;
};

/* first..last, both integers; false when the text is something else. */
static bool parse_range(const char *text, int64_t *first, int64_t *last)
{
    char *end;
    *first = strtoll(text, &end, 10);
    if (end == text || strncmp(end, "..", 2) != 0) return false;
    const char *second = end + 2;
    *last = strtoll(second, &end, 10);
    return end != second && *end == 0;
}

peach_value_t *item_parse(const char *text, const char *what)
{
    char error[256];
    peach_value_t *value;
    if (peach_value_from_json(text, strlen(text), &value, error, sizeof error) == 0) return value;
    bool word = *text && (isalpha((unsigned char)*text) || *text == '_');
    complain("%s '%.60s%s' is not JSON: %s%s%.40s%s", what, text, strlen(text) > 60 ? "..." : "",
             error, word ? "; a string is '\"" : "", word ? text : "", word ? "\"'" : "");
    return NULL;
}

items_t *items_new(char **args, int count)
{
    items_t *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    self->args = args;
    self->count = count;
    bool good = true;
    for (int i = 0; i < count && good; i++) {
        int64_t first, last;
        if (strcmp(args[i], "-") == 0) {
            good = !self->has_stdin;
            if (!good) complain("standard input (-) can be read once");
            self->has_stdin = true;
        } else if (!parse_range(args[i], &first, &last)) {
            peach_value_t *value = item_parse(args[i], "item");
            good = value != NULL;
            peach_value_destroy(&value);
        }
    }
    if (!good) items_destroy(&self);
    return self;
}

void items_destroy(items_t **self_p)
{
    items_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    free(self->buffer);
    free(self);
}

bool items_broken(const items_t *self) { return self->broken; }

/* The next JSON line; empty lines are none. NULL at the end or at a broken one. */
static peach_value_t *next_line(items_t *self)
{
    ssize_t length;
    while ((length = getline(&self->buffer, &self->buffer_size, stdin)) >= 0) {
        char *text = self->buffer + strspn(self->buffer, " \t\r\n"), error[256];
        self->line++;
        if (!*text) continue;
        peach_value_t *value;
        size_t size = (size_t)length - (size_t)(text - self->buffer);
        if (peach_value_from_json(text, size, &value, error, sizeof error) == 0) return value;
        complain("standard input, line %zu is not JSON: %s", self->line, error);
        self->broken = true;
        return NULL;
    }
    return NULL;
}

static peach_value_t *next_item(void *arg, int *status)
{
    items_t *self = arg;
    while (self->at < self->count) {
        const char *text = self->args[self->at];
        if (strcmp(text, "-") == 0) {
            peach_value_t *value = next_line(self);
            if (value || self->broken) {
                *status = value ? 0 : PEACH_E_JSON;
                return value;
            }
            self->at++;
        } else if (self->in_range || parse_range(text, &self->next, &self->last)) {
            self->in_range = self->next <= self->last;
            if (self->in_range) {
                if (self->next < self->last) return peach_value_int(self->next++);
                self->in_range = false;
                self->at++;
                return peach_value_int(self->last);
            }
            self->at++;
        } else {
            self->at++;
            return item_parse(text, "item");
        }
    }
    return NULL;
}

peach_job_t *items_map(items_t *self, peach_t *fleet, const char *function,
                       const peach_job_options_t *options)
{
    int64_t first, last;
    peach_value_t *items = NULL;
    if (self->count == 1 && parse_range(self->args[0], &first, &last) &&
        (last < first || (uint64_t)last - (uint64_t)first < BLOCK_MAX)) {
        items = peach_value_range(first, last);
    } else if (!self->has_stdin) {
        /* Known in full, so that progress has an end, unless it is a huge range. */
        uint64_t total = 0;
        for (int i = 0; i < self->count; i++)
            total += parse_range(self->args[i], &first, &last) && last >= first
                         ? (uint64_t)last - (uint64_t)first + 1
                         : 1;
        peach_value_t *item;
        int status = 0;
        if (total < BLOCK_MAX) items = peach_value_list();
        while (items && (item = next_item(self, &status)) != NULL)
            if (peach_value_append(items, &item) != 0) peach_value_destroy(&items);
    }
    return items ? peach_map(fleet, function, &items, options)
                 : peach_map_from(fleet, function, next_item, self, options);
}
