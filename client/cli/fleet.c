/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_SLOTS = 'n', KEY_PRELOAD = 'l', KEY_WORKER = 'w', KEY_HOST = 256, KEY_ALL, KEY_BROKER };
enum { ANSWER_MS = 5000, READY_MS = 60000 };

/* ---- init and preload ---- */

typedef struct {
    connect_options_t connect;
    unsigned slots;
    const char *preloads[MAX_PRELOADS];
    size_t preload_count;
} init_arguments_t;

static error_t parse_init(int key, char *arg, struct argp_state *state)
{
    init_arguments_t *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->connect; break;
    case KEY_SLOTS: a->slots = (unsigned)option_number(state, arg, 1, 1024, "-n"); break;
    case KEY_PRELOAD:
    case ARGP_KEY_ARG:
        if (a->preload_count == MAX_PRELOADS) argp_error(state, "more than %d", MAX_PRELOADS);
        a->preloads[a->preload_count++] = arg;
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_child connect_child[] = {{&connect_argp, 0, NULL, 0}, {0}};

static int init(init_arguments_t *a)
{
    int code;
    unsigned started;
    peach_t *fleet = connect_fleet(&a->connect, &code);
    if (!fleet) return code;
    int timeout_ms = a->connect.timeout_ms < 0 ? READY_MS : a->connect.timeout_ms;
    int rc = peach_init(fleet, a->slots, a->preloads, a->preload_count, timeout_ms, &started);
    if (rc)
        complain("%s", peach_error(fleet));
    else if (a->connect.json)
        printf("{\"started\":%u}\n", started);
    else if (started > 0)
        fprintf(stderr, "peach: started %u %s\n", started, started == 1 ? "slot" : "slots");
    peach_close(&fleet);
    return exit_code_of(rc);
}

int command_init(int argc, char **argv)
{
    static const struct argp_option entries[] = {
        {"slots", KEY_SLOTS, "N", 0, "Start workers here until the fleet has N slots", 10},
        {"preload", KEY_PRELOAD, "PRELOAD", 0,
         "Load this on all workers, now and later: a Python file, module:NAME, or a .so; may be "
         "repeated",
         10},
        {0}};
    static const struct argp argp = {
        entries,
        parse_init,
        "[PRELOAD...]",
        "Grows the local fleet to N slots and loads the preloads on all workers; returns when all "
        "are ready, or says why not.\v"
        "The broker must be there (peach broker). Workers that are started run in the background "
        "and end a minute after their broker; their log is in ~/.local/state/peach.",
        connect_child,
        NULL,
        NULL};
    init_arguments_t a = {.connect = {.timeout_ms = -1}};
    parse_options(&argp, argc, argv, &a);
    return init(&a);
}

int command_preload(int argc, char **argv)
{
    static const struct argp argp = {
        NULL,
        parse_init,
        "PRELOAD...",
        "Loads preloads on all workers that there are and that will come; returns when all have "
        "them, or says why not.",
        connect_child,
        NULL,
        NULL};
    init_arguments_t a = {.connect = {.timeout_ms = -1}};
    parse_options(&argp, argc, argv, &a);
    if (a.preload_count == 0) {
        complain("nothing to preload: name a Python file, module:NAME, or a .so");
        return EXIT_USAGE;
    }
    return init(&a);
}

/* ---- status, workers, functions ---- */

static error_t parse_view(int key, char *arg, struct argp_state *state)
{
    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = state->input;
        return 0;
    }
    if (key == ARGP_KEY_ARG) argp_error(state, "'%s': no arguments, options only", arg);
    return ARGP_ERR_UNKNOWN;
}

static const char *text(const peach_value_t *map, const char *key)
{
    const peach_value_t *value = peach_value_get(map, key);
    const char *found = value ? peach_value_as_string(value, NULL) : NULL;
    return found ? found : "";
}

static long long number(const peach_value_t *map, const char *key)
{
    const peach_value_t *value = peach_value_get(map, key);
    int64_t found = 0;
    if (value) peach_value_as_int(value, &found);
    return found;
}

static void print_status(const peach_value_t *view)
{
    const peach_value_t *workers = peach_value_get(view, "workers");
    printf("broker     %s, peach %s, up %lld s\n", text(view, "endpoint"), text(view, "version"),
           number(view, "uptime_ms") / 1000);
    printf("fleet      %zu workers, %lld slots, %zu functions, %zu clients\n",
           peach_value_length(workers), number(view, "slots"),
           peach_value_length(peach_value_get(view, "functions")),
           peach_value_length(peach_value_get(view, "clients")));
    printf("tasks      %lld queued, %lld running, %lld bytes held\n", number(view, "queued_tasks"),
           number(view, "running_tasks"), number(view, "payload_bytes"));
    printf("items      %lld done, %lld failed, %lld retried\n", number(view, "done_items"),
           number(view, "failed_items"), number(view, "retried_items"));
    printf("strangers  %lld bad messages, %lld bad connections\n", number(view, "bad_messages"),
           number(view, "bad_connections"));
}

