/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "inside.h"

#include "memory.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SPARE_MS = 5000 }; /* a seat that is not needed stays so long */
enum { RESTART_MS = 100, MAX_RESTART_MS = 5000 };
enum { COPY_MS = 10000 }; /* in which a template answers */
enum { WEIGH_MS = 100 };  /* between two looks at the memory of a light executor */
enum { WEIGH_REST = 20 }; /* times as long as a look takes there is none */

/* ---- beginnings ---- */

static const seat_t *template_of(const worker_t *w, const seat_t *seat)
{
    return w->options.fork && !seat->template ? &w->seats[0] : NULL;
}

static int start_process(worker_t *w, seat_t *seat, const seat_t *template, char *error,
                         size_t error_size)
{
    unsigned index = (unsigned)(seat - w->seats) - crew_first(w);
    if (!template)
        return slot_start(&seat->process, w->options.executor, index, w->options.threads,
                          seat->template ? &w->control : NULL, error, error_size);
    uint32_t number = ++w->last_copy;
    int rc = slot_ask(&seat->process, w->control, number, error, error_size);
    if (rc == 0) seat->copy = number;
    seat->asked_ms = w->now_ms;
    return rc;
}

/* The seat has no process; what belonged to the last one is gone. */
static void clear_seat(worker_t *w, seat_t *seat)
{
    loads_unload(w, seat);
    blobs_unseat(w, seat);
    slot_clear(&seat->process);
    wire_batch_clear(&seat->batch);
    prints_clear(seat);
    seat->copy = 0;
    seat->waits = false;
}

int crew_start(worker_t *w, seat_t *seat, char *error, size_t error_size)
{
    const seat_t *template = template_of(w, seat);
    if (template && !crew_ready(w, template)) {
        seat->restart_ms = w->now_ms + MAX_RESTART_MS;
        return 0;
    }
    int rc = start_process(w, seat, template, error, error_size);
    if (rc) return rc;
    seat->restart_ms = seat->ending_ms = 0;
    seat->begun = seat->sent_items = seat->bytes = 0;
    seat->taken_back = 0;
    seat->retiring = false;
    *seat->killed = 0;
    orders_clear_batch(seat);
    seat->batch.frames.shares = block_local();
    /* A copy has what its template has, and says so. */
    if ((rc = loads_send(w, seat, template != NULL)) == 0) return 0;
    char cause[128];
    snprintf(error, error_size, "cannot start an executor: %s", peach_status_text(rc));
    slot_reap(&seat->process, cause, sizeof cause);
    clear_seat(w, seat);
    errno = ENOMEM;
    return rc;
}

bool crew_ready(const worker_t *w, const seat_t *seat)
{
    (void)w;
    return seat->process.pid > 0 && !seat->retiring && seat->lacking == 0;
}

/* Starts the seat's process, or tries again later. */
static void start_or_wait(worker_t *w, seat_t *seat)
{
    char error[256];
    if (crew_start(w, seat, error, sizeof error) == 0) return;
    log_say(LOG_WARN, "%s", error);
    seat->restart_ms = w->now_ms + MAX_RESTART_MS;
}

/* The template is ready: so are the seats that waited for it. */
static void start_copies(worker_t *w)
{
    for (unsigned i = crew_first(w); i < w->seat_count; i++) {
        seat_t *seat = &w->seats[i];
        if (!seat->process.channel && seat->restart_ms && seat->failures == 0)
            start_or_wait(w, seat);
    }
}

/* ---- copies ---- */

static seat_t *find_copy(worker_t *w, uint32_t number)
{
    for (unsigned i = crew_first(w); i < w->seat_count; i++)
        if (w->seats[i].copy == number) return &w->seats[i];
    return NULL;
}

static void give_up_copy(worker_t *w, seat_t *seat)
{
    seat->failures++;
    clear_seat(w, seat);
    seat->restart_ms = w->now_ms + MAX_RESTART_MS;
}

