/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
/* The preloads that clients have pushed: one version a name, in the order of pushing, kept for
   workers that come later. */
#include "shell.h"

#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- what is remembered ---- */

static void version_clear(version_t *version)
{
    if (version->item) peach__preload_item__free_unpacked(version->item, NULL);
    payload_unref(&version->source);
    *version = (version_t){0};
}

static void preload_destroy(preload_t *preload)
{
    list_remove(&preload->node);
    version_clear(&preload->now);
    version_clear(&preload->before);
    free(preload);
}

static preload_t *find(const broker_t *b, const char *name)
{
    for (node_t *n = list_first(&b->preloads); n; n = list_next(&b->preloads, n)) {
        preload_t *preload = LIST_ITEM(n, preload_t, node);
        if (strcmp(preload->now.item->name, name) == 0) return preload;
    }
    return NULL;
}

/* Puts it where its time says: workers define functions in this order. */
static void insert(broker_t *b, preload_t *preload)
{
    node_t *n = list_first(&b->preloads);
    while (n && LIST_ITEM(n, preload_t, node)->now.item->pushed_us <= preload->now.item->pushed_us)
        n = list_next(&b->preloads, n);
    node_insert(&preload->node, n ? n : &b->preloads.head);
}

/* A copy of what a message has. false when memory is out. */
static bool version_take(version_t *version, wire_message_t *message, Peach__PreloadItem *item)
{
    Peach__Payload *source = item->source;
    item->source = NULL;
    version->item = wire_copy(&item->base);
    item->source = source;
    version->source = wire_payload(message, source);
    if (version->item && version->source) return true;
    version_clear(version);
    return false;
}

/* Remembers a preload in the place of the one of its name, which is kept until it is known
   that this one can be loaded. */
static int remember(broker_t *b, wire_message_t *message, Peach__PreloadItem *item)
{
    version_t version = {0};
    if (!version_take(&version, message, item)) return PEACH_E_MEMORY;
    preload_t *preload = find(b, item->name);
    if (!preload && !(preload = calloc(1, sizeof *preload))) {
        version_clear(&version);
        return PEACH_E_MEMORY;
    }
    list_remove(&preload->node);
    if (preload->now.item &&
        memcmp(preload->now.item->digest.data, item->digest.data, WIRE_DIGEST_BYTES) == 0) {
        version_clear(&preload->now);
    } else if (preload->now.item && preload->proven) {
        version_clear(&preload->before);
        preload->before = preload->now;
        preload->proven = false;
    } else {
        version_clear(&preload->now);
    }
    preload->now = version;
    insert(b, preload);
    return 0;
}

/* A time for what is pushed now: later than all that was pushed before, by whatever broker. */
static uint64_t push_time(broker_t *b)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    b->last_push_us = us > b->last_push_us ? us : b->last_push_us + 1;
    return b->last_push_us;
}

/* The item that a message is to have; its strings are lent. NULL when memory is out. */
static Peach__PreloadItem *item_of(const version_t *version, wire_frames_t *frames)
{
    Peach__PreloadItem *item = malloc(sizeof *item + sizeof *item->source);
    if (!item) return NULL;
    *item = *version->item;
    item->source = (Peach__Payload *)(item + 1);
    if (wire_attach(frames, version->source, item->source) == 0) return item;
    free(item);
    return NULL;
}

int library_items(broker_t *b, wire_frames_t *frames, Peach__PreloadItem ***items, size_t *count)
{
    size_t total = 0;
    for (node_t *n = list_first(&b->preloads); n; n = list_next(&b->preloads, n)) total++;
    *count = 0;
    *items = calloc(total + 1, sizeof **items);
    if (!*items) return PEACH_E_MEMORY;
    for (node_t *n = list_first(&b->preloads); n; n = list_next(&b->preloads, n)) {
        Peach__PreloadItem *item = item_of(&LIST_ITEM(n, preload_t, node)->now, frames);
        if (!item) return PEACH_E_MEMORY;
        (*items)[(*count)++] = item;
    }
    return 0;
}

void library_items_free(Peach__PreloadItem **items, size_t count)
{
    for (size_t i = 0; i < count; i++) free(items[i]);
    free(items);
}

static void gone_destroy(gone_t *gone)
{
    list_remove(&gone->node);
    free(gone);
}

void library_clear(broker_t *b)
{
    while (!list_empty(&b->preloads))
        preload_destroy(LIST_ITEM(list_first(&b->preloads), preload_t, node));
    while (!list_empty(&b->unloaded))
        gone_destroy(LIST_ITEM(list_first(&b->unloaded), gone_t, node));
}

