/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* What workers report and lose, and what time ends. */
#include "recorder.h"

static void lose(shell_t *t, sched_worker_t **w, int id, uint32_t slots)
{
    sched_worker_remove(t->sched, *w, "power");
    assert_null(sched_verify(t->sched));
    *w = add_worker(t, id, slots, "f");
}

static void only_the_item_that_can_have_run_is_charged_with_a_lost_worker(void **state)
{
    (void)state;
    enum { ITEMS = 1000, POISON = 777 };
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t);
    job(t, c, 0, "f", 0, 1);
    submit(t, c, 0, 1, ITEMS);
    int workers = 1;
    for (size_t i = 0; i < t->order_count; i++) {
        const seen_t *o = &t->orders[i];
        if (o->first <= POISON && POISON < o->first + o->count)
            lose(t, &w, ++workers, 1);
        else
            finish(t, w, i, 1000);
        assert_null(sched_verify(t->sched));
    }
    /* 1000 items, 16, 1 and 1 again. */
    assert_int_equal(workers - 1, 4);
    assert_int_equal(t->failed_items, 1);
    assert_int_equal(t->fail_status, PEACH_E_LOST);
    assert_int_equal(t->attempt_count, 2);
    assert_int_equal(t->released, 1);
    shell_destroy(&t);
}

static void what_waited_at_a_lost_worker_is_not_charged(void **state)
{
    (void)state;
    sched_config_t config = {0};
    shell_t *t = shell_new(&config);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t);
    job(t, c, 0, "f", 0, 1);
    submit(t, c, 0, 0, 1);
    finish(t, w, 0, 1000); /* short: more is sent ahead */
    job(t, c, 0, "f", 0, 1);
    for (uint64_t i = 1; i <= 4; i++) submit(t, c, 0, i, 1);
    assert_int_equal(t->order_count, 5);
    lose(t, &w, 2, 1);
    lose(t, &w, 3, 1);
    /* Two workers were lost with four items each; the two that can have run are charged. */
    sched_counts_t counts;
    sched_counts(t->sched, &counts);
    assert_in_range(counts.retried_items + t->failed_items, 1, 2);
    shell_destroy(&t);
}

static void an_order_that_never_arrived_is_given_again_even_if_it_may_run_once_only(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t);
    job(t, c, 0, "f", 0, 0);
    submit(t, c, 0, 1, 3);
    sched_worker_connected(t->sched, w, false);
    sched_worker_reconcile(t->sched, w, NULL, 0);
    sched_worker_connected(t->sched, w, true);
    assert_int_equal(t->failed_items, 0);
    assert_int_equal(t->order_count, 2);
    shell_destroy(&t);
}

static void what_a_worker_holds_and_nobody_wants_is_cancelled(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 2, "f");
    sched_client_t *c = sched_client_add(t->sched, t);
    job(t, c, 0, "f", 0, 2);
    job(t, c, 1, "f", 0, 2);
    submit(t, c, 0, 1, 1);
    submit(t, c, 1, 2, 1);
    sched_worker_connected(t->sched, w, false);
    sched_cancel(t->sched, c, 0); /* this order to stop is lost */
    assert_int_equal(t->cancelled, 1);
    uint64_t held[] = {t->orders[0].lease, t->orders[1].lease, 4711};
    sched_worker_reconcile(t->sched, w, held, 3);
    assert_int_equal(t->cancelled, 3); /* the cancelled one and the unknown one */
    shell_destroy(&t);
}

static void errors_are_retried_only_if_asked(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t);
    sched_attempt_t raised = {"h", 1, "ValueError"};
    void **user;
    sched_job_spec_t plain = {.id = 0, .function = "f", .retries = 1};
    sched_job_spec_t asked = {.id = 1, .function = "f", .retries = 1, .retry_errors = true};
    sched_job(t->sched, c, &plain, &user);
    sched_job(t->sched, c, &asked, &user);
    submit(t, c, 0, 1, 1);
    assert_false(sched_item_raised(t->sched, w, t->orders[0].lease, 0, &raised));
    finish(t, w, 0, 1000);
    submit(t, c, 1, 2, 1);
    assert_true(sched_item_raised(t->sched, w, t->orders[1].lease, 0, &raised));
    sched_lease_end(t->sched, w, t->orders[1].lease, 1000);
    assert_int_equal(t->order_count, 3);
    assert_false(sched_item_raised(t->sched, w, t->orders[2].lease, 0, &raised));
    finish(t, w, 2, 1000);
    shell_destroy(&t);
}

static void end_with(shell_t *t, sched_worker_t *w, size_t order, int status)
{
    sched_owner_t owner;
    const seen_t *o = &t->orders[order];
    assert_true(sched_items_done(t->sched, w, o->lease, o->first, o->count, status, &owner));
    assert_true(sched_lease_end(t->sched, w, o->lease, 50000000));
}

static void a_worker_that_fails_everything_fast_does_not_take_everything(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *good = add_worker(t, 1, 1, "f"), *bad = add_worker(t, 2, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t);
    job(t, c, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 500; i++) submit(t, c, 0, i, 1);
    size_t by_bad = 0;
    for (size_t i = 0; i < 500 && i < t->order_count; i++) {
        bool is_bad = t->orders[i].worker == 2;
        by_bad += is_bad;
        end_with(t, is_bad ? bad : good, i, is_bad ? PEACH_E_RAISED : 0);
    }
    assert_in_range(by_bad, 8, 12);
    assert_null(sched_verify(t->sched));
    size_t before = t->order_count; /* it gets another chance */
    job(t, c, 0, "f", 0, 2);
    for (uint64_t i = 500; i < 510; i++) submit(t, c, 0, i, 1);
    sched_tick(t->sched, 20000);
    assert_true(t->order_count > before && t->orders[t->order_count - 1].worker == 2);
    shell_destroy(&t);
}

