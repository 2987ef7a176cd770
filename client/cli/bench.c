/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* peach bench: what a fleet can do, this host's or the one that is running. Each figure
   is the median of some runs; how far they spread is told, too. */
#include "connection.h"
#include "histogram.h"
#include "interrupts.h"
#include "local.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_RUNS = 99 };
enum { SINGLES = 50000, ITEMS = 1000000, CALLS = 2000, BULK_MIB = 64, NAPS = 400 };

static const char source[] = "import time\n"
                             "def same(x):\n"
                             "    return x\n"
                             "def nap(seconds):\n"
                             "    time.sleep(seconds)\n"
                             "    return seconds\n";

typedef struct {
    const options_t *options;
    unsigned runs;
    local_t local; /* broker is 0 when the fleet is not ours */
    peach_t *fleet;
    unsigned fleet_slots;
    peach_value_t *report;
} bench_t;

static double clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- the report ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void put_number(peach_value_t *map, const char *key, double number)
{
    peach_value_t *value = peach_value_double(number);
    if (value) peach_value_set(map, key, &value);
}

/* One figure: the median of its runs; the smallest and the largest. */
static void report(bench_t *b, const char *name, const char *what, const char *unit, double *runs,
                   size_t count)
{
    qsort(runs, count, sizeof *runs, compare);
    double median = runs[count / 2];
    peach_value_t *entry = peach_value_map(), *text = peach_value_string(unit);
    if (entry && text) {
        put_number(entry, "median", median);
        put_number(entry, "min", runs[0]);
        put_number(entry, "max", runs[count - 1]);
        peach_value_set(entry, "unit", &text);
        peach_value_set(b->report, name, &entry);
    }
    peach_value_destroy(&text);
    peach_value_destroy(&entry);
    if (b->options->json) return;
    const int digits = median < 10 ? 3 : median < 1000 ? 1 : 0;
    printf("%-44s%14.*f %-8s", what, digits, median, unit);
    if (count > 1) printf("(%.*f to %.*f)", digits, runs[0], digits, runs[count - 1]);
    putchar('\n');
    fflush(stdout);
}

/* ---- what is measured ---- */

/* Seconds for a map; negative when it failed, after a complaint. */
static double map_seconds(bench_t *b, const char *function, peach_value_t *items, uint32_t chunk)
{
    peach_job_options_t options = peach_job_defaults;
    options.chunk = chunk;
    double begin = clock_s();
    peach_job_t *job = items ? peach_map(b->fleet, function, &items, &options) : NULL;
    peach_result_t result;
    int rc = job ? 0 : PEACH_E_MEMORY;
    bool failed = rc != 0;
    while (!failed && (rc = peach_job_next(job, &result, 60000)) == 0) {
        failed = result.failure != NULL;
        if (failed) complain("%s: %s", function, result.failure->message);
        peach_result_clear(&result);
    }
    if (rc < 0) complain("%s", peach_error(b->fleet));
    peach_job_destroy(&job);
    return failed || rc < 0 || interrupted() ? -1 : clock_s() - begin;
}

static bool measure_maps(bench_t *b)
{
    double single[MAX_RUNS], chunked[MAX_RUNS];
    if (map_seconds(b, "peach_bench.same", peach_value_range(1, 10000), 1) < 0) return false;
    for (unsigned i = 0; i < b->runs; i++) {
        double s = map_seconds(b, "peach_bench.same", peach_value_range(1, SINGLES), 1);
        double c = map_seconds(b, "peach_bench.same", peach_value_range(1, ITEMS), 0);
        if (s < 0 || c < 0) return false;
        single[i] = SINGLES / s;
        chunked[i] = ITEMS / c;
    }
    report(b, "tasks", "tasks of one item (Python, identity)", "tasks/s", single, b->runs);
    report(b, "items", "a million ints, chunks chosen by peach", "items/s", chunked, b->runs);
    return true;
}

static bool call(bench_t *b, peach_value_t *argument, peach_value_t **value_p)
{
    peach_value_t *args = peach_value_list();
    int rc = args && argument ? peach_value_append(args, &argument) : PEACH_E_MEMORY;
    if (rc == 0) rc = peach_call(b->fleet, "peach_bench.same", &args, 60000, value_p);
    if (rc) complain("%s", rc == PEACH_E_MEMORY ? peach_status_text(rc) : peach_error(b->fleet));
    return rc == 0 && !interrupted();
}

