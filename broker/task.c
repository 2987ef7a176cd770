/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "sched_core.h"

#include <stdlib.h>
#include <string.h>

struct attempt {
    attempt_t *next;
    char *host, *cause;
    uint32_t pid;
};

enum { MAX_ATTEMPTS_TOLD = 16 }; /* of an item's attempts, the newest */

static void attempts_free(attempt_t **list)
{
    for (attempt_t *next; *list; *list = next) {
        next = (*list)->next;
        free((*list)->host);
        free((*list)->cause);
        free(*list);
    }
}

int part_charge(part_t *part, const sched_attempt_t *lost)
{
    attempt_t *attempt = calloc(1, sizeof *attempt);
    if (!attempt) return PEACH_E_MEMORY;
    attempt->host = strdup(lost->host);
    attempt->cause = strdup(lost->cause);
    attempt->pid = lost->pid;
    if (!attempt->host || !attempt->cause) {
        attempts_free(&attempt);
        return PEACH_E_MEMORY;
    }
    attempt->next = part->attempts;
    part->attempts = attempt;
    part->attempt_count++;
    return 0;
}

job_t *job_find(const sched_client_t *client, uint64_t id) { return idmap_get(client->jobs, id); }

void job_end(sched_t *s, job_t *job)
{
    if (job->client) idmap_remove(job->client->jobs, job->id);
    if (job->user) s->ops.release_job(s->shell, job->user);
    if (job->flow && --job->flow->jobs == 0) flow_destroy(job->flow);
    list_remove(&job->timed_node);
    job->lane->jobs--;
    job->lane->quiet_ms = s->now_ms;
    free(job);
}

static void part_init(part_t *part, task_t *task)
{
    *part = (part_t){.task = task};
    list_append(&task->parts, &part->task_node);
}

static task_t *task_add(sched_t *s, job_t *job, const sched_task_spec_t *spec, const ranges_t *todo)
{
    task_t *task = pool_get(&s->tasks, sizeof *task);
    if (!task) return NULL;
    *task = (task_t){0};
    sched_client_t *client = job->client;
    if (idmap_put(client->numbers, spec->number, task) != 0) {
        pool_put(&s->tasks, task);
        return NULL;
    }
    task->job = job;
    task->number = spec->number;
    task->first_item = spec->first_item;
    task->items = spec->items;
    task->bytes = spec->bytes;
    task->payload = spec->payload;
    list_init(&task->parts);
    part_init(&task->whole, task);
    task->whole_used = true;
    task->whole.todo = *todo;
    list_append(&client->tasks, &task->client_node);
    client->task_count++;
    if (spec->number > client->highest) client->highest = spec->number;
    client->bytes += spec->bytes;
    job->tasks++;
    return task;
}

/* The set of the ranges in todo, or of all items. */
static int make_todo(ranges_t *set, const sched_task_spec_t *spec)
{
    uint32_t next = 0;
    ranges_init(set, 0, spec->items);
    for (size_t i = 0; i <= spec->todo_count && spec->todo_count > 0; i++) {
        uint32_t first = i < spec->todo_count ? spec->todo[i].first : spec->items;
        if (first < next) return PEACH_E_ARGUMENT;
        if (first > next && !ranges_remove(set, next, first - next)) return PEACH_E_MEMORY;
        if (i < spec->todo_count) next = first + spec->todo[i].count;
    }
    return 0;
}

int task_room(const sched_t *s, const sched_client_t *c, size_t count)
{
    /* Twice: what it cancelled may still run, and is not in its count. */
    bool full = c->task_count + count > 2 * (uint64_t)s->config.window_tasks ||
                (c->task_count > 0 && c->bytes >= 2 * s->config.window_bytes);
    return full ? PEACH_E_LIMIT : 0;
}

int task_new(sched_t *s, job_t *job, const sched_task_spec_t *spec, task_t **task_p)
{
    ranges_t todo;
    int rc = make_todo(&todo, spec);
    if (rc == 0 && !(*task_p = task_add(s, job, spec, &todo))) rc = PEACH_E_MEMORY;
    if (rc) ranges_clear(&todo);
    return rc;
}

static void task_end(sched_t *s, task_t *task)
{
    job_t *job = task->job;
    sched_client_t *client = job->client;
    s->counts.payload_bytes -= task->bytes;
    if (client) {
        list_remove(&task->client_node);
        list_remove(&task->unbegun_node);
        idmap_remove(client->numbers, task->number);
        client->task_count--;
        client->bytes -= task->bytes;
    }
    s->ops.release_payload(s->shell, task->payload);
    pool_put(&s->tasks, task);
    if (--job->tasks == 0) job_end(s, job);
}

part_t *part_split(part_t *from, uint32_t first, uint32_t count)
{
    task_t *task = from->task;
    part_t *part = calloc(1, sizeof *part);
    if (!part) return NULL;
    if (!ranges_remove(&from->todo, first, count)) {
        free(part);
        return NULL;
    }
    part_init(part, task);
    ranges_init(&part->todo, first, count);
    part->piece = from->piece;
    return part;
}

void part_end(sched_t *s, part_t *part)
{
    task_t *task = part->task;
    list_remove(&part->task_node);
    ranges_clear(&part->todo);
    attempts_free(&part->attempts);
    if (part == &task->whole)
        task->whole_used = false;
    else
        free(part);
    if (list_empty(&task->parts)) task_end(s, task);
}

void part_tell(sched_t *s, part_t *part, int status, const char *message)
{
    sched_client_t *client = part->task->job->client;
    size_t count, told = 0;
    const range_t *all = ranges_all(&part->todo, &count);
    sched_attempt_t attempts[MAX_ATTEMPTS_TOLD];
    for (attempt_t *a = part->attempts; a && told < MAX_ATTEMPTS_TOLD; a = a->next)
        attempts[told++] = (sched_attempt_t){a->host, a->pid, a->cause};
    for (size_t i = 0; i < told / 2; i++) { /* oldest first */
        sched_attempt_t swap = attempts[i];
        attempts[i] = attempts[told - 1 - i];
        attempts[told - 1 - i] = swap;
    }
    sched_owner_t owner = {0};
    if (client) owner = task_owner(part->task);
    for (size_t i = 0; i < count; i++) {
        s->counts.failed_items += all[i].count;
        if (client)
            s->ops.fail(s->shell, &owner, all[i].first, all[i].count, status, message, attempts,
                        told);
    }
    ranges_clear(&part->todo);
}

void part_fail(sched_t *s, part_t *part, int status, const char *message)
{
    part_tell(s, part, status, message);
    part_end(s, part);
}
