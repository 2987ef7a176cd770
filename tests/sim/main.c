/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Runs schedules from seeds; a failing one is shrunk, and told with the command that
   runs it again. */
#include "world.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    schedule_t schedule;
    uint64_t count;
    double seconds;
    unsigned processes;
    bool one;
} arguments_t;

enum { KEY_CLIENTS = 256, KEY_WORKERS, KEY_TASKS, KEY_WITHOUT };

static const struct argp_option options[] = {
    {"seed", 's', "N", 0, "The first seed (default: of the clock)", 0},
    {"count", 'n', "N", 0, "Schedules to run (default: as time allows)", 0},
    {"seconds", 't', "S", 0, "Time to run for (default 10)", 0},
    {"processes", 'p', "N", 0, "Run in N processes (default 1)", 0},
    {"one", '1', NULL, 0, "Run the one schedule of the seed and print what happens", 0},
    {"clients", KEY_CLIENTS, "N", 0, "At most so many", 1},
    {"workers", KEY_WORKERS, "N", 0, "At most so many", 1},
    {"tasks", KEY_TASKS, "N", 0, "A client at most so many", 1},
    {"without", KEY_WITHOUT, "MASK", 0, "Leave out faults, a bit each (hexadecimal)", 1},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments_t *a = state->input;
    switch (key) {
    case 's': a->schedule.seed = strtoull(arg, NULL, 0); break;
    case 'n': a->count = strtoull(arg, NULL, 0); break;
    case 't': a->seconds = strtod(arg, NULL); break;
    case 'p': a->processes = (unsigned)strtoul(arg, NULL, 0); break;
    case '1': a->one = true; break;
    case KEY_CLIENTS: a->schedule.clients = (unsigned)strtoul(arg, NULL, 0); break;
    case KEY_WORKERS: a->schedule.workers = (unsigned)strtoul(arg, NULL, 0); break;
    case KEY_TASKS: a->schedule.tasks = (unsigned)strtoul(arg, NULL, 0); break;
    case KEY_WITHOUT: a->schedule.without = (uint32_t)strtoul(arg, NULL, 16); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- shrinking: less of everything, as long as something still does not hold ---- */

static bool fails(schedule_t schedule)
{
    verdict_t verdict = {0};
    schedule.trace = false;
    return !world_run(&schedule, &verdict);
}

static void shrink(schedule_t *s)
{
    bool smaller = true;
    while (smaller) {
        smaller = false;
        unsigned *const counts[] = {&s->tasks, &s->clients, &s->workers};
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            while (*counts[i] > 1) {
                --*counts[i];
                if (!fails(*s)) {
                    ++*counts[i];
                    break;
                }
                smaller = true;
            }
        }
        for (unsigned f = 0; f < FAULTS; f++) {
            if (s->without >> f & 1) continue;
            s->without |= 1u << f;
            if (fails(*s))
                smaller = true;
            else
                s->without &= ~(1u << f);
        }
    }
}

static void tell(schedule_t schedule, const char *wrong)
{
    uint64_t seed = schedule.seed;
    printf("seed %llu: %s\n", (unsigned long long)seed, wrong);
    shrink(&schedule);
    verdict_t verdict = {0};
    schedule.trace = true;
    printf("the shrunk schedule:\n");
    world_run(&schedule, &verdict);
    printf("again: peach-sim --one --seed %llu --clients %u --workers %u --tasks %u --without %x\n",
           (unsigned long long)seed, schedule.clients, schedule.workers, schedule.tasks,
           schedule.without);
    fflush(stdout);
}

/* ---- runs ---- */

static double clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Seeds first, first + step, ... The exit status. */
static int run(const arguments_t *a, uint64_t first, uint64_t step, verdict_t *total)
{
    double end = clock_s() + a->seconds;
    schedule_t schedule = a->schedule;
    for (uint64_t i = 0; a->count == 0 || i * step < a->count; i++) {
        if (i % 16 == 0 && clock_s() > end) break;
        schedule.seed = first + i * step;
        if (world_run(&schedule, total)) continue;
        tell(schedule, total->wrong);
        return 1;
    }
    return 0;
}

static int run_all(const arguments_t *a)
{
    verdict_t total = {0};
    int pipes[2], status = 0;
    if (pipe(pipes) != 0) return 1;
    for (unsigned i = 0; i < a->processes; i++) {
        if (fork() != 0) continue;
        verdict_t part = {0};
        int rc = run(a, a->schedule.seed + i, a->processes, &part);
        ssize_t ignored = write(pipes[1], &part, sizeof part);
        (void)ignored;
        _exit(rc);
    }
    close(pipes[1]);
    for (verdict_t part; read(pipes[0], &part, sizeof part) == sizeof part;) {
        total.schedules += part.schedules;
        total.events += part.events;
        total.faults += part.faults;
        total.items += part.items;
        total.runs += part.runs;
        total.resumed += part.resumed;
        total.restarted += part.restarted;
    }
    for (int one; wait(&one) > 0;) status |= one;
    printf("%llu schedules, %llu faults, %llu events; %llu items ended after %llu runs; %llu "
           "sessions went on, %llu began\n",
           (unsigned long long)total.schedules, (unsigned long long)total.faults,
           (unsigned long long)total.events, (unsigned long long)total.items,
           (unsigned long long)total.runs, (unsigned long long)total.resumed,
           (unsigned long long)total.restarted);
    return status != 0;
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        options, parse, NULL, "Simulates schedules of a fleet around the real scheduler core.",
        NULL,    NULL,  NULL};
    arguments_t a = {.schedule = {.clients = CLIENTS, .workers = WORKERS, .tasks = TASKS},
                     .seconds = 10,
                     .processes = 1};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    a.schedule.seed = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (!a.one) {
        printf("from seed %llu\n", (unsigned long long)a.schedule.seed);
        fflush(stdout);
        return run_all(&a);
    }
    verdict_t verdict = {0};
    a.schedule.trace = true;
    return !world_run(&a.schedule, &verdict);
}
