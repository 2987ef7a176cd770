/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The cost of a task in the scheduler core: bench-core WORKERS QUEUED TASKS prints
   nanoseconds a task (submitted, given out, done), with so many workers that are busy and
   so many tasks in the queue, and the bytes that a queued task takes (besides its
   payload). Tasks come 64 at a time; workers end their leases in a random order. With BUSY as
   a fourth argument (16 or more) there are never more tasks than that, and the other workers
   are idle. */
#include "sched.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct {
    sched_worker_t *worker;
    uint64_t lease;
} held_t;

static held_t *held; /* leases that are given out, in any order */
static size_t held_count;

static void on_assign(void *shell, void *worker, const sched_order_t *order)
{
    (void)shell;
    held[held_count++] = (held_t){*(sched_worker_t **)worker, order->lease};
}

static void on_lease(void *shell, void *worker, uint64_t lease)
{
    (void)shell, (void)worker, (void)lease;
}

static void on_fail(void *shell, const sched_owner_t *owner, uint32_t first, uint32_t count,
                    int status, const char *message, const sched_attempt_t *attempts,
                    size_t attempt_count)
{
    (void)shell, (void)owner, (void)first, (void)count, (void)status;
    (void)attempts, (void)attempt_count;
    fprintf(stderr, "a task failed: %s\n", message);
    exit(1);
}

static void *on_slice(void *shell, void *payload, size_t offset, size_t size)
{
    (void)shell, (void)offset, (void)size;
    return payload;
}

static void on_nothing(void *shell, void *what) { (void)shell, (void)what; }

static double clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint64_t dice(uint64_t below)
{
    static uint64_t state = 0x9E3779B97F4A7C15u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint64_t)(((unsigned __int128)state * below) >> 64);
}

enum { RUN = 64 }; /* tasks that come together */

static void submit(sched_t *s, sched_client_t *client, size_t count)
{
    static uint64_t number;
    static uint32_t sizes[RUN];
    uint64_t numbers[RUN];
    void **user;
    static char payload;
    sched_job_spec_t job = {.id = 1, .function = "noop", .retries = 2};
    for (size_t i = 0; i < count; i++) {
        numbers[i] = ++number;
        sizes[i] = 17;
    }
    sched_run_spec_t run = {count, numbers, numbers, sizes, &payload};
    if (sched_job(s, client, &job, &user) != 0 || !sched_run_suits(client, 1, numbers, count) ||
        sched_submit_run(s, client, 1, &run) != 0)
        exit(1);
}

int main(int argc, char **argv)
{
    static const char *const functions[] = {"noop"};
    static const sched_ops_t ops = {
        on_assign, on_lease,   on_lease,   on_fail, on_nothing,
        on_slice,  on_nothing, on_nothing, NULL /* every function is there */};
    size_t workers = argc > 3 ? strtoul(argv[1], NULL, 10) : 0;
    size_t queued = argc > 3 ? strtoul(argv[2], NULL, 10) : 0;
    size_t tasks = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
    size_t busy = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;
    size_t run = busy > 0 && busy < RUN ? busy : RUN;
    const sched_config_t config = {
        .window_tasks = UINT32_MAX, .window_bytes = UINT64_MAX / 4, .first_lease = 1};
    sched_t *s = sched_new(&config, &ops, NULL);
    held = calloc(workers + 1, sizeof *held);
    sched_worker_t **users = calloc(workers + 1, sizeof *users);
    if (!s || !held || !users || workers == 0) return 2;
    sched_tick(s, 1);
    const sched_worker_spec_t spec = {
        .slots = 1, .window = 1, .host = "h", .functions = functions, .function_count = 1};
    for (size_t i = 0; i < workers; i++)
        if (!(users[i] = sched_worker_add(s, &spec, &users[i]))) return 1;
    sched_client_t *client = sched_client_add(s, NULL);
    for (size_t i = 0; busy == 0 && i < workers + RUN; i += RUN) submit(s, client, RUN);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (size_t i = 0; i < queued; i += RUN) submit(s, client, RUN);
    size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    double begin = clock_s();
    for (size_t i = 0; i < tasks; i++) {
        if (i % run == 0) submit(s, client, run);
        size_t at = dice(held_count);
        held_t lease = held[at];
        held[at] = held[--held_count];
        sched_owner_t owner;
        if (!sched_items_done(s, lease.worker, lease.lease, 0, 1, 0, &owner)) return 1;
        sched_lease_end(s, lease.worker, lease.lease, 1000);
    }
    double ns = (clock_s() - begin) * 1e9 / (double)(tasks ? tasks : 1);
    printf("%zu workers %zu queued %.1f ns a task", workers, queued, ns);
    if (queued > 1000)
        printf(" %.1f bytes a queued task", (double)(after - before) / (double)queued);
    putchar('\n');
    return 0;
}
