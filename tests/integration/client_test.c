/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* libpeach against a real fleet; test_client.py starts the broker and passes the
   preloads: client_test TASKS.PY SLOW.PY BROKEN.PY */
#include "unit.h"

#include <peach/peach.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *tasks_py, *slow_py, *broken_py;

static int connect_fleet(void **state)
{
    peach_error_t error;
    peach_t *p = peach_connect(NULL, 5000, &error);
    if (!p) fprintf(stderr, "%s\n", error.message);
    *state = p;
    return p ? 0 : -1;
}

static int close_fleet(void **state)
{
    peach_t *p = *state;
    peach_close(&p);
    assert_null(p);
    return 0;
}

static void expect_int(peach_job_t *job, uint64_t item, int64_t value)
{
    peach_result_t r;
    int64_t got;
    assert_int_equal(peach_job_next(job, &r, 20000), 0);
    assert_int_equal(r.item, item);
    assert_non_null(r.value);
    assert_int_equal(peach_value_as_int(r.value, &got), 0);
    assert_int_equal(got, value);
    peach_result_clear(&r);
}

static void expect_end(peach_job_t *job)
{
    peach_result_t r;
    assert_int_equal(peach_job_next(job, &r, 20000), PEACH_END);
    assert_null(r.value);
    assert_null(r.failure);
}

static void init_then_map_in_the_same_breath(void **state)
{
    peach_t *p = *state;
    unsigned started;
    const char *preloads[] = {tasks_py, slow_py};
    assert_int_equal(peach_init(p, 2, preloads, 2, 30000, &started), 0);
    assert_int_equal(started, 2);
    peach_value_t *items = peach_value_range(0, 99);
    peach_job_t *job = peach_map(p, "slow", &items, NULL);
    assert_null(items);
    for (int i = 0; i < 100; i++) expect_int(job, (uint64_t)i, 2 * i);
    expect_end(job);
    expect_end(job); /* and stays there */
    peach_job_destroy(&job);
    assert_int_equal(peach_init(p, 2, preloads, 2, 30000, &started), 0);
    assert_int_equal(started, 0);
}

static void a_preload_that_raises_comes_back_with_its_traceback(void **state)
{
    peach_t *p = *state;
    const char *preloads[] = {broken_py};
    assert_int_equal(peach_init(p, 0, preloads, 1, 10000, NULL), PEACH_E_PRELOAD);
    assert_non_null(strstr(peach_error(p), "RuntimeError: on purpose"));
    preloads[0] = "missing.py";
    assert_int_equal(peach_init(p, 0, preloads, 1, 10000, NULL), PEACH_E_ARGUMENT);
    assert_non_null(strstr(peach_error(p), "missing.py"));
}

static peach_value_t *list_of(int64_t a, int64_t b)
{
    peach_value_t *list = peach_value_list(), *v = peach_value_int(a);
    peach_value_append(list, &v);
    v = peach_value_int(b);
    peach_value_append(list, &v);
    return list;
}

static void a_call_returns_its_value_or_its_error(void **state)
{
    peach_t *p = *state;
    peach_value_t *args = list_of(2, 40), *value;
    int64_t n;
    assert_int_equal(peach_call(p, "add", &args, 10000, &value), 0);
    assert_int_equal(peach_value_as_int(value, &n), 0);
    assert_int_equal(n, 42);
    peach_value_destroy(&value);
    args = list_of(2, 40);
    assert_int_equal(peach_call(p, "raises", &args, 10000, &value), PEACH_E_RAISED);
    assert_null(value);
    assert_non_null(strstr(peach_error(p), "TypeError"));
    args = list_of(1, 1);
    assert_int_equal(peach_call(p, "nobody_has_this", &args, 10000, &value), PEACH_E_NO_FUNCTION);
    assert_non_null(strstr(peach_error(p), "nobody_has_this"));
}

static void a_failure_tells_everything(void **state)
{
    peach_t *p = *state;
    peach_value_t *items = peach_value_range(0, 9);
    peach_job_t *job = peach_map(p, "kills", &items, NULL);
    peach_result_t r;
    for (uint64_t i = 0; i < 10; i++) {
        assert_int_equal(peach_job_next(job, &r, 20000), 0);
        assert_int_equal(r.item, i);
        if (i == 3) {
            assert_null(r.value);
            assert_int_equal(r.failure->status, PEACH_E_DIED);
            assert_non_null(strstr(r.failure->message, "signal 9"));
            assert_int_equal(r.failure->attempt_count, 3);
            assert_true(r.failure->pid > 0 && *r.failure->host && r.failure->attempts[0].pid > 0);
        } else {
            assert_non_null(r.value);
        }
        peach_result_clear(&r);
    }
    expect_end(job);
    peach_job_destroy(&job);
}

