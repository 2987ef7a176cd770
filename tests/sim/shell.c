/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The broker's shell as broker/session.c and broker/work.c do it, over the simulated
   network. */
#include "world.h"

#include <stdio.h>
#include <string.h>

static port_t port_of(world_t *w, unsigned peer)
{
    return (port_t){w, peer, true, w->peers[peer].epoch};
}

static void flush(world_t *w, unsigned peer)
{
    sim_peer_t *p = &w->peers[peer];
    port_t port = port_of(w, peer);
    if (!p->there || !p->connected) return;
    if (outbox_send(&p->outbox, &port, NULL) == PEACH_E_LOST) p->lost = true;
}

static void send(world_t *w, unsigned peer, const message_t *message)
{
    if (!w->peers[peer].connected) return;
    net_post(&w->peers[peer].outbox, message, false);
    flush(w, peer);
}

static void keep_hold(world_t *w, unsigned peer)
{
    sim_peer_t *p = &w->peers[peer];
    if (p->outbox.bytes > HOLD_BYTES)
        sched_client_hold(w->sched, p->client, true);
    else if (p->outbox.bytes <= HOLD_BYTES / 2)
        sched_client_hold(w->sched, p->client, false);
}

static void result_to(world_t *w, unsigned client, message_t message)
{
    message.kind = RESULT;
    net_post(&w->peers[client].outbox, &message, true);
    flush(w, client);
}

/* ---- leases, as the judge needs them ---- */

static sim_lease_t *lease_find(world_t *w, uint64_t lease)
{
    for (unsigned i = 0; i < w->lease_count; i++)
        if (w->leases[i].lease == lease) return &w->leases[i];
    return NULL;
}

static void lease_drop(world_t *w, sim_lease_t *lease) { *lease = w->leases[--w->lease_count]; }

/* The worker is given up: what it held may run again. */
static void excuse_leases(world_t *w, unsigned worker, bool lost)
{
    for (unsigned i = w->lease_count; i-- > 0;) {
        sim_lease_t *l = &w->leases[i];
        if (l->worker != worker) continue;
        for (unsigned k = 0; k < ITEMS; k++) {
            if (!(l->todo >> k & 1)) continue;
            item_t *it = world_item(w, l->client, l->task, k);
            if (lost) it->held_lost++;
            if (lost) it->excuses++;
        }
        lease_drop(w, l);
    }
}

/* ---- orders of the core; users are numbers + 1 ---- */

static unsigned number_of(void *user) { return (unsigned)(uintptr_t)user - 1; }

static void on_assign(void *shell, void *worker, const sched_order_t *order)
{
    world_t *w = shell;
    unsigned i = number_of(worker), tag = number_of(order->payload);
    message_t m = {
        .kind = ASSIGN, .lease = order->lease, .client = tag / TASKS, .task = tag % TASKS};
    for (size_t r = 0; r < order->todo_count; r++)
        for (uint32_t k = 0; k < order->todo[r].count; k++)
            m.todo |= 1u << (order->todo[r].first + k);
    if (w->lease_count == LEASES) {
        world_wrong(w, "more than %d leases are out", LEASES);
        return;
    }
    for (unsigned l = 0; l < w->lease_count; l++)
        if (!w->leases[l].orphan && w->leases[l].client == m.client &&
            w->leases[l].task == m.task && w->leases[l].todo & m.todo)
            world_wrong(w, "task %u/%u: an item is on two leases", m.client, m.task);
    w->leases[w->lease_count++] = (sim_lease_t){order->lease, i, m.client, m.task, m.todo, false};
    send(w, CLIENTS + i, &m);
}

static void on_cancel(void *shell, void *worker, uint64_t lease)
{
    message_t m = {.kind = CANCEL, .lease = lease};
    send(shell, CLIENTS + number_of(worker), &m);
}

static void on_give_back(void *shell, void *worker, uint64_t lease)
{
    message_t m = {.kind = GIVE_BACK, .lease = lease};
    send(shell, CLIENTS + number_of(worker), &m);
}

static void on_fail(void *shell, const sched_owner_t *owner, uint32_t first, uint32_t count,
                    int status, const char *text, const sched_attempt_t *attempts, size_t told)
{
    (void)text, (void)attempts, (void)told;
    result_to(
        shell, number_of(owner->client),
        (message_t){.lease = owner->number, .first = first, .count = count, .status = status});
}

static void on_drained(void *shell, void *worker)
{
    message_t m = {.kind = GOODBYE};
    send(shell, CLIENTS + number_of(worker), &m);
}

static void on_release(void *shell, void *user) { (void)shell, (void)user; }

static void on_suggest(void *shell, const char *function, char *text, size_t size)
{
    (void)shell, (void)function, (void)text, (void)size;
}

/* ---- life ---- */

void shell_start(world_t *w)
{
    static const sched_ops_t ops = {on_assign, on_cancel,  on_give_back, on_fail,   on_drained,
                                    NULL,      on_release, on_release,   on_suggest};
    sched_config_t config = {.window_tasks = WINDOW_TASKS, .first_lease = w->now_ms * 1000};
    w->sched = sched_new(&config, &ops, w);
    w->lease_count = 0;
    memset(w->peers, 0, sizeof w->peers);
    for (unsigned i = 0; i < PEERS; i++) outbox_init(&w->peers[i].outbox);
    sched_tick(w->sched, w->now_ms);
}

