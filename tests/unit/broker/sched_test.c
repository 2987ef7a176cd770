/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The scheduler core, event by event, and under random events from a seed. */
#include "sched.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a shell that records ---- */

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
    size_t cancelled, drained, released, jobs_released;
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

static void on_fail(void *shell, void *client, uint64_t number, uint32_t first, uint32_t count,
                    int status, const char *message, const sched_attempt_t *attempts,
                    size_t attempt_count)
{
    shell_t *t = shell;
    (void)client, (void)number, (void)first, (void)attempts;
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

static const sched_ops_t ops = {on_assign,  on_cancel,  on_fail,
                                on_drained, on_release, on_release_job};

static shell_t *shell_new(const sched_config_t *config)
{
    static const sched_config_t none;
    shell_t *t = calloc(1, sizeof *t);
    t->sched = sched_new(config ? config : &none, &ops, t);
    sched_tick(t->sched, 1000);
    return t;
}

static void shell_destroy(shell_t **t)
{
    assert_null(sched_verify((*t)->sched));
    sched_destroy(&(*t)->sched);
    free(*t);
    *t = NULL;
}

static sched_worker_t *add_worker(shell_t *t, int id, uint32_t slots, const char *function)
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

static void job(shell_t *t, sched_client_t *client, uint64_t id, const char *function,
                uint32_t priority, uint32_t retries)
{
    sched_job_spec_t spec = {
        .id = id, .function = function, .priority = priority, .retries = retries};
    void **user;
    assert_int_equal(sched_job(t->sched, client, &spec, &user), 0);
    if (!*user) *user = &job_names[id % 26];
}

static int submit(shell_t *t, sched_client_t *client, uint64_t id, uint64_t number, uint32_t items)
{
    sched_task_spec_t spec = {.number = number, .items = items, .bytes = 10, .payload = t};
    return sched_submit(t->sched, client, id, &spec);
}

static void finish(shell_t *t, sched_worker_t *w, size_t order, uint64_t elapsed_ns)
{
    void *client;
    uint64_t number;
    const seen_t *o = &t->orders[order];
    assert_true(sched_items_done(t->sched, w, o->lease, o->first, o->count, &client, &number));
    assert_true(sched_lease_end(t->sched, w, o->lease, elapsed_ns));
}

/* ---- promises ---- */

static void a_task_goes_to_a_worker_that_has_its_function(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    add_worker(t, 1, 1, "g");
    add_worker(t, 2, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    assert_int_equal(submit(t, c, 0, 1, 5), 0);
    assert_int_equal(t->order_count, 1);
    assert_int_equal(t->orders[0].worker, 2);
    assert_int_equal(t->orders[0].count, 5);
    assert_null(sched_verify(t->sched));
    shell_destroy(&t);
}

static void labels_that_a_job_requires_are_honoured(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    const char *functions[] = {"f"};
    sched_label_t gpu = {"gpu", "1"};
    sched_worker_spec_t spec = {
        .slots = 1, .window = 8, .host = "h", .functions = functions, .function_count = 1};
    sched_worker_add(t->sched, &spec, (void *)1);
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    sched_job_spec_t j = {.id = 0, .function = "f", .require = &gpu, .require_count = 1};
    void **user;
    sched_job(t->sched, c, &j, &user);
    submit(t, c, 0, 1, 1);
    assert_int_equal(t->order_count, 0);
    spec.labels = &gpu;
    spec.label_count = 1;
    sched_worker_add(t->sched, &spec, (void *)2);
    assert_int_equal(t->order_count, 1);
    assert_int_equal(t->orders[0].worker, 2);
    shell_destroy(&t);
}

static void a_function_that_nobody_has_fails_with_its_name(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    add_worker(t, 1, 1, "g");
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "nobody_has_it", 0, 2);
    submit(t, c, 0, 1, 3);
    for (uint64_t now = 1000; now <= 1900; now += 100) sched_tick(t->sched, now);
    assert_int_equal(t->fail_status, PEACH_E_NO_FUNCTION);
    assert_int_equal(t->failed_items, 3);
    assert_non_null(strstr(t->fail_message, "nobody_has_it"));
    assert_int_equal(t->released, 1);
    assert_int_equal(t->jobs_released, 1);
    shell_destroy(&t);
}

static void a_function_that_is_being_loaded_is_waited_for(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, NULL);
    sched_worker_loading(t->sched, w, true);
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    submit(t, c, 0, 1, 1);
    for (uint64_t now = 1000; now < 10000; now += 100) sched_tick(t->sched, now);
    assert_int_equal(t->failed_items, 0);
    const char *functions[] = {"f"};
    sched_worker_spec_t spec = {
        .slots = 1, .window = 8, .host = "h", .functions = functions, .function_count = 1};
    sched_worker_update(t->sched, w, &spec);
    assert_int_equal(t->order_count, 1);
    shell_destroy(&t);
}