static void a_timeout_is_not_the_end_of_a_job(void **state)
{
    peach_t *p = *state;
    peach_value_t *items = peach_value_list(), *v = peach_value_double(0.6);
    peach_value_append(items, &v);
    peach_job_t *job = peach_map(p, "nap", &items, NULL);
    peach_result_t r;
    assert_int_equal(peach_job_next(job, &r, 0), PEACH_E_TIMEOUT);
    assert_int_equal(peach_job_next(job, &r, 100), PEACH_E_TIMEOUT);
    assert_int_equal(peach_job_wait(job, 100), PEACH_E_TIMEOUT);
    assert_int_equal(peach_job_next(job, &r, 20000), 0);
    peach_result_clear(&r);
    expect_end(job);
    peach_job_destroy(&job);
}

/* A generator of so many ints; fails at the end if told to. */
typedef struct {
    int64_t next, last;
    int status;
} counter_t;

static peach_value_t *count(void *arg, int *status)
{
    counter_t *c = arg;
    if (c->next <= c->last) return peach_value_int(c->next++);
    *status = c->status;
    return NULL;
}

static void items_come_from_a_generator(void **state)
{
    peach_t *p = *state;
    counter_t counter = {0, 49999, 0};
    peach_job_t *job = peach_map_from(p, "fnc", count, &counter, NULL);
    for (int i = 0; i < 50000; i++) expect_int(job, (uint64_t)i, i);
    expect_end(job);
    peach_job_destroy(&job);
    counter = (counter_t){0, 9, PEACH_E_SYSTEM};
    job = peach_map_from(p, "fnc", count, &counter, NULL);
    for (int i = 0; i < 10; i++) expect_int(job, (uint64_t)i, i);
    peach_result_t r;
    assert_int_equal(peach_job_next(job, &r, 20000), PEACH_E_SYSTEM);
    peach_job_destroy(&job);
}

static void several_jobs_run_at_a_time(void **state)
{
    peach_t *p = *state;
    peach_job_t *jobs[5];
    for (int j = 0; j < 5; j++) {
        peach_value_t *items = peach_value_range(j * 1000, j * 1000 + 999);
        jobs[j] = peach_map(p, "fnc", &items, NULL);
    }
    for (int i = 0; i < 1000; i++)
        for (int j = 4; j >= 0; j--) expect_int(jobs[j], (uint64_t)i, j * 1000 + i);
    for (int j = 0; j < 5; j++) {
        expect_end(jobs[j]);
        peach_job_destroy(&jobs[j]);
    }
}

static void a_cancelled_job_ends(void **state)
{
    peach_t *p = *state;
    peach_value_t *items = peach_value_list();
    for (int i = 0; i < 10; i++) {
        peach_value_t *v = peach_value_double(30);
        peach_value_append(items, &v);
    }
    peach_job_t *job = peach_map(p, "nap", &items, NULL);
    peach_result_t r;
    assert_int_equal(peach_job_next(job, &r, 300), PEACH_E_TIMEOUT);
    assert_int_equal(peach_job_cancel(job), 0);
    int rc;
    while ((rc = peach_job_next(job, &r, 10000)) == 0) {
        assert_non_null(r.failure);
        assert_int_equal(r.failure->status, PEACH_E_CANCELLED);
        peach_result_clear(&r);
    }
    assert_int_equal(rc, PEACH_END);
    peach_job_destroy(&job);
    peach_value_t *args = list_of(1, 2), *value;
    assert_int_equal(peach_call(p, "add", &args, 10000, &value), 0); /* the slots are free */
    peach_value_destroy(&value);
}

