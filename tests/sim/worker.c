/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* A supervisor and its executors. */
#include "world.h"

#include <string.h>

void worker_start(world_t *w, unsigned i)
{
    sim_worker_t *x = &w->workers[i];
    outbox_clear(&x->outbox);
    *x = (sim_worker_t){.alive = true,
                        .session = ++w->serial,
                        .slots = 1 + world_dice(w, SLOTS),
                        .all_functions = i == 0 || world_dice(w, 3) > 0,
                        .heard_ms = w->now_ms};
    outbox_init(&x->outbox);
}

static void transmit(world_t *w, unsigned i)
{
    port_t port = {w, CLIENTS + i, false, 0};
    if (w->workers[i].welcomed) outbox_send(&w->workers[i].outbox, &port, NULL);
}

static void report(world_t *w, unsigned i, message_t m)
{
    m.kind = RESULT;
    net_post(&w->workers[i].outbox, &m, true);
    transmit(w, i);
}

/* ---- orders ---- */

static void order_end(sim_worker_t *x, order_t *order)
{
    for (unsigned q = 0; q < x->queued; q++) {
        if (x->queue[q] != order) continue;
        memmove(&x->queue[q], &x->queue[q + 1], (--x->queued - q) * sizeof *x->queue);
        break;
    }
    for (unsigned s = 0; s < x->slots; s++)
        if (x->slot[s].order == order) x->slot[s].order = NULL;
    *order = (order_t){0};
}

static order_t *order_find(sim_worker_t *x, uint64_t lease)
{
    for (unsigned k = 0; k < ORDERS; k++)
        if (lease && x->orders[k].lease == lease) return &x->orders[k];
    return NULL;
}

static item_t *item_of(world_t *w, const order_t *order, unsigned item)
{
    return world_item(w, order->client, order->task, item);
}

/* What an executor had finished and not reported is lost with it. */
static void excuse_pending(world_t *w, const order_t *order)
{
    for (unsigned k = 0; k < ITEMS; k++)
        if (order->pending >> k & 1) item_of(w, order, k)->excuses++;
}

/* Reports what is pending, item by item. */
static void flush(world_t *w, unsigned i, order_t *order, bool ended)
{
    for (unsigned k = 0; k < ITEMS; k++) {
        if (!(order->pending >> k & 1)) continue;
        order->pending &= ~(1u << k);
        report(w, i,
               (message_t){.lease = order->lease,
                           .first = k,
                           .count = 1,
                           .status = item_of(w, order, k)->failed ? PEACH_E_RAISED : 0});
    }
    if (ended)
        report(w, i, (message_t){.lease = order->lease, .ended = true, .elapsed_ns = 1000000});
}

/* Ends the order; items that were not begun are reported with a status, if there is one. */
static void finish(world_t *w, unsigned i, order_t *order, int rest)
{
    flush(w, i, order, false);
    for (unsigned k = 0; rest && k < ITEMS; k++)
        if (order->todo >> k & 1)
            report(w, i,
                   (message_t){.lease = order->lease, .first = k, .count = 1, .status = rest});
    flush(w, i, order, true);
    order_end(&w->workers[i], order);
}

static void begin_item(world_t *w, unsigned i, unsigned s)
{
    sim_slot_t *slot = &w->workers[i].slot[s];
    order_t *order = slot->order;
    if (order->cancelled || order->yield || !order->todo) {
        finish(w, i, order, order->cancelled ? PEACH_E_CANCELLED : 0);
        return;
    }
    slot->item = (unsigned)__builtin_ctz(order->todo);
    slot->serial = ++w->serial;
    order->todo &= ~(1u << slot->item);
    world_say(w, "worker %u slot %u runs item %u/%u/%u", i, s, order->client, order->task,
              slot->item);
    judge_run(w, order->client, order->task, slot->item);
    world_at(w, w->now_ms + item_of(w, order, slot->item)->duration_ms,
             (event_t){.what = ITEM_END, .who = CLIENTS + i, .slot = s, .serial = slot->serial});
}