static void a_fleet_without_workers_is_waited_for(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    submit(t, c, 0, 1, 1);
    for (uint64_t now = 1000; now < 100000; now += 100) sched_tick(t->sched, now);
    assert_int_equal(t->failed_items, 0);
    add_worker(t, 1, 1, "f");
    assert_int_equal(t->order_count, 1);
    shell_destroy(&t);
}

static void tasks_are_spread_over_free_workers(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    for (int i = 0; i < 4; i++) add_worker(t, i, 2, "f");
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 20; i++) submit(t, c, 0, i, 1);
    int each[4] = {0};
    for (size_t i = 0; i < t->order_count; i++) each[t->orders[i].worker]++;
    for (int i = 0; i < 4; i++) assert_int_equal(each[i], 2); /* slots, no more: time unknown */
    shell_destroy(&t);
}

static void short_tasks_are_sent_ahead_and_long_ones_are_not(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 100; i++) submit(t, c, 0, i, 1);
    assert_int_equal(t->order_count, 1);
    finish(t, w, 0, 1000);                       /* a microsecond */
    assert_int_equal(sched_worker_leases(w), 8); /* its window */
    sched_worker_t *other = add_worker(t, 2, 1, "g");
    job(t, c, 1, "g", 0, 2);
    submit(t, c, 1, 1000, 1);
    finish(t, other, t->order_count - 1, 1000);
    job(t, c, 1, "g", 0, 2); /* it went with its last task */
    submit(t, c, 1, 1001, 1);
    submit(t, c, 1, 1002, 100000); /* short items, but 100 ms of them */
    assert_int_equal(sched_worker_leases(other), 1);
    finish(t, other, t->order_count - 1, 1000);
    sched_worker_remove(t->sched, other, "gone");
    for (size_t i = 1, done = 0; done < 59; i++) {
        if (t->orders[i].worker != 1) continue;
        finish(t, w, i, 1000000000);
        done++;
    }
    assert_int_equal(sched_worker_leases(w), 1);
    assert_null(sched_verify(t->sched));
    shell_destroy(&t);
}

static void clients_share_by_weight_and_none_waits_for_another(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *big = sched_client_add(t->sched, t, 1);
    job(t, big, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 1000; i++) submit(t, big, 0, i, 1);
    sched_client_t *small = sched_client_add(t->sched, t, 3);
    job(t, small, 1, "f", 0, 2);
    for (uint64_t i = 0; i < 30; i++) submit(t, small, 1, i, 1);
    for (size_t i = 0; i < 44; i++) finish(t, w, i, 50000000);
    int of_small = 0;
    for (size_t i = 0; i < 44; i++) of_small += t->orders[i].job == 'b';
    assert_in_range(of_small, 28, 30); /* three of four */
    shell_destroy(&t);
}

static void higher_priority_goes_first(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    job(t, c, 1, "f", 7, 2);
    for (uint64_t i = 0; i < 3; i++) submit(t, c, 0, i, 1);
    for (uint64_t i = 3; i < 6; i++) submit(t, c, 1, i, 1);
    for (size_t i = 0; i < 6; i++) finish(t, w, i, 50000000);
    assert_int_equal(t->orders[0].job, 'a'); /* it was alone then */
    for (size_t i = 1; i < 4; i++) assert_int_equal(t->orders[i].job, 'b');
    for (size_t i = 4; i < 6; i++) assert_int_equal(t->orders[i].job, 'a');
    shell_destroy(&t);
}

