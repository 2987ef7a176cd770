/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The scheduler core, event by event. */
#include "recorder.h"

static void a_task_goes_to_a_worker_that_has_its_function(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    add_worker(t, 1, 1, "g");
    add_worker(t, 2, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t);
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
    sched_client_t *c = sched_client_add(t->sched, t);
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
    sched_client_t *c = sched_client_add(t->sched, t);
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

static void a_function_that_nobody_has_fails_with_what_there_is(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    add_worker(t, 1, 2, "f");
    sched_client_t *c = sched_client_add(t->sched, t);
    job(t, c, 0, "g", 0, 2);
    for (uint64_t i = 1; i <= 5; i++) submit(t, c, 0, i, 100);
    for (uint64_t now = 1000; now <= 1900; now += 100) sched_tick(t->sched, now);
    assert_int_equal(t->failed_items, 500);
    assert_non_null(strstr(t->fail_message, " (is it not like g)"));
    shell_destroy(&t);
}

/* In a fleet where a worker loads and never gets ready. */
static uint64_t failed_after(uint64_t ms, const sched_label_t *require)
{
    shell_t *t = shell_new(NULL);
    add_worker(t, 1, 1, "f");
    sched_worker_t *loads = add_worker(t, 2, 1, NULL);
    sched_worker_loading(t->sched, loads, true);
    sched_client_t *c = sched_client_add(t->sched, t);
    sched_job_spec_t spec = {
        .id = 0, .function = "g", .require = require, .require_count = require != NULL};
    void **user;
    assert_int_equal(sched_job(t->sched, c, &spec, &user), 0);
    *user = &job_names[0];
    submit(t, c, 0, 1, 3);
    for (uint64_t now = 1000; now <= 1000 + ms; now += 100) sched_tick(t->sched, now);
    uint64_t failed = t->failed_items;
    shell_destroy(&t);
    return failed;
}

static void who_loads_is_waited_for_but_not_for_ever(void **state)
{
    (void)state;
    assert_int_equal(failed_after(55000, NULL), 0);
    assert_int_equal(failed_after(65000, NULL), 3);
    const sched_label_t gpu = {"gpu", "1"}; /* it does not have that, whatever it loads */
    assert_int_equal(failed_after(3000, &gpu), 3);
}

static void a_function_that_is_being_loaded_is_waited_for(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, NULL);
    sched_worker_loading(t->sched, w, true);
    sched_client_t *c = sched_client_add(t->sched, t);
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
    sched_client_t *c = sched_client_add(t->sched, t);
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
    sched_client_t *c = sched_client_add(t->sched, t);
    job(t, c, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 20; i++) submit(t, c, 0, i, 1);
    int each[4] = {0};
    for (size_t i = 0; i < t->order_count; i++) each[t->orders[i].worker]++;
    for (int i = 0; i < 4; i++) assert_int_equal(each[i], 2); /* slots, no more: time unknown */
    shell_destroy(&t);
}

static void the_worker_that_worked_last_is_asked_first(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *workers[4];
    for (int i = 0; i < 4; i++) workers[i] = add_worker(t, i, 2, "f");
    sched_client_t *c = sched_client_add(t->sched, t);
    job(t, c, 0, "f", 0, 2);
    submit(t, c, 0, 0, 1);
    int first = t->orders[0].worker;
    for (uint64_t i = 1; i < 10; i++) {
        finish(t, workers[first], i - 1, 1000);
        job(t, c, i, "f", 0, 2);
        submit(t, c, i, i, 1);
        assert_int_equal(t->orders[i].worker, first);
    }
    submit(t, c, 9, 10, 1); /* it is not idle now: another is */
    assert_int_not_equal(t->orders[10].worker, first);
    shell_destroy(&t);
}

