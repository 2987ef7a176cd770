/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "world.h"

void judge_broker(world_t *w)
{
    const char *wrong = sched_verify(w->sched);
    if (wrong) world_wrong(w, "the core's structures: %s", wrong);
    for (unsigned i = 0; i < w->client_count; i++) {
        sim_peer_t *p = &w->peers[i];
        uint64_t queued, running;
        if (!p->there) continue;
        sched_client_counts(p->client, &queued, &running);
        if (queued > 2 * WINDOW_TASKS * ITEMS)
            world_wrong(w, "client %u has %llu parts queued, over its window", i,
                        (unsigned long long)queued);
        /* A client that does not read: what is over the limit was already running. */
        size_t bound = HOLD_BYTES + (size_t)WORKERS * ORDERS * ITEMS * (sizeof(message_t) + 16);
        if (p->outbox.bytes > bound)
            world_wrong(w, "client %u has %zu bytes of results waiting", i, p->outbox.bytes);
    }
}

void judge_run(world_t *w, unsigned client, unsigned task, unsigned item)
{
    client_t *c = &w->clients[client];
    const sched_job_spec_t *job = &c->jobs[c->tasks[task].job].spec;
    item_t *it = world_item(w, client, task, item);
    it->runs++;
    w->verdict->runs++;
    if (job->retries == 0 && it->runs > 1)
        world_wrong(w, "item %u/%u/%u may run once only and runs again", client, task, item);
    else if (it->runs > 1 + it->excuses)
        world_wrong(w, "item %u/%u/%u runs for the %uth time, with %u reasons to", client, task,
                    item, it->runs, it->excuses);
}

void judge_end(world_t *w, unsigned client, unsigned task, unsigned item, int status)
{
    client_t *c = &w->clients[client];
    const sim_job_t *job = &c->jobs[c->tasks[task].job];
    item_t *it = world_item(w, client, task, item);
    world_say(w, "client %u has item %u/%u/%u: %s", client, client, task, item,
              peach_status_name(status));
    if (it->ended && it->ended_in == c->begun)
        world_wrong(w, "item %u/%u/%u ended twice in one session", client, task, item);
    if (it->ended) return; /* what a lost session had delivered */
    it->ended = true;
    it->ended_in = c->begun;
    it->status = status;
    w->verdict->items++;
    unsigned attempts = job->spec.retries + 1, losses = it->died + it->held_lost;
    bool fine = status == 0                   ? it->runs > 0
                : status == PEACH_E_RAISED    ? it->raises && it->runs > 0
                : status == PEACH_E_CANCELLED ? job->cancelled
                : status == PEACH_E_TIMEOUT   ? job->spec.deadline_ms || job->spec.queue_ms
                : status == PEACH_E_DIED || status == PEACH_E_LOST
                    ? losses + it->raised >= attempts || (attempts == 1 && it->excuses > 0)
                : status == PEACH_E_NO_FUNCTION ? job->spec.function[0] == 'g'
                                                : false;
    if (!fine)
        world_wrong(w, "item %u/%u/%u ends with %s after %u runs, %u deaths, %u lost workers",
                    client, task, item, peach_status_name(status), it->runs, it->died,
                    it->held_lost);
}

bool judge_complete(const world_t *w)
{
    for (unsigned i = 0; i < w->client_count; i++) {
        const client_t *c = &w->clients[i];
        for (unsigned t = 0; c->alive && t < c->task_count; t++)
            for (unsigned k = 0; k < c->tasks[t].items; k++)
                if (!c->tasks[t].item[k].ended) return false;
    }
    return true;
}

void judge_rest(world_t *w)
{
    sched_counts_t counts;
    if (!judge_complete(w)) {
        world_wrong(w, "an item of a live client has not ended although all is well again");
        return;
    }
    sched_counts(w->sched, &counts);
    if (counts.leases || counts.queued_tasks || counts.payload_bytes)
        world_wrong(w, "the broker still has %llu leases, %llu tasks, %llu bytes",
                    (unsigned long long)counts.leases, (unsigned long long)counts.queued_tasks,
                    (unsigned long long)counts.payload_bytes);
}