static void the_item_that_kills_is_charged_and_its_mates_are_not(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w[2] = {add_worker(t, 0, 1, "f"), add_worker(t, 1, 1, "f")};
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 1);
    submit(t, c, 0, 1, 10);
    void *client;
    uint64_t number;
    sched_attempt_t attempt = {"h", 7, "signal 9"};
    seen_t o = t->orders[0];
    assert_true(sched_items_done(t->sched, w[o.worker], o.lease, 0, 3, &client, &number));
    assert_true(sched_item_lost(t->sched, w[o.worker], o.lease, 3, &attempt));
    assert_true(sched_lease_end(t->sched, w[o.worker], o.lease, 0));
    assert_null(sched_verify(t->sched));
    /* Item 3 alone on the other worker, 4 to 9 wherever. */
    assert_int_equal(t->order_count, 3);
    size_t killer = t->orders[1].first == 3 ? 1 : 2;
    assert_int_equal(t->orders[killer].count, 1);
    assert_int_not_equal(t->orders[killer].worker, o.worker);
    assert_int_equal(t->orders[3 - killer].first, 4);
    assert_int_equal(t->orders[3 - killer].count, 6);
    seen_t k = t->orders[killer];
    assert_true(sched_item_lost(t->sched, w[k.worker], k.lease, 3, &attempt));
    assert_true(sched_lease_end(t->sched, w[k.worker], k.lease, 0));
    assert_int_equal(t->fail_status, PEACH_E_DIED);
    assert_int_equal(t->failed_items, 1);
    assert_int_equal(t->attempt_count, 2);
    finish(t, w[t->orders[3 - killer].worker], 3 - killer, 1000);
    sched_counts_t counts;
    sched_counts(t->sched, &counts);
    assert_int_equal(counts.done_items, 9);
    assert_int_equal(t->released, 1);
    shell_destroy(&t);
}

static void a_lost_item_waits_for_another_worker_but_not_for_ever(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w[2] = {add_worker(t, 0, 2, "f"), add_worker(t, 1, 1, "f")};
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 3; i++) submit(t, c, 0, i, 1);
    size_t lost = 0;
    while (t->orders[lost].worker != 0) lost++;
    sched_attempt_t attempt = {"h", 7, "signal 9"};
    assert_true(sched_item_lost(t->sched, w[0], t->orders[lost].lease, 0, &attempt));
    assert_true(sched_lease_end(t->sched, w[0], t->orders[lost].lease, 0));
    assert_int_equal(t->order_count, 3); /* worker 0 has a free slot and is avoided */
    sched_tick(t->sched, 1900);
    assert_int_equal(t->order_count, 3);
    sched_tick(t->sched, 2100); /* worker 1 is busy for long: better there than never */
    assert_int_equal(t->order_count, 4);
    assert_int_equal(t->orders[3].worker, 0);
    shell_destroy(&t);
}

static void a_lost_worker_loses_no_task(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w1 = add_worker(t, 1, 2, "f");
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 4; i++) submit(t, c, 0, i, 1);
    sched_worker_remove(t->sched, w1, "power");
    assert_null(sched_verify(t->sched));
    sched_worker_t *w2 = add_worker(t, 2, 4, "f");
    assert_int_equal(t->order_count, 6);
    for (size_t i = 2; i < 6; i++) finish(t, w2, i, 1000);
    assert_int_equal(t->failed_items, 0);
    shell_destroy(&t);
}

static void at_most_once_is_at_most_once(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 0);
    submit(t, c, 0, 1, 4);
    submit(t, c, 0, 2, 4);
    void *client;
    uint64_t number;
    sched_items_done(t->sched, w, t->orders[0].lease, 0, 1, &client, &number);
    sched_worker_remove(t->sched, w, "power");
    assert_int_equal(t->fail_status, PEACH_E_LOST);
    assert_int_equal(t->failed_items, 3); /* what may have started; task 2 had not */
    sched_worker_t *w2 = add_worker(t, 2, 1, "f");
    assert_int_equal(t->order_count, 2);
    finish(t, w2, 1, 1000);
    /* Orders that were sent ahead may have begun, too. */
    job(t, c, 0, "f", 0, 0);
    for (uint64_t i = 10; i < 14; i++) submit(t, c, 0, i, 1);
    assert_int_equal(sched_worker_leases(w2), 4);
    sched_worker_remove(t->sched, w2, "power");
    assert_int_equal(t->failed_items, 7);
    shell_destroy(&t);
}