static void pump(world_t *w, unsigned i)
{
    sim_worker_t *x = &w->workers[i];
    for (unsigned s = 0; s < x->slots; s++) {
        while (!x->slot[s].order && x->queued > 0) {
            order_t *order = x->queue[0];
            memmove(&x->queue[0], &x->queue[1], --x->queued * sizeof *x->queue);
            x->slot[s].order = order;
            order->running = true;
            begin_item(w, i, s);
        }
    }
}

static void executor_dies(world_t *w, unsigned i, unsigned s)
{
    sim_slot_t *slot = &w->workers[i].slot[s];
    order_t *order = slot->order;
    if (!order) return;
    item_t *item = item_of(w, order, slot->item);
    world_say(w, "worker %u slot %u: its executor dies", i, s);
    item->died++;
    item->excuses++;
    excuse_pending(w, order);
    report(w, i,
           (message_t){.lease = order->lease,
                       .first = slot->item,
                       .count = 1,
                       .status = order->cancelled ? PEACH_E_CANCELLED : PEACH_E_DIED,
                       .ended = true});
    order_end(&w->workers[i], order);
    slot->serial = 0;
    pump(w, i);
}

void worker_item_end(world_t *w, unsigned i, unsigned s, uint64_t serial)
{
    sim_worker_t *x = &w->workers[i];
    sim_slot_t *slot = &x->slot[s];
    if (!x->alive || !slot->order || slot->serial != serial) return;
    order_t *order = slot->order;
    item_t *item = item_of(w, order, slot->item);
    const client_t *c = &w->clients[order->client];
    const sched_job_spec_t *job = &c->jobs[c->tasks[order->task].job].spec;
    bool mischief = item->runs <= item->mischief;
    if (item->poison && mischief) {
        executor_dies(w, i, s);
        return;
    }
    item->failed = item->raises && mischief;
    item->raised += item->failed;
    if (item->failed && job->retry_errors) item->excuses++;
    order->pending |= 1u << slot->item;
    if (job->retries == 0 || world_dice(w, 2)) flush(w, i, order, false);
    begin_item(w, i, s);
    pump(w, i);
}

/* The session is over: nobody waits for what we hold. */
static void forget(world_t *w, unsigned i)
{
    sim_worker_t *x = &w->workers[i];
    for (unsigned k = 0; k < ORDERS; k++)
        if (x->orders[k].lease) order_end(x, &x->orders[k]);
    outbox_clear(&x->outbox);
    outbox_init(&x->outbox);
    x->known = false;
}

/* ---- messages ---- */

static void on_welcome(world_t *w, unsigned i, const message_t *m)
{
    sim_worker_t *x = &w->workers[i];
    bool resumed =
        m->resumed && x->known && m->token == x->token && outbox_rewind(&x->outbox, m->received);
    if (!resumed) forget(w, i);
    if (!resumed && m->resumed) {
        x->hello_ms = 0; /* given up meanwhile: begin anew */
        return;
    }
    x->welcomed = x->known = true;
    x->token = m->token;
    if (resumed) {
        message_t held = {.kind = HELD};
        for (unsigned s = 0; s < x->slots; s++) /* so that pending is not held back for ever */
            if (x->slot[s].order) flush(w, i, x->slot[s].order, false);
        for (unsigned k = 0; k < ORDERS; k++)
            if (x->orders[k].lease) held.leases[held.held++] = x->orders[k].lease;
        net_post(&x->outbox, &held, false);
    }
    transmit(w, i);
}

static void on_assign(world_t *w, unsigned i, const message_t *m)
{
    sim_worker_t *x = &w->workers[i];
    order_t *order = NULL;
    for (unsigned k = 0; k < ORDERS && !order; k++)
        if (!x->orders[k].lease) order = &x->orders[k];
    if (!order) {
        world_wrong(w, "worker %u is given more than it asked for", i);
        return;
    }
    *order = (order_t){.lease = m->lease, .client = m->client, .task = m->task, .todo = m->todo};
    x->queue[x->queued++] = order;
    pump(w, i);
}

/* The running item is interrupted: it ends soon. */
static void interrupt(world_t *w, unsigned i, const order_t *order)
{
    sim_worker_t *x = &w->workers[i];
    for (unsigned s = 0; s < x->slots; s++) {
        if (x->slot[s].order != order) continue;
        x->slot[s].serial = ++w->serial;
        world_at(w, w->now_ms + world_dice(w, 20),
                 (event_t){
                     .what = ITEM_END, .who = CLIENTS + i, .slot = s, .serial = x->slot[s].serial});
    }
}

