/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KEY_SLOTS = 'n', KEY_PORT = 'p', KEY_PRELOAD = 'l', KEY_MEMORY = 256, KEY_RECYCLE };
enum { START_MS = 10000 };

typedef struct {
    connect_options_t connect;
    job_options_t job;
    const char *slots, *port, *memory, *recycle;
    const char *preloads[MAX_PRELOADS];
    size_t preload_count;
    const char *function;
    char **items;
    int item_count;
} arguments_t;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments_t *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->job; break;
    case KEY_SLOTS:
        option_number(state, arg, 1, 1024, "-n");
        a->slots = arg;
        break;
    case KEY_PORT:
        option_number(state, arg, 1, 65535, "-p");
        a->port = arg;
        break;
    case KEY_MEMORY:
        option_number(state, arg, 16, INT_MAX, "--memory");
        a->memory = arg;
        break;
    case KEY_RECYCLE:
        option_number(state, arg, 1, INT_MAX, "--recycle");
        a->recycle = arg;
        break;
    case KEY_PRELOAD:
        if (a->preload_count == MAX_PRELOADS) argp_error(state, "more than %d -l", MAX_PRELOADS);
        a->preloads[a->preload_count++] = arg;
        break;
    case ARGP_KEY_ARG:
        a->function = arg;
        a->items = state->argv + state->next;
        a->item_count = state->argc - state->next;
        state->next = state->argc;
        break;
    case ARGP_KEY_END:
        if (!a->function) argp_error(state, "FUNC is missing");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* Starts a program that ends when we do. Descriptor 3 of it is fd. */
static pid_t start(const char *name, char **args, int fd)
{
    pid_t parent = getpid(), pid = fork();
    if (pid != 0) return pid;
    setpgid(0, 0); /* Ctrl-C is ours to handle */
    if (fd >= 0) {
        dup2(fd, 3);
        fcntl(3, F_SETFD, 0);
    }
    close_range(4, ~0U, 0);
    if (getppid() != parent) _exit(EXIT_FAILED);
    exec_program(name, args);
    _exit(EXIT_FAILED);
}

/* Reads the endpoint that the broker tells once it is bound. */
static bool read_endpoint(int fd, char *endpoint, size_t size)
{
    size_t length = 0;
    ssize_t n;
    while (length + 1 < size && (n = read(fd, endpoint + length, size - 1 - length)) != 0) {
        if (n < 0 && errno != EINTR) break;
        if (n > 0) length += (size_t)n;
        if (length > 0 && endpoint[length - 1] == '\n') break;
    }
    endpoint[length > 0 ? length - 1 : 0] = 0;
    return length > 1;
}

static pid_t start_broker(const arguments_t *a, char *endpoint, size_t size)
{
    char bind[64];
    int pipe_fds[2];
    snprintf(bind, sizeof bind, "tcp://127.0.0.1:%s", a->port ? a->port : "*");
    char *args[] = {"peach-broker", "--bind", bind, "--ready-fd", "3", "--exit-with-parent", NULL};
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) return -1;
    pid_t pid = start("peach-broker", args, pipe_fds[1]);
    close(pipe_fds[1]);
    bool bound = pid > 0 && read_endpoint(pipe_fds[0], endpoint, size);
    close(pipe_fds[0]);
    if (bound) return pid;
    if (pid > 0) waitpid(pid, NULL, 0); /* it said why */
    return -1;
}

static pid_t start_worker(const arguments_t *a, char *endpoint)
{
    char **args = calloc(14 + 2 * a->preload_count, sizeof *args);
    if (!args) return -1;
    size_t n = 0;
    args[n++] = "peach-worker";
    args[n++] = "--connect";
    args[n++] = endpoint;
    args[n++] = "--slots";
    args[n++] = (char *)(a->slots ? a->slots : "auto");
    args[n++] = "--strict";
    args[n++] = "--exit-with-parent";
    if (a->memory) {
        args[n++] = "--memory";
        args[n++] = (char *)a->memory;
    }
    if (a->recycle) {
        args[n++] = "--recycle";
        args[n++] = (char *)a->recycle;
    }
    for (size_t i = 0; i < a->preload_count; i++) {
        args[n++] = "--preload";
        args[n++] = (char *)a->preloads[i];
    }
    pid_t pid = start("peach-worker", args, -1);
    free(args);
    return pid;
}

