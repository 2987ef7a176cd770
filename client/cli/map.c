/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "cli.h"

#include <stdlib.h>

typedef struct {
    connect_options_t connect;
    job_options_t job;
} arguments_t;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    (void)arg;
    if (key != ARGP_KEY_INIT) return ARGP_ERR_UNKNOWN;
    arguments_t *a = state->input;
    state->child_inputs[0] = &a->connect;
    state->child_inputs[1] = &a->job;
    return 0;
}

static const struct argp_child children[] = {
    {&connect_argp, 0, NULL, 0}, {&job_argp, 0, NULL, 0}, {0}};

static void arguments_init(arguments_t *a)
{
    *a = (arguments_t){.connect = {.timeout_ms = -1}};
    job_options_init(&a->job);
}

int command_map(int argc, char **argv)
{
    static const struct argp argp = {
        NULL,
        parse,
        "FUNC ITEM...\n--source TEXT ITEM...",
        "Runs FUNC over the items on the fleet and prints one JSON result a line, in order.\v"
        "ITEM is JSON (3, '\"a\"', '[1,2]', '{\"x\":1}'), a range 0..9 (both ends included), or - "
        "for JSON lines on standard input. A failed item prints {\"error\": {...}} in its place.",
        children,
        NULL,
        NULL};
    arguments_t a;
    int code = EXIT_USAGE;
    arguments_init(&a);
    parse_options(&argp, argc, argv, &a);
    items_t *items = items_new(a.job.items, a.job.item_count);
    if (!items) return EXIT_USAGE;
    peach_t *fleet = connect_fleet(&a.connect, &code);
    if (fleet) {
        watch_interrupts();
        peach_job_t *job =
            put_source(fleet, &a.job) ? items_map(items, fleet, a.job.function, &a.job.job) : NULL;
        if (job)
            code = print_job(fleet, job, &a.connect, NULL);
        else
            complain("%s", peach_error(fleet));
        if (items_broken(items)) code = EXIT_USAGE;
        peach_job_destroy(&job);
        peach_value_destroy(&a.job.code);
        peach_close(&fleet);
    }
    items_destroy(&items);
    return code;
}

int command_call(int argc, char **argv)
{
    static const struct argp argp = {
        NULL,
        parse,
        "FUNC [ARG...]\n--source TEXT [ARG...]",
        "Calls FUNC once with these arguments (JSON) and prints its result as JSON.",
        children,
        NULL,
        NULL};
    arguments_t a;
    int code = EXIT_USAGE;
    arguments_init(&a);
    parse_options(&argp, argc, argv, &a);
    peach_value_t *args = peach_value_list();
    for (int i = 0; args && i < a.job.item_count; i++) {
        peach_value_t *arg = item_parse(a.job.items[i], "argument");
        if (!arg || peach_value_append(args, &arg) != 0) peach_value_destroy(&args);
    }
    if (!args) return EXIT_USAGE;
    peach_t *fleet = connect_fleet(&a.connect, &code);
    if (fleet) {
        watch_interrupts();
        peach_job_t *job = put_source(fleet, &a.job)
                               ? peach_submit(fleet, a.job.function, &args, &a.job.job)
                               : NULL;
        if (job)
            code = print_job(fleet, job, &a.connect, NULL);
        else
            complain("%s", peach_error(fleet));
        peach_job_destroy(&job);
        peach_value_destroy(&a.job.code);
        peach_close(&fleet);
    }
    peach_value_destroy(&args);
    return code;
}
