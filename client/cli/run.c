/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "local.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

enum {
    KEY_SLOTS = 'n',
    KEY_PORT = 'p',
    KEY_PRELOAD = 'l',
    KEY_MEMORY = 256,
    KEY_RECYCLE,
    KEY_START
};

typedef struct {
    connect_options_t connect;
    job_options_t job;
    local_options_t local;
} arguments_t;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments_t *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->job; break;
    case KEY_SLOTS:
        option_number(state, arg, 1, 1024, "-n");
        a->local.slots = arg;
        break;
    case KEY_PORT:
        option_number(state, arg, 1, 65535, "-p");
        a->local.port = arg;
        break;
    case KEY_MEMORY:
        option_number(state, arg, 16, INT_MAX, "--memory");
        a->local.memory = arg;
        break;
    case KEY_RECYCLE:
        option_number(state, arg, 1, INT_MAX, "--recycle");
        a->local.recycle = arg;
        break;
    case KEY_START:
        if (strcmp(arg, "spawn") != 0 && strcmp(arg, "fork") != 0)
            argp_error(state, "--start: '%s' is neither spawn nor fork", arg);
        a->local.start = arg;
        break;
    case KEY_PRELOAD:
        if (a->local.preload_count == MAX_PRELOADS)
            argp_error(state, "more than %d -l", MAX_PRELOADS);
        a->local.preloads[a->local.preload_count++] = arg;
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int run(peach_t *fleet, arguments_t *a, items_t *items)
{
    peach_job_t *job =
        put_source(fleet, &a->job) ? items_map(items, fleet, a->job.function, &a->job.job) : NULL;
    int code = EXIT_USAGE;
    if (job)
        code = print_job(fleet, job, &a->connect, local_alive);
    else
        complain("%s", peach_error(fleet));
    if (items_broken(items)) code = EXIT_USAGE;
    peach_job_destroy(&job);
    peach_value_destroy(&a->job.code);
    return code;
}

int command_run(int argc, char **argv)
{
    static const struct argp_option entries[] = {
        {"slots", KEY_SLOTS, "N", 0, "Executors to start (default: one a core)", 10},
        {"preload", KEY_PRELOAD, "PRELOAD", 0,
         "A Python file, module:NAME, or a .so plugin; may be repeated", 10},
        {"memory", KEY_MEMORY, "MIB", 0, "Kill an executor that takes more", 10},
        {"recycle", KEY_RECYCLE, "N", 0, "Replace an executor after N items", 10},
        {"start", KEY_START, "HOW", 0,
         "spawn (default), or fork: executors are copies of one that loaded the preloads", 10},
        {"port", KEY_PORT, "PORT", 0, "Of the broker on 127.0.0.1 (default: any free one)", 10},
        {0}};
    static const struct argp_child children[] = {{&job_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        entries,
        parse,
        "FUNC ITEM...\n--source TEXT ITEM...",
        "Starts a broker and N executors on this host, runs FUNC over the items, prints one JSON "
        "result a line, in order, and stops them.\v"
        "ITEM is JSON (3, '\"a\"', '[1,2]', '{\"x\":1}'), a range 0..9 (both ends included), or - "
        "for JSON lines on standard input. A failed item prints {\"error\": {...}} in its place.",
        children,
        NULL,
        NULL};
    arguments_t a = {.connect = {.timeout_ms = -1}};
    job_options_init(&a.job);
    parse_options(&argp, argc, argv, &a);
    items_t *items = items_new(a.job.items, a.job.item_count);
    if (!items) return EXIT_USAGE;
    for (size_t i = 0; i < a.local.preload_count; i++) {
        size_t length = strlen(a.local.preloads[i]);
        bool file = length > 3 && (strcmp(a.local.preloads[i] + length - 3, ".py") == 0 ||
                                   strcmp(a.local.preloads[i] + length - 3, ".so") == 0);
        if (!file || access(a.local.preloads[i], R_OK) == 0) continue;
        complain("preload '%s': %s", a.local.preloads[i], strerror(errno));
        items_destroy(&items);
        return EXIT_USAGE;
    }
    watch_interrupts();
    local_t local;
    int code;
    peach_t *fleet = local_start(&local, &a.local, &code);
    if (fleet) code = run(fleet, &a, items);
    peach_close(&fleet);
    local_stop(&local);
    items_destroy(&items);
    return code;
}
