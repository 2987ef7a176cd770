/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* What goes on in a fleet, for people: status and workers; functions are in functions.c. */
#include "view.h"

#include "clock.h"
#include "columns.h"
#include "connection.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANSWER_MS = 5000 };

/* ---- reading a view ---- */

const char *view_text(const peach_value_t *map, const char *key)
{
    const peach_value_t *value = peach_value_get(map, key);
    const char *found = value ? peach_value_as_string(value, NULL) : NULL;
    return found ? found : "";
}

long long view_number(const peach_value_t *map, const char *key)
{
    const peach_value_t *value = peach_value_get(map, key);
    int64_t found = 0;
    if (value) peach_value_as_int(value, &found);
    return found;
}

size_t view_length(const peach_value_t *map, const char *key)
{
    const peach_value_t *list = peach_value_get(map, key);
    return list ? peach_value_length(list) : 0;
}

int view_show(const options_t *options, const char *key, void (*print)(const peach_value_t *view))
{
    int code;
    peach_value_t *view;
    peach_t *fleet = fleet_connect(options, &code);
    if (!fleet) return code;
    int rc = peach_view(fleet, fleet_time_left(options, ANSWER_MS), &view);
    char *json = rc == 0 && options->json
                     ? peach_value_to_json(key ? peach_value_get(view, key) : view)
                     : NULL;
    if (rc == 0 && options->json && !json) rc = PEACH_E_MEMORY;
    if (rc)
        complain("%s", rc == PEACH_E_MEMORY ? peach_status_text(rc) : peach_error(fleet));
    else if (json)
        puts(json);
    else
        print(view);
    free(json);
    peach_value_destroy(&view);
    peach_close(&fleet);
    return exit_code_of(rc);
}

/* ---- status ---- */

static void print_count(long long count, const char *noun, const char *end)
{
    printf("%lld %s%s%s", count, noun, count == 1 ? "" : "s", end);
}

/* This very command is a client, too. */
static bool is_myself(const peach_value_t *client)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    return view_number(client, "pid") == getpid() && strcmp(view_text(client, "host"), host) == 0;
}

static size_t count_others(const peach_value_t *view)
{
    size_t others = 0;
    const peach_value_t *clients = peach_value_get(view, "clients");
    for (size_t i = 0; i < view_length(view, "clients"); i++)
        others += !is_myself(peach_value_at(clients, i));
    return others;
}

static void print_counts(const peach_value_t *view)
{
    printf("broker     %s, peach %s, up %s\n", view_text(view, "endpoint"),
           view_text(view, "version"), duration_of((uint64_t)view_number(view, "uptime_ms")).text);
    printf("fleet      ");
    print_count((long long)view_length(view, "workers"), "worker", ", ");
    print_count(view_number(view, "slots"), "slot", ", ");
    print_count((long long)functions_count(view), "function", ", ");
    print_count((long long)count_others(view), "client", "\n");
    printf("tasks      %lld queued, %lld running, ", view_number(view, "queued_tasks"),
           view_number(view, "running_tasks"));
    print_count(view_number(view, "payload_bytes"), "byte", " held\n");
    printf("items      %lld done, %lld failed, %lld retried\n", view_number(view, "done_items"),
           view_number(view, "failed_items"), view_number(view, "retried_items"));
    printf("strangers  ");
    print_count(view_number(view, "bad_messages"), "bad message", ", ");
    print_count(view_number(view, "bad_connections"), "bad connection", "\n");
}

static void add_job(columns_t *table, const peach_value_t *job)
{
    long long done = view_number(job, "done"), failed = view_number(job, "failed");
    long long items = view_number(job, "items"), age_ms = view_number(job, "age_ms");
    bool final = false;
    const peach_value_t *value = peach_value_get(job, "items_final");
    if (value) peach_value_as_bool(value, &final);
    columns_add(table, "%lld", view_number(job, "id"));
    columns_next(table);
    columns_add(table, "%s", view_text(job, "function"));
    columns_next(table);
    columns_add(table, "%s:%lld", view_text(job, "host"), view_number(job, "pid"));
    columns_next(table);
    columns_add(table, "%lld/%lld%s", done + failed, items, final ? "" : "+");
    columns_next(table);
    columns_add(table, "%lld", failed);
    columns_next(table);
    columns_add(table, "%lld", view_number(job, "running"));
    columns_next(table);
    columns_add(table, "%lld", view_number(job, "queued"));
    columns_next(table);
    columns_add(table, "%s", duration_of((uint64_t)age_ms).text);
    columns_next(table);
    double left = done + failed > 0
                      ? (double)age_ms * (double)(items - done - failed) / (double)(done + failed)
                      : 0;
    if (final && done + failed > 0) columns_add(table, "%s", duration_of((uint64_t)left).text);
    columns_end_row(table);
}