/* ---- what workers say of it ---- */

Peach__PreloadReport *library_report(const peer_t *worker, const char *name,
                                     const ProtobufCBinaryData *digest)
{
    const Peach__Registration *r = worker->registration;
    for (size_t i = 0; r && i < r->n_preloads; i++)
        if (strcmp(r->preloads[i]->name, name) == 0 &&
            (!digest || memcmp(r->preloads[i]->digest.data, digest->data, WIRE_DIGEST_BYTES) == 0))
            return r->preloads[i];
    return NULL;
}

bool library_loading(const broker_t *b, const peer_t *worker)
{
    const Peach__Registration *r = worker->registration;
    for (size_t i = 0; i < r->n_preloads; i++)
        if (r->preloads[i]->state == PEACH__PRELOAD_STATE__PRELOAD_LOADING) return true;
    for (node_t *n = list_first(&b->preloads); n; n = list_next(&b->preloads, n)) {
        const Peach__PreloadItem *item = LIST_ITEM(n, preload_t, node)->now.item;
        if (!library_report(worker, item->name, &item->digest)) return true;
    }
    return false;
}

/* ---- to the workers ---- */

static void send_preload(broker_t *b, peer_t *worker, Peach__Preload *message,
                         const wire_frames_t *frames)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    envelope.body_case = PEACH__ENVELOPE__BODY_PRELOAD;
    envelope.preload = message;
    shell_send(b, worker, &envelope, frames);
    sched_worker_loading(b->sched, worker->worker, library_loading(b, worker));
}

/* One preload as it is now, to all workers or, with missing, to those that have not got it; a
   name in front (or NULL), whose last version failed. */
static void send_version(broker_t *b, const version_t *version, char *revert, bool missing)
{
    Peach__Preload message = PEACH__PRELOAD__INIT;
    wire_frames_t frames = {0};
    Peach__PreloadItem *item = version->item ? item_of(version, &frames) : NULL;
    message.revert = &revert;
    message.n_revert = revert != NULL;
    message.preloads = &item;
    message.n_preloads = item != NULL;
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n)) {
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        if (!peer->worker || (missing && item && library_report(peer, item->name, &item->digest)))
            continue;
        send_preload(b, peer, &message, &frames);
    }
    wire_frames_clear(&frames);
    free(item);
}

/* Until the worker has spoken of it again it is not known whether it has the preload: it may
   have failed there before, and be loaded now. */
static void expect_word(const peer_t *worker, const Peach__Preload *message)
{
    for (size_t i = 0; i < message->n_preloads; i++) {
        const Peach__PreloadItem *item = message->preloads[i];
        Peach__PreloadReport *report = library_report(worker, item->name, &item->digest);
        if (report) report->state = PEACH__PRELOAD_STATE__PRELOAD_LOADING;
    }
}

/* All that the client's message has, as it is remembered now. */
static void send_all(broker_t *b, const Peach__Preload *from)
{
    Peach__Preload message = PEACH__PRELOAD__INIT;
    wire_frames_t frames = {0};
    Peach__PreloadItem **items = calloc(from->n_preloads + 1, sizeof *items);
    message.unload = from->unload;
    message.n_unload = from->n_unload;
    message.preloads = items;
    for (size_t i = 0; items && i < from->n_preloads; i++) {
        Peach__PreloadItem *item = item_of(&find(b, from->preloads[i]->name)->now, &frames);
        if (item) items[message.n_preloads++] = item;
    }
    for (node_t *n = list_first(&b->peers); items && n; n = list_next(&b->peers, n)) {
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        if (!peer->worker) continue;
        expect_word(peer, from);
        send_preload(b, peer, &message, &frames);
    }
    library_items_free(items, message.n_preloads);
    wire_frames_clear(&frames);
}

/* ---- versions that fail ---- */

/* The version before, which some worker had loaded, counts again; without one the preload is
   forgotten. */
static void go_back(broker_t *b, preload_t *preload)
{
    version_t failed = preload->now;
    list_remove(&preload->node);
    preload->now = preload->before;
    preload->before = (version_t){0};
    preload->proven = true;
    if (preload->now.item) {
        preload->now.item->pushed_us = push_time(b);
        insert(b, preload);
    }
    log_say(LOG_NOTE, "preload %s failed on every worker: %s", failed.item->name,
            preload->now.item ? "the version before counts again" : "it is forgotten");
    send_version(b, &preload->now, failed.item->name, false);
    version_clear(&failed);
    if (!preload->now.item) free(preload);
}