static void on_stop(world_t *w, unsigned i, const message_t *m)
{
    order_t *order = order_find(&w->workers[i], m->lease);
    if (!order) return;
    if (!order->running) {
        finish(w, i, order, 0); /* not begun: given back */
    } else if (m->kind == CANCEL) {
        if (!order->cancelled) interrupt(w, i, order);
        order->cancelled = true;
    } else {
        order->yield = true;
    }
}

void worker_message(world_t *w, unsigned i, const message_t *m)
{
    sim_worker_t *x = &w->workers[i];
    if (!x->alive) return;
    x->heard_ms = w->now_ms;
    switch (m->kind) {
    case WELCOME: on_welcome(w, i, m); break;
    case NO_SESSION:
        if (x->welcomed) worker_disconnected(w, i);
        break;
    case HEARTBEAT: outbox_acknowledge(&x->outbox, m->received); break;
    case ASSIGN:
        if (x->welcomed) on_assign(w, i, m);
        break;
    case CANCEL:
    case GIVE_BACK: on_stop(w, i, m); break;
    case GOODBYE: x->draining = true; break;
    default: break;
    }
}

/* ---- time ---- */

static void leave(world_t *w, unsigned i)
{
    sim_worker_t *x = &w->workers[i];
    message_t goodbye = {.kind = GOODBYE};
    net_to_broker(w, CLIENTS + i, &goodbye);
    world_say(w, "worker %u leaves", i);
    x->alive = false;
    x->back_ms = w->now_ms + world_dice(w, 500);
}

void worker_tick(world_t *w, unsigned i)
{
    sim_worker_t *x = &w->workers[i];
    if (!x->alive) {
        if (w->now_ms >= x->back_ms) worker_start(w, i);
        return;
    }
    uint64_t silence = w->now_ms - x->heard_ms;
    if (w->now_ms - x->stalled_until <= TICK_MS) silence = 0, x->heard_ms = w->now_ms;
    if (silence > SESSION_MS / 2) {
        x->heard_ms = w->now_ms;
        net_break(w, CLIENTS + i, 0);
        return;
    }
    if (!x->welcomed) {
        message_t hello = {.kind = HELLO,
                           .attempt = x->attempt + 1,
                           .session = x->session,
                           .token = x->known ? x->token : 0};
        if (x->hello_ms == 0 && net_to_broker(w, CLIENTS + i, &hello)) {
            x->hello_ms = w->now_ms;
            x->attempt++;
        }
        if (x->known && w->now_ms - x->lost_ms > SESSION_MS) forget(w, i);
        return;
    }
    transmit(w, i);
    if (w->now_ms - x->beat_ms >= HEARTBEAT_MS) {
        message_t beat = {.kind = HEARTBEAT};
        x->beat_ms = w->now_ms;
        net_to_broker(w, CLIENTS + i, &beat);
    }
    if (x->leaving && !x->draining) {
        message_t drain = {.kind = DRAIN};
        net_to_broker(w, CLIENTS + i, &drain);
    }
    bool idle = true;
    for (unsigned k = 0; k < ORDERS; k++) idle &= x->orders[k].lease == 0;
    if (x->draining && idle && x->outbox.bytes == 0) leave(w, i);
}

void worker_disconnected(world_t *w, unsigned i)
{
    sim_worker_t *x = &w->workers[i];
    if (x->welcomed) x->lost_ms = w->now_ms;
    x->welcomed = false;
    x->hello_ms = 0;
}

void worker_kill(world_t *w, unsigned i)
{
    sim_worker_t *x = &w->workers[i];
    world_say(w, "worker %u is killed", i);
    x->alive = false;
    x->back_ms = w->now_ms + world_dice(w, 1000);
    net_break(w, CLIENTS + i, 0);
}

void worker_kill_executor(world_t *w, unsigned i, unsigned slot)
{
    if (w->workers[i].alive) executor_dies(w, i, slot);
}
