/* A shell for the scheduler core that records its orders. For tests.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_RECORDER_H
#define PEACH_RECORDER_H

#include "sched.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ORDERS = 4096 };

typedef struct {
    uint64_t lease, first_item;
    uint32_t items;
    int worker; /* its user pointer is its number */
    char job;
    uint32_t first, count; /* the first range of todo */

} seen_t;

typedef struct {
    sched_t *sched;
    seen_t orders[MAX_ORDERS];
    size_t order_count;
    size_t cancelled, given_back, drained, sliced, released, jobs_released;
    int fail_status;
    uint64_t failed_items;
    char fail_message[512];
    size_t attempt_count;
} shell_t;

static void on_assign(void *shell, void *worker, const sched_order_t *order)
{
    shell_t *t = shell;
    assert_true(t->order_count < MAX_ORDERS);
    t->orders[t->order_count++] = (seen_t){order->lease,
                                           order->first_item,
                                           order->items,
                                           (int)(intptr_t)worker,
                                           order->job ? *(char *)order->job : '?',
                                           order->todo[0].first,
                                           order->todo[0].count};
}

static void on_cancel(void *shell, void *worker, uint64_t lease)
{
    (void)worker, (void)lease;
    ((shell_t *)shell)->cancelled++;
}

static void on_fail(void *shell, const sched_owner_t *owner, uint32_t first, uint32_t count,
                    int status, const char *message, const sched_attempt_t *attempts,
                    size_t attempt_count)
{
    shell_t *t = shell;
    (void)owner, (void)first, (void)attempts;
    t->fail_status = status;
    t->failed_items += count;
    t->attempt_count = attempt_count;
    snprintf(t->fail_message, sizeof t->fail_message, "%s", message);
}

static void on_drained(void *shell, void *worker)
{
    (void)worker;
    ((shell_t *)shell)->drained++;
}

static void *on_slice(void *shell, void *payload, size_t offset, size_t size)
{
    (void)offset, (void)size;
    ((shell_t *)shell)->sliced++;
    return payload;
}

static void on_release(void *shell, void *payload)
{
    (void)payload;
    ((shell_t *)shell)->released++;
}

static void on_release_job(void *shell, void *job)
{
    (void)job;
    ((shell_t *)shell)->jobs_released++;
}

static void on_give_back(void *shell, void *worker, uint64_t lease)
{
    (void)worker, (void)lease;
    ((shell_t *)shell)->given_back++;
}

static void on_suggest(void *shell, const char *function, char *text, size_t size)
{
    (void)shell;
    snprintf(text, size, " (is it not like %s)", function);
}

static const sched_ops_t ops = {on_assign, on_cancel,  on_give_back,   on_fail,   on_drained,
                                on_slice,  on_release, on_release_job, on_suggest};

static inline shell_t *shell_new(const sched_config_t *config)
{
    static const sched_config_t none;
    shell_t *t = calloc(1, sizeof *t);
    t->sched = sched_new(config ? config : &none, &ops, t);
    sched_tick(t->sched, 1000);
    return t;
}

static inline void shell_destroy(shell_t **t)
{
    assert_null(sched_verify((*t)->sched));
    sched_destroy(&(*t)->sched);
    free(*t);
    *t = NULL;
}

static inline sched_worker_t *add_worker(shell_t *t, int id, uint32_t slots, const char *function)
{
    const char *functions[] = {function};
    sched_worker_spec_t spec = {.slots = slots,
                                .window = slots * 8,
                                .host = "h",
                                .functions = functions,
                                .function_count = function ? 1 : 0};
    return sched_worker_add(t->sched, &spec, (void *)(intptr_t)id);
}

static char job_names[] = "abcdefghijklmnopqrstuvwxyz";

static inline void job(shell_t *t, sched_client_t *client, uint64_t id, const char *function,
                       uint32_t priority, uint32_t retries)
{
    sched_job_spec_t spec = {
        .id = id, .function = function, .priority = priority, .retries = retries};
    void **user;
    assert_int_equal(sched_job(t->sched, client, &spec, &user), 0);
    if (!*user) *user = &job_names[id % 26];
}

static inline void heavy_job(shell_t *t, sched_client_t *client, uint64_t id, uint32_t weight)
{
    sched_job_spec_t spec = {.id = id, .function = "f", .retries = 2, .weight = weight};
    void **user;
    assert_int_equal(sched_job(t->sched, client, &spec, &user), 0);
    *user = &job_names[id % 26];
}

static inline int submit(shell_t *t, sched_client_t *client, uint64_t id, uint64_t number,
                         uint32_t items)
{
    sched_task_spec_t spec = {.number = number, .items = items, .bytes = 10, .payload = t};
    return sched_submit(t->sched, client, id, &spec);
}

static inline void finish(shell_t *t, sched_worker_t *w, size_t order, uint64_t elapsed_ns)
{
    sched_owner_t owner;
    const seen_t *o = &t->orders[order];
    assert_true(sched_items_done(t->sched, w, o->lease, o->first, o->count, 0, &owner));
    assert_true(sched_lease_end(t->sched, w, o->lease, elapsed_ns));
}

/* A run of tasks with these numbers. */
static inline int submit_run(shell_t *t, sched_client_t *client, uint64_t id, uint64_t first,
                             size_t count)
{
    uint64_t numbers[64];
    uint32_t sizes[64];
    for (size_t i = 0; i < count; i++) {
        numbers[i] = first + i;
        sizes[i] = 10;
    }
    sched_run_spec_t spec = {count, numbers, numbers, sizes, t};
    if (!sched_run_suits(client, id, numbers, count)) return 1;
    return sched_submit_run(t->sched, client, id, &spec);
}

#endif