static void reports_on_foreign_leases_change_nothing(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w1 = add_worker(t, 1, 1, "f"), *w2 = add_worker(t, 2, 1, "g");
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    submit(t, c, 0, 1, 4);
    void *client;
    uint64_t number, lease = t->orders[0].lease;
    sched_attempt_t attempt = {"h", 7, "signal 9"};
    assert_false(sched_items_done(t->sched, w2, lease, 0, 1, &client, &number));
    assert_false(sched_items_done(t->sched, w1, lease + 1, 0, 1, &client, &number));
    assert_false(sched_items_done(t->sched, w1, lease, 2, 3, &client, &number)); /* too many */
    assert_false(sched_item_lost(t->sched, w2, lease, 0, &attempt));
    assert_false(sched_item_lost(t->sched, w1, lease, 4, &attempt));
    assert_false(sched_lease_end(t->sched, w2, lease, 0));
    assert_true(sched_items_done(t->sched, w1, lease, 1, 2, &client, &number));
    assert_false(sched_items_done(t->sched, w1, lease, 1, 2, &client, &number)); /* twice */
    assert_null(sched_verify(t->sched));
    shell_destroy(&t);
}

static void a_task_outside_the_window_is_refused_and_a_duplicate_ignored(void **state)
{
    (void)state;
    sched_config_t config = {.window_tasks = 3};
    shell_t *t = shell_new(&config);
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 3; i++) assert_int_equal(submit(t, c, 0, i, 1), 0);
    assert_int_equal(submit(t, c, 0, 1, 1), 0);
    assert_int_equal(submit(t, c, 0, 3, 1), PEACH_E_LIMIT);
    sched_counts_t counts;
    sched_counts(t->sched, &counts);
    assert_int_equal(counts.queued_tasks, 3);
    assert_int_equal(t->released, 2); /* their payloads are not kept */
    shell_destroy(&t);
}

static void a_cancelled_job_ends_its_queued_items_and_stops_the_others(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 5; i++) submit(t, c, 0, i, 2);
    sched_cancel(t->sched, c, 0);
    assert_int_equal(t->failed_items, 8);
    assert_int_equal(t->fail_status, PEACH_E_CANCELLED);
    assert_int_equal(t->cancelled, 1);
    assert_null(sched_verify(t->sched));
    sched_lease_end(t->sched, w, t->orders[0].lease, 0);
    assert_int_equal(t->failed_items, 10);
    assert_int_equal(t->jobs_released, 1);
    shell_destroy(&t);
}

static void a_client_that_leaves_frees_the_fleet(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t, 1), *d = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 5; i++) submit(t, c, 0, i, 2);
    job(t, d, 1, "f", 0, 2);
    submit(t, d, 1, 0, 1);
    sched_client_remove(t->sched, c);
    assert_int_equal(t->cancelled, 1);
    assert_int_equal(t->failed_items, 0); /* there is nobody to tell */
    assert_null(sched_verify(t->sched));
    sched_lease_end(t->sched, w, t->orders[0].lease, 0);
    assert_int_equal(t->orders[1].job, 'b');
    assert_int_equal(t->released, 5);
    shell_destroy(&t);
}

static void a_draining_worker_gets_nothing_new_and_is_told_when_it_may_go(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    submit(t, c, 0, 1, 1);
    submit(t, c, 0, 2, 1);
    sched_worker_drain(t->sched, w);
    assert_int_equal(t->drained, 0);
    finish(t, w, 0, 1000);
    assert_int_equal(t->order_count, 1);
    assert_int_equal(t->drained, 1);
    shell_destroy(&t);
}

static void a_worker_that_comes_back_keeps_what_it_holds(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 3, "f");
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 3; i++) submit(t, c, 0, i, 1);
    sched_worker_connected(t->sched, w, false);
    uint64_t held[] = {t->orders[2].lease, t->orders[0].lease};
    sched_worker_connected(t->sched, w, true);
    sched_worker_reconcile(t->sched, w, held, 2);
    assert_null(sched_verify(t->sched));
    assert_int_equal(t->order_count, 4); /* the one that got lost, again */
    finish(t, w, 0, 1000);
    finish(t, w, 2, 1000);
    finish(t, w, 3, 1000);
    shell_destroy(&t);
}

