/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* What an executor has begun of its orders, as the page says that it shares with us. A task
   may have written over that page. */
#include "inside.h"

bool claims_are_sane(const seat_t *seat)
{
    uint64_t claim = atomic_load(&seat->process.shared->claim), begun = claim >> 32;
    return seat->process.shared->token == seat->process.token &&
           (uint32_t)claim == seat->taken_back && begun >= seat->begun &&
           begun <= seat->process.sent;
}

bool claims_look(seat_t *seat, bool *moved)
{
    if (!claims_are_sane(seat)) return false;
    uint64_t begun = shared_claimed(seat->process.shared);
    *moved = begun != seat->begun;
    seat->begun = begun;
    return true;
}

bool claims_take_back(worker_t *w, seat_t *seat)
{
    if (!claims_are_sane(seat)) return false;
    uint32_t first = shared_take_back(seat->process.shared, (uint32_t)seat->process.sent);
    seat->taken_back = (uint32_t)seat->process.sent;
    node_t *previous;
    for (node_t *n = seat->orders.head.prev; n != &seat->orders.head; n = previous) {
        previous = n->prev;
        if (LIST_ITEM(n, order_t, node)->number < first) break;
        list_remove(n);
        list_prepend(&w->waiting, n);
        seat->order_count--;
        seat->sent_items -= order_items(LIST_ITEM(n, order_t, node));
    }
    return true;
}

/* ---- deaths ---- */

static bool has_item(const order_t *order, uint32_t item)
{
    for (size_t i = 0; i < order->todo_count; i++)
        if (item >= order->todo[i].first && item - order->todo[i].first < order->todo[i].count)
            return true;
    return order->todo_count == 0 && item < order->items;
}

void order_lose(worker_t *w, order_t *order, uint32_t item, uint32_t count, pid_t pid,
                const char *cause)
{
    Peach__Failure failure = PEACH__FAILURE__INIT;
    failure.item = item;
    failure.count = count;
    failure.status = PEACH_E_DIED;
    failure.message = (char *)cause;
    if (order->cancelled) {
        failure.status = PEACH_E_CANCELLED;
    } else if (order->expiring && order->expired_item == item) {
        failure.status = PEACH_E_TIMEOUT;
        failure.message = "the item ran longer than its limit and did not stop: its executor "
                          "was killed";
    }
    failure.host = w->host;
    failure.pid = (uint32_t)pid;
    order_note_begun(order, item, count);
    if (order->link) link_failure(order->link, order->lease, &failure);
}

/* What is to run at most once and of which nothing was reported is lost up to end: it may have
   run. What may run again does so. */
static void lose_unreported(worker_t *w, order_t *order, uint32_t end, pid_t pid, const char *cause)
{
    size_t count;
    const range_t *left;
    while (order->once && (left = ranges_all(&order->left, &count), count > 0) &&
           left->first < end) {
        uint32_t most = end - left->first;
        order_lose(w, order, left->first, left->count < most ? left->count : most, pid, cause);
    }
}

/* The item ran. */
static void charge(worker_t *w, order_t *order, uint32_t item, pid_t pid, const char *cause)
{
    lose_unreported(w, order, item, pid, cause);
    order_lose(w, order, item, 1, pid, cause);
    order_end(w, order);
}

/* The tasks that the executor had begun. When its page was written over the first of its orders
   is taken to be the one that ran, so that what does this is charged for it. */
static uint64_t begun_tasks(const seat_t *seat)
{
    const node_t *first = list_first(&seat->orders);
    if (!first || claims_are_sane(seat)) return shared_claimed(seat->process.shared);
    return (uint64_t)LIST_ITEM(first, order_t, node)->number + 1;
}

/* The item of the order that ran, which the page says. */
static uint32_t begun_item(const seat_t *seat, const order_t *order)
{
    uint32_t item = atomic_load(&seat->process.shared->item);
    if (item < order->items && has_item(order, item)) return item;
    return order->todo_count ? order->todo[0].first : 0;
}

void orders_lost(worker_t *w, seat_t *seat, pid_t pid, const char *cause)
{
    bool sane = claims_are_sane(seat);
    uint64_t begun = begun_tasks(seat);
    list_t again;
    list_init(&again);
    for (node_t *n; (n = list_first(&seat->orders)) != NULL;) {
        order_t *order = LIST_ITEM(n, order_t, node);
        list_remove(n);
        if (!sane || order->number + 1 < begun) lose_unreported(w, order, order->items, pid, cause);
        if (order->once && ranges_empty(&order->left))
            order_end(w, order);
        else if (order->number + 1 == begun)
            charge(w, order, begun_item(seat, order), pid, cause); /* it was the one that ran */
        else if (order->number < begun)
            order_end(w, order); /* it was over, but not all of it was reported */
        else
            list_append(&again, n);
    }
    seat->order_count = 0;
    for (node_t *n; (n = again.head.prev) != &again.head;) { /* in front, in their order */
        list_remove(n);
        list_prepend(&w->waiting, n);
    }
}