/* Ends a child and takes its exit status; one that does not go is killed. */
static void stop(pid_t pid)
{
    enum { PATIENCE_MS = 2000 };
    if (pid <= 0) return;
    kill(pid, SIGTERM);
    kill(pid, SIGTERM);
    for (int i = 0; i < PATIENCE_MS; i++) {
        if (waitpid(pid, NULL, WNOHANG) != 0) return;
        usleep(1000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* Waits until the worker has loaded its preloads, or ended because it could not. */
static int wait_for_worker(peach_t *fleet, pid_t *worker)
{
    for (;;) {
        peach_value_t *view;
        int status;
        if (interrupted()) return EXIT_INTERRUPTED;
        if (waitpid(*worker, &status, WNOHANG) == *worker) {
            *worker = 0;
            return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAILED;
        }
        int rc = peach_view(fleet, START_MS, &view);
        if (rc) {
            complain("%s", peach_error(fleet));
            return exit_code_of(rc);
        }
        const peach_value_t *first = peach_value_at(peach_value_get(view, "workers"), 0);
        const char *state =
            first ? peach_value_as_string(peach_value_get(first, "state"), NULL) : "";
        bool ready = strcmp(state, "ready") == 0;
        peach_value_destroy(&view);
        if (ready) return EXIT_DONE;
        peach_poll(fleet, 5);
        usleep(2000);
    }
}

/* Whether the programs that this run started are there; they are not reaped here. */
static bool children_alive(void)
{
    siginfo_t ended = {0};
    return waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid == 0;
}

static int run(const arguments_t *a, items_t *items, char *endpoint, pid_t *worker)
{
    peach_error_t error;
    *worker = start_worker(a, endpoint);
    if (*worker < 0) {
        complain("cannot start a worker: %s", strerror(errno));
        return EXIT_FAILED;
    }
    peach_t *fleet = peach_connect(endpoint, START_MS, &error);
    if (!fleet) {
        complain("%s", error.message);
        return exit_code_of(error.status);
    }
    int code = wait_for_worker(fleet, worker);
    if (code == EXIT_DONE) {
        peach_job_t *job = items_map(items, fleet, a->function, &a->job.job);
        code = EXIT_USAGE;
        if (job)
            code = print_job(fleet, job, &a->connect, children_alive);
        else
            complain("%s", peach_error(fleet));
        if (items_broken(items)) code = EXIT_USAGE;
        peach_job_destroy(&job);
    }
    peach_close(&fleet);
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
        {"port", KEY_PORT, "PORT", 0, "Of the broker on 127.0.0.1 (default: any free one)", 10},
        {0}};
    static const struct argp_child children[] = {{&job_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        entries,
        parse,
        "FUNC ITEM...",
        "Starts a broker and N executors on this host, runs FUNC over the items, prints one JSON "
        "result a line, in order, and stops them.\v"
        "ITEM is JSON (3, '\"a\"', '[1,2]', '{\"x\":1}'), a range 0..9 (both ends included), or - "
        "for JSON lines on standard input. A failed item prints {\"error\": {...}} in its place.",
        children,
        NULL,
        NULL};
    arguments_t a = {.connect = {.timeout_ms = -1}};
    char endpoint[256];
    job_options_init(&a.job);
    parse_options(&argp, argc, argv, &a);
    items_t *items = items_new(a.items, a.item_count);
    if (!items) return EXIT_USAGE;
    for (size_t i = 0; i < a.preload_count; i++) {
        size_t length = strlen(a.preloads[i]);
        bool file = length > 3 && (strcmp(a.preloads[i] + length - 3, ".py") == 0 ||
                                   strcmp(a.preloads[i] + length - 3, ".so") == 0);
        if (!file || access(a.preloads[i], R_OK) == 0) continue;
        complain("preload '%s': %s", a.preloads[i], strerror(errno));
        items_destroy(&items);
        return EXIT_USAGE;
    }
    watch_interrupts();
    int code = EXIT_REFUSED;
    pid_t worker = 0, broker = start_broker(&a, endpoint, sizeof endpoint);
    if (broker > 0) code = run(&a, items, endpoint, &worker);
    stop(worker);
    stop(broker);
    items_destroy(&items);
    return code;
}