static void a_client_that_does_not_read_gets_nothing_run(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t, 1);
    job(t, c, 0, "f", 0, 2);
    submit(t, c, 0, 0, 1);
    submit(t, c, 0, 1, 1);
    sched_client_hold(t->sched, c, true);
    finish(t, w, 0, 1000);
    assert_int_equal(t->order_count, 1);
    assert_null(sched_verify(t->sched));
    sched_client_hold(t->sched, c, false);
    assert_int_equal(t->order_count, 2);
    shell_destroy(&t);
}

/* ---- random events: the structures hold, and every item ends once ---- */

enum { ITEMS_EACH = 6, TASKS = 60, CLIENTS = 3, WORKERS = 4 };

typedef struct {
    shell_t shell;
    uint64_t seed;
    uint8_t ended[CLIENTS][TASKS][ITEMS_EACH];
    sched_client_t *clients[CLIENTS];
    sched_worker_t *workers[WORKERS];
} world_t;

static uint32_t dice(world_t *world, uint32_t sides)
{
    world->seed = world->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(world->seed >> 33) % sides;
}

static void end_items(world_t *world, intptr_t client, uint64_t number, uint32_t first,
                      uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++)
        assert_int_equal(world->ended[client - 1][number][i]++, 0);
}

static void world_fail(void *shell, void *client, uint64_t number, uint32_t first, uint32_t count,
                       int status, const char *message, const sched_attempt_t *attempts,
                       size_t attempt_count)
{
    (void)status, (void)message, (void)attempts, (void)attempt_count;
    end_items(shell, (intptr_t)client, number, first, count);
}

static void world_report(world_t *world, int w)
{
    /* Any order that was ever given: most are stale, and must be harmless. */
    shell_t *t = &world->shell;
    if (t->order_count == 0) return;
    size_t recent = t->order_count < 40 ? t->order_count : 40;
    const seen_t *o = &t->orders[t->order_count - 1 - dice(world, (uint32_t)recent)];
    void *client;
    uint64_t number;
    sched_attempt_t attempt = {"h", 1, "killed"};
    uint32_t first = dice(world, ITEMS_EACH), count = 1 + dice(world, ITEMS_EACH);
    switch (dice(world, 4)) {
    case 0:
        if (sched_items_done(t->sched, world->workers[w], o->lease, first, count, &client, &number))
            end_items(world, (intptr_t)client, number, first, count);
        break;
    case 1: sched_item_lost(t->sched, world->workers[w], o->lease, first, &attempt); break;
    default: sched_lease_end(t->sched, world->workers[w], o->lease, dice(world, 3) * 100000);
    }
}

static void world_event(world_t *world, uint64_t step)
{
    static const char *const functions[] = {"f", "g"};
    shell_t *t = &world->shell;
    int w = (int)dice(world, WORKERS);
    switch (dice(world, 12)) {
    case 0:
        if (world->workers[w])
            sched_worker_remove(t->sched, world->workers[w], "lost"), world->workers[w] = NULL;
        break;
    case 1:
    case 2:
        if (!world->workers[w]) {
            sched_worker_spec_t spec = {.slots = 1 + dice(world, 3),
                                        .window = 8,
                                        .host = "h",
                                        .functions = functions,
                                        .function_count = 1 + dice(world, 2)};
            world->workers[w] = sched_worker_add(t->sched, &spec, (void *)(intptr_t)(w + 1));
        }
        break;
    case 3:
        if (world->workers[w]) sched_worker_connected(t->sched, world->workers[w], dice(world, 3));
        break;
    case 4:
        sched_client_hold(t->sched, world->clients[dice(world, CLIENTS)], dice(world, 4) == 0);
        break;
    case 5: sched_tick(t->sched, 1000 + step); break;
    default:
        if (world->workers[w]) world_report(world, w);
    }
}

/* Lets everything run out: one good worker finishes what is left. */
static void world_drain(world_t *world)
{
    static const char *const functions[] = {"f", "g"};
    shell_t *t = &world->shell;
    for (int c = 0; c < CLIENTS; c++) sched_client_hold(t->sched, world->clients[c], false);
    for (int w = 0; w < WORKERS; w++)
        if (world->workers[w]) sched_worker_remove(t->sched, world->workers[w], "end");
    t->order_count = 0;
    sched_worker_spec_t spec = {
        .slots = 1, .window = 8, .host = "h", .functions = functions, .function_count = 2};
    sched_worker_t *last = sched_worker_add(t->sched, &spec, (void *)1);
    sched_tick(t->sched, 1000000);
    for (size_t i = 0; i < t->order_count; i++) {
        void *client;
        uint64_t number;
        for (uint32_t item = 0; item < ITEMS_EACH; item++)
            if (sched_items_done(t->sched, last, t->orders[i].lease, item, 1, &client, &number))
                end_items(world, (intptr_t)client, number, item, 1);
        assert_true(sched_lease_end(t->sched, last, t->orders[i].lease, 1000));
    }
}

