/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The results of a job, and all that can end it early: a signal, the time, failures, an output
   that nobody takes. None of these waits for a result. */
#include "work.h"

#include "clock.h"
#include "interrupts.h"

#include <poll.h>
#include <signal.h>
#include <string.h>

enum { LOOK_MS = 100, TELL_MS = 500 };
enum { MOST_RESULTS = 16 }; /* before the next look around */

/* ---- one result ---- */

/* Whether it is about the job, not the item: then all of its items end so. */
static bool is_of_job(const work_t *self, const peach_failure_t *failure)
{
    return failure->status == PEACH_E_NO_FUNCTION ||
           (failure->status == PEACH_E_CANCELLED && !self->stopped) ||
           strcmp(failure->type, "peach.SourceError") == 0;
}

static void stop(work_t *self)
{
    self->stopped = true;
    peach_job_cancel(self->job);
}

static void note_failure(work_t *self, uint64_t number, const char *type, const char *message)
{
    if (self->failed++ > 0) return;
    char *first = self->first;
    if (self->items)
        snprintf(self->first, sizeof self->first, "item %llu: %s%s%s", (unsigned long long)number,
                 type, *type ? ": " : "", message);
    else
        snprintf(self->first, sizeof self->first, "%s%s%s", type, *type ? ": " : "", message);
    for (; *first; first++) /* it is shown on a terminal, in a line */
        if ((unsigned char)*first < ' ' || *first == 0x7f) *first = ' ';
}

static void note_end_of_job(work_t *self, const peach_failure_t *failure)
{
    if (!*self->whole)
        snprintf(self->whole, sizeof self->whole, "%s%s", failure->message,
                 failure->status == PEACH_E_NO_FUNCTION && self->missing_hint ? self->missing_hint
                                                                              : "");
    if (!self->stopped) stop(self);
}

static void take(work_t *self, const peach_result_t *result)
{
    const peach_failure_t *failure = result->failure;
    const char *why;
    if (failure && is_of_job(self, failure)) {
        note_end_of_job(self, failure);
        return;
    }
    if (failure && failure->status == PEACH_E_CANCELLED) return;
    uint64_t number = self->log ? joblog_number(self->log, result->item) : result->item;
    self->ended++;
    if (failure) note_failure(self, number, failure->type, failure->message);
    if (!results_print(&self->results, result, number, &why)) note_failure(self, number, "", why);
    if (self->log) joblog_end(self->log, result);
}

/* ---- ends ---- */

/* What was printed is written; then what was logged. */
static void flush(work_t *self)
{
    if (!self->unwritten)
        self->unwritten = !results_flush(&self->results) || (self->log && !joblog_flush(self->log));
}

/* Waits until nothing of the job runs any more, within its time. */
static void wait_for_end(work_t *self)
{
    uint64_t began_ms = clock_ms();
    bool told = interrupted() == SIGPIPE;
    while (peach_job_wait(self->job, LOOK_MS) == PEACH_E_TIMEOUT) {
        uint64_t now_ms = clock_ms();
        if (now_ms >= self->deadline_ms || (self->is_alive && !self->is_alive())) return;
        if (told || now_ms - began_ms < TELL_MS) continue;
        complain("interrupted: waiting for what runs to stop (once more to leave at once)");
        told = true;
    }
}

static int end_interrupted(work_t *self)
{
    flush(self);
    stop(self);
    self->progress.quiet = true;
    wait_for_end(self);
    if (interrupted() != SIGPIPE) complain("interrupted");
    return EXIT_INTERRUPTED;
}

static int end_out_of_time(work_t *self)
{
    flush(self);
    complain("%s is not done within %g s (--timeout); results so far: %llu", self->function,
             self->options->timeout_ms / 1000.0, (unsigned long long)self->ended);
    return EXIT_NO_BROKER;
}

/* Some of these were told where they were found. */
static int end_early(work_t *self, int status)
{
    flush(self);
    if (self->items && items_broken(self->items)) return EXIT_USAGE;
    complain("%s", status == PEACH_E_LOST ? "the broker or the worker of this run died"
                                          : peach_error(self->fleet));
    return exit_code_of(status);
}

static int end_done(work_t *self)
{
    unsigned long long failed = self->failed, ended = self->ended;
    flush(self);
    if (*self->whole)
        complain("%s", self->whole);
    else if (self->halted && ended != items_total(self->items))
        complain("halted after %llu items, of which %llu failed; the first: %s", ended, failed,
                 self->first);
    else if (failed > 0 && self->items)
        complain("%llu of %llu items failed; the first: %s", failed, ended, self->first);
    else if (failed > 0)
        complain("the call failed: %s", self->first);
    else
        return self->unwritten ? EXIT_FAILED : EXIT_DONE;
    return EXIT_FAILED;
}

/* ---- the loop ---- */

static void halt_if_told(work_t *self)
{
    peach_progress_t progress;
    if (self->halt.failures == 0 || self->halted || self->stopped) return;
    peach_job_progress(self->job, &progress);
    if (progress.failed < self->halt.failures) return;
    self->halted = true;
    if (self->halt.soon)
        items_stop(self->items);
    else
        stop(self);
}

/* What comes within a moment, from the fleet or as input for it. */
static int wait_for_result(work_t *self, peach_result_t *result, uint64_t now_ms)
{
    uint64_t left = self->deadline_ms - now_ms;
    int wait_ms = left < LOOK_MS ? (int)left : LOOK_MS;
    int input = self->items ? items_fd(self->items) : -1;
    if (input < 0) return peach_job_next(self->job, result, wait_ms);
    struct pollfd fds[] = {{input, POLLIN, 0}, {peach_fd(self->fleet), POLLIN, 0}};
    poll(fds, 2, wait_ms);
    return peach_job_next(self->job, result, 0);
}

/* The next result; PEACH_E_TIMEOUT when it is time to look around. */
static int next_result(work_t *self, peach_result_t *result, uint64_t now_ms)
{
    int rc = peach_job_next(self->job, result, 0);
    if (rc != PEACH_E_TIMEOUT) return rc;
    flush(self); /* it is shown before we wait */
    self->flushed_ms = now_ms;
    if (self->is_alive && !self->is_alive()) return PEACH_E_LOST;
    return wait_for_result(self, result, now_ms);
}

/* Takes results that are there, some at a time, since to look around costs as much as to take
   one; but up to the first that failed. */
static int take_results(work_t *self, uint64_t now_ms)
{
    peach_result_t result;
    int rc = next_result(self, &result, now_ms);
    for (int left = MOST_RESULTS; rc == PEACH_OK;) {
        left = result.failure ? 0 : left - 1;
        take(self, &result);
        peach_result_clear(&result);
        rc = left > 0 ? peach_job_next(self->job, &result, 0) : PEACH_E_TIMEOUT;
    }
    return rc;
}

int work_read(work_t *self)
{
    for (;;) {
        uint64_t now_ms = clock_ms();
        if (interrupted()) return end_interrupted(self);
        if (now_ms >= self->deadline_ms) return end_out_of_time(self);
        if (now_ms - self->flushed_ms >= LOOK_MS) {
            flush(self);
            self->flushed_ms = now_ms;
        }
        if (self->unwritten) return EXIT_FAILED;
        if (self->items) self->progress.total = items_total(self->items);
        halt_if_told(self);
        int rc = take_results(self, now_ms);
        if (rc == PEACH_END) return end_done(self);
        if (rc != PEACH_E_TIMEOUT) return end_early(self, rc);
    }
}
