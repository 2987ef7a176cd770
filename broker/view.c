/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "shell.h"

#include "descriptors.h"
#include "version.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* Everything that a Status points to, in one place that is freed whole. */
typedef struct {
    Peach__Status message;
    Peach__WorkerStatus *workers;
    Peach__ClientStatus *clients;
    Peach__FunctionStatus *functions;
    Peach__JobStatus *jobs;
    size_t function_capacity, job_capacity;
    char (*ids)[2 * WIRE_SESSION_BYTES + 1];
    table_t *index; /* function name and preload digest -> position + 1 */
} view_t;

static void add_function(view_t *v, const peer_t *peer, const Peach__Function *function)
{
    const Peach__PreloadReport *preload = peer->registration->preloads[function->preload];
    char key[WIRE_MAX_NAME + 1 + WIRE_DIGEST_BYTES];
    size_t length = strlen(function->name);
    memcpy(key, function->name, length);
    memcpy(key + length, preload->digest.data, WIRE_DIGEST_BYTES);
    uintptr_t at = (uintptr_t)table_get(v->index, key, length + WIRE_DIGEST_BYTES);
    if (at == 0) {
        if (v->message.n_functions == v->function_capacity) return;
        at = ++v->message.n_functions;
        Peach__FunctionStatus *status = &v->functions[at - 1];
        peach__function_status__init(status);
        status->name = function->name;
        status->preload = preload->name;
        status->digest = preload->digest;
        table_put(v->index, key, length + WIRE_DIGEST_BYTES, (void *)at);
    }
    v->functions[at - 1].workers++;
    v->functions[at - 1].slots += peer->registration->slots;
}

static void add_worker(broker_t *b, view_t *v, const peer_t *peer, char *id)
{
    Peach__WorkerStatus *w = &v->workers[v->message.n_workers++];
    const Peach__Registration *r = peer->registration;
    peach__worker_status__init(w);
    w->id = id;
    w->host = peer->host;
    w->pid = peer->pid;
    w->slots = r->slots;
    w->running = sched_worker_leases(peer->worker);
    w->done_items = peer->done_items;
    w->failed_items = peer->failed_items;
    w->draining = sched_worker_draining(peer->worker);
    w->connected = peer->connected;
    w->ready = !library_loading(b, peer);
    w->labels = r->labels;
    w->n_labels = r->n_labels;
    w->preloads = r->preloads;
    w->n_preloads = r->n_preloads;
    w->silent_ms = b->now_ms - peer->heard_ms;
    for (size_t i = 0; i < r->n_functions; i++) add_function(v, peer, r->functions[i]);
}

static void add_jobs(const broker_t *b, view_t *v, const peer_t *peer, char *id)
{
    for (node_t *n = list_first(&peer->jobs.list); n && v->message.n_jobs < v->job_capacity;
         n = list_next(&peer->jobs.list, n)) {
        const shell_job_t *job = LIST_ITEM(n, shell_job_t, node);
        Peach__JobStatus *j = &v->jobs[v->message.n_jobs];
        peach__job_status__init(j);
        sched_job_counts(peer->client, job->message->id, &j->queued, &j->running);
        /* Who does not say how many items there are has ended it, for all that is known. */
        if (job->items == 0 && j->queued + j->running == 0) continue;
        v->message.n_jobs++;
        j->id = job->id;
        j->client = id;
        j->function = job->message->function;
        j->known_items = job->items;
        j->known_final = job->final;
        j->done_items = job->done;
        j->failed_items = job->failed;
        j->age_ms = b->now_ms - job->since_ms;
    }
}

static void add_client(view_t *v, const peer_t *peer, char *id)
{
    Peach__ClientStatus *c = &v->clients[v->message.n_clients++];
    peach__client_status__init(c);
    c->id = id;
    c->host = peer->host;
    c->pid = peer->pid;
    sched_client_counts(peer->client, &c->queued, &c->running);
    c->done_items = peer->done_items;
}

static void fill_counts(const broker_t *b, Peach__Status *m)
{
    sched_counts_t counts;
    sched_counts(b->sched, &counts);
    m->version = PEACH_VERSION;
    m->endpoint = (char *)b->endpoint;
    m->uptime_ms = b->now_ms - b->started_ms;
    m->queued_tasks = counts.queued_tasks;
    m->running_tasks = counts.leases;
    m->done_items = counts.done_items;
    m->failed_items = counts.failed_items;
    m->retried_items = counts.retried_items;
    m->payload_bytes = counts.payload_bytes;
    m->bad_messages = b->bad_messages;
    m->bad_connections = b->bad_connections;
    m->refused_connections = b->refused_connections;
    descriptors_count(&m->descriptors, &m->descriptor_limit);
    m->draining = b->draining;
}

/* An array of pointers to count elements of that size. */
static void *pointers_to(void *elements, size_t size, size_t count)
{
    void **pointers = calloc(count + 1, sizeof *pointers);
    for (size_t i = 0; pointers && i < count; i++) pointers[i] = (char *)elements + i * size;
    return pointers;
}

void view_status(broker_t *b, peer_t *peer, uint64_t request)
{
    view_t v = {0};
    size_t peers = 0, functions = 0, jobs = 0;
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n)) {
        const peer_t *p = LIST_ITEM(n, peer_t, node);
        peers++;
        functions += p->worker ? p->registration->n_functions : 0;
        jobs += p->jobs.count;
    }
    table_seed_t seed = {{0}};
    randombytes_buf(&seed, sizeof seed);
    v.function_capacity = functions < WIRE_MAX_NAMES ? functions : WIRE_MAX_NAMES;
    v.job_capacity = jobs < WIRE_MAX_BATCH ? jobs : WIRE_MAX_BATCH;
    v.jobs = calloc(v.job_capacity + 1, sizeof *v.jobs);
    v.workers = calloc(peers + 1, sizeof *v.workers);
    v.clients = calloc(peers + 1, sizeof *v.clients);
    v.functions = calloc(v.function_capacity + 1, sizeof *v.functions);
    v.ids = calloc(peers + 1, sizeof *v.ids);
    v.index = table_new(&seed);
    if (!v.workers || !v.clients || !v.functions || !v.jobs || !v.ids || !v.index) goto done;
    peach__status__init(&v.message);
    v.message.request = request;
    fill_counts(b, &v.message);
    size_t i = 0;
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n), i++) {
        const peer_t *p = LIST_ITEM(n, peer_t, node);
        sodium_bin2hex(v.ids[i], sizeof v.ids[i], p->session, sizeof p->session);
        if (p->worker) {
            add_worker(b, &v, p, v.ids[i]);
        } else {
            add_client(&v, p, v.ids[i]);
            add_jobs(b, &v, p, v.ids[i]);
        }
    }
    v.message.workers = pointers_to(v.workers, sizeof *v.workers, v.message.n_workers);
    v.message.clients = pointers_to(v.clients, sizeof *v.clients, v.message.n_clients);
    v.message.functions = pointers_to(v.functions, sizeof *v.functions, v.message.n_functions);
    v.message.jobs = pointers_to(v.jobs, sizeof *v.jobs, v.message.n_jobs);
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    envelope.body_case = PEACH__ENVELOPE__BODY_STATUS;
    envelope.status = &v.message;
    if (v.message.workers && v.message.clients && v.message.functions && v.message.jobs)
        shell_send(b, peer, &envelope, NULL);
done:
    free(v.message.workers);
    free(v.message.clients);
    free(v.message.functions);
    free(v.message.jobs);
    free(v.jobs);
    free(v.workers);
    free(v.clients);
    free(v.functions);
    free(v.ids);
    table_destroy(&v.index);
}