static void a_job_may_be_destroyed_at_any_time(void **state)
{
    peach_t *p = *state;
    for (int i = 0; i < 20; i++) {
        peach_value_t *items = peach_value_range(0, 99999);
        peach_job_t *job = peach_map(p, "fnc", &items, NULL);
        peach_result_t r;
        for (int n = 0; n < i * 10; n++) {
            assert_int_equal(peach_job_next(job, &r, 20000), 0);
            peach_result_clear(&r);
        }
        peach_job_destroy(&job);
        assert_null(job);
    }
    peach_value_t *args = list_of(1, 2), *value;
    assert_int_equal(peach_call(p, "add", &args, 10000, &value), 0);
    peach_value_destroy(&value);
}

static void note(void *arg, const peach_progress_t *progress)
{
    *(peach_progress_t *)arg = *progress;
}

static void progress_is_told_to_the_end(void **state)
{
    peach_t *p = *state;
    peach_progress_t last = {0};
    peach_job_options_t options = peach_job_defaults;
    options.progress = note;
    options.progress_arg = &last;
    peach_value_t *items = peach_value_range(0, 999);
    peach_job_t *job = peach_map(p, "raises", &items, &options);
    assert_int_equal(peach_job_wait(job, 20000), 0);
    assert_int_equal(last.done, 999);
    assert_int_equal(last.failed, 1);
    assert_true(last.items_final && last.items == 1000 && last.slots == 2);
    for (int i = 0; i < 1000; i++) {
        peach_result_t r;
        assert_int_equal(peach_job_next(job, &r, 0), 0);
        assert_int_equal(r.item, i);
        peach_result_clear(&r);
    }
    expect_end(job);
    peach_job_destroy(&job);
}

static void rows_of_a_matrix_are_items_and_arrays_come_back(void **state)
{
    peach_t *p = *state;
    const uint64_t shape[] = {4, 3};
    double data[12];
    for (int i = 0; i < 12; i++) data[i] = i / 2.0;
    peach_value_t *matrix = peach_value_array(PEACH_DTYPE_FLOAT64, 2, shape, data);
    peach_job_t *job = peach_map(p, "fnc", &matrix, NULL);
    for (int i = 0; i < 4; i++) {
        peach_result_t r;
        size_t size;
        assert_int_equal(peach_job_next(job, &r, 20000), 0);
        assert_int_equal(peach_value_array_ndim(r.value), 1);
        assert_memory_equal(peach_value_array_bytes(r.value, &size), data + 3 * i, 24);
        peach_result_clear(&r);
    }
    expect_end(job);
    peach_job_destroy(&job);
}

static void the_descriptor_drives_an_event_loop(void **state)
{
    peach_t *p = *state;
    peach_value_t *items = peach_value_range(0, 999);
    peach_job_t *job = peach_map(p, "fnc", &items, NULL);
    peach_result_t r;
    int done = 0, rc;
    for (;;) {
        while ((rc = peach_job_next(job, &r, 0)) == 0) {
            done++;
            peach_result_clear(&r);
        }
        if (rc == PEACH_END) break;
        assert_int_equal(rc, PEACH_E_TIMEOUT);
        assert_int_equal(peach_poll(p, 0), 0);
        struct pollfd fd = {peach_fd(p), POLLIN, 0};
        poll(&fd, 1, 100);
    }
    assert_int_equal(done, 1000);
    peach_job_destroy(&job);
}

static void count_line(void *arg, const peach_line_t *line)
{
    (void)line;
    ++*(int *)arg;
}

/* More came than one peach_poll takes, and nothing follows that would wake the loop. */
static void the_descriptor_is_readable_while_there_is_more(void **state)
{
    enum { ITEMS = 4, LINES = 30000 };
    peach_t *p = *state;
    int lines = 0, waits = 0;
    peach_job_options_t options = peach_job_defaults;
    peach_value_t *text =
        peach_value_string("lambda n: [print('line', i) for i in range(n)] and n");
    peach_value_t *code = peach_put(p, &text, 5000);
    options.code = code;
    options.log = count_line;
    options.log_arg = &lines;
    peach_value_t *items = peach_value_list();
    for (int i = 0; i < ITEMS; i++) {
        peach_value_t *n = peach_value_int(LINES);
        assert_int_equal(peach_value_append(items, &n), 0);
    }
    peach_job_t *job = peach_map(p, "many", &items, &options);
    assert_int_equal(peach_poll(p, 0), 0);
    const int fd = peach_fd(p);
    for (peach_progress_t at = {0}; at.done < ITEMS; peach_job_progress(job, &at)) {
        struct pollfd item = {fd, POLLIN, 0};
        waits += poll(&item, 1, 250) == 0;
        assert_int_equal(peach_poll(p, 0), 0);
        assert_int_equal(peach_fd(p), fd);
        if (lines == 0) waits = 0; /* the fleet has still to load the source */
    }
    assert_int_equal(lines, ITEMS * LINES);
    assert_true(waits < 4); /* the fleet may be slow now and then: it was 500 of them */
    peach_job_destroy(&job);
    peach_value_destroy(&code);
}