void crew_answer(worker_t *w)
{
    uint32_t number;
    pid_t pid;
    while (w->control >= 0 && slot_answer(w->control, &number, &pid)) {
        seat_t *seat = find_copy(w, number);
        if (!seat) continue; /* its channel is closed, so it ends */
        seat->copy = 0;
        seat->process.pid = pid;
        if (pid > 0) continue;
        log_say(LOG_WARN, "the template could not copy itself");
        give_up_copy(w, seat);
    }
}

/* One that does not answer is replaced; who waited for it waits for the new one. */
static void watch_template(worker_t *w)
{
    seat_t *template = &w->seats[0];
    bool stalls = false;
    for (unsigned i = crew_first(w); i < w->seat_count && w->options.fork; i++) {
        seat_t *seat = &w->seats[i];
        if (!seat->copy || w->now_ms - seat->asked_ms < COPY_MS) continue;
        give_up_copy(w, seat);
        stalls = true;
    }
    if (stalls)
        crew_kill(template, "the template did not answer for %d s: it is replaced", COPY_MS / 1000);
}

/* ---- messages ---- */

void crew_receive(worker_t *w, seat_t *seat)
{
    while (seat->process.channel) {
        wire_message_t *message;
        int rc = channel_get(seat->process.channel, &message);
        if (rc == PEACH_E_TIMEOUT) return;
        if (rc) {
            if (rc != PEACH_E_LOST && !*seat->killed)
                snprintf(seat->killed, sizeof seat->killed,
                         "the executor was killed: its task wrote into its channel");
            if (!seat->copy) crew_died(w, seat);
            return;
        }
        const Peach__Envelope *e = wire_envelope(message);
        if (e->body_case == PEACH__ENVELOPE__BODY_RESULTS) {
            prints_read(w, seat, false); /* a line comes before its result */
            orders_results(w, seat, message);
            if (seat->process.shared) atomic_fetch_add(&seat->process.shared->taken, 1);
        } else if (e->body_case == PEACH__ENVELOPE__BODY_REGISTRATION) {
            loads_report(w, seat, e->registration);
            if (seat->template && crew_ready(w, seat)) start_copies(w);
        }
        wire_message_destroy(&message);
    }
}

/* ---- ends ---- */

/* Seats at the end that have no process and are not needed go. */
static void close_seats(worker_t *w)
{
    while (w->spare_ms && w->seat_count > crew_first(w) + w->options.slots &&
           !w->seats[w->seat_count - 1].process.channel)
        w->seats[--w->seat_count].restart_ms = 0;
}

void crew_retire(worker_t *w, seat_t *seat)
{
    (void)w;
    if (seat->retiring || !seat->process.channel) return;
    seat->retiring = true;
    seat->ending_ms = 0;
    slot_dismiss(&seat->process);
}

/* Copies of a template that is gone and had not made them yet wait for the next one. */
static void lose_template(worker_t *w)
{
    if (w->control >= 0) close(w->control);
    w->control = -1;
    for (unsigned i = crew_first(w); i < w->seat_count; i++)
        if (w->seats[i].copy) give_up_copy(w, &w->seats[i]);
    for (unsigned i = crew_first(w); i < w->seat_count; i++)
        if (!w->seats[i].process.channel) w->seats[i].failures = 0;
}

void crew_kill(seat_t *seat, const char *why, ...)
{
    va_list args;
    if (*seat->killed) return;
    va_start(args, why);
    vsnprintf(seat->killed, sizeof seat->killed, why, args);
    va_end(args);
    log_say(LOG_WARN, "executor %d: %s", (int)seat->process.pid, seat->killed);
    slot_kill(&seat->process);
}

