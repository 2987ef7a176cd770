/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "arguments.h"
#include "config.h"
#include "descriptors.h"
#include "log.h"
#include "standard.h"
#include "stop.h"
#include "version.h"
#include "wire.h"
#include "shared.h"
#include "worker.h"

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_REFUSED = 4, MAX_ARGS = 256, SLOTS_MAX = 1024 };
enum {
    KEY_CONNECT = 'c',
    KEY_SLOTS = 's',
    KEY_PRELOAD = 'l',
    KEY_VERBOSE = 'v',
    KEY_LABEL = 256,
    KEY_INSECURE,
    KEY_STRICT,
    KEY_NO_PUSH,
    KEY_THREADS,
    KEY_MEMORY,
    KEY_RECYCLE,
    KEY_CACHE,
    KEY_START,
    KEY_ITEM_TIMEOUT,
    KEY_GRACE,
    KEY_PARENT,
    KEY_LEAVE
};

const char *argp_program_version = "peach-worker " PEACH_VERSION;

static const struct argp_option options[] = {
    {"connect", KEY_CONNECT, "ENDPOINTS", 0,
     "Brokers to work for, commas between (default $PEACH_BROKER or " WIRE_DEFAULT_ENDPOINT ")", 0},
    {"slots", KEY_SLOTS, "N|auto", 0, "Executors, each a process (default auto: one a core)", 0},
    {"preload", KEY_PRELOAD, "PRELOAD", 0,
     "Load this first: a Python file, module:NAME, or a .so plugin; may be repeated", 0},
    {"label", KEY_LABEL, "KEY=VALUE", 0, "What jobs can require of a worker; may be repeated", 0},
    {"threads", KEY_THREADS, "N", 0,
     "Threads that OMP, OPENBLAS, MKL and the like use in an executor (default 1; 0 leaves the "
     "environment alone)",
     0},
    {"memory", KEY_MEMORY, "MIB", 0,
     "Kill an executor that takes more; the item that it ran fails, or runs again (default: no "
     "limit)",
     0},
    {"start", KEY_START, "HOW", 0,
     "spawn: each executor loads the preloads (default). fork: one does, and the others are "
     "copies of it: faster, and memory is shared; threads, connections and devices that a preload "
     "opens do not survive the copy",
     0},
    {"cache", KEY_CACHE, "MIB", 0,
     "Keep so much of the values that clients put (peach_put) for the next task (default 1024)", 0},
    {"recycle", KEY_RECYCLE, "N", 0,
     "Replace an executor after N items, for functions that leak (default: never)", 0},
    {"item-timeout", KEY_ITEM_TIMEOUT, "SECONDS", 0,
     "The longest that an item may run, whatever its job says (default: no limit)", 0},
    {"grace", KEY_GRACE, "SECONDS", 0,
     "From the interrupt of an item to the kill of its executor (default 3)", 0},
    {"insecure", KEY_INSECURE, NULL, 0,
     "Connect to addresses that are not loopback although nothing is encrypted or authenticated",
     0},
    {"no-push", KEY_NO_PUSH, NULL, 0, "Take no code from clients: preloads, functions and pickles",
     0},
    {"strict", KEY_STRICT, NULL, 0, "Exit with 1 when a preload fails", 0},
    {"leave-after", KEY_LEAVE, "SECONDS", 0, "Exit when no broker was there so long", 0},
    {"verbose", KEY_VERBOSE, NULL, 0, "Log connections, preloads and executors", 0},
    {"exit-with-parent", KEY_PARENT, NULL, 0, "End when the process that started it ends", 0},
    {0}};

typedef struct {
    worker_options_t worker;
    const char *preloads[MAX_ARGS], *labels[MAX_ARGS];
    bool with_parent, verbose;
} arguments_t;

static unsigned number(struct argp_state *state, const char *text, unsigned min, unsigned max,
                       const char *what)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || end == text || value < (long)min || value > (long)max)
        argp_error(state, "%s: '%s' is not a number from %u to %u", what, text, min, max);
    return (unsigned)value;
}

static unsigned milliseconds(struct argp_state *state, const char *text, const char *what)
{
    char *end;
    double seconds = strtod(text, &end);
    if (*end || end == text || !(seconds >= 0.001 && seconds <= 1e6))
        argp_error(state, "%s: '%s' is not a number of seconds from 0.001 to 1000000", what, text);
    return (unsigned)(seconds * 1000);
}

/* The cores that this process may use, also in a container with a cpuset. */
static unsigned cores(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count > SLOTS_MAX ? SLOTS_MAX : (unsigned)count;
}

