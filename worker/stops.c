/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Orders that are to end before their time: cancelled ones, those whose broker is lost, and
   items that run longer than they may. */
#include "inside.h"

#include <stdio.h>

static const uint64_t give_back_ms = 50; /* waiting longer, an order goes back to its broker */
enum { AGAIN_MS = 100 };                 /* before an interrupt is repeated */

/* ---- nobody waits for it any more ---- */

static order_t *find_lease(const list_t *list, const link_t *link, uint64_t lease)
{
    for (node_t *n = list_first(list); n; n = list_next(list, n)) {
        order_t *order = LIST_ITEM(n, order_t, node);
        if (order->link == link && order->lease == lease) return order;
    }
    return NULL;
}

static void interrupt(worker_t *w, seat_t *seat, order_t *order)
{
    if (order->cancelled) return;
    order->cancelled = true;
    order->kill_ms = w->now_ms + w->options.grace_ms;
    order->again_ms = w->now_ms + AGAIN_MS;
    slot_interrupt(&seat->process, order->number, SHARED_WHOLE);
}

/* Nobody waits for it any more, but its client asks what had begun: the item that runs is
   interrupted, and the order ends behind it. */
static void interrupt_item(worker_t *w, seat_t *seat, order_t *order)
{
    order->kill_ms = w->now_ms + w->options.grace_ms;
    order->again_ms = w->now_ms + AGAIN_MS;
    atomic_store(&seat->process.shared->yield, order->number + 1);
    slot_interrupt(&seat->process, order->number, atomic_load(&seat->process.shared->item));
}

/* What runs ends after its item. */
static void give_back(worker_t *w, seat_t *seat, order_t *order)
{
    (void)w;
    atomic_store(&seat->process.shared->yield, order->number + 1);
}

/* An order that has not begun ends; one that has goes to stop. */
static void stop_lease(worker_t *w, link_t *link, uint64_t lease,
                       void (*stop)(worker_t *, seat_t *, order_t *))
{
    order_t *order = find_lease(&w->waiting, link, lease);
    for (unsigned i = crew_first(w); i < w->seat_count && !order; i++) {
        seat_t *seat = &w->seats[i];
        order_t *held = find_lease(&seat->orders, link, lease);
        if (!held) continue;
        if (held->number >= shared_claimed(seat->process.shared)) claims_take_back(w, seat);
        order = find_lease(&w->waiting, link, lease);
        if (!order) stop(w, seat, held);
        break;
    }
    if (order) order_end(w, order);
}

void orders_cancel(worker_t *w, link_t *link, const Peach__Cancel *cancel)
{
    for (size_t i = 0; i < cancel->n_leases; i++) stop_lease(w, link, cancel->leases[i], interrupt);
    for (size_t i = 0; i < cancel->n_give_back; i++)
        stop_lease(w, link, cancel->give_back[i], give_back);
}

/* Orders of that broker that wait end. */
static void forget_waiting(worker_t *w, const link_t *link)
{
    node_t *next;
    for (node_t *n = list_first(&w->waiting); n; n = next) {
        next = list_next(&w->waiting, n);
        order_t *order = LIST_ITEM(n, order_t, node);
        if (order->link != link) continue;
        verdicts_add(w, order);
        order_free(w, order);
    }
}

void orders_forget(worker_t *w, link_t *link)
{
    verdicts_session_over(w, link);
    for (unsigned i = crew_first(w); i < w->seat_count; i++) {
        seat_t *seat = &w->seats[i];
        if (list_empty(&seat->orders)) continue;
        claims_take_back(w, seat);
        for (node_t *n = list_first(&seat->orders); n; n = list_next(&seat->orders, n)) {
            order_t *order = LIST_ITEM(n, order_t, node);
            if (order->link != link) continue;
            order->link = NULL;
            if (order->once)
                interrupt_item(w, seat, order);
            else
                interrupt(w, seat, order);
        }
    }
    forget_waiting(w, link);
}

/* ---- the regular look ---- */

/* Interrupts the running item if its time is over. */
static void watch_time(worker_t *w, seat_t *seat, order_t *order)
{
    const shared_t *page = seat->process.shared;
    unsigned limit_ms = order->job->item_ms;
    if (w->options.item_ms && (!limit_ms || limit_ms > w->options.item_ms))
        limit_ms = w->options.item_ms;
    if (!limit_ms || order->cancelled) return;
    uint32_t item = atomic_load(&page->item);
    uint64_t began_ms = atomic_load(&page->began_ms), now_ms = clock_ms();
    if (order->expiring && order->expired_item != item) {
        order->expiring = false; /* it stopped */
        order->kill_ms = order->again_ms = 0;
    }
    if (order->expiring || now_ms < began_ms || now_ms - began_ms <= limit_ms + SHARED_COARSE_MS)
        return;
    order->expiring = true;
    order->expired_item = item;
    order->kill_ms = w->now_ms + w->options.grace_ms;
    order->again_ms = w->now_ms + AGAIN_MS;
    atomic_store(&seat->process.shared->limit_ms, limit_ms);
    slot_interrupt(&seat->process, order->number, item);
}

static void look_at(worker_t *w, seat_t *seat)
{
    bool moved;
    if (!seat->process.shared) return;
    if (!claims_look(seat, &moved)) {
        crew_kill(seat, "the executor was killed: a task wrote over memory that is the worker's");
        return;
    }
    if (!moved && seat->order_count > 1) claims_take_back(w, seat);
    for (node_t *n = list_first(&seat->orders); n; n = list_next(&seat->orders, n)) {
        order_t *order = LIST_ITEM(n, order_t, node);
        if (order->number + 1 == seat->begun) watch_time(w, seat, order);
        if (order->again_ms && w->now_ms >= order->again_ms) {
            order->again_ms = w->now_ms + AGAIN_MS;
            slot_interrupt_again(&seat->process, order->number);
        }
        if (!order->kill_ms || w->now_ms < order->kill_ms) continue;
        crew_kill(seat, "the executor did not stop: it was killed");
        order->kill_ms = order->again_ms = 0;
    }
}

void orders_look(worker_t *w)
{
    for (unsigned i = crew_first(w); i < w->seat_count; i++) look_at(w, &w->seats[i]);
    crew_balance(w);
    orders_pump(w);
    /* Who waits although it was to be short: another worker may be free. */
    node_t *next;
    for (node_t *n = list_first(&w->waiting); n; n = next) {
        next = list_next(&w->waiting, n);
        order_t *order = LIST_ITEM(n, order_t, node);
        /* Its broker may be lost: then it waits until that is known, and is told as not begun. */
        bool late = order->link->welcomed && w->now_ms - order->since_ms > give_back_ms;
        if (w->draining || late) order_end(w, order);
    }
}