void crew_died(worker_t *w, seat_t *seat)
{
    char cause[256];
    pid_t pid = seat->process.pid;
    bool loaded = seat->lacking == 0;
    bool working = seat->order_count > 0 || (seat->retiring && loaded);
    slot_reap(&seat->process, cause, sizeof cause);
    if (*seat->killed)
        snprintf(cause, sizeof cause, "%s", seat->killed);
    else
        log_say(LOG_DETAIL_ONLY, "executor %d: %s", (int)pid, seat->retiring ? "replaced" : cause);
    prints_read(w, seat, true);
    orders_lost(w, seat, pid, cause);
    if (!loaded) loads_died(w, seat, cause);
    clear_seat(w, seat);
    if (seat->template) lose_template(w);
    /* At once after a task killed it; with patience when it does not come up. */
    uint64_t wait = 0;
    if (!working) {
        wait = (uint64_t)RESTART_MS << (seat->failures < 6 ? seat->failures : 6);
        seat->failures++;
    }
    seat->restart_ms = w->now_ms + (wait < MAX_RESTART_MS ? wait : MAX_RESTART_MS);
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
    seat_t *seat = &w->seats[w->seat_count++];
    seat->failures = 0;
    start_or_wait(w, seat);
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
    if (w->spare_ms && w->now_ms - w->spare_ms > SPARE_MS && last->order_count == 0)
        crew_retire(w, last);
    unsigned tell = crew_waiting(w);
    if (tell == w->waiting_told) return;
    w->waiting_told = tell;
    shelf_tell(w);
}

/* ---- time ---- */

/* One that takes more memory than it may is killed: the item that it runs is charged. It is
   weighed more often when it is heavy. */
static void weigh(worker_t *w, seat_t *seat)
{
    uint64_t most = w->options.memory_bytes;
    bool due = seat->bytes > most / 2 || w->now_ms - seat->weighed_ms >= WEIGH_MS;
    due &= w->now_ms - seat->weighed_ms >= seat->rest_ms;
    if (!most || seat->process.pid <= 0 || *seat->killed || !due) return;
    seat->weighed_ms = w->now_ms;
    uint64_t begin_ms = clock_ms();
    seat->bytes = memory_bytes(seat->process.pid, most);
    seat->rest_ms = WEIGH_REST * (clock_ms() - begin_ms);
    if (seat->bytes <= most) return;
    crew_kill(seat, "the executor was killed: it took %llu MiB of memory, over its limit of %llu",
              (unsigned long long)(seat->bytes >> 20), (unsigned long long)(most >> 20));
}

/* One that is to be replaced, and has nothing to do, ends; if it does not, it is ended. */
static void watch_end(worker_t *w, seat_t *seat)
{
    if (!seat->retiring || seat->order_count > 0 || seat->process.pid <= 0) return;
    if (!seat->ending_ms) seat->ending_ms = w->now_ms;
    if (w->now_ms - seat->ending_ms < w->options.grace_ms || *seat->killed) return;
    crew_kill(seat, "the executor did not end within its grace time: it was killed");
}

/* What executors started and left behind came to us: it is not to stay a zombie. */
static void reap_strangers(const worker_t *w)
{
    for (;;) {
        siginfo_t ended = {0};
        if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid == 0) return;
        for (unsigned i = 0; i < w->seat_count; i++) /* or it is a copy that we do not know yet */
            if (w->seats[i].process.pid == ended.si_pid || w->seats[i].copy) return;
        waitpid(ended.si_pid, NULL, WNOHANG);
    }
}

void crew_keep(worker_t *w)
{
    reap_strangers(w);
    watch_template(w);
    for (unsigned i = 0; i < w->seat_count; i++) {
        seat_t *seat = &w->seats[i];
        weigh(w, seat);
        watch_end(w, seat);
        if (slot_ended(&seat->process)) {
            crew_receive(w, seat); /* its last words */
            if (seat->process.channel) crew_died(w, seat);
        }
        if (seat->restart_ms && w->now_ms >= seat->restart_ms && !w->failed) start_or_wait(w, seat);
    }
}
