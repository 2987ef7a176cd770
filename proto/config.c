/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "config.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *section;
    char **options;
    size_t count, capacity;
    char *error;
    size_t error_size;
} config_t;

void config_free(char ***options_p)
{
    for (char **o = *options_p; o && *o; o++) free(*o);
    free(*options_p);
    *options_p = NULL;
}

static bool add(config_t *c, const char *name, const char *value)
{
    char *option = NULL;
    if (c->count + 2 > c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 16;
        char **grown = realloc(c->options, capacity * sizeof *grown);
        if (!grown) return false;
        c->options = grown;
        c->capacity = capacity;
    }
    if (asprintf(&option, "--%s%s%s", name, value ? "=" : "", value ? value : "") < 0) return false;
    c->options[c->count++] = option;
    c->options[c->count] = NULL;
    return true;
}

static const struct argp_option *find(const struct argp_option *known, const char *name)
{
    for (; known->name || known->key || known->doc; known++)
        if (known->name && strcmp(known->name, name) == 0) return known;
    return NULL;
}

static bool fail(config_t *c, const char *name, const char *what)
{
    snprintf(c->error, c->error_size, "%.64s: '%.64s' %s", c->section, name, what);
    return false;
}

static bool add_value(config_t *c, const struct argp_option *option, const json_t *value)
{
    char *text = NULL;
    bool added = false;
    if (!option->arg) {
        if (!json_is_boolean(value)) return fail(c, option->name, "must be true or false");
        return !json_is_true(value) || add(c, option->name, NULL);
    }
    if (json_is_string(value)) return add(c, option->name, json_string_value(value));
    if (!json_is_number(value)) return fail(c, option->name, "must be a string or a number");
    if ((text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15))) != NULL)
        added = add(c, option->name, text);
    free(text);
    return added;
}

static bool add_member(config_t *c, const struct argp_option *known, const char *name,
                       const json_t *value)
{
    const struct argp_option *option = find(known, name);
    if (!option) return fail(c, name, "is not an option (see --help)");
    if (!json_is_array(value)) return add_value(c, option, value);
    size_t i;
    json_t *element;
    json_array_foreach(value, i, element) if (!add_value(c, option, element)) return false;
    return true;
}

char **config_parse(const char *text, size_t size, const char *section,
                    const struct argp_option *known, char *error, size_t error_size)
{
    json_error_t where;
    config_t c = {.section = section, .error = error, .error_size = error_size};
    snprintf(error, error_size, "out of memory");
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (!root) {
        snprintf(error, error_size, "line %d, column %d: %s", where.line, where.column, where.text);
        return NULL;
    }
    const json_t *members = json_object_get(root, section);
    bool good = (c.options = calloc(1, sizeof *c.options)) != NULL;
    if (good && !json_is_object(root)) {
        snprintf(error, error_size, "it is not an object with the sections broker, worker, client");
        good = false;
    } else if (good && members && !json_is_object(members)) {
        snprintf(error, error_size, "%s: it is not an object", section);
        good = false;
    }
    const char *name;
    json_t *value;
    json_object_foreach ((json_t *)members, name, value) {
        if (good) good = add_member(&c, known, name, value);
    }
    json_decref(root);
    if (!good) config_free(&c.options);
    return c.options;
}

/* Opens the file that counts; NULL when there is none (errno 0), or it cannot be read. */
static FILE *open_file(char *path, size_t size)
{
    const char *named = getenv("PEACH_CONFIG"), *xdg = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    errno = 0;
    if (named && *named) {
        snprintf(path, size, "%s", named);
        return fopen(path, "r");
    }
    if (xdg && *xdg)
        snprintf(path, size, "%s/peach.json", xdg);
    else
        snprintf(path, size, "%s/.config/peach.json", home ? home : "");
    FILE *file = fopen(path, "r");
    if (!file && (errno == ENOENT || errno == ENOTDIR)) {
        snprintf(path, size, "/etc/peach.json");
        file = fopen(path, "r");
    }
    if (!file && (errno == ENOENT || errno == ENOTDIR)) errno = 0;
    return file;
}

/* Those of the last call, and the texts that they point to. */
static char **arguments, **texts;

char **config_arguments(const char *section, const struct argp_option *known, int *argc,
                        char **argv, char *error, size_t error_size)
{
    enum { LARGEST = 1 << 20 };
    char path[PATH_MAX], why[512];
    FILE *file = open_file(path, sizeof path);
    if (!file && errno == 0) return argv;
    char *text = file ? malloc(LARGEST) : NULL;
    if (!text) {
        snprintf(error, error_size, "the configuration '%s' cannot be read: %s", path,
                 strerror(errno));
        if (file) fclose(file);
        return NULL;
    }
    size_t size = fread(text, 1, LARGEST, file), from_file = 0;
    fclose(file);
    char **options = config_parse(text, size, section, known, why, sizeof why);
    free(text);
    while (options && options[from_file]) from_file++;
    char **all = options ? calloc((size_t)*argc + from_file + 1, sizeof *all) : NULL;
    config_free(&texts);
    free(arguments);
    texts = options;
    arguments = all;
    if (!all) {
        snprintf(error, error_size, "the configuration '%s': %s", path, why);
        return NULL;
    }
    const char *broker = getenv("PEACH_BROKER");
    int count = 0;
    all[count++] = argv[0];
    for (size_t i = 0; i < from_file; i++)
        if (!broker || !*broker || strncmp(options[i], "--connect", 9) != 0)
            all[count++] = options[i];
    for (int i = 1; i < *argc; i++) all[count++] = argv[i];
    *argc = count;
    return all;
}
