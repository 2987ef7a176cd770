/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Tasks that are to run at most once and were at a broker that was lost. Workers know what of
   them had begun: that is lost, the rest is submitted again. What no worker speaks of for as
   long as one may need to notice the loss is lost, too: it may have been at a worker that is
   gone. */
#include "job.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum { MARGIN_MS = 2000 }; /* for a worker's way to the new broker */

void doubts_begin(peach_t *self) { randombytes_buf(self->origin, sizeof self->origin); }

static void doubt_destroy(doubt_t *doubt)
{
    list_remove(&doubt->node);
    free(doubt);
}

static void end_as_lost(task_t *task)
{
    doubts_remove(task);
    job_end_task(task, PEACH_E_LOST,
                 "the broker was lost while it had the item, and no worker that is there says "
                 "whether it had begun");
}

/* All of its tasks are lost; the doubt is gone then. */
static void give_up(peach_t *self, doubt_t *doubt)
{
    size_t left = doubt->tasks;
    for (node_t *n = list_first(&self->jobs); n && left > 0; n = list_next(&self->jobs, n)) {
        peach_job_t *job = (peach_job_t *)n;
        node_t *next;
        for (node_t *t = list_first(&job->tasks); t && left > 0; t = next) {
            next = list_next(&job->tasks, t);
            task_t *task = LIST_ITEM(t, task_t, node);
            if (task->doubt != doubt) continue;
            left--;
            end_as_lost(task);
        }
    }
}

/* The doubt about the session that ends, made when it is not there. NULL when memory is out. */
static doubt_t *obtain(peach_t *self)
{
    size_t count = 0;
    for (node_t *n = list_first(&self->doubts); n; n = list_next(&self->doubts, n)) {
        doubt_t *doubt = LIST_ITEM(n, doubt_t, node);
        if (memcmp(doubt->origin, self->origin, sizeof self->origin) == 0) return doubt;
        count++;
    }
    if (count == WIRE_MAX_DOUBTS - 1) /* and the session's own */
        give_up(self, LIST_ITEM(list_first(&self->doubts), doubt_t, node));
    doubt_t *doubt = calloc(1, sizeof *doubt);
    if (!doubt) return NULL;
    memcpy(doubt->origin, self->origin, sizeof doubt->origin);
    doubt->until_ms = self->now_ms + self->session_ms + MARGIN_MS;
    list_append(&self->doubts, &doubt->node);
    return doubt;
}

bool doubts_add(peach_t *self, task_t *task)
{
    if (task->doubt) return true; /* it was not submitted since */
    if (!(task->doubt = obtain(self))) return false;
    task->doubt->tasks++;
    task->job->doubted++;
    return true;
}

void doubts_remove(task_t *task)
{
    doubt_t *doubt = task->doubt;
    if (!doubt) return;
    task->doubt = NULL;
    task->job->doubted--;
    if (--doubt->tasks == 0) doubt_destroy(doubt);
}

/* ---- what workers say ---- */

/* What had begun of the task, or is not said not to have, is lost. false when memory is out. */
static bool fail_begun(task_t *task, const Peach__UnbegunTask *said)
{
    ranges_t lost;
    size_t count;
    Peach__Failure failure = PEACH__FAILURE__INIT;
    failure.status = PEACH_E_LOST;
    failure.message = "the broker was lost, and with it the result of the item, which had begun";
    if (!ranges_copy(&lost, &task->todo)) return false;
    for (size_t i = 0; i < said->n_unbegun; i++)
        ranges_remove(&lost, said->unbegun[i]->first, said->unbegun[i]->count);
    const range_t *all = ranges_all(&lost, &count);
    for (size_t i = 0; i < count; i++) {
        failure.item = all[i].first;
        failure.count = all[i].count;
        job_fail_items(task, &failure);
    }
    ranges_clear(&lost);
    return true;
}

static void resolve(task_t *task, const Peach__UnbegunTask *said)
{
    if (!fail_begun(task, said)) return; /* it stays in doubt */
    doubts_remove(task);
    if (ranges_empty(&task->todo))
        job_forget_task(task->job, task);
    else if (job_is_cancelled(task->job))
        job_end_task(task, PEACH_E_CANCELLED, "the job was cancelled");
    else
        job_submit_task(task);
}

void doubts_take(peach_t *self, const Peach__Unbegun *message)
{
    for (size_t i = 0; i < message->n_tasks; i++) {
        task_t *task = idmap_get(self->tasks, message->tasks[i]->number);
        if (task && task->doubt &&
            memcmp(task->doubt->origin, message->origin.data, sizeof task->doubt->origin) == 0)
            resolve(task, message->tasks[i]);
    }
}

void doubts_keep_time(peach_t *self)
{
    for (node_t *n; (n = list_first(&self->doubts)) != NULL;) {
        doubt_t *doubt = LIST_ITEM(n, doubt_t, node);
        if (self->now_ms < doubt->until_ms) break;
        give_up(self, doubt);
    }
}

size_t doubts_origins(const peach_t *self, ProtobufCBinaryData origins[WIRE_MAX_DOUBTS])
{
    size_t count = 0;
    if (self->known) /* whether that session goes on is what the Welcome says */
        origins[count++] = (ProtobufCBinaryData){sizeof self->origin, (uint8_t *)self->origin};
    for (node_t *n = list_first(&self->doubts); n && count < WIRE_MAX_DOUBTS;
         n = list_next(&self->doubts, n)) {
        doubt_t *doubt = LIST_ITEM(n, doubt_t, node);
        origins[count++] = (ProtobufCBinaryData){sizeof doubt->origin, doubt->origin};
    }
    return count;
}

void doubts_clear(peach_t *self)
{
    while (!list_empty(&self->doubts))
        doubt_destroy(LIST_ITEM(list_first(&self->doubts), doubt_t, node));
}
