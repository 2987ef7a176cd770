/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "arguments.h"
#include "broker.h"
#include "config.h"
#include "descriptors.h"
#include "log.h"
#include "standard.h"
#include "stop.h"
#include "version.h"
#include "wire.h"

#include <argp.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

enum { EXIT_USAGE = 2, EXIT_REFUSED = 4 };
enum {
    KEY_BIND = 'b',
    KEY_VERBOSE = 'v',
    KEY_INSECURE = 256,
    KEY_READY,
    KEY_PARENT,
    KEY_HEARTBEAT,
    KEY_SESSION,
    KEY_MEMORY,
    KEY_MAX
};

const char *argp_program_version = "peach-broker " PEACH_VERSION;

static const struct argp_option options[] = {
    {"bind", KEY_BIND, "ENDPOINT", 0,
     "Listen here (default " WIRE_DEFAULT_ENDPOINT "; port * takes any free one)", 0},
    {"insecure", KEY_INSECURE, NULL, 0,
     "Listen on addresses that are not loopback although nothing is encrypted or authenticated", 0},
    {"heartbeat", KEY_HEARTBEAT, "SECONDS", 0,
     "Time between two heartbeats (default 1, at most a quarter of the session timeout)", 0},
    {"session-timeout", KEY_SESSION, "SECONDS", 0,
     "Forget a worker or client that is silent so long (default 10): its tasks run elsewhere, or "
     "are cancelled. A closed connection may come back for three tenths of it",
     0},
    {"memory", KEY_MEMORY, "MIB", 0,
     "For tasks and results that wait, shared by the clients (default 1024)", 0},
    {"max-payload", KEY_MAX, "MIB", 0, "The largest task or result (default 256)", 0},
    {"verbose", KEY_VERBOSE, NULL, 0, "Log sessions as they come and go", 0},
    {"ready-fd", KEY_READY, "FD", 0, "Write the endpoint there once it is bound", 0},
    {"exit-with-parent", KEY_PARENT, NULL, 0, "End when the process that started it ends", 0},
    {0}};

typedef struct {
    broker_options_t broker;
    int ready_fd;
    bool with_parent, verbose;
} arguments_t;

static uint64_t number(struct argp_state *state, const char *text, uint64_t max, const char *what)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end || end == text || *text == '-' || value == 0 || value > max)
        argp_error(state, "%s: '%s' is not a number from 1 to %llu", what, text,
                   (unsigned long long)max);
    return value;
}

static uint64_t milliseconds(struct argp_state *state, const char *text, const char *what)
{
    char *end;
    double seconds = strtod(text, &end);
    if (*end || end == text || !(seconds >= 0.05 && seconds <= 86400))
        argp_error(state, "%s: '%s' is not a number of seconds from 0.05 to 86400", what, text);
    return (uint64_t)(seconds * 1000);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments_t *a = state->input;
    switch (key) {
    case KEY_BIND: a->broker.bind = arg; break;
    case KEY_INSECURE: a->broker.insecure = true; break;
    case KEY_VERBOSE: a->verbose = true; break;
    case KEY_READY: a->ready_fd = (int)number(state, arg, 1024, "--ready-fd"); break;
    case KEY_PARENT: a->with_parent = true; break;
    case KEY_HEARTBEAT: a->broker.heartbeat_ms = milliseconds(state, arg, "--heartbeat"); break;
    case KEY_SESSION: a->broker.session_ms = milliseconds(state, arg, "--session-timeout"); break;
    case KEY_MEMORY: a->broker.memory_bytes = number(state, arg, 1 << 20, "--memory") << 20; break;
    case ARGP_KEY_END:
        if (!a->broker.heartbeat_ms && a->broker.session_ms < 4000)
            a->broker.heartbeat_ms = a->broker.session_ms / 4;
        if (a->broker.session_ms < 4 * a->broker.heartbeat_ms)
            argp_error(state, "--session-timeout must be at least 4 times --heartbeat");
        break;
    case KEY_MAX:
        a->broker.max_payload_bytes = number(state, arg, 4096, "--max-payload") << 20;
        break;
    case ARGP_KEY_ARG: argp_error(state, "'%s': peach-broker takes options only", arg); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* Wrong usage: the exit status for what the command line says. */
static int usage(const char *error)
{
    fprintf(stderr, "peach-broker: %s\n", error);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    static const struct argp_child children[] = {{&arguments_help, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,
        parse,
        NULL,
        "The broker of a peach fleet: clients and workers connect to it.\v"
        "SIGTERM lets it finish what it has; a second one ends it at once.",
        children,
        NULL,
        NULL};
    arguments_t a = {.broker = {.bind = WIRE_DEFAULT_ENDPOINT, .session_ms = 10000}};
    char error[512];
    int status;
    standard_open(STANDARD_EMPTY);
    argp_err_exit_status = EXIT_USAGE;
    argv = config_arguments("broker", options, &argc, argv, error, sizeof error);
    if (!argv) return usage(error);
    const char *unknown = arguments_unknown(options, argc, argv);
    if (unknown) {
        arguments_explain(options, unknown, error, sizeof error);
        return usage(error);
    }
    argp_parse(&argp, argc, argv, ARGP_NO_HELP, NULL, &a);
    if (sodium_init() < 0) return EXIT_FAILURE;
    if (a.with_parent) prctl(PR_SET_PDEATHSIG, SIGTERM);
    log_open("peach-broker",
             a.verbose       ? LOG_DETAIL_ONLY
             : a.with_parent ? LOG_WARN
                             : LOG_NOTE,
             !a.with_parent);
    int stop_fd = stop_fd_open();
    descriptors_raise();
    if (stop_fd < 0) {
        fprintf(stderr, "peach-broker: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    broker_t *broker = broker_new(&a.broker, &status, error, sizeof error);
    if (!broker) {
        fprintf(stderr, "peach-broker: %s\n", error);
        return status == PEACH_E_ARGUMENT ? EXIT_USAGE : EXIT_REFUSED;
    }
    if (a.ready_fd > 0) {
        dprintf(a.ready_fd, "%s\n", broker_endpoint(broker));
        close(a.ready_fd);
    } else {
        log_say(LOG_NOTE, "listening on %s", broker_endpoint(broker));
    }
    int rc = broker_run(broker, stop_fd);
    if (rc) log_say(LOG_FAIL, "%s", strerror(errno));
    broker_destroy(&broker);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
