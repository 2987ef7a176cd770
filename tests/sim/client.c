/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* A client: submits its tasks as its credit allows, takes results, goes on after it lost
   its broker. */
#include "world.h"

static void make_job(world_t *w, sim_job_t *job, unsigned id)
{
    static const uint32_t retries[] = {0, 1, 2, 2};
    *job = (sim_job_t){.spec = {.id = id,
                                .function = world_dice(w, 4) ? "f" : "g",
                                .priority = world_dice(w, 3),
                                .depth = world_dice(w, 2) ? 0 : world_dice(w, 4),
                                .retries = retries[world_dice(w, 4)],
                                .retry_errors = world_dice(w, 4) == 0,
                                .weight = 1 + world_dice(w, 3)}};
    if (world_dice(w, 8) == 0) job->spec.deadline_ms = 200 + world_dice(w, 3000);
    if (world_dice(w, 8) == 0) job->spec.queue_ms = 100 + world_dice(w, 1000);
}

static void make_item(world_t *w, item_t *item)
{
    static const unsigned mischief[] = {1, 1, 2, 99};
    *item = (item_t){.duration_ms = world_dice(w, 20)};
    if (world_dice(w, 40) == 0) item->duration_ms = world_dice(w, 3 * SESSION_MS);
    if (world_dice(w, 25) == 0)
        item->poison = true;
    else if (world_dice(w, 25) == 0)
        item->raises = true;
    item->mischief = mischief[world_dice(w, 4)];
}

void client_start(world_t *w, unsigned i)
{
    client_t *c = &w->clients[i];
    uint64_t at = 1;
    *c = (client_t){.alive = true, .session = ++w->serial, .heard_ms = w->now_ms};
    c->slow_ms = world_dice(w, 4) == 0 ? world_dice(w, 800) : TICK_MS / 2;
    unsigned most = w->schedule.tasks < TASKS ? w->schedule.tasks : TASKS;
    c->task_count = most ? 1 + world_dice(w, TASKS) : 0;
    for (unsigned j = 0; j < JOBS; j++) make_job(w, &c->jobs[j], j);
    for (unsigned t = 0; t < TASKS; t++) {
        sim_task_t *task = &c->tasks[t];
        at += world_dice(w, 3) ? 0 : world_dice(w, 400);
        *task = (sim_task_t){
            .job = world_dice(w, JOBS), .items = 1 + world_dice(w, ITEMS), .at_ms = at};
        for (unsigned k = 0; k < ITEMS; k++) make_item(w, &task->item[k]);
        if (t < c->task_count) world_at(w, at, (event_t){.what = TASK_COMES, .who = i});
    }
    if (c->task_count > most) c->task_count = most;
}

static bool finished(const sim_task_t *task)
{
    for (unsigned k = 0; k < task->items; k++)
        if (!task->item[k].ended) return false;
    return true;
}

static void submit(world_t *w, unsigned i, unsigned t)
{
    sim_task_t *task = &w->clients[i].tasks[t];
    client_t *c = &w->clients[i];
    message_t m = {.kind = SUBMIT, .task = t, .serial = c->submits + 1};
    for (unsigned k = 0; k < task->items; k++)
        if (!task->item[k].ended) m.todo |= 1u << k;
    world_say(w, "client %u submits task %u, items %x", i, t, m.todo);
    if (!net_to_broker(w, i, &m)) return;
    task->submitted = true;
    task->serial = ++c->submits;
}

static void fail_here(world_t *w, unsigned i, unsigned t, int status)
{
    sim_task_t *task = &w->clients[i].tasks[t];
    for (unsigned k = 0; k < task->items; k++)
        if (!task->item[k].ended) judge_end(w, i, t, k, status);
}

static void feed(world_t *w, unsigned i)
{
    client_t *c = &w->clients[i];
    unsigned flying = 0;
    for (unsigned t = 0; t < c->task_count; t++)
        flying += c->tasks[t].submitted && !finished(&c->tasks[t]);
    for (unsigned t = 0; t < c->task_count && c->welcomed; t++) {
        sim_task_t *task = &c->tasks[t];
        if (task->submitted || task->at_ms > w->now_ms || finished(task)) continue;
        if (c->jobs[task->job].cancelled) {
            fail_here(w, i, t, PEACH_E_CANCELLED);
        } else if (flying < WINDOW_TASKS) {
            submit(w, i, t);
            flying++;
        }
    }
}