static bool measure_latency(bench_t *b)
{
    static const struct {
        const char *name, *what;
        double part;
    } rows[] = {{"latency_p50", "a call and its result, p50", 0.5},
                {"latency_p90", "p90", 0.9},
                {"latency_p99", "p99", 0.99},
                {"latency_p999", "p99.9", 0.999}};
    histogram_t histogram = {0};
    for (unsigned i = 0; i < CALLS; i++) {
        peach_value_t *value = NULL;
        double begin = clock_s();
        if (!call(b, peach_value_int(i), &value)) return false;
        histogram_add(&histogram, (uint64_t)((clock_s() - begin) * 1e9));
        peach_value_destroy(&value);
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double us = (double)histogram_at(&histogram, rows[i].part) / 1000;
        report(b, rows[i].name, rows[i].what, "us", &us, 1);
    }
    return true;
}

static bool measure_bulk(bench_t *b)
{
    const uint64_t count = (uint64_t)BULK_MIB << 17;
    double rate[MAX_RUNS];
    /* The first ones make the memory that the others use again. */
    for (unsigned i = 0; i < b->runs + 2; i++) {
        peach_value_t *array = peach_value_array(PEACH_DTYPE_FLOAT64, 1, &count, NULL);
        peach_value_t *value = NULL;
        if (array) memset(peach_value_array_data(array, NULL), 1, count * 8);
        double begin = clock_s();
        if (!call(b, array, &value)) return false;
        if (i >= 2) rate[i - 2] = BULK_MIB * 1.048576 / (clock_s() - begin);
        peach_value_destroy(&value);
    }
    report(b, "bulk", "a float64 array of 64 MiB there and back", "MB/s", rate, b->runs);
    return true;
}

/* 1 to 20 ms, many short ones and few long ones, in no order; the sum in *seconds. */
static peach_value_t *make_naps(double *seconds)
{
    const uint64_t count = NAPS;
    peach_value_t *naps = peach_value_array(PEACH_DTYPE_FLOAT64, 1, &count, NULL);
    double *data = naps ? peach_value_array_data(naps, NULL) : NULL;
    *seconds = 0;
    for (unsigned i = 0; data && i < NAPS; i++) {
        double u = (double)(i * 163 % NAPS) / NAPS;
        data[i] = 0.001 + 0.019 * u * u;
        *seconds += data[i];
    }
    return naps;
}

static bool measure_balance(bench_t *b)
{
    double ratio[MAX_RUNS], seconds;
    for (unsigned i = 0; i < b->runs; i++) {
        double took = map_seconds(b, "peach_bench.nap", make_naps(&seconds), 0);
        if (took < 0) return false;
        ratio[i] = seconds / b->fleet_slots / took;
    }
    report(b, "balance", "400 uneven naps: ideal time / measured", "", ratio, b->runs);
    return true;
}

/* ---- what our own programs take ---- */