void shell_stop(world_t *w)
{
    sched_destroy(&w->sched);
    for (unsigned i = 0; i < PEERS; i++) outbox_clear(&w->peers[i].outbox);
}

/* ---- sessions ---- */

static void session_end(world_t *w, unsigned peer, const char *why, bool left)
{
    sim_peer_t *p = &w->peers[peer];
    world_say(w, "broker: session of peer %u ends: %s", peer, why);
    sched_worker_t *worker = p->worker;
    sched_client_t *client = p->client;
    outbox_clear(&p->outbox);
    *p = (sim_peer_t){0};
    outbox_init(&p->outbox);
    if (worker) {
        excuse_leases(w, peer - CLIENTS, !left);
        if (left)
            sched_worker_leave(w->sched, worker);
        else
            sched_worker_remove(w->sched, worker, why);
    }
    for (unsigned l = 0; client && l < w->lease_count; l++)
        if (w->leases[l].client == peer) w->leases[l].orphan = true;
    if (client) sched_client_remove(w->sched, client);
}

static void detach(world_t *w, unsigned peer)
{
    sim_peer_t *p = &w->peers[peer];
    world_say(w, "broker: connection of peer %u is lost", peer);
    p->connected = p->lost = false;
    p->gone_ms = w->now_ms + RETURN_MS;
    outbox_rewind(&p->outbox, p->outbox.acknowledged);
    if (p->worker) sched_worker_connected(w->sched, p->worker, false);
}

static void add_worker(world_t *w, unsigned i)
{
    static const char *const functions[] = {"f", "g"};
    const sim_worker_t *worker = &w->workers[i];
    sched_worker_spec_t spec = {.slots = worker->slots,
                                .window = worker->slots * 4,
                                .host = "h",
                                .functions = functions,
                                .function_count = worker->all_functions ? 2 : 1};
    w->peers[CLIENTS + i].worker = sched_worker_add(w->sched, &spec, (void *)((uintptr_t)i + 1));
}

static void on_hello(world_t *w, unsigned peer, uint32_t epoch, const message_t *m)
{
    sim_peer_t *p = &w->peers[peer];
    bool resumed = false;
    if (p->there && p->session == m->session && m->attempt <= p->attempt) return; /* old */
    if (p->there) {
        if (p->connected) detach(w, peer);
        resumed = p->session == m->session && m->token == p->token &&
                  outbox_rewind(&p->outbox, m->received);
        if (!resumed) session_end(w, peer, "began anew", false);
    }
    if (!resumed) p->token = ++w->serial;
    p->there = p->connected = true;
    p->lost = false;
    p->session = m->session;
    p->attempt = m->attempt;
    p->epoch = epoch;
    p->heard_ms = w->now_ms;
    message_t welcome = {
        .kind = WELCOME, .token = p->token, .resumed = resumed, .received = p->received};
    if (!net_to_peer(w, peer, epoch, &welcome)) p->lost = true;
    w->verdict->resumed += resumed;
    w->verdict->restarted += !resumed;
    world_say(w, "broker: peer %u %s", peer, resumed ? "is back" : "joins");
    if (peer >= CLIENTS) {
        p->settling = resumed;
        if (!resumed) add_worker(w, peer - CLIENTS);
    } else if (!resumed) {
        p->client = sched_client_add(w->sched, (void *)((uintptr_t)peer + 1));
    }
    flush(w, peer);
}

/* ---- work ---- */

static void on_submit(world_t *w, unsigned client, const message_t *m)
{
    const client_t *c = &w->clients[client];
    const sim_task_t *task = &c->tasks[m->task];
    const sim_job_t *job = &c->jobs[task->job];
    void **user;
    range_t todo[ITEMS];
    size_t count = 0;
    for (uint32_t k = 0; k < task->items; k++)
        if (m->todo >> k & 1) todo[count++] = (range_t){k, 1};
    sched_task_spec_t spec = {.number = m->task + 1,
                              .items = task->items,
                              .todo = todo,
                              .todo_count = count,
                              .bytes = 1,
                              .payload = (void *)((uintptr_t)client * TASKS + m->task + 1)};
    sched_job_spec_t described = job->spec;
    if (sched_job(w->sched, w->peers[client].client, &described, &user) != 0) return;
    int rc = sched_submit(w->sched, w->peers[client].client, job->spec.id, &spec);
    if (rc) world_wrong(w, "task %u/%u is refused: %s", client, m->task, peach_status_text(rc));
}