static void resubmit(world_t *w, unsigned i, bool resumed, uint64_t received)
{
    client_t *c = &w->clients[i];
    for (unsigned t = 0; t < c->task_count; t++) {
        sim_task_t *task = &c->tasks[t];
        if (!task->submitted || finished(task) || (resumed && task->serial <= received)) continue;
        const sim_job_t *job = &c->jobs[task->job];
        for (unsigned k = 0; k < task->items && !resumed; k++)
            if (!task->item[k].ended) task->item[k].excuses++;
        if (!resumed && job->cancelled)
            fail_here(w, i, t, PEACH_E_CANCELLED);
        else if (!resumed && job->spec.retries == 0)
            fail_here(w, i, t, PEACH_E_LOST);
        else
            submit(w, i, t);
    }
}

static void send_cancels(world_t *w, unsigned i)
{
    client_t *c = &w->clients[i];
    if (!c->welcomed) return;
    for (unsigned j = 0; j < JOBS; j++) {
        message_t m = {.kind = CANCEL, .job = j};
        if (c->jobs[j].cancelled && !c->jobs[j].cancel_sent)
            c->jobs[j].cancel_sent = net_to_broker(w, i, &m);
    }
}

void client_cancel(world_t *w, unsigned i, unsigned job)
{
    client_t *c = &w->clients[i];
    if (!c->alive || c->jobs[job].cancelled) return;
    c->jobs[job].cancelled = true;
    send_cancels(w, i);
}

static void on_welcome(world_t *w, unsigned i, const message_t *m)
{
    client_t *c = &w->clients[i];
    bool resumed = m->resumed && c->known && c->token == m->token;
    if (m->resumed && !resumed) world_wrong(w, "client %u is to go on with no session", i);
    world_say(w, "client %u is welcome%s", i, resumed ? " back" : "");
    c->token = m->token;
    c->welcomed = c->known = true;
    c->heard_ms = w->now_ms;
    c->submits = m->received;
    if (!resumed) {
        c->begun++;
        c->submits = c->received = 0;
    }
    resubmit(w, i, resumed, c->submits);
    /* A cancellation may have been lost with the connection. */
    for (unsigned j = 0; j < JOBS; j++) c->jobs[j].cancel_sent = false;
    send_cancels(w, i);
    feed(w, i);
}

static void on_result(world_t *w, unsigned i, const message_t *m)
{
    client_t *c = &w->clients[i];
    switch (inbox_judge(&c->received, m->serial)) {
    case INBOX_DUPLICATE: return;
    case INBOX_GAP: world_wrong(w, "client %u misses results", i); return;
    case INBOX_TAKE: break;
    }
    for (uint32_t k = m->first; k < m->first + m->count; k++)
        judge_end(w, i, (unsigned)m->lease - 1, k, m->status);
    feed(w, i);
}

void client_message(world_t *w, unsigned i, const message_t *m)
{
    client_t *c = &w->clients[i];
    if (!c->alive) return;
    c->heard_ms = w->now_ms;
    switch (m->kind) {
    case WELCOME: on_welcome(w, i, m); break;
    case NO_SESSION:
        if (c->welcomed) client_disconnected(w, i);
        break;
    case RESULT:
        if (c->welcomed) on_result(w, i, m);
        break;
    default: break;
    }
}

void client_tick(world_t *w, unsigned i)
{
    client_t *c = &w->clients[i];
    if (!c->alive) return;
    if (w->now_ms - c->stalled_until <= TICK_MS) c->heard_ms = w->now_ms;
    if (w->now_ms - c->heard_ms > SESSION_MS / 2) {
        c->heard_ms = w->now_ms;
        net_break(w, i, 0);
        return;
    }
    if (!c->welcomed) {
        message_t hello = {.kind = HELLO,
                           .attempt = c->attempt + 1,
                           .session = c->session,
                           .token = c->known ? c->token : 0,
                           .received = c->received};
        if (c->hello_ms != 0 || !net_to_broker(w, i, &hello)) return;
        c->hello_ms = w->now_ms;
        c->attempt++;
        return;
    }
    if (w->now_ms - c->beat_ms >= c->slow_ms) { /* a slow reader acknowledges late */
        message_t beat = {.kind = HEARTBEAT, .received = c->received};
        c->beat_ms = w->now_ms;
        net_to_broker(w, i, &beat);
    }
    send_cancels(w, i);
    feed(w, i);
}

void client_disconnected(world_t *w, unsigned i)
{
    w->clients[i].welcomed = false;
    w->clients[i].hello_ms = 0;
}
