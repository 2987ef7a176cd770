/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "inside.h"

#include <signal.h>
#include <unistd.h>
#include <sys/wait.h>
#include <stdio.h>
#include <string.h>

enum { SPARE_MS = 5000 }; /* a seat that is not needed stays so long */
enum { RESTART_MS = 100, MAX_RESTART_MS = 5000, WEIGH_MS = 100 };

int crew_start(worker_t *w, seat_t *seat, char *error, size_t error_size)
{
    unsigned index = (unsigned)(seat - w->seats) - crew_first(w);
    const seat_t *template = w->options.fork && !seat->template ? &w->seats[0] : NULL;
    if (template && !crew_ready(w, template)) {
        seat->restart_ms = w->now_ms + MAX_RESTART_MS;
        return 0;
    }
    int rc = template ? slot_fork(&seat->process, w->control, error, error_size)
                      : slot_start(&seat->process, w->options.executor, index, w->options.threads,
                                   seat->template ? &w->control : NULL, error, error_size);
    if (rc) return rc;
    seat->restart_ms = 0;
    seat->seen_claim = 0;
    seat->sent_items = 0;
    seat->retiring = false;
    *seat->killed = 0;
    orders_clear_batch(seat);
    seat->printed = (printed_t){0};
    seat->batch.frames.shares = block_local();
    /* A copy has what its template has, and says so. */
    return shelf_send(w, seat, template ? w->shelf_count : 0);
}

bool crew_ready(const worker_t *w, const seat_t *seat)
{
    return seat->process.channel && !seat->retiring && seat->process.preloads == w->shelf_count;
}

/* The template is ready: so are the seats that waited for it. */
static void start_copies(worker_t *w)
{
    char error[256];
    for (unsigned i = crew_first(w); i < w->seat_count; i++) {
        seat_t *seat = &w->seats[i];
        if (seat->process.channel || !seat->restart_ms || seat->failures > 0) continue;
        if (crew_start(w, seat, error, sizeof error) == 0) continue;
        fprintf(stderr, "peach-worker: %s\n", error);
        seat->restart_ms = w->now_ms + MAX_RESTART_MS;
    }
}

void crew_receive(worker_t *w, seat_t *seat)
{
    while (seat->process.channel) {
        wire_message_t *message;
        int rc = channel_get(seat->process.channel, &message);
        if (rc == PEACH_E_TIMEOUT) return;
        if (rc) { /* the end; or nonsense, if a task wrote into the channel */
            crew_died(w, seat);
            return;
        }
        const Peach__Envelope *e = wire_envelope(message);
        if (e->body_case == PEACH__ENVELOPE__BODY_RESULTS) {
            prints_read(w, seat, false); /* a line comes before its result */
            orders_results(w, seat, message);
            if (seat->process.shared) atomic_fetch_add(&seat->process.shared->taken, 1);
        } else if (e->body_case == PEACH__ENVELOPE__BODY_REGISTRATION) {
            shelf_report(w, seat, e->registration);
            if (seat->template && crew_ready(w, seat)) start_copies(w);
        }
        wire_message_destroy(&message);
    }
}

/* Seats at the end that have no process and are not needed go. */
static void close_seats(worker_t *w)
{
    while (w->spare_ms && w->seat_count > crew_first(w) + w->options.slots &&
           !w->seats[w->seat_count - 1].process.channel)
        w->seats[--w->seat_count].restart_ms = 0;
}

void crew_died(worker_t *w, seat_t *seat)
{
    char cause[256];
    pid_t pid = seat->process.pid;
    bool loaded = seat->process.preloads == w->shelf_count;
    bool working = seat->order_count > 0 || (seat->retiring && loaded);
    slot_reap(&seat->process, cause, sizeof cause);
    if (*seat->killed) snprintf(cause, sizeof cause, "%s", seat->killed);
    worker_say(w, "executor %d: %s", (int)pid, seat->retiring ? "replaced" : cause);
    prints_read(w, seat, true);
    orders_lost(w, seat, pid, cause);
    if (!loaded) shelf_died(w, seat, cause);
    shelf_unload(w, seat);
    blobs_unseat(w, seat);
    slot_clear(&seat->process);
    wire_batch_clear(&seat->batch);
    if (seat->template) {
        if (w->control >= 0) close(w->control);
        w->control = -1;
    }
    /* At once after a task killed it; with patience when it does not come up. */
    uint64_t wait = 0;
    if (!working) {
        wait = (uint64_t)RESTART_MS << (seat->failures < 6 ? seat->failures : 6);
        seat->failures++;
    }
    seat->restart_ms = w->now_ms + (wait < MAX_RESTART_MS ? wait : MAX_RESTART_MS);
    seat->waits = false;
    close_seats(w);
}