static void wrong_arguments_are_told(void **state)
{
    peach_t *p = *state;
    peach_value_t *items = peach_value_int(3);
    assert_null(peach_map(p, "fnc", &items, NULL));
    assert_null(items);
    assert_non_null(strstr(peach_error(p), "list or an array"));
    peach_job_options_t options = peach_job_defaults;
    options.priority = 8;
    items = peach_value_range(0, 1);
    assert_null(peach_map(p, "fnc", &items, &options));
    items = peach_value_range(0, 1);
    assert_null(peach_map(p, "", &items, NULL));
    peach_error_t error;
    assert_null(peach_connect("tcp://nonsense", 100, &error));
    assert_int_equal(error.status, PEACH_E_ARGUMENT);
    assert_null(peach_connect("a.example:5001", 100, &error));
    assert_int_equal(error.status, PEACH_E_REFUSED); /* who answers there could run code here */
    assert_null(peach_connect("tcp://127.0.0.1:1", 200, &error));
    assert_int_equal(error.status, PEACH_E_NO_BROKER);
}

static void *one_of_many(void *arg)
{
    int64_t base = (int64_t)(intptr_t)arg * 10000;
    peach_t *p = peach_connect(NULL, 5000, NULL);
    peach_value_t *items = peach_value_range(base, base + 4999);
    peach_job_t *job = p ? peach_map(p, "fnc", &items, NULL) : NULL;
    peach_result_t r;
    intptr_t good = 0;
    while (job && peach_job_next(job, &r, 20000) == 0) {
        int64_t n = -1;
        if (r.value) peach_value_as_int(r.value, &n);
        good += n == base + (int64_t)r.item;
        peach_result_clear(&r);
    }
    peach_job_destroy(&job);
    peach_close(&p);
    return (void *)good;
}

static void threads_with_a_handle_each_do_not_meet(void **state)
{
    (void)state;
    pthread_t threads[8];
    for (intptr_t i = 0; i < 8; i++) pthread_create(&threads[i], NULL, one_of_many, (void *)i);
    for (int i = 0; i < 8; i++) {
        void *good;
        pthread_join(threads[i], &good);
        assert_int_equal((intptr_t)good, 5000);
    }
}

static int collect(peach_t *p, const char *function, peach_value_t **items, peach_value_t **values)
{
    peach_job_t *job = peach_map(p, function, items, NULL);
    assert_non_null(job);
    int rc = peach_job_collect(job, values, 30000);
    peach_job_destroy(&job);
    return rc;
}

static void results_are_collected_into_one_value(void **state)
{
    peach_t *p = *state;
    static const char mixed[] = "[1,2,2.5,\"x\",[3],4]";
    peach_value_t *items = peach_value_range(0, 19999), *values;
    assert_int_equal(collect(p, "fnc", &items, &values), 0);
    assert_int_equal(peach_value_kind(values), PEACH_ARRAY);
    assert_int_equal(peach_value_array_dtype(values), PEACH_DTYPE_INT64);
    assert_int_equal(peach_value_length(values), 20000);
    const int64_t *numbers = peach_value_array_bytes(values, NULL);
    for (int64_t i = 0; i < 20000; i++) assert_int_equal(numbers[i], i);
    peach_value_destroy(&values);
    /* no results at all, and results of several kinds, are a list */
    items = peach_value_list();
    assert_int_equal(collect(p, "fnc", &items, &values), 0);
    assert_int_equal(peach_value_kind(values), PEACH_LIST);
    assert_int_equal(peach_value_length(values), 0);
    peach_value_destroy(&values);
    assert_int_equal(peach_value_from_json(mixed, strlen(mixed), &items, NULL, 0), 0);
    assert_int_equal(collect(p, "fnc", &items, &values), 0);
    char *json = peach_value_to_json(values);
    assert_string_equal(json, mixed);
    free(json);
    peach_value_destroy(&values);
    /* one that failed is told by its number */
    items = peach_value_range(0, 9);
    assert_int_equal(collect(p, "raises", &items, &values), PEACH_E_RAISED);
    assert_null(values);
    assert_non_null(strstr(peach_error(p), "item 3: ValueError: no threes"));
}