/* A preload that failed on every worker that tried is not given to those that come. */
static void judge_versions(broker_t *b)
{
    node_t *next;
    for (node_t *n = list_first(&b->preloads); n; n = next) {
        next = list_next(&b->preloads, n);
        preload_t *preload = LIST_ITEM(n, preload_t, node);
        const Peach__PreloadItem *item = preload->now.item;
        bool failed = false, hope = false;
        for (node_t *p = list_first(&b->peers); p; p = list_next(&b->peers, p)) {
            const peer_t *peer = LIST_ITEM(p, peer_t, node);
            if (!peer->worker) continue;
            const Peach__PreloadReport *report = library_report(peer, item->name, &item->digest);
            bool bad = report && report->state == PEACH__PRELOAD_STATE__PRELOAD_FAILED;
            failed |= bad;
            hope |= !bad;
            if (report && report->state == PEACH__PRELOAD_STATE__PRELOAD_READY)
                preload->proven = true;
        }
        if (preload->proven) version_clear(&preload->before);
        if (failed && !hope) go_back(b, preload);
    }
}

/* ---- what workers bring that we do not know: we were started anew, or another broker was
   told of it ---- */

static const gone_t *find_gone(const broker_t *b, const char *name)
{
    for (node_t *n = list_first(&b->unloaded); n; n = list_next(&b->unloaded, n))
        if (strcmp(LIST_ITEM(n, gone_t, node)->name, name) == 0) return LIST_ITEM(n, gone_t, node);
    return NULL;
}

static void unload_there(broker_t *b, peer_t *worker, char *name)
{
    Peach__Preload message = PEACH__PRELOAD__INIT;
    message.unload = &name;
    message.n_unload = 1;
    send_preload(b, worker, &message, NULL);
}

/* Whether the report is of a later push than what we have. */
static bool is_news(const broker_t *b, const Peach__PreloadReport *report)
{
    const preload_t *known = find(b, report->name);
    return report->pushed_us > 0 && report->state != PEACH__PRELOAD_STATE__PRELOAD_FAILED &&
           (!known || known->now.item->pushed_us < report->pushed_us);
}

static void ask_for_sources(broker_t *b, peer_t *worker)
{
    const Peach__Registration *r = worker->registration;
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__SourceRequest request = PEACH__SOURCE_REQUEST__INIT;
    ProtobufCBinaryData *digests = calloc(r->n_preloads + 1, sizeof *digests);
    request.digests = digests;
    for (size_t i = 0; digests && i < r->n_preloads; i++) {
        Peach__PreloadReport *report = r->preloads[i];
        const gone_t *gone = find_gone(b, report->name);
        if (report->pushed_us > b->last_push_us) b->last_push_us = report->pushed_us;
        if (gone && report->pushed_us > 0 && report->pushed_us < gone->at_us)
            unload_there(b, worker, report->name);
        else if (is_news(b, report))
            digests[request.n_digests++] = report->digest;
    }
    envelope.body_case = PEACH__ENVELOPE__BODY_SOURCE_REQUEST;
    envelope.source_request = &request;
    if (request.n_digests > 0) shell_send(b, worker, &envelope, NULL);
    free(digests);
}

void library_restore(broker_t *b, peer_t *worker, wire_message_t *message)
{
    const Peach__Preload *preload = wire_envelope(message)->preload;
    for (size_t i = 0; i < preload->n_preloads; i++) {
        Peach__PreloadItem *item = preload->preloads[i];
        const Peach__PreloadReport *report = library_report(worker, item->name, &item->digest);
        if (!report || !is_news(b, report)) continue; /* it was asked for more than once */
        item->pushed_us = report->pushed_us;
        if (remember(b, message, item) != 0) continue;
        preload_t *known = find(b, item->name);
        known->proven = true;
        log_say(LOG_DETAIL_ONLY, "preload %s is known again, from %s:%u", item->name, worker->host,
                worker->pid);
        send_version(b, &known->now, NULL, true);
    }
}

/* ---- events ---- */

