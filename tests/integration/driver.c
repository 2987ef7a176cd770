/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* What the tests measure from inside a client: driver latency FUNC CALLS prints the
   median and the 90th percentile of sequential calls in microseconds; driver map FUNC
   ITEMS the milliseconds that a map takes; driver bulk FUNC ITEMS KIB the same for arrays,
   which come back as they went; driver put FUNC ITEMS KIB uses one value many times; driver
   threads FUNC THREADS ITEMS whether
   that many maps at once, a handle each, are right. The broker is $PEACH_BROKER. */
#include <peach/peach.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *function;
static int64_t item_count;

static double clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static peach_t *connect_fleet(void)
{
    peach_error_t error;
    peach_t *p = peach_connect(NULL, 5000, &error);
    if (!p) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    return p;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int latency(size_t calls)
{
    peach_t *p = connect_fleet();
    double *took = calloc(calls + 1, sizeof *took);
    for (size_t i = 0; i < calls; i++) {
        peach_value_t *args = peach_value_list(), *one = peach_value_int(1), *value;
        if (!args || peach_value_append(args, &one) != 0) return 1;
        double begin = clock_us();
        if (peach_call(p, function, &args, 30000, &value) != 0) {
            fprintf(stderr, "%s\n", peach_error(p));
            return 1;
        }
        took[i] = clock_us() - begin;
        peach_value_destroy(&value);
    }
    qsort(took, calls, sizeof *took, compare);
    printf("%.0f %.0f\n", took[calls / 2], took[calls * 9 / 10]);
    free(took);
    peach_close(&p);
    return 0;
}

/* Whether all results are there, in order: the item itself. */
static bool map_right(peach_t *p, int64_t count)
{
    peach_value_t *items = peach_value_range(0, count - 1);
    peach_job_t *job = peach_map(p, function, &items, NULL);
    peach_result_t result;
    int64_t next = 0, value;
    int rc = PEACH_E_ARGUMENT;
    while (job && (rc = peach_job_next(job, &result, 60000)) == 0) {
        bool right = result.value && peach_value_as_int(result.value, &value) == 0 && value == next;
        if (!right) fprintf(stderr, "item %lld is wrong\n", (long long)next);
        peach_result_clear(&result);
        if (!right) break;
        next++;
    }
    if (rc != PEACH_END) fprintf(stderr, "%d: %s\n", rc, peach_error(p));
    peach_job_destroy(&job);
    return rc == PEACH_END && next == count;
}

static int map(void)
{
    peach_t *p = connect_fleet();
    double begin = clock_us();
    bool right = map_right(p, item_count);
    printf("%.1f\n", (clock_us() - begin) / 1000);
    peach_close(&p);
    return !right;
}

static void *thread(void *arg)
{
    peach_t *p = connect_fleet();
    *(bool *)arg = map_right(p, item_count);
    peach_close(&p);
    return NULL;
}

static int threads(size_t count)
{
    pthread_t *handles = calloc(count + 1, sizeof *handles);
    bool *right = calloc(count + 1, sizeof *right), all = true;
    for (size_t i = 0; i < count; i++) pthread_create(&handles[i], NULL, thread, &right[i]);
    for (size_t i = 0; i < count; i++) {
        pthread_join(handles[i], NULL);
        all &= right[i];
    }
    free(handles);
    free(right);
    return !all;
}

/* Arrays of that many KiB there and back, each another one; what comes back is compared. */
static int bulk(size_t items, size_t kib)
{
    peach_t *p = connect_fleet();
    peach_value_t *list = peach_value_list();
    const uint64_t count = kib * 128;
    for (size_t i = 0; i < items; i++) {
        peach_value_t *array = peach_value_array(PEACH_DTYPE_INT64, 1, &count, NULL);
        int64_t *data = peach_value_array_data(array, NULL);
        for (uint64_t k = 0; k < count; k++) data[k] = (int64_t)(i << 32 | k);
        peach_value_append(list, &array);
    }
    double begin = clock_us();
    peach_job_options_t options = peach_job_defaults;
    options.chunk = 1;
    peach_job_t *job = peach_map(p, function, &list, &options);
    peach_result_t result;
    size_t right = 0, size;
    int rc;
    while (job && (rc = peach_job_next(job, &result, 60000)) == 0) {
        const int64_t *data = result.value ? peach_value_array_bytes(result.value, &size) : NULL;
        bool same = data && size == count * 8;
        for (uint64_t k = 0; k < count && same; k++)
            same = data[k] == (int64_t)(result.item << 32 | k);
        if (!same)
            fprintf(stderr, "item %llu: %s\n", (unsigned long long)result.item,
                    result.failure ? result.failure->message : "another value");
        right += same;
        peach_result_clear(&result);
    }
    peach_job_destroy(&job);
    printf("%.1f\n", (clock_us() - begin) / 1000);
    peach_close(&p);
    return right != items;
}

/* A value of that many KiB is put once and used by each item: FUNC gets [i, value], and
   [i, {"inside": [value]}] for odd ones; what it returns is to be i + the last element. */
static int put(size_t items, size_t kib)
{
    peach_t *p = connect_fleet();
    peach_value_t *list = peach_value_list();
    const uint64_t count = kib * 128;
    peach_value_t *refs[2];
    for (int same = 0; same < 2; same++) {
        peach_value_t *array = peach_value_array(PEACH_DTYPE_INT64, 1, &count, NULL);
        int64_t *data = peach_value_array_data(array, NULL);
        for (uint64_t k = 0; k < count; k++) data[k] = (int64_t)k;
        refs[same] = peach_put(p, &array, 30000);
        if (!refs[same] || peach_value_kind(refs[same]) != PEACH_REF) {
            fprintf(stderr, "%s\n", peach_error(p));
            return 1;
        }
    }
    if (!peach_value_equal(refs[0], refs[1])) fprintf(stderr, "put twice\n");
    for (size_t i = 0; i < items; i++) {
        peach_value_t *args = peach_value_list(), *number = peach_value_int((int64_t)i);
        peach_value_t *value = peach_value_copy(refs[0]);
        if (i % 2) {
            peach_value_t *inner = peach_value_list(), *map = peach_value_map();
            peach_value_append(inner, &value);
            peach_value_set(map, "inside", &inner);
            value = map;
        }
        peach_value_append(args, &number);
        peach_value_append(args, &value);
        peach_value_append(list, &args);
    }
    peach_job_options_t options = peach_job_defaults;
    options.chunk = 1;
    options.spread = true;
    peach_job_t *job = peach_map(p, function, &list, &options);
    peach_result_t result;
    size_t right = 0;
    while (job && peach_job_next(job, &result, 60000) == 0) {
        int64_t n = -1;
        if (result.value) peach_value_as_int(result.value, &n);
        bool good = n == (int64_t)(result.item + count - 1);
        if (!good)
            fprintf(stderr, "item %llu: %s\n", (unsigned long long)result.item,
                    result.failure ? result.failure->message : "another value");
        right += good;
        peach_result_clear(&result);
    }
    peach_job_destroy(&job);
    int rc = peach_drop(p, &refs[0]);
    if (rc == 0) rc = peach_drop(p, &refs[1]);
    if (rc) fprintf(stderr, "drop: %s\n", peach_error(p));
    peach_poll(p, 200); /* the broker has heard of it */
    printf("%zu\n", right);
    peach_close(&p);
    return rc || right != items;
}

int main(int argc, char **argv)
{
    if (argc < 4) return 2;
    function = argv[2];
    size_t count = (size_t)atoll(argv[3]);
    item_count = atoll(argv[argc - 1]);
    if (strcmp(argv[1], "latency") == 0) return latency(count);
    if (strcmp(argv[1], "map") == 0) return map();
    if (strcmp(argv[1], "put") == 0) return put(count, (size_t)item_count);
    if (strcmp(argv[1], "bulk") == 0) return bulk(count, (size_t)item_count);
    return strcmp(argv[1], "threads") == 0 ? threads(count) : 2;
}