static void print_workers(const peach_value_t *view)
{
    const peach_value_t *workers = peach_value_get(view, "workers");
    printf("%-10s %-20s %8s %6s %6s %10s %8s %-9s %s\n", "ID", "HOST", "PID", "SLOTS", "TASKS",
           "DONE", "FAILED", "STATE", "PRELOADS");
    for (size_t i = 0; i < peach_value_length(workers); i++) {
        const peach_value_t *w = peach_value_at(workers, i);
        const peach_value_t *preloads = peach_value_get(w, "preloads");
        const peach_value_t *labels = peach_value_get(w, "labels");
        printf("%-10.8s %-20s %8lld %6lld %6lld %10lld %8lld %-9s", text(w, "id"), text(w, "host"),
               number(w, "pid"), number(w, "slots"), number(w, "tasks"), number(w, "done"),
               number(w, "failed"), text(w, "state"));
        for (size_t j = 0; j < peach_value_length(preloads); j++) {
            const peach_value_t *p = peach_value_at(preloads, j);
            bool ready = strcmp(text(p, "state"), "ready") == 0;
            printf(" %s%s%s%s", text(p, "name"), ready ? "" : " (", ready ? "" : text(p, "state"),
                   ready ? "" : ")");
        }
        for (size_t j = 0; j < peach_value_length(labels); j++)
            printf(" [%s=%s]", peach_value_key(labels, j),
                   peach_value_as_string(peach_value_at(labels, j), NULL));
        putchar('\n');
    }
}

/* Whether the function is there in more than one version of its preload. */
static bool mixed(const peach_value_t *functions, const peach_value_t *f)
{
    for (size_t i = 0; i < peach_value_length(functions); i++) {
        const peach_value_t *other = peach_value_at(functions, i);
        if (strcmp(text(other, "name"), text(f, "name")) == 0 &&
            strcmp(text(other, "digest"), text(f, "digest")) != 0)
            return true;
    }
    return false;
}

static void print_functions(const peach_value_t *view)
{
    const peach_value_t *functions = peach_value_get(view, "functions");
    printf("%-30s %-24s %-14s %8s %6s\n", "FUNCTION", "PRELOAD", "SHA-256", "WORKERS", "SLOTS");
    for (size_t i = 0; i < peach_value_length(functions); i++) {
        const peach_value_t *f = peach_value_at(functions, i);
        printf("%-30s %-24s %-14.12s %8lld %6lld%s\n", text(f, "name"), text(f, "preload"),
               text(f, "digest"), number(f, "workers"), number(f, "slots"),
               mixed(functions, f) ? "  (several versions in this fleet)" : "");
    }
}

static int view(int argc, char **argv, const char *what, const char *key,
                void (*print)(const peach_value_t *))
{
    const struct argp argp = {NULL, parse_view, NULL, what, connect_child, NULL, NULL};
    connect_options_t options = {.timeout_ms = -1};
    int code;
    parse_options(&argp, argc, argv, &options);
    peach_t *fleet = connect_fleet(&options, &code);
    if (!fleet) return code;
    peach_value_t *all;
    int rc = peach_view(fleet, options.timeout_ms < 0 ? ANSWER_MS : options.timeout_ms, &all);
    if (rc) {
        complain("%s", peach_error(fleet));
    } else if (options.json) {
        char *json = peach_value_to_json(key ? peach_value_get(all, key) : all);
        puts(json ? json : "null");
        free(json);
    } else {
        print(all);
    }
    peach_value_destroy(&all);
    peach_close(&fleet);
    return exit_code_of(rc);
}

int command_status(int argc, char **argv)
{
    return view(argc, argv, "Shows what the broker does.", NULL, print_status);
}

int command_workers(int argc, char **argv)
{
    return view(argc, argv, "Shows the workers of the fleet.", "workers", print_workers);
}

int command_functions(int argc, char **argv)
{
    return view(argc, argv, "Shows the functions that can be called, and on how many workers.",
                "functions", print_functions);
}

/* ---- drain ---- */

typedef struct {
    connect_options_t connect;
    peach_drain_t what;
} drain_arguments_t;

static error_t parse_drain(int key, char *arg, struct argp_state *state)
{
    drain_arguments_t *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->connect; break;
    case KEY_WORKER:
    case ARGP_KEY_ARG: a->what.worker = arg; break;
    case KEY_HOST: a->what.host = arg; break;
    case KEY_ALL: a->what.all = true; break;
    case KEY_BROKER: a->what.broker = true; break;
    case ARGP_KEY_END:
        if (!a->what.worker && !a->what.host && !a->what.all && !a->what.broker)
            argp_error(state, "say what to drain: a worker's ID, --host, --all or --broker");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int command_drain(int argc, char **argv)
{
    static const struct argp_option entries[] = {
        {"worker", KEY_WORKER, "ID", 0, "The worker whose id begins so (peach workers)", 10},
        {"host", KEY_HOST, "HOST", 0, "All workers on this host", 10},
        {"all", KEY_ALL, NULL, 0, "All workers", 10},
        {"broker", KEY_BROKER, NULL, 0, "The broker: refuse new work, finish, exit", 10},
        {0}};
    static const struct argp argp = {
        entries,       parse_drain,
        "[ID]",        "Lets workers finish what they run and exit; nothing new is sent to them.",
        connect_child, NULL,
        NULL};
    drain_arguments_t a = {.connect = {.timeout_ms = -1}};
    int code;
    unsigned workers = 0;
    parse_options(&argp, argc, argv, &a);
    peach_t *fleet = connect_fleet(&a.connect, &code);
    if (!fleet) return code;
    int rc = peach_drain(fleet, &a.what, ANSWER_MS, &workers);
    if (rc)
        complain("%s", peach_error(fleet));
    else if (a.connect.json)
        printf("{\"workers\":%u}\n", workers);
    else
        printf("draining %u %s%s\n", workers, workers == 1 ? "worker" : "workers",
               a.what.broker ? " and the broker" : "");
    peach_close(&fleet);
    if (rc == 0 && workers == 0 && !a.what.broker) {
        complain("no such worker (peach workers lists them)");
        return EXIT_FAILED;
    }
    return exit_code_of(rc);
}