static void short_tasks_are_sent_ahead_and_long_ones_are_not(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t);
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
    sched_client_t *big = sched_client_add(t->sched, t);
    job(t, big, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 1000; i++) submit(t, big, 0, i, 1);
    sched_client_t *small = sched_client_add(t->sched, t);
    heavy_job(t, small, 1, 3);
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
    sched_client_t *c = sched_client_add(t->sched, t);
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
    sched_client_t *c = sched_client_add(t->sched, t);
    job(t, c, 0, "f", 0, 1);
    submit(t, c, 0, 1, 10);
    sched_owner_t owner;
    sched_attempt_t attempt = {"h", 7, "signal 9"};
    seen_t o = t->orders[0];
    assert_true(sched_items_done(t->sched, w[o.worker], o.lease, 0, 3, 0, &owner));
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
    sched_client_t *c = sched_client_add(t->sched, t);
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
    sched_client_t *c = sched_client_add(t->sched, t);
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
    sched_client_t *c = sched_client_add(t->sched, t);
    job(t, c, 0, "f", 0, 0);
    submit(t, c, 0, 1, 4);
    submit(t, c, 0, 2, 4);
    sched_owner_t owner;
    sched_items_done(t->sched, w, t->orders[0].lease, 0, 1, 0, &owner);
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
    sched_client_t *c = sched_client_add(t->sched, t);
    job(t, c, 0, "f", 0, 2);
    submit(t, c, 0, 1, 4);
    sched_owner_t owner;
    uint64_t lease = t->orders[0].lease;
    sched_attempt_t attempt = {"h", 7, "signal 9"};
    assert_false(sched_items_done(t->sched, w2, lease, 0, 1, 0, &owner));
    assert_false(sched_items_done(t->sched, w1, lease + 1, 0, 1, 0, &owner));
    assert_false(sched_items_done(t->sched, w1, lease, 2, 3, 0, &owner)); /* too many */
    assert_false(sched_item_lost(t->sched, w2, lease, 0, &attempt));
    assert_false(sched_item_lost(t->sched, w1, lease, 4, &attempt));
    assert_false(sched_lease_end(t->sched, w2, lease, 0));
    assert_true(sched_items_done(t->sched, w1, lease, 1, 2, 0, &owner));
    assert_false(sched_items_done(t->sched, w1, lease, 1, 2, 0, &owner)); /* twice */
    assert_null(sched_verify(t->sched));
    shell_destroy(&t);
}

static void a_task_outside_the_window_is_refused_and_a_duplicate_ignored(void **state)
{
    (void)state;
    sched_config_t config = {.window_tasks = 3};
    shell_t *t = shell_new(&config);
    sched_client_t *c = sched_client_add(t->sched, t);
    job(t, c, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 6; i++) assert_int_equal(submit(t, c, 0, i, 1), 0);
    assert_int_equal(submit(t, c, 0, 1, 1), 0);
    assert_int_equal(submit(t, c, 0, 6, 1), PEACH_E_LIMIT);
    sched_counts_t counts;
    sched_counts(t->sched, &counts);
    assert_int_equal(counts.queued_tasks, 6);
    assert_int_equal(t->released, 2); /* their payloads are not kept */
    shell_destroy(&t);
}

static void a_cancelled_job_ends_its_queued_items_and_stops_the_others(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t);
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
    sched_client_t *c = sched_client_add(t->sched, t), *d = sched_client_add(t->sched, t);
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
    sched_client_t *c = sched_client_add(t->sched, t);
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
    sched_client_t *c = sched_client_add(t->sched, t);
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
    sched_client_t *c = sched_client_add(t->sched, t);
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

/* ---- runs ---- */

static void a_run_is_many_tasks(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_client_t *client = sched_client_add(t->sched, (void *)1);
    job(t, client, 1, "f", 0, 2);
    assert_int_equal(submit_run(t, client, 1, 10, 4), 1); /* too few */
    assert_int_equal(submit_run(t, client, 1, 10, 20), 0);
    assert_int_equal(submit_run(t, client, 1, 20, 20), 1); /* numbers it has */
    assert_null(sched_verify(t->sched));
    sched_counts_t counts;
    sched_counts(t->sched, &counts);
    assert_int_equal(counts.queued_tasks, 20);
    assert_int_equal(counts.payload_bytes, 200);
    submit(t, client, 1, 15, 1); /* a duplicate of what waits in the run */
    sched_counts(t->sched, &counts);
    assert_int_equal(counts.queued_tasks, 20);
    sched_worker_t *worker = add_worker(t, 1, 3, "f");
    assert_int_equal(t->order_count, 3);
    assert_int_equal(t->orders[2].first_item, 12);
    assert_null(sched_verify(t->sched));
    sched_owner_t owner;
    assert_true(sched_items_done(t->sched, worker, t->orders[1].lease, 0, 1, 0, &owner));
    assert_int_equal(owner.number, 11);
    sched_lease_end(t->sched, worker, t->orders[1].lease, 50000000);
    assert_int_equal(t->order_count, 4);
    assert_int_equal(t->orders[3].first_item, 13);
    sched_cancel(t->sched, client, 1); /* 16 wait, 3 run */
    assert_int_equal(t->failed_items, 16);
    assert_int_equal(t->fail_status, PEACH_E_CANCELLED);
    assert_int_equal(t->cancelled, 3);
    assert_null(sched_verify(t->sched));
    sched_client_remove(t->sched, client);
    shell_destroy(&t);
}

