/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Figures of a fleet of four slots beside the yardstick's, in turn and in the same
   minute. Prints a line a run: NAME PEACH YARDSTICK. Started by tests/bench/run:
   bench-fleet BROKER_PID RUNS NAME... (a tcp broker: without shared memory, bulk is
   bulk_tcp). */
#include "raw.h"

#include <peach/peach.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SINGLES = 300000, ITEMS = 1000000, CALLS = 400, WINDOW = 2000 };

typedef struct {
    peach_t *fleet;
    raw_t raw;
    pid_t broker;
} bench_t;

static void give_up(const peach_t *fleet)
{
    fprintf(stderr, "%s\n", peach_error(fleet));
    exit(1);
}

/* Tasks of one item each, submitted, tracked and retried on their own. */
static double singles(bench_t *b, const char *function)
{
    peach_job_options_t options = peach_job_defaults;
    options.chunk = 1;
    peach_value_t *items = peach_value_range(0, SINGLES - 1);
    double begin = clock_s();
    peach_job_t *job = peach_map(b->fleet, function, &items, &options);
    peach_result_t result;
    int done = 0;
    while (job && peach_job_next(job, &result, 60000) == 0) {
        done += result.value != NULL;
        peach_result_clear(&result);
    }
    double took = clock_s() - begin;
    peach_job_destroy(&job);
    if (done != SINGLES) give_up(b->fleet);
    return SINGLES / took;
}

static void measure_native(bench_t *b)
{
    double yard = raw_rate(&b->raw, SINGLES, WINDOW);
    printf("native %g %g\n", singles(b, "noop"), yard);
}

static void measure_python(bench_t *b)
{
    double yard = raw_rate(&b->raw, SINGLES, WINDOW);
    printf("python %g %g\n", singles(b, "same"), yard);
}

static void measure_broker_cpu(bench_t *b)
{
    double broker = cpu_s(b->broker), router = cpu_s(b->raw.router);
    const double hundred_thousand = 100000.0 / SINGLES; /* clock ticks are coarse */
    raw_rate(&b->raw, SINGLES, WINDOW);
    singles(b, "noop");
    printf("broker_cpu %g %g\n", (cpu_s(b->broker) - broker) * hundred_thousand,
           (cpu_s(b->raw.router) - router) * hundred_thousand);
}

/* A map whose result is one typed vector. The yardstick is another program's. */
static void measure_map(bench_t *b)
{
    peach_value_t *items = peach_value_range(0, ITEMS - 1), *values = NULL;
    double begin = clock_s();
    peach_job_t *job = peach_map(b->fleet, "same", &items, NULL);
    if (!job || peach_job_collect(job, &values, 60000) != 0) give_up(b->fleet);
    double took = clock_s() - begin;
    const int64_t *numbers = peach_value_array_bytes(values, NULL);
    for (int64_t i = 0; i < ITEMS; i++)
        if (numbers[i] != i) abort();
    printf("map %g 0\n", ITEMS / took);
    peach_value_destroy(&values);
    peach_job_destroy(&job);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double call_s(bench_t *b, peach_value_t *argument, peach_value_t **value_p)
{
    peach_value_t *args = peach_value_list();
    peach_value_append(args, &argument);
    double begin = clock_s();
    if (peach_call(b->fleet, "same", &args, 60000, value_p) != 0) give_up(b->fleet);
    return clock_s() - begin;
}

static void measure_trip(bench_t *b)
{
    static double peach[CALLS], raw[CALLS];
    for (int i = 0; i < CALLS; i++) raw[i] = raw_trip(&b->raw, "0123456789", 10);
    for (int i = 0; i < CALLS; i++) {
        peach_value_t *value;
        peach[i] = call_s(b, peach_value_int(i), &value);
        peach_value_destroy(&value);
    }
    qsort(peach, CALLS, sizeof *peach, compare);
    qsort(raw, CALLS, sizeof *raw, compare);
    printf("trip %g %g\n", peach[CALLS / 2] * 1e6, raw[CALLS / 2] * 1e6);
}

static void bulk(bench_t *b, const char *name)
{
    const uint64_t count = 8 << 20;
    peach_value_t *array = peach_value_array(PEACH_DTYPE_FLOAT64, 1, &count, NULL), *value;
    double *data = peach_value_array_data(array, NULL);
    for (uint64_t i = 0; i < count; i++) data[i] = (double)i;
    double *copy = malloc(count * 8);
    memcpy(copy, data, count * 8);
    double yard = raw_trip(&b->raw, copy, count * 8);
    double took = call_s(b, array, &value);
    size_t size;
    const void *back = peach_value_array_bytes(value, &size);
    if (size != count * 8 || memcmp(back, copy, size) != 0) abort();
    printf("%s %g %g\n", name, (double)size / took / 1e6, (double)size / yard / 1e6);
    peach_value_destroy(&value);
    free(copy);
}

static void measure_bulk(bench_t *b) { bulk(b, "bulk"); }
static void measure_bulk_tcp(bench_t *b) { bulk(b, "bulk_tcp"); }

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*measure)(bench_t *b);
    } figures[] = {{"native", measure_native},
                   {"python", measure_python},
                   {"map", measure_map},
                   {"trip", measure_trip},
                   {"bulk", measure_bulk},
                   {"bulk_tcp", measure_bulk_tcp},
                   {"broker_cpu", measure_broker_cpu}};
    peach_error_t error;
    bench_t b = {.broker = argc > 2 ? (pid_t)strtol(argv[1], NULL, 10) : 0};
    int runs = argc > 2 ? atoi(argv[2]) : 0;
    raw_start(&b.raw);
    b.fleet = peach_connect(NULL, 3000, &error);
    if (!b.fleet || b.broker == 0) {
        fprintf(stderr, "%s\n", b.fleet ? "no pid of the broker" : error.message);
        return 1;
    }
    singles(&b, "same"); /* warm */
    for (int run = 0; run < runs; run++) {
        for (int i = 3; i < argc; i++)
            for (size_t k = 0; k < sizeof figures / sizeof *figures; k++)
                if (strcmp(figures[k].name, argv[i]) == 0) figures[k].measure(&b);
        fflush(stdout);
    }
    peach_close(&b.fleet);
    raw_stop(&b.raw);
    return 0;
}
