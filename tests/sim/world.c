/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- dice: streams of their own, so that leaving a fault out changes nothing else
   that was drawn beforehand ---- */

static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint32_t roll(uint64_t *state, uint32_t sides)
{
    return (uint32_t)(draw(state) >> 32) % sides;
}

uint32_t world_dice(world_t *w, uint32_t sides) { return roll(&w->random, sides); }

/* ---- words ---- */

void world_say(const world_t *w, const char *format, ...)
{
    if (!w->schedule.trace) return;
    va_list args;
    va_start(args, format);
    printf("%6llu.%03llu  ", (unsigned long long)(w->now_ms / 1000),
           (unsigned long long)(w->now_ms % 1000));
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

void world_wrong(world_t *w, const char *format, ...)
{
    if (*w->verdict->wrong) return; /* the first one counts */
    va_list args;
    va_start(args, format);
    vsnprintf(w->verdict->wrong, sizeof w->verdict->wrong, format, args);
    va_end(args);
    world_say(w, "WRONG: %s", w->verdict->wrong);
}

/* ---- what happens when: a heap ---- */

static bool before(const event_t *a, const event_t *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

static void put_event(world_t *w, event_t event)
{
    if (w->event_count == w->event_capacity) {
        w->event_capacity = w->event_capacity ? 2 * w->event_capacity : 256;
        w->events = realloc(w->events, w->event_capacity * sizeof *w->events);
        if (!w->events) abort();
    }
    size_t i = w->event_count++;
    for (; i > 0 && before(&event, &w->events[(i - 1) / 2]); i = (i - 1) / 2)
        w->events[i] = w->events[(i - 1) / 2];
    w->events[i] = event;
}

void world_at(world_t *w, uint64_t at_ms, event_t event)
{
    event.at_ms = at_ms;
    event.order = w->order++;
    put_event(w, event);
}

static event_t next_event(world_t *w)
{
    event_t first = w->events[0], last = w->events[--w->event_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->event_count) break;
        if (child + 1 < w->event_count && before(&w->events[child + 1], &w->events[child])) child++;
        if (!before(&w->events[child], &last)) break;
        w->events[i] = w->events[child];
        i = child;
    }
    if (w->event_count > 0) w->events[i] = last;
    return first;
}

/* ---- the network: in order in each direction of a connection, at any speed ---- */

static void deliver(world_t *w, unsigned peer, bool up, const message_t *message)
{
    conn_t *c = &w->conn[peer];
    if (c->silent) return; /* it vanishes, and nobody knows */
    uint64_t at = w->now_ms + world_dice(w, 4);
    if (world_dice(w, 50) == 0) at += world_dice(w, 100);
    if (at < c->last[up]) at = c->last[up];
    c->last[up] = at;
    message_t *copy = malloc(sizeof *copy);
    if (!copy) abort();
    *copy = *message;
    world_at(
        w, at,
        (event_t){
            .what = up ? AT_BROKER : AT_PEER, .who = peer, .epoch = c->epoch, .message = copy});
}

bool net_to_broker(world_t *w, unsigned peer, const message_t *message)
{
    if (!w->conn[peer].up) return false;
    deliver(w, peer, true, message);
    return true;
}

bool net_to_peer(world_t *w, unsigned peer, uint32_t epoch, const message_t *message)
{
    if (!w->conn[peer].up || w->conn[peer].epoch != epoch) return false;
    deliver(w, peer, false, message);
    return true;
}

/* The peer notices at once, the broker when it sends. */
void net_break(world_t *w, unsigned peer, uint64_t for_ms)
{
    conn_t *c = &w->conn[peer];
    if (c->down_until < w->now_ms + for_ms) c->down_until = w->now_ms + for_ms;
    if (!c->up) return;
    world_say(w, "connection of peer %u breaks for %llu ms", peer, (unsigned long long)for_ms);
    c->up = c->silent = false;
    c->epoch++;
    c->late = world_dice(w, 2);
    c->last[0] = c->last[1] = w->now_ms;
    if (peer < CLIENTS)
        client_disconnected(w, peer);
    else
        worker_disconnected(w, peer - CLIENTS);
}

void net_post(outbox_t *outbox, const message_t *message, bool keep)
{
    size_t room = sizeof *message + 2 * WIRE_BATCH_HEAD;
    wire_batch_t batch = {
        .bytes = malloc(room), .size = sizeof *message, .capacity = room, .elements = 1};
    if (!batch.bytes) abort();
    memcpy(batch.bytes, message, sizeof *message);
    if (outbox_add(outbox, 0, &batch, keep) != 0) abort();
}

/* The real outbox sends by this; the linker puts it in the place of the real one. */
int __wrap_wire_batch_send(void *socket, zmq_msg_t *route, unsigned body, wire_batch_t *batch);

int __wrap_wire_batch_send(void *socket, zmq_msg_t *route, unsigned body, wire_batch_t *batch)
{
    (void)route, (void)body;
    const port_t *port = socket;
    message_t message;
    memcpy(&message, batch->bytes, sizeof message);
    message.serial = 0;
    unsigned shift = 0;
    for (size_t i = sizeof message + 1; i < batch->size; i++, shift += 7) /* behind its tag */
        message.serial |= (uint64_t)(batch->bytes[i] & 0x7F) << shift;
    bool sent = port->from_broker ? net_to_peer(port->world, port->peer, port->epoch, &message)
                                  : net_to_broker(port->world, port->peer, &message);
    return sent ? 0 : port->from_broker ? PEACH_E_LOST : PEACH_E_TIMEOUT;
}

/* ---- faults ---- */

static uint64_t fault_time(uint64_t *dice, fault_kind_t kind)
{
    switch (kind) {
    case CUT_SHORT: return roll(dice, RETURN_MS / 2);
    case CUT_LONG: return RETURN_MS / 2 + roll(dice, 3 * SESSION_MS);
    case HALF_OPEN: return roll(dice, 3 * SESSION_MS);
    case STALL_WORKER:
    case STALL_CLIENT: return roll(dice, 3 * SESSION_MS);
    case STALL_BROKER: return roll(dice, 2 * SESSION_MS);
    default: return roll(dice, 500);
    }
}

static void plan_faults(world_t *w, uint64_t *dice)
{
    static const uint8_t weights[FAULT_KINDS] = {10, 6, 4, 8, 5, 10, 3, 4, 2, 3, 4, 3};
    unsigned total = 0, span = 200 + roll(dice, 3000);
    for (unsigned k = 0; k < FAULT_KINDS; k++) total += weights[k];
    bool links_only = roll(dice, 4) == 0;
    w->fault_count = roll(dice, 4) == 0 ? roll(dice, FAULTS + 1) : roll(dice, 8);
    for (unsigned i = 0; i < w->fault_count; i++) {
        fault_t *f = &w->faults[i];
        uint32_t at = roll(dice, total);
        for (f->kind = 0; at >= weights[f->kind]; f->kind++) at -= weights[f->kind];
        if (links_only) f->kind = CUT_SHORT;
        f->at_ms = 20 + roll(dice, span);
        f->for_ms = fault_time(dice, f->kind);
        f->dice = (uint32_t)draw(dice);
        if (w->schedule.without >> i & 1) continue;
        world_at(w, f->at_ms, (event_t){.what = FAULT, .who = i});
        if (w->calm_ms < f->at_ms + f->for_ms) w->calm_ms = f->at_ms + f->for_ms;
    }
}

static void stall(const world_t *w, uint64_t *until_ms, uint64_t for_ms)
{
    if (*until_ms < w->now_ms + for_ms) *until_ms = w->now_ms + for_ms;
}

static void begin_fault(world_t *w, const fault_t *f)
{
    static const char *const names[FAULT_KINDS] = {
        "cut (short)",  "cut (long)",    "half open",      "kill worker",
        "stall worker", "kill executor", "drain worker",   "stall client",
        "kill client",  "cancel job",    "restart broker", "stall broker"};
    unsigned client = f->dice % w->client_count, worker = f->dice / 8 % w->worker_count;
    unsigned peer = f->dice & 1 << 20 ? client : CLIENTS + worker;
    world_say(w, "FAULT %u: %s, client %u, worker %u, %llu ms", (unsigned)(f - w->faults),
              names[f->kind], client, worker, (unsigned long long)f->for_ms);
    w->verdict->faults++;
    switch (f->kind) {
    case CUT_SHORT:
    case CUT_LONG: net_break(w, peer, f->for_ms); break;
    case HALF_OPEN:
        if (!w->conn[peer].up) break;
        w->conn[peer].silent = true;
        w->conn[peer].silent_since = w->now_ms;
        break;
    case KILL_WORKER: worker_kill(w, worker); break;
    case STALL_WORKER: stall(w, &w->workers[worker].stalled_until, f->for_ms); break;
    case KILL_EXECUTOR:
        worker_kill_executor(w, worker, f->dice / 64 % w->workers[worker].slots);
        break;
    case DRAIN_WORKER: w->workers[worker].leaving = true; break;
    case STALL_CLIENT: stall(w, &w->clients[client].stalled_until, f->for_ms); break;
    case KILL_CLIENT:
        if (w->client_count == 1) break;
        w->clients[client].alive = false;
        net_break(w, client, 1 << 30);
        break;
    case CANCEL_JOB: client_cancel(w, client, f->dice / 64 % JOBS); break;
    case RESTART_BROKER:
        shell_stop(w);
        for (unsigned p = 0; p < PEERS; p++) net_break(w, p, f->for_ms);
        shell_start(w);
        stall(w, &w->broker_stalled_until, f->for_ms);
        break;
    default: stall(w, &w->broker_stalled_until, f->for_ms);
    }
}

/* ---- the run ---- */

/* A connection that lost everything for long is closed by ZeroMQ's heartbeats; and all
   come up again once they may. */
static void keep_connection(world_t *w, unsigned peer)
{
    conn_t *c = &w->conn[peer];
    if (c->silent &&
        (w->now_ms - c->silent_since > SESSION_MS - RETURN_MS || w->now_ms > w->calm_ms))
        net_break(w, peer, 0);
    if (!c->up && w->now_ms >= c->down_until) c->up = true;
}

/* Until when whom the event is for does not run; 0: it does. */
static uint64_t stalled(const world_t *w, const event_t *e)
{
    uint64_t until = 0;
    if (e->what == AT_BROKER || e->what == BROKER_TICK)
        until = w->broker_stalled_until;
    else if (e->what == FAULT)
        until = 0;
    else if (e->who < CLIENTS)
        until = w->clients[e->who].stalled_until;
    else if (e->what != ITEM_END) /* executors run on when their supervisor does not */
        until = w->workers[e->who - CLIENTS].stalled_until;
    return until > w->now_ms ? until : 0;
}

static void happen(world_t *w, const event_t *e)
{
    bool now = e->what <= AT_PEER && e->epoch == w->conn[e->who].epoch;
    switch (e->what) {
    case AT_BROKER:
        if (now || w->conn[e->who].late) shell_message(w, e->who, e->epoch, e->message);
        break;
    case AT_PEER:
        if (!now) break;
        if (e->who < CLIENTS)
            client_message(w, e->who, e->message);
        else
            worker_message(w, e->who - CLIENTS, e->message);
        break;
    case BROKER_TICK:
        shell_tick(w);
        world_at(w, w->now_ms + TICK_MS, *e);
        break;
    case PEER_TICK:
        keep_connection(w, e->who);
        if (e->who < CLIENTS)
            client_tick(w, e->who);
        else
            worker_tick(w, e->who - CLIENTS);
        world_at(w, w->now_ms + TICK_MS / 2, *e);
        break;
    case ITEM_END: worker_item_end(w, e->who - CLIENTS, e->slot, e->serial); break;
    case TASK_COMES: client_tick(w, e->who); break;
    case FAULT: begin_fault(w, &w->faults[e->who]);
    }
    if (e->what == AT_BROKER || e->what == BROKER_TICK) judge_broker(w);
}

static void populate(world_t *w, uint64_t *dice)
{
    const schedule_t *s = &w->schedule;
    unsigned clients = 1 + roll(dice, CLIENTS), workers = 1 + roll(dice, WORKERS);
    w->client_count = clients < s->clients ? clients : s->clients;
    w->worker_count = workers < s->workers ? workers : s->workers;
    uint64_t own = draw(dice); /* the same for each, however many there are */
    for (unsigned i = 0; i < PEERS; i++) {
        uint64_t before_ms = w->random;
        w->random = own ^ i * 0x632BE59BD9B4E019u;
        w->conn[i].up = true;
        if (i < w->client_count) client_start(w, i);
        if (i >= CLIENTS && i < CLIENTS + w->worker_count) worker_start(w, i - CLIENTS);
        w->random = before_ms;
        if (i < w->client_count || (i >= CLIENTS && i < CLIENTS + w->worker_count))
            world_at(w, 1 + roll(dice, TICK_MS), (event_t){.what = PEER_TICK, .who = i});
    }
    world_at(w, 1 + roll(dice, TICK_MS), (event_t){.what = BROKER_TICK});
}

static void clear(world_t *w)
{
    shell_stop(w);
    for (unsigned i = 0; i < w->worker_count; i++) outbox_clear(&w->workers[i].outbox);
    for (size_t i = 0; i < w->event_count; i++) free(w->events[i].message);
    free(w->events);
    free(w);
}

bool world_run(const schedule_t *schedule, verdict_t *verdict)
{
    enum { PATIENCE_MS = 120000, REST_MS = 3 * SESSION_MS };
    world_t *w = calloc(1, sizeof *w);
    if (!w) abort();
    uint64_t dice = schedule->seed;
    w->schedule = *schedule;
    w->verdict = verdict;
    w->random = draw(&dice);
    *verdict->wrong = 0;
    uint64_t faults = draw(&dice);
    w->now_ms = 1;
    shell_start(w);
    populate(w, &dice);
    plan_faults(w, &faults);
    uint64_t done_ms = 0;
    while (!*verdict->wrong) {
        event_t e = next_event(w);
        w->now_ms = e.at_ms;
        uint64_t until = stalled(w, &e);
        if (until) {
            e.at_ms = until; /* what waits keeps its order */
            put_event(w, e);
            continue;
        }
        verdict->events++;
        happen(w, &e);
        free(e.message);
        bool done = w->now_ms > w->calm_ms && judge_complete(w);
        if (!done) done_ms = 0;
        if (done && !done_ms) done_ms = w->now_ms;
        if ((done && w->now_ms - done_ms > REST_MS) || w->now_ms > w->calm_ms + PATIENCE_MS) break;
    }
    if (!*verdict->wrong) judge_rest(w);
    verdict->schedules++;
    bool good = !*verdict->wrong;
    clear(w);
    return good;
}
