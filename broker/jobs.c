/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "jobs.h"

#include <stdlib.h>

enum { IDLE_MOST = 256 }; /* of a client: jobs of which the broker has no tasks */

void jobs_init(jobs_t *self)
{
    *self = (jobs_t){0};
    list_init(&self->list);
}

/* It is not seen any more. */
static void forget(shell_job_t *job)
{
    jobs_t *jobs = job->jobs;
    if (!jobs) return;
    idmap_remove(jobs->by_id, job->message->id);
    list_remove(&job->node);
    jobs->count--;
    jobs->cancelled -= job->cancelled;
    job->jobs = NULL;
    shell_job_unref(&job);
}

void jobs_clear(jobs_t *self)
{
    while (!list_empty(&self->list)) forget(LIST_ITEM(list_first(&self->list), shell_job_t, node));
    idmap_destroy(&self->by_id);
}

/* A client may begin job after job and never end one. */
static void make_room(jobs_t *self)
{
    node_t *next;
    for (node_t *n = list_first(&self->list); n && self->count > IDLE_MOST; n = next) {
        next = list_next(&self->list, n);
        shell_job_t *job = LIST_ITEM(n, shell_job_t, node);
        if (job->references > 1) return; /* so are those behind it, for the most part */
        forget(job);
    }
}

shell_job_t *jobs_obtain(jobs_t *self, const Peach__Job *message, const table_seed_t *seed,
                         uint64_t *last_id, uint64_t now_ms)
{
    if (!self->by_id && !(self->by_id = idmap_new(seed))) return NULL;
    shell_job_t *job = idmap_get(self->by_id, message->id);
    if (job) {
        list_remove(&job->node);
        list_append(&self->list, &job->node);
        job->references++;
        return job;
    }
    if (!(job = calloc(1, sizeof *job))) return NULL;
    job->references = 2; /* the list's, and the caller's */
    job->message = wire_copy(&message->base);
    if (!job->message || idmap_put(self->by_id, message->id, job) != 0) {
        if (job->message) peach__job__free_unpacked(job->message, NULL);
        free(job);
        return NULL;
    }
    job->jobs = self;
    job->id = ++*last_id;
    job->since_ms = now_ms;
    list_append(&self->list, &job->node);
    self->count++;
    make_room(self);
    return job;
}

void jobs_note(shell_job_t *job, const Peach__Job *message)
{
    if (message->known_items > job->items) job->items = message->known_items;
    job->final |= message->known_final;
}

void jobs_count(shell_job_t *job, uint32_t items, bool failed)
{
    if (!job) return;
    *(failed ? &job->failed : &job->done) += items;
    if (job->final && job->done + job->failed >= job->items) forget(job);
}

bool jobs_cancel(shell_job_t *job)
{
    if (job->cancelled) return false;
    job->cancelled = true;
    job->jobs->cancelled++;
    return true;
}

bool jobs_is_cancelled(const jobs_t *self, uint64_t number)
{
    const shell_job_t *job = self->cancelled > 0 ? idmap_get(self->by_id, number) : NULL;
    return job && job->cancelled;
}

void jobs_forget(jobs_t *self, uint64_t number)
{
    shell_job_t *job = self->by_id ? idmap_get(self->by_id, number) : NULL;
    if (job) forget(job);
}

void shell_job_ref(shell_job_t *self) { self->references++; }

void shell_job_unref(shell_job_t **self_p)
{
    shell_job_t *self = *self_p;
    *self_p = NULL;
    if (!self || --self->references > 0) return;
    peach__job__free_unpacked(self->message, NULL);
    free(self);
}