static void random_world(uint64_t seed)
{
    world_t *world = calloc(1, sizeof *world);
    sched_ops_t world_ops = ops;
    sched_config_t config = {0};
    world_ops.fail = world_fail;
    world->seed = seed;
    shell_t *t = &world->shell;
    t->sched = sched_new(&config, &world_ops, world);
    sched_tick(t->sched, 1000);
    for (int c = 0; c < CLIENTS; c++)
        world->clients[c] = sched_client_add(t->sched, (void *)(intptr_t)(c + 1), 1);
    uint64_t next[CLIENTS] = {0};
    for (uint64_t step = 0; step < 1500 && t->order_count < MAX_ORDERS - 600; step++) {
        int c = (int)dice(world, CLIENTS);
        if (next[c] < TASKS && dice(world, 8) == 0) {
            uint64_t id = dice(world, 3);
            job(t, world->clients[c], id, id ? "f" : "g", (uint32_t)id, (uint32_t)id);
            submit(t, world->clients[c], id, next[c]++, ITEMS_EACH);
        } else {
            world_event(world, step);
        }
        assert_null(sched_verify(t->sched));
    }
    world_drain(world);
    for (int c = 0; c < CLIENTS; c++)
        for (uint64_t task = 0; task < next[c]; task++)
            for (int i = 0; i < ITEMS_EACH; i++) assert_int_equal(world->ended[c][task][i], 1);
    sched_destroy(&t->sched);
    assert_int_equal(t->released, next[0] + next[1] + next[2]);
    free(world);
}

static char replay[64];

static void every_item_ends_once_whatever_happens(void **state)
{
    (void)state;
    const char *only = getenv("PEACH_SEED");
    uint64_t first = only ? strtoull(only, NULL, 10) : 1, last = only ? first : 300;
    for (uint64_t seed = first; seed <= last; seed++) {
        snprintf(replay, sizeof replay, "PEACH_SEED=%llu", (unsigned long long)seed);
        random_world(seed);
    }
    *replay = 0;
}

static void tell_replay(void)
{
    if (*replay) fprintf(stderr, "replay with %s\n", replay);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_goes_to_a_worker_that_has_its_function),
        cmocka_unit_test(labels_that_a_job_requires_are_honoured),
        cmocka_unit_test(a_function_that_nobody_has_fails_with_its_name),
        cmocka_unit_test(a_function_that_is_being_loaded_is_waited_for),
        cmocka_unit_test(a_fleet_without_workers_is_waited_for),
        cmocka_unit_test(tasks_are_spread_over_free_workers),
        cmocka_unit_test(short_tasks_are_sent_ahead_and_long_ones_are_not),
        cmocka_unit_test(clients_share_by_weight_and_none_waits_for_another),
        cmocka_unit_test(higher_priority_goes_first),
        cmocka_unit_test(the_item_that_kills_is_charged_and_its_mates_are_not),
        cmocka_unit_test(a_lost_item_waits_for_another_worker_but_not_for_ever),
        cmocka_unit_test(a_lost_worker_loses_no_task),
        cmocka_unit_test(at_most_once_is_at_most_once),
        cmocka_unit_test(reports_on_foreign_leases_change_nothing),
        cmocka_unit_test(a_task_outside_the_window_is_refused_and_a_duplicate_ignored),
        cmocka_unit_test(a_cancelled_job_ends_its_queued_items_and_stops_the_others),
        cmocka_unit_test(a_client_that_leaves_frees_the_fleet),
        cmocka_unit_test(a_draining_worker_gets_nothing_new_and_is_told_when_it_may_go),
        cmocka_unit_test(a_worker_that_comes_back_keeps_what_it_holds),
        cmocka_unit_test(a_client_that_does_not_read_gets_nothing_run),
        cmocka_unit_test(every_item_ends_once_whatever_happens),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tell_replay();
    return failed;
}