static void a_job_may_stay_open_for_items_that_come(void **state)
{
    peach_t *p = *state;
    peach_job_t *job = peach_map_open(p, "fnc", NULL);
    peach_result_t r;
    assert_non_null(job);
    assert_int_equal(peach_job_next(job, &r, 50), PEACH_E_TIMEOUT);
    for (int64_t i = 0; i < 3000; i++) {
        peach_value_t *item = peach_value_int(i);
        assert_int_equal(peach_job_add(job, &item), 0);
        if (i % 100 == 0) expect_int(job, (uint64_t)i / 100, i / 100);
    }
    peach_job_finish(job);
    for (int64_t i = 30; i < 3000; i++) expect_int(job, (uint64_t)i, i);
    expect_end(job);
    peach_value_t *late = peach_value_int(1);
    assert_int_equal(peach_job_add(job, &late), PEACH_E_CANCELLED);
    assert_null(late);
    peach_job_destroy(&job);
}

static void a_function_may_be_source(void **state)
{
    peach_t *p = *state;
    peach_value_t *text = peach_value_string("lambda x, y=0: x * x + y");
    peach_value_t *code = peach_put(p, &text, 5000), *items = peach_value_range(0, 2);
    assert_non_null(code);
    peach_job_options_t options = peach_job_defaults;
    options.code = code;
    peach_job_t *job = peach_map(p, "square", &items, &options);
    for (int64_t i = 0; i < 3; i++) expect_int(job, (uint64_t)i, i * i);
    expect_end(job);
    peach_job_destroy(&job);
    /* with keyword arguments */
    options.spread = options.keywords = true;
    const char *calls = "[[2, {\"y\": 5}]]";
    assert_int_equal(peach_value_from_json(calls, strlen(calls), &items, NULL, 0), 0);
    job = peach_map(p, "square", &items, &options);
    expect_int(job, 0, 9);
    peach_job_destroy(&job);
    options.spread = false;
    items = peach_value_range(0, 2);
    assert_null(peach_map(p, "square", &items, &options));
    assert_non_null(strstr(peach_error(p), "spread"));
    /* it is gone with the value */
    peach_drop(p, &code);
    options = peach_job_defaults;
    peach_value_t *number = peach_value_int(3);
    options.code = number;
    items = peach_value_range(0, 2);
    assert_null(peach_map(p, "square", &items, &options));
    assert_non_null(strstr(peach_error(p), "reference"));
    peach_value_destroy(&number);
}

/* A list with one reference in it, which is copied. */
static peach_value_t *holding(const peach_value_t *ref)
{
    peach_value_t *list = peach_value_list(), *copy = peach_value_copy(ref);
    peach_value_append(list, &copy);
    return list;
}

static void a_value_that_was_dropped_is_kept_for_jobs_that_have_it(void **state)
{
    peach_t *p = *state;
    peach_value_t *value = peach_value_int(42), *ref = peach_put(p, &value, 5000);
    peach_value_t *nap = peach_value_list(), *items = holding(ref), *copy = peach_value_copy(ref);
    for (int i = 0; i < 8; i++) {
        peach_value_t *time = peach_value_double(0.3);
        peach_value_append(nap, &time);
    }
    peach_job_t *first = peach_map(p, "nap", &nap, NULL); /* so that the other waits */
    peach_job_t *job = peach_map(p, "fnc", &items, NULL);
    assert_int_equal(peach_drop(p, &ref), 0);
    expect_int(job, 0, 42);
    expect_end(job);
    peach_job_destroy(&job);
    peach_job_destroy(&first);
    items = holding(copy);
    assert_null(peach_map(p, "fnc", &items, NULL));
    assert_int_equal(peach_drop(p, &copy), PEACH_E_ARGUMENT);
}