/* ---- seats in the place of those that wait ---- */

unsigned crew_waiting(const worker_t *w)
{
    unsigned waits = 0, able = 0;
    for (unsigned i = crew_first(w); i < w->seat_count; i++) {
        waits += w->seats[i].waits;
        able += !w->seats[i].waits && crew_ready(w, &w->seats[i]);
    }
    unsigned lacking = able < w->options.slots ? w->options.slots - able : 0;
    return waits > lacking ? waits - lacking : 0;
}

static void open_seat(worker_t *w)
{
    char error[256];
    seat_t *seat = &w->seats[w->seat_count++];
    seat->failures = 0;
    if (crew_start(w, seat, error, sizeof error) == 0) return;
    fprintf(stderr, "peach-worker: %s\n", error);
    seat->restart_ms = w->now_ms + MAX_RESTART_MS;
}

void crew_balance(worker_t *w)
{
    unsigned waits = 0;
    for (unsigned i = crew_first(w); i < w->seat_count; i++) {
        seat_t *seat = &w->seats[i];
        const shared_t *page = seat->process.shared;
        seat->waits = page && seat->order_count > 0 && atomic_load(&page->waiting);
        waits += seat->waits;
    }
    unsigned needed = crew_first(w) + w->options.slots + waits;
    while (w->seat_count < needed && w->seat_count < crew_most(w)) open_seat(w);
    if (w->seat_count <= needed)
        w->spare_ms = 0;
    else if (!w->spare_ms)
        w->spare_ms = w->now_ms;
    seat_t *last = &w->seats[w->seat_count - 1];
    if (w->spare_ms && w->now_ms - w->spare_ms > SPARE_MS && last->order_count == 0 &&
        !last->retiring) {
        last->retiring = true;
        slot_dismiss(&last->process);
    }
    unsigned tell = crew_waiting(w);
    if (tell == w->waiting_told) return;
    w->waiting_told = tell;
    shelf_tell(w);
}

/* One that takes more memory than it may is killed: the item that it runs is charged. */
static void weigh(worker_t *w, seat_t *seat)
{
    uint64_t bytes = slot_memory_bytes(&seat->process);
    if (bytes <= w->options.memory_bytes || *seat->killed) return;
    snprintf(seat->killed, sizeof seat->killed,
             "the executor was killed: it took %llu MiB of memory, over its limit of %llu",
             (unsigned long long)(bytes >> 20),
             (unsigned long long)(w->options.memory_bytes >> 20));
    kill(seat->process.pid, SIGKILL);
}

/* What executors started and left behind came to us: it is not to stay a zombie. */
static void reap_strangers(const worker_t *w)
{
    for (;;) {
        siginfo_t ended = {0};
        if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid == 0) return;
        for (unsigned i = 0; i < w->seat_count; i++)
            if (w->seats[i].process.pid == ended.si_pid) return;
        waitpid(ended.si_pid, NULL, WNOHANG);
    }
}

void crew_keep(worker_t *w)
{
    char error[256];
    bool weighing = w->options.memory_bytes > 0 && w->now_ms - w->weighed_ms >= WEIGH_MS;
    if (weighing) w->weighed_ms = w->now_ms;
    if (w->options.fork) reap_strangers(w);
    for (unsigned i = 0; i < w->seat_count; i++) {
        seat_t *seat = &w->seats[i];
        if (weighing && seat->process.pid > 0) weigh(w, seat);
        if (slot_ended(&seat->process)) {
            crew_receive(w, seat); /* its last words */
            if (seat->process.channel) crew_died(w, seat);
        }
        if (!seat->restart_ms || w->now_ms < seat->restart_ms || w->failed) continue;
        if (crew_start(w, seat, error, sizeof error) != 0) {
            fprintf(stderr, "peach-worker: %s\n", error);
            seat->restart_ms = w->now_ms + MAX_RESTART_MS;
        }
    }
}
