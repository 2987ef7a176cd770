/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Jobs as they are seen from outside. */
#include "jobs.h"
#include "unit.h"

static jobs_t jobs;
static table_seed_t seed;
static uint64_t last;

static shell_job_t *obtain(uint64_t number, uint64_t known, bool final)
{
    Peach__Job message = PEACH__JOB__INIT;
    message.id = number;
    message.function = "f";
    message.known_items = known;
    message.known_final = final;
    shell_job_t *job = jobs_obtain(&jobs, &message, &seed, &last, 1000);
    assert_non_null(job);
    jobs_note(job, &message);
    return job;
}

static void one_is_seen_until_all_that_it_will_have_has_ended(void **state)
{
    (void)state;
    jobs_init(&jobs);
    shell_job_t *job = obtain(7, 10, false), *again = obtain(7, 20, false);
    assert_ptr_equal(job, again);
    jobs_count(job, 19, false);
    jobs_count(job, 1, true);
    assert_int_equal(jobs.count, 1); /* more may come */
    shell_job_t *more = obtain(7, 25, true);
    jobs_count(job, 4, false);
    assert_int_equal(job->done, 23);
    assert_int_equal(job->failed, 1);
    assert_int_equal(jobs.count, 1);
    jobs_count(job, 1, false);
    assert_int_equal(jobs.count, 0);
    jobs_count(job, 1, false); /* whatever comes late */
    shell_job_unref(&job);
    shell_job_unref(&again);
    shell_job_unref(&more);
    jobs_clear(&jobs);
}

static void a_client_that_never_ends_one_does_not_fill_the_broker(void **state)
{
    (void)state;
    jobs_init(&jobs);
    for (uint64_t i = 0; i < 5000; i++) {
        shell_job_t *job = obtain(i, 0, false);
        shell_job_unref(&job);
    }
    assert_true(jobs.count < 1000);
    shell_job_t *job = obtain(4999, 0, false);
    assert_int_equal(job->id, last); /* the last ones are there */
    shell_job_unref(&job);
    jobs_clear(&jobs);
}

static void what_runs_outlives_its_client(void **state)
{
    (void)state;
    jobs_init(&jobs);
    shell_job_t *job = obtain(1, 5, true);
    jobs_clear(&jobs);
    jobs_count(job, 5, false);
    assert_string_equal(job->message->function, "f");
    shell_job_unref(&job);
    jobs_init(&jobs);
    job = obtain(2, 5, true);
    jobs_forget(&jobs, 2);
    jobs_forget(&jobs, 2);
    assert_int_equal(jobs.count, 0);
    shell_job_unref(&job);
    jobs_clear(&jobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_is_seen_until_all_that_it_will_have_has_ended),
        cmocka_unit_test(a_client_that_never_ends_one_does_not_fill_the_broker),
        cmocka_unit_test(what_runs_outlives_its_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