static double process_cpu_s(pid_t pid)
{
    char path[64];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &system) != 2)
        user = system = 0;
    fclose(file);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static double process_mib(pid_t pid)
{
    char path[64];
    unsigned long total, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%lu %lu", &total, &resident) != 2) resident = 0;
    fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static bool measure_costs(bench_t *b)
{
    enum { TASKS = 200000 };
    if (!b->local.broker) return true; /* others use it, too */
    double broker = process_cpu_s(b->local.broker), worker = process_cpu_s(b->local.worker);
    double here = process_cpu_s(getpid());
    if (map_seconds(b, "peach_bench.same", peach_value_range(1, TASKS), 1) < 0) return false;
    const double us = 1e6 / TASKS;
    broker = (process_cpu_s(b->local.broker) - broker) * us;
    worker = (process_cpu_s(b->local.worker) - worker) * us;
    here = (process_cpu_s(getpid()) - here) * us;
    double broker_mib = process_mib(b->local.broker), worker_mib = process_mib(b->local.worker);
    report(b, "broker_cpu", "CPU a task: broker", "us", &broker, 1);
    report(b, "worker_cpu", "CPU a task: worker (without its executors)", "us", &worker, 1);
    report(b, "client_cpu", "CPU a task: client", "us", &here, 1);
    report(b, "broker_memory", "memory of the broker", "MiB", &broker_mib, 1);
    report(b, "worker_memory", "memory of the worker (without its executors)", "MiB", &worker_mib,
           1);
    return true;
}

/* ---- the command ---- */

static unsigned slots_of(peach_t *fleet)
{
    peach_value_t *view;
    int64_t slots = 0;
    if (peach_view(fleet, 10000, &view) != 0) return 0;
    const peach_value_t *workers = peach_value_get(view, "workers");
    for (size_t i = 0; workers && i < peach_value_length(workers); i++) {
        int64_t some = 0;
        peach_value_as_int(peach_value_get(peach_value_at(workers, i), "slots"), &some);
        slots += some;
    }
    peach_value_destroy(&view);
    return (unsigned)slots;
}

static int run(bench_t *b)
{
    unsigned slots = b->fleet_slots = slots_of(b->fleet);
    if (slots == 0) {
        complain("the fleet has no workers: start one with peach worker, or peach init -n 4");
        return EXIT_FAILED;
    }
    if (!b->options->json)
        printf("%u slots%s; the median of %u runs (from the smallest to the largest)\n", slots,
               b->local.broker ? " on this host" : "", b->runs);
    static const struct {
        const char *name;
        bool (*measure)(bench_t *b);
    } parts[] = {{"maps", measure_maps},
                 {"latency", measure_latency},
                 {"bulk", measure_bulk},
                 {"balance", measure_balance},
                 {"costs", measure_costs}};
    bool done = true;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && done; i++)
        if (!b->options->only || strcmp(b->options->only, parts[i].name) == 0)
            done = parts[i].measure(b);
    put_number(b->report, "slots", slots);
    char *json = b->options->json && done ? peach_value_to_json(b->report) : NULL;
    if (json) puts(json);
    free(json);
    return interrupted() ? EXIT_INTERRUPTED : done ? EXIT_DONE : EXIT_FAILED;
}

/* The functions as a file in a folder of its own; false after a complaint. */
static bool write_preload(char folder[PATH_MAX], char path[PATH_MAX + 32])
{
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, PATH_MAX, "%s/peach-bench-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    FILE *file = NULL;
    if (mkdtemp(folder)) {
        snprintf(path, PATH_MAX + 32, "%s/peach_bench.py", folder);
        file = fopen(path, "w");
    }
    bool written = file && fputs(source, file) >= 0;
    if (file && fclose(file) != 0) written = false;
    if (!written) complain("cannot write to %s", folder);
    return written;
}

static int start(bench_t *b, const char *path)
{
    int code;
    if (b->options->endpoints || getenv("PEACH_BROKER")) {
        b->fleet = fleet_connect(b->options, &code);
        if (!b->fleet) return code;
        int rc = peach_init(b->fleet, 0, &path, 1, 30000, NULL);
        if (rc) complain("%s", peach_error(b->fleet));
        return exit_code_of(rc);
    }
    options_t options = *b->options;
    options.preloads = (texts_t){.items = {path}, .count = 1};
    if (!options.slots) options.slots = "4";
    double begin = clock_s();
    b->fleet = local_start(&b->local, &options, &code);
    double took = clock_s() - begin;
    if (b->fleet) report(b, "start", "start of a broker and its slots", "s", &took, 1);
    return code;
}

static int bench(const options_t *options)
{
    char folder[PATH_MAX], path[PATH_MAX + 32];
    bench_t b = {.options = options, .runs = options->runs ? options->runs : 5};
    interrupts_watch();
    if (!(b.report = peach_value_map()) || !write_preload(folder, path)) return EXIT_FAILED;
    int code = start(&b, path);
    if (code == EXIT_DONE) code = run(&b);
    peach_close(&b.fleet);
    local_stop(&b.local);
    unlink(path);
    rmdir(folder);
    peach_value_destroy(&b.report);
    return code;
}

const command_t bench_command = {
    .name = "bench",
    .bit = BENCH,
    .summary = "what the fleet can do: tasks a second, latency, bulk data",
    .about =
        "Measures a fleet: tasks and items a second, the latency of a call, bulk data, how "
        "uneven work is balanced, and what it costs.\vWith --connect or $PEACH_BROKER the fleet "
        "that runs there (with whatever else it does), else one that is started on this host "
        "and stopped again.",
    .run = bench,
};