static void on_result(world_t *w, unsigned i, const message_t *m)
{
    sched_worker_t *worker = w->peers[CLIENTS + i].worker;
    sim_lease_t *l = lease_find(w, m->lease);
    bool held = l && l->worker == i;
    sched_attempt_t attempt = {"h", 1, "it happened"};
    sched_owner_t owner;
    for (uint32_t k = m->first; held && k < m->first + m->count; k++) l->todo &= ~(1u << k);
    if (m->status == PEACH_E_DIED)
        sched_item_lost(w->sched, worker, m->lease, m->first, &attempt);
    else if (m->count > 0 &&
             !(m->status == PEACH_E_RAISED &&
               sched_item_raised(w->sched, worker, m->lease, m->first, &attempt)) &&
             sched_items_done(w->sched, worker, m->lease, m->first, m->count, m->status, &owner))
        result_to(
            w, number_of(owner.client),
            (message_t){
                .lease = owner.number, .first = m->first, .count = m->count, .status = m->status});
    if (!m->ended) return;
    if (held && (l = lease_find(w, m->lease)) != NULL) lease_drop(w, l);
    sched_lease_end(w->sched, worker, m->lease, m->elapsed_ns);
}

static void on_leases(world_t *w, unsigned i, const message_t *m)
{
    sim_peer_t *p = &w->peers[CLIENTS + i];
    uint64_t held[ORDERS];
    if (!p->settling) return;
    memcpy(held, m->leases, sizeof held);
    p->settling = false;
    for (unsigned l = w->lease_count; l-- > 0;) { /* those that never arrived */
        bool there = false;
        for (unsigned k = 0; k < m->held; k++) there |= m->leases[k] == w->leases[l].lease;
        if (w->leases[l].worker == i && !there) lease_drop(w, &w->leases[l]);
    }
    sched_worker_reconcile(w->sched, p->worker, held, m->held);
    sched_worker_connected(w->sched, p->worker, true);
}

/* ---- the table of state x message ---- */

static void answer(world_t *w, unsigned peer, uint32_t epoch)
{
    message_t m = {.kind = NO_SESSION};
    net_to_peer(w, peer, epoch, &m);
}

static void on_worker(world_t *w, unsigned peer, const message_t *m)
{
    sim_peer_t *p = &w->peers[peer];
    switch (m->kind) {
    case RESULT:
        switch (inbox_judge(&p->received, m->serial)) {
        case INBOX_TAKE: on_result(w, peer - CLIENTS, m); break;
        case INBOX_DUPLICATE: break;
        case INBOX_GAP: answer(w, peer, p->epoch);
        }
        break;
    case HELD: on_leases(w, peer - CLIENTS, m); break;
    case DRAIN: sched_worker_drain(w->sched, p->worker); break;
    case GOODBYE: session_end(w, peer, "said goodbye", true); break;
    default: break;
    }
}

static void on_client(world_t *w, unsigned peer, const message_t *m)
{
    sim_peer_t *p = &w->peers[peer];
    switch (m->kind) {
    case SUBMIT:
        switch (inbox_judge(&p->received, m->serial)) {
        case INBOX_TAKE: on_submit(w, peer, m); break;
        case INBOX_DUPLICATE: break;
        case INBOX_GAP: answer(w, peer, p->epoch);
        }
        break;
    case CANCEL: sched_cancel(w->sched, p->client, m->job); break;
    case HEARTBEAT:
        if (!outbox_acknowledge(&p->outbox, m->received))
            world_wrong(w, "client %u acknowledges what was not sent", peer);
        break;
    default: break;
    }
}

static void end_turn(world_t *w)
{
    for (unsigned i = 0; i < PEERS; i++) {
        if (!w->peers[i].there) continue;
        if (i < CLIENTS) keep_hold(w, i);
        if (w->peers[i].lost) detach(w, i);
    }
}

void shell_message(world_t *w, unsigned peer, uint32_t epoch, const message_t *m)
{
    sim_peer_t *p = &w->peers[peer];
    if (m->kind == HELLO) {
        on_hello(w, peer, epoch, m);
    } else if (!p->there || !p->connected || p->epoch != epoch) {
        answer(w, peer, epoch);
    } else {
        p->heard_ms = w->now_ms;
        if (peer < CLIENTS)
            on_client(w, peer, m);
        else
            on_worker(w, peer, m);
    }
    end_turn(w);
}

void shell_tick(world_t *w)
{
    sched_tick(w->sched, w->now_ms);
    bool beat = w->now_ms - w->beat_ms >= HEARTBEAT_MS;
    if (beat) w->beat_ms = w->now_ms;
    /* What a stopped broker did not hear is nobody's silence (proto/awake.h). */
    bool slept = w->now_ms - w->broker_stalled_until <= TICK_MS;
    for (unsigned i = 0; i < PEERS; i++) {
        sim_peer_t *p = &w->peers[i];
        if (!p->there) continue;
        if (slept) p->heard_ms = w->now_ms;
        if (slept && !p->connected) p->gone_ms = w->now_ms + RETURN_MS;
        message_t m = {.kind = HEARTBEAT, .received = p->told = p->received};
        if (!p->connected && w->now_ms >= p->gone_ms)
            session_end(w, i, "it is gone", false);
        else if (p->worker && w->now_ms - p->heard_ms > SESSION_MS)
            session_end(w, i, "it was silent", false);
        else if (beat)
            send(w, i, &m);
    }
    end_turn(w);
}