static void a_function_that_fails_everywhere_rests_nobody(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w[3] = {NULL, add_worker(t, 1, 1, "f"), add_worker(t, 2, 1, "f")};
    sched_client_t *c = sched_client_add(t->sched, t);
    job(t, c, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 300; i++) submit(t, c, 0, i, 1);
    for (size_t i = 0; i < 300; i++) {
        assert_true(i < t->order_count);
        end_with(t, w[t->orders[i].worker], i, i % 3 ? PEACH_E_RAISED : 0);
    }
    shell_destroy(&t);
}

static void a_job_ends_at_its_deadline_also_what_runs(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t);
    void **user;
    sched_job_spec_t spec = {.id = 0, .function = "f", .retries = 2, .deadline_ms = 500};
    sched_job(t->sched, c, &spec, &user);
    submit(t, c, 0, 1, 3);
    submit(t, c, 0, 2, 4);
    sched_tick(t->sched, 1400);
    assert_int_equal(t->failed_items, 0);
    sched_tick(t->sched, 1500);
    assert_int_equal(t->failed_items, 7);
    assert_int_equal(t->fail_status, PEACH_E_TIMEOUT);
    assert_int_equal(t->cancelled, 1);
    assert_null(sched_verify(t->sched));
    assert_true(sched_lease_end(t->sched, w, t->orders[0].lease, 1000));
    assert_int_equal(t->failed_items, 7);
    assert_int_equal(t->released, 2);
    shell_destroy(&t);
}

static void a_task_waits_in_the_queue_no_longer_than_it_may(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t);
    void **user;
    sched_job_spec_t spec = {.id = 0, .function = "f", .retries = 2, .queue_ms = 300};
    sched_job(t->sched, c, &spec, &user);
    submit(t, c, 0, 1, 1); /* runs */
    submit(t, c, 0, 2, 4);
    sched_tick(t->sched, 1200);
    submit(t, c, 0, 3, 5);
    sched_tick(t->sched, 1300);
    assert_int_equal(t->failed_items, 4);
    assert_int_equal(t->fail_status, PEACH_E_TIMEOUT);
    sched_tick(t->sched, 1500);
    assert_int_equal(t->failed_items, 9);
    assert_null(sched_verify(t->sched));
    shell_destroy(&t);
}

static void what_a_held_client_runs_is_given_back(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    sched_worker_t *w = add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t), *d = sched_client_add(t->sched, t);
    job(t, c, 0, "f", 0, 2);
    job(t, d, 1, "f", 0, 2);
    submit(t, c, 0, 0, 100);
    submit(t, d, 1, 0, 1);
    sched_client_hold(t->sched, c, true);
    assert_int_equal(t->given_back, 1);
    assert_true(sched_lease_end(t->sched, w, t->orders[0].lease, 1000));
    assert_int_equal(t->order_count, 2);
    assert_int_equal(t->orders[1].job, 'b');
    assert_null(sched_verify(t->sched));
    shell_destroy(&t);
}

static void payloads_sent_ahead_are_bounded(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    const char *functions[] = {"f"};
    sched_worker_spec_t spec = {.slots = 1,
                                .window = 64,
                                .window_bytes = 25,
                                .host = "h",
                                .functions = functions,
                                .function_count = 1};
    sched_worker_t *w = sched_worker_add(t->sched, &spec, (void *)1);
    sched_client_t *c = sched_client_add(t->sched, t);
    job(t, c, 0, "f", 0, 2);
    submit(t, c, 0, 100, 1);
    finish(t, w, 0, 1000);
    job(t, c, 0, "f", 0, 2);
    for (uint64_t i = 0; i < 10; i++) submit(t, c, 0, i, 1); /* of 10 bytes each */
    assert_int_equal(t->order_count, 1 + 3);
    shell_destroy(&t);
}

static void a_requirement_that_nobody_meets_is_told_by_name(void **state)
{
    (void)state;
    shell_t *t = shell_new(NULL);
    add_worker(t, 1, 1, "f");
    sched_client_t *c = sched_client_add(t->sched, t);
    sched_label_t gpu = {"gpu", "1"};
    sched_job_spec_t spec = {.id = 0, .function = "f", .require = &gpu, .require_count = 1};
    void **user;
    sched_job(t->sched, c, &spec, &user);
    submit(t, c, 0, 1, 1);
    for (uint64_t now = 1000; now <= 1600; now += 100) sched_tick(t->sched, now);
    assert_int_equal(t->failed_items, 1);
    assert_non_null(strstr(t->fail_message, "gpu=1"));
    shell_destroy(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_item_that_can_have_run_is_charged_with_a_lost_worker),
        cmocka_unit_test(what_waited_at_a_lost_worker_is_not_charged),
        cmocka_unit_test(an_order_that_never_arrived_is_given_again_even_if_it_may_run_once_only),
        cmocka_unit_test(what_a_worker_holds_and_nobody_wants_is_cancelled),
        cmocka_unit_test(errors_are_retried_only_if_asked),
        cmocka_unit_test(a_worker_that_fails_everything_fast_does_not_take_everything),
        cmocka_unit_test(a_function_that_fails_everywhere_rests_nobody),
        cmocka_unit_test(a_job_ends_at_its_deadline_also_what_runs),
        cmocka_unit_test(a_task_waits_in_the_queue_no_longer_than_it_may),
        cmocka_unit_test(what_a_held_client_runs_is_given_back),
        cmocka_unit_test(payloads_sent_ahead_are_bounded),
        cmocka_unit_test(a_requirement_that_nobody_meets_is_told_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