static void unload(broker_t *b, const char *name)
{
    enum { MOST = 256 };
    preload_t *preload = find(b, name);
    gone_t *gone = (gone_t *)find_gone(b, name);
    if (preload) preload_destroy(preload);
    if (!gone && !(gone = calloc(1, sizeof *gone))) return;
    list_remove(&gone->node);
    snprintf(gone->name, sizeof gone->name, "%s", name);
    gone->at_us = push_time(b);
    list_append(&b->unloaded, &gone->node);
    size_t count = 0;
    for (node_t *n = list_first(&b->unloaded); n; n = list_next(&b->unloaded, n)) count++;
    if (count > MOST) gone_destroy(LIST_ITEM(list_first(&b->unloaded), gone_t, node));
}

/* Of the names that are to be unloaded the first one that nobody has, or NULL. */
static const char *unknown_name(const broker_t *b, const Peach__Preload *message)
{
    for (size_t i = 0; i < message->n_unload; i++) {
        bool known = find(b, message->unload[i]) != NULL;
        for (node_t *n = list_first(&b->peers); n && !known; n = list_next(&b->peers, n))
            known = library_report(LIST_ITEM(n, peer_t, node), message->unload[i], NULL) != NULL;
        if (!known) return message->unload[i];
    }
    return NULL;
}

static void refuse_unload(broker_t *b, peer_t *client, uint64_t request, const char *name)
{
    char there[512], text[1024];
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__PreloadReply reply = PEACH__PRELOAD_REPLY__INIT;
    names_of_preloads(b, there, sizeof there);
    snprintf(text, sizeof text, "no worker has a preload %s (there are: %s)", name, there);
    reply.request = request;
    reply.status = PEACH_E_ARGUMENT;
    reply.message = text;
    envelope.body_case = PEACH__ENVELOPE__BODY_PRELOAD_REPLY;
    envelope.preload_reply = &reply;
    shell_send(b, client, &envelope, NULL);
}

void library_preload(broker_t *b, peer_t *client, wire_message_t *message)
{
    const Peach__Preload *preload = wire_envelope(message)->preload;
    const char *unknown = unknown_name(b, preload);
    if (unknown) {
        refuse_unload(b, client, preload->request, unknown);
        return;
    }
    for (size_t i = 0; i < preload->n_unload; i++) unload(b, preload->unload[i]);
    int rc = 0;
    for (size_t i = 0; i < preload->n_preloads && rc == 0; i++) {
        preload->preloads[i]->pushed_us = push_time(b);
        rc = remember(b, message, preload->preloads[i]);
    }
    if (rc) {
        shell_error(b, client, rc, "the preloads cannot be kept");
        return;
    }
    if (preload->n_preloads + preload->n_unload > 0) send_all(b, preload);
    for (size_t i = 0; i < preload->n_preloads; i++) preload->preloads[i]->source = NULL;
    waiters_add(b, client, preload);
}

static int tell_core(broker_t *b, peer_t *worker)
{
    const Peach__Registration *r = worker->registration;
    sched_label_t *labels = calloc(r->n_labels + 1, sizeof *labels);
    const char **functions = calloc(r->n_functions + 1, sizeof *functions);
    size_t function_count = r->n_functions;
    int rc = PEACH_E_MEMORY;
    if (labels && functions) {
        for (size_t i = 0; i < r->n_labels; i++)
            labels[i] = (sched_label_t){r->labels[i]->key, r->labels[i]->value};
        for (size_t i = 0; i < r->n_functions; i++) functions[i] = r->functions[i]->name;
        if (r->by_value) functions[function_count++] = SCHED_BY_VALUE;
        sched_worker_spec_t spec = {.slots = r->slots + r->waiting,
                                    .window = r->window,
                                    .window_bytes = r->window_bytes,
                                    .host = worker->host,
                                    .labels = labels,
                                    .label_count = r->n_labels,
                                    .functions = functions,
                                    .function_count = function_count,
                                    .loading = library_loading(b, worker)};
        if (worker->worker)
            rc = sched_worker_update(b->sched, worker->worker, &spec);
        else if ((worker->worker = sched_worker_add(b->sched, &spec, worker)) != NULL)
            rc = 0;
    }
    free(labels);
    free(functions);
    return rc;
}

void library_judge(broker_t *b)
{
    waiters_settle(b);
    judge_versions(b);
}

int library_register(broker_t *b, peer_t *worker, const Peach__Registration *registration)
{
    Peach__Registration *copy = wire_copy(&registration->base);
    if (!copy) return PEACH_E_MEMORY;
    if (worker->registration) peach__registration__free_unpacked(worker->registration, NULL);
    worker->registration = copy;
    int rc = tell_core(b, worker);
    if (rc) return rc;
    library_judge(b);
    ask_for_sources(b, worker);
    return 0;
}