static void a_reference_belongs_to_its_handle(void **state)
{
    peach_t *p = *state, *other = peach_connect(NULL, 5000, NULL);
    assert_non_null(other);
    peach_value_t *one = peach_value_int(41), *two = peach_value_int(42), *answer;
    peach_value_t *ours = peach_put(p, &one, 5000), *theirs = peach_put(other, &two, 5000);
    assert_false(peach_value_equal(ours, theirs));
    for (int closed = 0; closed < 2; closed++) {
        peach_value_t *args = holding(theirs), *inner = holding(theirs),
                      *items = peach_value_list();
        peach_value_t *dropped = peach_value_copy(theirs), *item = peach_value_copy(theirs);
        assert_int_not_equal(peach_call(p, "fnc", &args, 5000, &answer), 0);
        assert_non_null(strstr(peach_error(p), "another client"));
        peach_value_append(items, &inner);
        assert_null(peach_map(p, "fnc", &items, NULL));
        peach_job_t *job = peach_map_open(p, "fnc", NULL);
        assert_int_equal(peach_job_add(job, &item), PEACH_E_ARGUMENT);
        peach_job_destroy(&job);
        peach_job_options_t options = peach_job_defaults;
        options.code = theirs;
        items = peach_value_range(0, 1);
        assert_null(peach_map(p, "fnc", &items, &options));
        assert_int_equal(peach_drop(p, &dropped), PEACH_E_ARGUMENT);
        args = holding(ours);
        assert_int_equal(peach_call(p, "fnc", &args, 20000, &answer), 0);
        peach_value_destroy(&answer);
        peach_close(&other);
    }
    peach_value_destroy(&theirs);
    assert_int_equal(peach_drop(p, &ours), 0);
}

static void on_line(void *arg, const peach_line_t *line)
{
    char *said = arg;
    snprintf(said + strlen(said), 200, "%llu %s;", (unsigned long long)line->item, line->text);
}

static void what_tasks_print_comes_before_their_results(void **state)
{
    peach_t *p = *state;
    char said[2000] = "";
    peach_value_t *text = peach_value_string("lambda x: print('line', x)");
    peach_value_t *code = peach_put(p, &text, 5000), *items = peach_value_range(7, 8);
    peach_job_options_t options = peach_job_defaults;
    options.code = code;
    options.log = on_line;
    options.log_arg = said;
    peach_job_t *job = peach_map(p, "talk", &items, &options);
    peach_result_t r;
    assert_int_equal(peach_job_next(job, &r, 20000), 0);
    assert_non_null(strstr(said, "0 line 7;"));
    peach_result_clear(&r);
    assert_int_equal(peach_job_next(job, &r, 20000), 0);
    assert_non_null(strstr(said, "1 line 8;"));
    peach_result_clear(&r);
    peach_job_destroy(&job);
    peach_drop(p, &code);
}

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    tasks_py = argv[1];
    slow_py = argv[2];
    broken_py = argv[3];
#define WITH_FLEET(test) cmocka_unit_test_setup_teardown(test, connect_fleet, close_fleet)
    const struct CMUnitTest tests[] = {
        WITH_FLEET(init_then_map_in_the_same_breath),
        WITH_FLEET(results_are_collected_into_one_value),
        WITH_FLEET(a_preload_that_raises_comes_back_with_its_traceback),
        WITH_FLEET(a_call_returns_its_value_or_its_error),
        WITH_FLEET(a_failure_tells_everything),
        WITH_FLEET(a_timeout_is_not_the_end_of_a_job),
        WITH_FLEET(items_come_from_a_generator),
        WITH_FLEET(several_jobs_run_at_a_time),
        WITH_FLEET(a_cancelled_job_ends),
        WITH_FLEET(a_job_may_be_destroyed_at_any_time),
        WITH_FLEET(progress_is_told_to_the_end),
        WITH_FLEET(rows_of_a_matrix_are_items_and_arrays_come_back),
        WITH_FLEET(the_descriptor_drives_an_event_loop),
        WITH_FLEET(the_descriptor_is_readable_while_there_is_more),
        WITH_FLEET(a_job_may_stay_open_for_items_that_come),
        WITH_FLEET(a_function_may_be_source),
        WITH_FLEET(a_value_that_was_dropped_is_kept_for_jobs_that_have_it),
        WITH_FLEET(a_reference_belongs_to_its_handle),
        WITH_FLEET(what_tasks_print_comes_before_their_results),
        WITH_FLEET(wrong_arguments_are_told),
        WITH_FLEET(threads_with_a_handle_each_do_not_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