static bool has_job(const peach_value_t *view, const peach_value_t *client)
{
    const peach_value_t *jobs = peach_value_get(view, "jobs");
    for (size_t i = 0; i < view_length(view, "jobs"); i++)
        if (strcmp(view_text(peach_value_at(jobs, i), "client"), view_text(client, "id")) == 0)
            return true;
    return false;
}

static void print_jobs(const peach_value_t *view)
{
    if (view_length(view, "jobs") == 0) return;
    columns_t *table =
        columns_new(">JOB FUNCTION CLIENT >ENDED >FAILED >RUNNING >QUEUED >AGE >LEFT");
    for (size_t i = 0; i < view_length(view, "jobs"); i++)
        add_job(table, peach_value_at(peach_value_get(view, "jobs"), i));
    putchar('\n');
    columns_print(&table);
}

/* Those that are connected and have no job now. */
static void print_idle_clients(const peach_value_t *view)
{
    const peach_value_t *clients = peach_value_get(view, "clients");
    const char *comma = "\nwithout a job: ";
    for (size_t i = 0; i < view_length(view, "clients"); i++) {
        const peach_value_t *client = peach_value_at(clients, i);
        if (is_myself(client) || has_job(view, client)) continue;
        printf("%s%s:%lld", comma, view_text(client, "host"), view_number(client, "pid"));
        comma = ", ";
    }
    if (*comma == ',') putchar('\n');
}

static void print_status(const peach_value_t *view)
{
    print_counts(view);
    print_jobs(view);
    print_idle_clients(view);
}

static int status(const options_t *options) { return view_show(options, NULL, print_status); }

const command_t status_command = {
    .name = "status",
    .bit = STATUS,
    .summary = "what the broker does, its jobs and clients",
    .about = "Shows what the broker does: the fleet, jobs (how far, of whom, how long still) and "
             "clients.",
    .run = status,
};

/* ---- workers ---- */

static void add_preloads(columns_t *table, const peach_value_t *worker)
{
    const peach_value_t *preloads = peach_value_get(worker, "preloads");
    for (size_t i = 0; i < view_length(worker, "preloads"); i++) {
        const peach_value_t *preload = peach_value_at(preloads, i);
        const char *state = view_text(preload, "state");
        bool ready = strcmp(state, "ready") == 0;
        columns_add(table, "%s%s%s%s%s", i ? " " : "", view_text(preload, "name"),
                    ready ? "" : " (", ready ? "" : state, ready ? "" : ")");
    }
}

static void print_workers(const peach_value_t *view)
{
    static const char *const numbers[] = {"pid", "slots", "tasks", "done", "failed"};
    const peach_value_t *workers = peach_value_get(view, "workers");
    columns_t *table =
        columns_new("ID HOST >PID >SLOTS >TASKS >DONE >FAILED STATE LABELS PRELOADS");
    for (size_t i = 0; i < view_length(view, "workers"); i++) {
        const peach_value_t *worker = peach_value_at(workers, i);
        const peach_value_t *labels = peach_value_get(worker, "labels");
        columns_add(table, "%.8s", view_text(worker, "id"));
        columns_next(table);
        columns_add(table, "%s", view_text(worker, "host"));
        columns_next(table);
        for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++) {
            columns_add(table, "%lld", view_number(worker, numbers[j]));
            columns_next(table);
        }
        columns_add(table, "%s", view_text(worker, "state"));
        columns_next(table);
        for (size_t j = 0; j < view_length(worker, "labels"); j++)
            columns_add(table, "%s%s=%s", j ? "," : "", peach_value_key(labels, j),
                        view_text(labels, peach_value_key(labels, j)));
        columns_next(table);
        add_preloads(table, worker);
        columns_end_row(table);
    }
    columns_print(&table);
}

static int workers(const options_t *options)
{
    return view_show(options, "workers", print_workers);
}

const command_t workers_command = {
    .name = "workers",
    .bit = WORKERS,
    .summary = "the workers and their state",
    .about = "Shows the workers of the fleet.",
    .run = workers,
};
