/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "cli.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- interrupts ---- */

static volatile sig_atomic_t interrupts;

static void on_interrupt(int signal)
{
    (void)signal;
    if (++interrupts > 1) _exit(EXIT_INTERRUPTED);
}

void watch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool interrupted(void) { return interrupts > 0; }

/* ---- progress ---- */

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool bar_shown;

static void clear_bar(void)
{
    if (bar_shown) fputs("\r\033[K", stderr);
    bar_shown = false;
}

void print_line(void *unused, const peach_line_t *line)
{
    (void)unused;
    clear_bar();
    fprintf(stderr, "%s/%u %llu: %s\n", line->host, line->slot, (unsigned long long)line->item,
            line->text);
}

void print_progress(void *arg, const peach_progress_t *p)
{
    static bool told;
    static uint64_t alone_ms; /* since when nobody is there */
    const bool *quiet = arg;
    if (p->slots > 0 || alone_ms == 0) alone_ms = clock_ms();
    if (clock_ms() - alone_ms > 500 && !told) {
        clear_bar();
        complain("the fleet has no workers: waiting for one (peach worker, or peach init -n 4)");
        told = true;
    }
    if (*quiet || !isatty(STDERR_FILENO)) return;
    enum { WIDTH = 30 };
    uint64_t ended = p->done + p->failed;
    char bar[WIDTH + 1];
    size_t filled = p->items_final && p->items ? (size_t)(ended * WIDTH / p->items) : 0;
    memset(bar, '.', WIDTH);
    memset(bar, '#', filled);
    bar[WIDTH] = 0;
    fprintf(stderr, "\r[%s] %llu/%llu%s", bar, (unsigned long long)ended,
            (unsigned long long)p->items, p->items_final ? "" : "+");
    if (p->failed) fprintf(stderr, ", %llu failed", (unsigned long long)p->failed);
    fprintf(stderr, ", %u slots\033[K", p->slots);
    bar_shown = true;
}

/* ---- results ---- */

static void set(peach_value_t *map, const char *key, peach_value_t *value)
{
    if (value) peach_value_set(map, key, &value);
}

static peach_value_t *error_of(const peach_failure_t *f)
{
    peach_value_t *error = peach_value_map(), *outer = peach_value_map();
    set(error, "status", peach_value_string(peach_status_name(f->status)));
    if (*f->type) set(error, "type", peach_value_string(f->type));
    set(error, "message", peach_value_string(f->message));
    if (*f->traceback) set(error, "traceback", peach_value_string(f->traceback));
    if (*f->host) set(error, "host", peach_value_string(f->host));
    if (f->pid) set(error, "pid", peach_value_int(f->pid));
    if (f->attempt_count > 0) {
        peach_value_t *attempts = peach_value_list();
        for (size_t i = 0; i < f->attempt_count; i++) {
            peach_value_t *attempt = peach_value_map();
            set(attempt, "host", peach_value_string(f->attempts[i].host));
            if (f->attempts[i].pid) set(attempt, "pid", peach_value_int(f->attempts[i].pid));
            set(attempt, "cause", peach_value_string(f->attempts[i].cause));
            peach_value_append(attempts, &attempt);
        }
        set(error, "attempts", attempts);
    }
    set(outer, "error", error);
    return outer;
}

static void print_result(const peach_result_t *result)
{
    peach_value_t *error = result->failure ? error_of(result->failure) : NULL;
    char *json = peach_value_to_json(error ? error : result->value);
    if (bar_shown && isatty(STDOUT_FILENO)) clear_bar();
    puts(json ? json : "null");
    free(json);
    peach_value_destroy(&error);
}

/* The next result, noticing interrupts; what was printed is shown before it waits. */
static int next_result(peach_job_t *job, peach_result_t *result, uint64_t deadline,
                       bool (*alive)(void))
{
    int rc = peach_job_next(job, result, 0);
    if (rc == PEACH_E_TIMEOUT) fflush(stdout);
    while (rc == PEACH_E_TIMEOUT) {
        if (interrupted()) peach_job_cancel(job); /* once is enough, more does no harm */
        if (alive && !alive()) return PEACH_E_LOST;
        uint64_t now = clock_ms();
        if (now >= deadline) return PEACH_E_TIMEOUT;
        rc = peach_job_next(job, result, deadline - now < 100 ? (int)(deadline - now) : 100);
    }
    return rc;
}

int print_job(peach_t *fleet, peach_job_t *job, const connect_options_t *options,
              bool (*alive)(void))
{
    uint64_t failures = 0, total = 0;
    uint64_t deadline =
        options->timeout_ms < 0 ? UINT64_MAX : clock_ms() + (uint64_t)options->timeout_ms;
    char first[512] = "";
    peach_result_t result;
    int rc;
    while ((rc = next_result(job, &result, deadline, alive)) == 0) {
        total++;
        if (result.failure && failures++ == 0)
            snprintf(first, sizeof first, "%s%s%s", result.failure->type,
                     *result.failure->type ? ": " : "", result.failure->message);
        print_result(&result);
        peach_result_clear(&result);
    }
    clear_bar();
    fflush(stdout);
    if (interrupted()) {
        complain("interrupted");
        return EXIT_INTERRUPTED;
    }
    if (rc != PEACH_END) {
        complain("%s", rc == PEACH_E_LOST ? "the broker or the worker of this run died"
                                          : peach_error(fleet));
        return exit_code_of(rc);
    }
    if (failures > 0)
        complain("%llu of %llu items failed; the first: %s", (unsigned long long)failures,
                 (unsigned long long)total, first);
    return failures > 0 ? EXIT_FAILED : EXIT_DONE;
}