static void add(struct argp_state *state, const char **list, size_t *count, const char *arg)
{
    if (*count == MAX_ARGS) argp_error(state, "more than %d of one option", MAX_ARGS);
    list[(*count)++] = arg;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments_t *a = state->input;
    switch (key) {
    case KEY_CONNECT: a->worker.endpoints = arg; break;
    case KEY_SLOTS:
        a->worker.slots =
            strcmp(arg, "auto") == 0 ? cores() : number(state, arg, 1, SLOTS_MAX, "--slots");
        break;
    case KEY_PRELOAD: add(state, a->preloads, &a->worker.preload_count, arg); break;
    case KEY_LABEL: add(state, a->labels, &a->worker.label_count, arg); break;
    case KEY_THREADS: a->worker.threads = number(state, arg, 0, 1024, "--threads"); break;
    case KEY_MEMORY:
        a->worker.memory_bytes = (uint64_t)number(state, arg, 16, INT_MAX, "--memory") << 20;
        break;
    case KEY_START:
        if (strcmp(arg, "spawn") != 0 && strcmp(arg, "fork") != 0)
            argp_error(state, "--start: '%s' is neither spawn nor fork", arg);
        a->worker.fork = *arg == 'f';
        break;
    case KEY_CACHE:
        a->worker.cache_bytes = (uint64_t)number(state, arg, 0, INT_MAX, "--cache") << 20;
        break;
    case KEY_RECYCLE: a->worker.recycle = number(state, arg, 1, INT_MAX, "--recycle"); break;
    case KEY_ITEM_TIMEOUT: a->worker.item_ms = milliseconds(state, arg, "--item-timeout"); break;
    case KEY_GRACE: a->worker.grace_ms = milliseconds(state, arg, "--grace"); break;
    case KEY_INSECURE: a->worker.insecure = true; break;
    case KEY_NO_PUSH: a->worker.no_push = true; break;
    case KEY_STRICT: a->worker.strict = true; break;
    case KEY_LEAVE:
        a->worker.leave_after_s = number(state, arg, 1, INT_MAX / 1000, "--leave-after");
        break;
    case KEY_VERBOSE: a->verbose = true; break;
    case KEY_PARENT: a->with_parent = true; break;
    case ARGP_KEY_ARG: argp_error(state, "'%s': peach-worker takes options only", arg); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* peach-executor is next to this program in the build; when it is installed, in
   libexec. */
static const char *find_executor(void)
{
    static char path[PATH_MAX + 64];
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash) *slash = 0;
    static const char *const places[] = {"", "/../" PEACH_LIBEXEC};
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s%s/peach-executor", self, places[i]);
        if (access(path, X_OK) == 0) return path;
    }
    return NULL;
}

/* Wrong usage: the exit status for what the command line says. */
static int usage(const char *error)
{
    fprintf(stderr, "peach-worker: %s\n", error);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    static const struct argp_child children[] = {{&arguments_help, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,
        parse,
        NULL,
        "A worker of a peach fleet: runs tasks in one process a slot.\v"
        "It may be started before its broker and waits for it. SIGTERM lets it finish what it "
        "runs; a second one ends it at once.",
        children,
        NULL,
        NULL};
    const char *environment = getenv("PEACH_BROKER");
    arguments_t a = {.worker = {.endpoints = environment ? environment : WIRE_DEFAULT_ENDPOINT,
                                .slots = cores(),
                                .threads = 1,
                                .grace_ms = 3000,
                                .cache_bytes = (uint64_t)1024 << 20}};
    char error[1024];
    int status;
    standard_open(STANDARD_EMPTY);
    argp_err_exit_status = EXIT_USAGE;
    argv = config_arguments("worker", options, &argc, argv, error, sizeof error);
    if (!argv) return usage(error);
    const char *unknown = arguments_unknown(options, argc, argv);
    if (unknown) {
        arguments_explain(options, unknown, error, sizeof error);
        return usage(error);
    }
    argp_parse(&argp, argc, argv, ARGP_NO_HELP, NULL, &a);
    a.worker.preloads = a.preloads;
    a.worker.labels = a.labels;
    if (sodium_init() < 0) return EXIT_FAILURE;
    if (a.with_parent) prctl(PR_SET_PDEATHSIG, SIGTERM);
    log_open("peach-worker",
             a.verbose       ? LOG_DETAIL_ONLY
             : a.with_parent ? LOG_WARN
                             : LOG_NOTE,
             !a.with_parent);
    /* Whoever started us may have ignored it: then nobody's end could be waited for. */
    signal(SIGCHLD, SIG_DFL);
    int stop_fd = stop_fd_open();
    descriptors_raise();
    if (stop_fd < 0) {
        fprintf(stderr, "peach-worker: %s\n", strerror(errno));
        return EXIT_FAILED;
    }
    a.worker.executor = find_executor();
    if (!a.worker.executor) {
        fprintf(stderr, "peach-worker: peach-executor is not next to it; is peach installed?\n");
        return EXIT_FAILED;
    }
    /* For what tasks may want to know: a task can be a client, too. */
    setenv("PEACH_BROKER", a.worker.endpoints, 1);
    if (a.worker.insecure) setenv("PEACH_INSECURE", "1", 1);
    if (a.worker.no_push) setenv(NO_PUSH_VARIABLE, "1", 1);
    worker_t *worker = worker_new(&a.worker, &status, error, sizeof error);
    if (!worker) {
        fprintf(stderr, "peach-worker: %s\n", error);
        return status == PEACH_E_REFUSED    ? EXIT_REFUSED
               : status == PEACH_E_ARGUMENT ? EXIT_USAGE
                                            : EXIT_FAILED;
    }
    int rc = worker_run(worker, stop_fd);
    worker_destroy(&worker);
    return rc ? EXIT_FAILED : EXIT_SUCCESS;
}
