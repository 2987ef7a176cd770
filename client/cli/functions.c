/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The functions of a fleet, each once: executors have them by their names and by those of their
   preload before them, and a worker may have loaded a preload again in a newer version. */
#include "columns.h"
#include "view.h"

#include <stdlib.h>
#include <string.h>

/* A version of a preload that is the last one on some worker. */
typedef struct {
    const char *preload, *digest;
    long long workers, slots;
} version_t;

typedef struct {
    const peach_value_t **all; /* what the view has, sorted */
    size_t count;
    version_t *versions;
    size_t version_count;
} functions_t;

static int compare_to(const peach_value_t *f, const char *name, const char *preload,
                      const char *digest)
{
    int order = strcmp(view_text(f, "name"), name);
    if (order == 0) order = strcmp(view_text(f, "preload"), preload);
    return order == 0 ? strcmp(view_text(f, "digest"), digest) : order;
}

static int compare(const void *a, const void *b)
{
    const peach_value_t *x = *(const peach_value_t *const *)a,
                        *y = *(const peach_value_t *const *)b;
    return compare_to(x, view_text(y, "name"), view_text(y, "preload"), view_text(y, "digest"));
}

static version_t *find_version(functions_t *self, const char *preload, const char *digest)
{
    for (version_t *v = self->versions; v < self->versions + self->version_count; v++)
        if (strcmp(v->preload, preload) == 0 && strcmp(v->digest, digest) == 0) return v;
    return NULL;
}

/* Of preloads of one name the last that was loaded counts. */
static bool is_last(const peach_value_t *preloads, size_t i)
{
    const peach_value_t *preload = peach_value_at(preloads, i);
    if (strcmp(view_text(preload, "state"), "ready") != 0) return false;
    for (size_t j = i + 1; j < peach_value_length(preloads); j++) {
        const peach_value_t *later = peach_value_at(preloads, j);
        if (strcmp(view_text(later, "state"), "ready") == 0 &&
            strcmp(view_text(later, "name"), view_text(preload, "name")) == 0)
            return false;
    }
    return true;
}

static void add_versions(functions_t *self, const peach_value_t *worker)
{
    const peach_value_t *preloads = peach_value_get(worker, "preloads");
    for (size_t i = 0; i < view_length(worker, "preloads"); i++) {
        const char *name = view_text(peach_value_at(preloads, i), "name");
        const char *digest = view_text(peach_value_at(preloads, i), "digest");
        if (!is_last(preloads, i)) continue;
        version_t *version = find_version(self, name, digest);
        if (!version) {
            version = &self->versions[self->version_count++];
            *version = (version_t){name, digest, 0, 0};
        }
        version->workers++;
        version->slots += view_number(worker, "slots");
    }
}

/* false when memory is out. */
static bool functions_init(functions_t *self, const peach_value_t *view)
{
    const peach_value_t *workers = peach_value_get(view, "workers");
    const peach_value_t *functions = peach_value_get(view, "functions");
    size_t preloads = 0;
    *self = (functions_t){.count = view_length(view, "functions")};
    for (size_t i = 0; i < view_length(view, "workers"); i++)
        preloads += view_length(peach_value_at(workers, i), "preloads");
    self->all = calloc(self->count + 1, sizeof *self->all);
    self->versions = calloc(preloads + 1, sizeof *self->versions);
    if (!self->all || !self->versions) return false;
    for (size_t i = 0; i < self->count; i++) self->all[i] = peach_value_at(functions, i);
    qsort(self->all, self->count, sizeof *self->all, compare);
    for (size_t i = 0; i < view_length(view, "workers"); i++)
        add_versions(self, peach_value_at(workers, i));
    return true;
}

static void functions_clear(functions_t *self)
{
    free(self->all);
    free(self->versions);
}

/* Whether it is a qualified name (multip.fnc) of another one (fnc) of its preload. */
static bool is_qualified(const functions_t *self, size_t at)
{
    const peach_value_t *f = self->all[at];
    const char *name = view_text(f, "name"), *preload = view_text(f, "preload");
    const char *end = strchr(preload, ':');
    if (!end) end = strrchr(preload, '.');
    size_t stem = end ? (size_t)(end - preload) : strlen(preload);
    if (strncmp(name, preload, stem) != 0 || name[stem] != '.') return false;
    for (size_t low = 0, high = self->count; low < high;) {
        size_t middle = (low + high) / 2;
        int order = compare_to(self->all[middle], name + stem + 1, preload, view_text(f, "digest"));
        if (order == 0) return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* Versions of this preload that are the last somewhere. */
static size_t count_versions(const functions_t *self, const char *preload)
{
    size_t count = 0;
    for (const version_t *v = self->versions; v < self->versions + self->version_count; v++)
        count += strcmp(v->preload, preload) == 0;
    return count;
}

/* Calls show with each function that counts; its other versions are the next ones. The number of
   functions. */
static size_t each(functions_t *self,
                   void (*show)(void *arg, const peach_value_t *function, const version_t *version,
                                bool several),
                   void *arg)
{
    size_t count = 0;
    const char *name = "", *preload = "";
    for (size_t i = 0; i < self->count; i++) {
        const peach_value_t *f = self->all[i];
        const version_t *version =
            find_version(self, view_text(f, "preload"), view_text(f, "digest"));
        if (!version || is_qualified(self, i)) continue;
        bool same = strcmp(view_text(f, "name"), name) == 0 &&
                    strcmp(view_text(f, "preload"), preload) == 0;
        name = view_text(f, "name");
        preload = view_text(f, "preload");
        count += !same;
        if (show) show(arg, f, version, count_versions(self, preload) > 1);
    }
    return count;
}

size_t functions_count(const peach_value_t *view)
{
    functions_t self;
    size_t count = functions_init(&self, view) ? each(&self, NULL, NULL) : 0;
    functions_clear(&self);
    return count;
}

static void add_row(void *table, const peach_value_t *function, const version_t *version,
                    bool several)
{
    columns_add(table, "%s", view_text(function, "name"));
    columns_next(table);
    columns_add(table, "%s", version->preload);
    columns_next(table);
    columns_add(table, "%.12s", version->digest);
    columns_next(table);
    columns_add(table, "%lld", version->workers);
    columns_next(table);
    columns_add(table, "%lld", version->slots);
    columns_next(table);
    if (several) columns_add(table, "(several versions in this fleet)");
    columns_end_row(table);
}

static void print_functions(const peach_value_t *view)
{
    functions_t self;
    columns_t *table = columns_new("FUNCTION PRELOAD SHA-256 >WORKERS >SLOTS ");
    if (functions_init(&self, view)) each(&self, add_row, table);
    functions_clear(&self);
    columns_print(&table);
}

static int functions(const options_t *options)
{
    return view_show(options, "functions", print_functions);
}

const command_t functions_command = {
    .name = "functions",
    .bit = FUNCTIONS,
    .summary = "the functions that can be called, and where",
    .about = "Shows the functions that can be called, and on how many workers. Each can be called "
             "by its name and with its preload's before it (fnc, multip.fnc).",
    .run = functions,
};
