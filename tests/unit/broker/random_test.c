/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The scheduler core under random events from a seed: the structures hold, and every
   item ends once. PEACH_SEED=N replays one seed. */
#include "recorder.h"

enum { ITEMS_EACH = 6, TASKS = 300, RUN = 20, CLIENTS = 3, WORKERS = 4 };

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

static void world_fail(void *shell, const sched_owner_t *owner, uint32_t first, uint32_t count,
                       int status, const char *message, const sched_attempt_t *attempts,
                       size_t attempt_count)
{
    (void)status, (void)message, (void)attempts, (void)attempt_count;
    end_items(shell, (intptr_t)owner->client, owner->number, first, count);
}

static void world_report(world_t *world, int w)
{
    /* Any order that was ever given: most are stale, and must be harmless. */
    shell_t *t = &world->shell;
    if (t->order_count == 0) return;
    size_t recent = t->order_count < 40 ? t->order_count : 40;
    const seen_t *o = &t->orders[t->order_count - 1 - dice(world, (uint32_t)recent)];
    sched_owner_t owner;
    sched_attempt_t attempt = {"h", 1, "killed"};
    uint32_t first = dice(world, ITEMS_EACH), count = 1 + dice(world, ITEMS_EACH);
    switch (dice(world, 4)) {
    case 0:
        if (sched_items_done(t->sched, world->workers[w], o->lease, first, count, 0, &owner))
            end_items(world, (intptr_t)owner.client, owner.number, first, count);
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
        sched_owner_t owner;
        for (uint32_t item = 0; item < ITEMS_EACH; item++)
            if (sched_items_done(t->sched, last, t->orders[i].lease, item, 1, 0, &owner))
                end_items(world, (intptr_t)owner.client, owner.number, item, 1);
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
        world->clients[c] = sched_client_add(t->sched, (void *)(intptr_t)(c + 1));
    uint64_t next[CLIENTS] = {0}, submitted = 0;
    for (uint64_t step = 0; step < 1500 && t->order_count < MAX_ORDERS - 600; step++) {
        int c = (int)dice(world, CLIENTS);
        if (next[c] < TASKS && dice(world, 8) == 0) {
            uint64_t id = dice(world, 3);
            job(t, world->clients[c], id, id ? "f" : "g", (uint32_t)id, (uint32_t)id);
            submit(t, world->clients[c], id, next[c]++, ITEMS_EACH);
            submitted++;
        } else if (next[c] > 0 && next[c] + RUN < TASKS && dice(world, 40) == 0) {
            uint64_t id = dice(world, 3);
            job(t, world->clients[c], id, id ? "f" : "g", (uint32_t)id, (uint32_t)id);
            assert_int_equal(submit_run(t, world->clients[c], id, next[c], RUN), 0);
            for (int i = 0; i < RUN; i++, next[c]++)
                memset(world->ended[c][next[c]] + 1, 1, ITEMS_EACH - 1);
            submitted++;
        } else if (next[c] > 0 && dice(world, 20) == 0) {
            uint64_t again = dice(world, (uint32_t)next[c]);
            bool ended = true;
            for (int i = 0; i < ITEMS_EACH; i++) ended &= world->ended[c][again][i];
            if (ended) continue; /* nobody submits what has ended */
            job(t, world->clients[c], 1, "f", 1, 1);
            submit(t, world->clients[c], 1, again, ITEMS_EACH);
            submitted++;
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
    assert_int_equal(t->released, submitted + t->sliced);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_item_ends_once_whatever_happens)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tell_replay();
    return failed;
}