static void a_run_goes_with_its_client_or_its_function(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_client_t *client = sched_client_add(t->sched, (void *)1);
    job(t, client, 1, "f", 0, 2);
    assert_int_equal(submit_run(t, client, 1, 1, 30), 0);
    sched_client_remove(t->sched, client);
    assert_int_equal(t->released, 1);
    assert_int_equal(t->jobs_released, 1);
    client = sched_client_add(t->sched, (void *)1);
    job(t, client, 1, "nobody_has_it", 0, 2);
    assert_int_equal(submit_run(t, client, 1, 1, 30), 0);
    add_worker(t, 1, 1, "f");
    for (uint64_t ms = 1000; ms < 3000; ms += 100) sched_tick(t->sched, ms);
    assert_int_equal(t->failed_items, 30);
    assert_int_equal(t->fail_status, PEACH_E_NO_FUNCTION);
    shell_destroy(&t);
}

static void nested(shell_t *t, sched_client_t *client, uint64_t id, const char *function,
                   uint32_t depth)
{
    sched_job_spec_t spec = {.id = id, .function = function, .retries = 2, .depth = depth};
    void **user;
    assert_int_equal(sched_job(t->sched, client, &spec, &user), 0);
    if (!*user) *user = &job_names[id % 26];
}

static void the_deepest_jobs_go_first(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *top = sched_client_add(t->sched, t), *child = sched_client_add(t->sched, t);
    sched_client_t *grandchild = sched_client_add(t->sched, t);
    nested(t, top, 0, "f", 0);
    for (uint64_t i = 0; i < 4; i++) submit(t, top, 0, i, 1);
    nested(t, child, 1, "f", 1);
    for (uint64_t i = 0; i < 2; i++) submit(t, child, 1, i, 1);
    nested(t, grandchild, 2, "f", 2);
    submit(t, grandchild, 2, 0, 1);
    assert_null(sched_verify(t->sched));
    const int order[] = {0, 2, 1, 1, 0, 0, 0}; /* the first one ran already */
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(t->order_count, i + 1);
        assert_int_equal(t->orders[i].job, job_names[order[i]]);
        finish(t, w, i, 1000000000);
    }
    /* A client whose jobs are nested deeper from now on is sorted anew. */
    nested(t, top, 3, "f", 0);
    for (uint64_t i = 10; i < 13; i++) submit(t, top, 3, i, 1);
    nested(t, child, 4, "f", 1);
    submit(t, child, 4, 10, 1);
    nested(t, top, 5, "f", 5);
    assert_null(sched_verify(t->sched));
    finish(t, w, 7, 1000000000);
    assert_int_equal(t->orders[8].job, job_names[3]);
    shell_destroy(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_is_many_tasks),
        cmocka_unit_test(a_run_goes_with_its_client_or_its_function),
        cmocka_unit_test(a_task_goes_to_a_worker_that_has_its_function),
        cmocka_unit_test(labels_that_a_job_requires_are_honoured),
        cmocka_unit_test(a_function_that_nobody_has_fails_with_its_name),
        cmocka_unit_test(a_function_that_nobody_has_fails_with_what_there_is),
        cmocka_unit_test(who_loads_is_waited_for_but_not_for_ever),
        cmocka_unit_test(a_function_that_is_being_loaded_is_waited_for),
        cmocka_unit_test(a_fleet_without_workers_is_waited_for),
        cmocka_unit_test(tasks_are_spread_over_free_workers),
        cmocka_unit_test(the_worker_that_worked_last_is_asked_first),
        cmocka_unit_test(short_tasks_are_sent_ahead_and_long_ones_are_not),
        cmocka_unit_test(clients_share_by_weight_and_none_waits_for_another),
        cmocka_unit_test(higher_priority_goes_first),
        cmocka_unit_test(the_deepest_jobs_go_first),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
