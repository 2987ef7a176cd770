/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The preloads of this worker: its own and those that brokers sent, one version a name, in the
   order in which they were pushed. */
#include "inside.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_BYTES = 64 << 20, AHEAD = 1024 }; /* of a slot: orders, if they are short */

/* ---- items ---- */

static void version_clear(worker_t *w, version_t *version)
{
    if (version->source.path) store_remove(&w->store, version->source.path);
    preload_clear(&version->source);
    *version = (version_t){0};
}

void shelf_item_unload(shelf_item_t *item)
{
    for (size_t i = 0; i < item->function_count; i++) free(item->functions[i]);
    free(item->functions);
    item->functions = NULL;
    item->function_count = 0;
}

static void item_clear(worker_t *w, shelf_item_t *item)
{
    version_clear(w, &item->now);
    version_clear(w, &item->before);
    shelf_item_unload(item);
    free(item->error);
    free(item->files);
    *item = (shelf_item_t){0};
}

static shelf_item_t *add(worker_t *w)
{
    shelf_item_t *grown = realloc(w->shelf, (w->shelf_count + 1) * sizeof *grown);
    if (!grown) return NULL;
    w->shelf = grown;
    shelf_item_t *item = &w->shelf[w->shelf_count++];
    *item = (shelf_item_t){0};
    return item;
}

static void remove_at(worker_t *w, size_t i)
{
    item_clear(w, &w->shelf[i]);
    memmove(&w->shelf[i], &w->shelf[i + 1], (--w->shelf_count - i) * sizeof *w->shelf);
}

/* What is in use under that name. */
static shelf_item_t *find(const worker_t *w, const char *name)
{
    for (size_t i = 0; i < w->shelf_count; i++)
        if (!w->shelf[i].refused && strcmp(w->shelf[i].now.source.name, name) == 0)
            return &w->shelf[i];
    return NULL;
}

/* What was pushed later defines its functions later. */
static void sort(worker_t *w)
{
    for (size_t i = 1; i < w->shelf_count; i++) {
        shelf_item_t item = w->shelf[i];
        size_t at = i;
        for (; at > 0 && w->shelf[at - 1].now.pushed_us > item.now.pushed_us; at--)
            w->shelf[at] = w->shelf[at - 1];
        w->shelf[at] = item;
    }
}

/* It is to be loaded, by all executors. */
static void renew(worker_t *w, shelf_item_t *item)
{
    loads_forget(w, item);
    item->request = ++w->last_request;
    item->offered = item->state == PEACH__PRELOAD_STATE__PRELOAD_READY || item->offered;
    item->state = PEACH__PRELOAD_STATE__PRELOAD_LOADING;
    free(item->error);
    item->error = NULL;
}

void shelf_clear(worker_t *w)
{
    while (w->shelf_count > 0) remove_at(w, w->shelf_count - 1);
    free(w->shelf);
    w->shelf = NULL;
    store_clear(&w->store);
}

void shelf_tell(worker_t *w)
{
    w->registration++; /* link_keep sends it */
    w->shelf_changes++;
}

bool shelf_offers(const worker_t *w, const char *function)
{
    for (size_t i = 0; i < w->shelf_count; i++)
        for (size_t j = 0; w->shelf[i].offered && j < w->shelf[i].function_count; j++)
            if (strcmp(w->shelf[i].functions[j], function) == 0) return true;
    return false;
}

/* ---- versions that come ---- */

static bool same_file(const char *path, const uint8_t digest[WIRE_DIGEST_BYTES])
{
    preload_source_t there;
    char error[256];
    if (!*path || preload_read(&there, path, error, sizeof error) != 0) return false;
    bool same = memcmp(there.digest, digest, WIRE_DIGEST_BYTES) == 0;
    preload_clear(&there);
    return same;
}

/* Whether a plugin looks for libraries next to itself: it has to stay where it is. */
static bool has_neighbours(const payload_t *source)
{
    static const char origin[] = "$ORIGIN";
    return memmem(payload_bytes(source), payload_size(source), origin, sizeof origin - 1);
}

/* Where it is to be loaded from. A Python file is named as its sender has it when the same file
   is there (then its neighbours are, too); a plugin is loaded from a copy, which nobody writes
   into while it is in use. */
static int place(worker_t *w, preload_source_t *source, const char *path, char *error, size_t size)
{
    bool plugin = source->kind == PEACH__PRELOAD_KIND__PRELOAD_PLUGIN;
    if (source->kind == PEACH__PRELOAD_KIND__PRELOAD_MODULE ||
        ((!plugin || has_neighbours(source->source)) && same_file(path, source->digest)))
        source->path = strdup(source->kind == PEACH__PRELOAD_KIND__PRELOAD_MODULE ? "" : path);
    else
        source->path = store_file(&w->store, source->name, payload_bytes(source->source),
                                  payload_size(source->source), error, size);
    return source->path ? 0 : PEACH_E_SYSTEM;
}

/* A file that the worker was started with. */
static int read_own(worker_t *w, preload_source_t *source, const char *name, char *error,
                    size_t size)
{
    int rc = preload_read(source, name, error, size);
    if (rc) return rc;
    char *path = source->path;
    rc = place(w, source, path, error, size);
    free(path);
    if (rc) preload_clear(source);
    return rc;
}

int shelf_fill(worker_t *w, char *error, size_t error_size)
{
    for (size_t i = 0; i < w->options.preload_count; i++) {
        preload_source_t source;
        int rc = read_own(w, &source, w->options.preloads[i], error, error_size);
        if (rc) return rc == PEACH_E_MEMORY ? rc : PEACH_E_ARGUMENT; /* it says which */
        const shelf_item_t *known = find(w, source.name);
        bool same =
            known && memcmp(known->now.source.digest, source.digest, WIRE_DIGEST_BYTES) == 0;
        if (known && !same)
            snprintf(error, error_size, "two preloads are called %s: a name stands for one of them",
                     source.name);
        shelf_item_t *item = known ? NULL : add(w);
        if (item) {
            item->now.source = source;
            item->request = ++w->last_request;
            continue;
        }
        preload_clear(&source);
        if (!same) return known ? PEACH_E_ARGUMENT : PEACH_E_MEMORY;
    }
    return 0;
}

/* Copies what a broker sent. */
static int read_item(worker_t *w, wire_message_t *message, const Peach__PreloadItem *from,
                     preload_source_t *source, char *error, size_t size)
{
    uint8_t digest[WIRE_DIGEST_BYTES];
    bool module = from->kind == PEACH__PRELOAD_KIND__PRELOAD_MODULE;
    *source = (preload_source_t){.kind = from->kind};
    snprintf(source->name, sizeof source->name, "%s", from->name);
    memcpy(source->digest, from->digest.data, sizeof source->digest);
    snprintf(error, size, "%s", peach_status_text(PEACH_E_PROTOCOL));
    if (strchr(from->name, '/') || *from->name == '.') return PEACH_E_PROTOCOL;
    source->source = wire_payload(message, from->source);
    if (!source->source) {
        snprintf(error, size, "its source cannot be had: %s", strerror(errno));
        return PEACH_E_SYSTEM;
    }
    crypto_hash_sha256(digest, module ? (const uint8_t *)from->name : payload_bytes(source->source),
                       module ? strlen(from->name) : payload_size(source->source));
    if (memcmp(digest, source->digest, sizeof digest) != 0) return PEACH_E_PROTOCOL;
    return place(w, source, from->path, error, size);
}

/* What Python imported for it is not what is in the files now. */
static bool imports_changed(const shelf_item_t *item)
{
    uint8_t digest[WIRE_DIGEST_BYTES];
    if (!item->files) return false;
    preload_digest_files(item->files, digest);
    return memcmp(digest, item->files_digest, sizeof digest) != 0;
}

/* The version that the worker has is pushed again: it counts as the last one. */
static void take_again(worker_t *w, shelf_item_t *item, uint64_t pushed_us)
{
    bool news = pushed_us > item->now.pushed_us;
    item->now.pushed_us = pushed_us;
    if (news && (item->state == PEACH__PRELOAD_STATE__PRELOAD_FAILED || imports_changed(item))) {
        renew(w, item);
        loads_offer(w, item);
    }
}

/* error: it cannot even be given to executors; NULL: it can. */
static void take_version(worker_t *w, shelf_item_t *item, const version_t *version,
                         const char *error)
{
    if (item->state == PEACH__PRELOAD_STATE__PRELOAD_READY) {
        version_clear(w, &item->before);
        item->before = item->now;
    } else {
        version_clear(w, &item->now);
    }
    item->now = *version;
    renew(w, item);
    if (error)
        loads_fail(w, item, error);
    else
        loads_offer(w, item);
}

/* A preload that is not taken is reported all the same. */
static void refuse(worker_t *w, const Peach__PreloadItem *from)
{
    shelf_item_t *item = add(w);
    if (!item) return;
    item->now.source.kind = from->kind;
    snprintf(item->now.source.name, sizeof item->now.source.name, "%s", from->name);
    memcpy(item->now.source.digest, from->digest.data, WIRE_DIGEST_BYTES);
    item->now.pushed_us = from->pushed_us;
    item->refused = true;
    item->state = PEACH__PRELOAD_STATE__PRELOAD_FAILED;
    item->error = strdup("this worker does not take preloads from clients (--no-push)");
}

/* What was refused under that name is not reported any more. */
static void forget_refused(worker_t *w, const char *name)
{
    for (size_t i = w->shelf_count; i-- > 0;)
        if (w->shelf[i].refused && strcmp(w->shelf[i].now.source.name, name) == 0) remove_at(w, i);
}

static void take_item(worker_t *w, wire_message_t *message, const Peach__PreloadItem *from)
{
    char error[512];
    forget_refused(w, from->name);
    if (w->options.no_push) {
        refuse(w, from);
        return;
    }
    shelf_item_t *item = find(w, from->name);
    if (item && from->pushed_us < item->now.pushed_us) return; /* it has a later one */
    if (item && memcmp(item->now.source.digest, from->digest.data, WIRE_DIGEST_BYTES) == 0) {
        take_again(w, item, from->pushed_us);
        return;
    }
    version_t version = {.pushed_us = from->pushed_us};
    int rc = read_item(w, message, from, &version.source, error, sizeof error);
    if (item || (item = add(w)) != NULL)
        take_version(w, item, &version, rc ? error : NULL);
    else
        version_clear(w, &version);
}

/* ---- versions that go ---- */

static void unload(worker_t *w, const char *name)
{
    forget_refused(w, name);
    shelf_item_t *item = find(w, name);
    if (!item) return;
    loads_drop(w, item);
    remove_at(w, (size_t)(item - w->shelf));
}

/* The version failed on all workers: the one before counts again here, if there is one. */
static void revert(worker_t *w, const char *name)
{
    forget_refused(w, name);
    shelf_item_t *item = find(w, name);
    if (!item || item->state != PEACH__PRELOAD_STATE__PRELOAD_FAILED) return;
    if (!item->before.source.path) {
        unload(w, name);
        return;
    }
    version_clear(w, &item->now);
    item->now = item->before;
    item->before = (version_t){0};
    renew(w, item);
    loads_offer(w, item);
}

void shelf_take(worker_t *w, wire_message_t *message, const Peach__Preload *preload)
{
    for (size_t i = 0; i < preload->n_unload; i++) unload(w, preload->unload[i]);
    for (size_t i = 0; i < preload->n_revert; i++) revert(w, preload->revert[i]);
    for (size_t i = 0; i < preload->n_preloads; i++) take_item(w, message, preload->preloads[i]);
    sort(w);
    loads_order(w);
    shelf_tell(w); /* who sent it waits for a word, also when nothing is new */
}

/* ---- what brokers are told ---- */

static Peach__Function *make_function(const char *name, uint32_t preload)
{
    Peach__Function *function = malloc(sizeof *function);
    if (!function) return NULL;
    peach__function__init(function);
    function->name = (char *)name;
    function->preload = preload;
    return function;
}

static Peach__PreloadReport *make_report(shelf_item_t *item)
{
    Peach__PreloadReport *report = malloc(sizeof *report);
    if (!report) return NULL;
    peach__preload_report__init(report);
    report->name = item->now.source.name;
    report->digest = (ProtobufCBinaryData){WIRE_DIGEST_BYTES, item->now.source.digest};
    report->state = item->state;
    report->pushed_us = item->now.pushed_us;
    if (item->error) report->error = item->error;
    return report;
}

void shelf_register(worker_t *w, Peach__Registration *r)
{
    peach__registration__init(r);
    r->slots = w->options.slots;
    r->window = w->options.slots * (1 + AHEAD);
    if (r->window > WIRE_MAX_NAMES) r->window = WIRE_MAX_NAMES;
    r->window_bytes = WINDOW_BYTES;
    r->by_value = w->by_value;
    r->waiting = crew_waiting(w);
    r->labels = w->label_pointers;
    r->n_labels = w->options.label_count;
    size_t functions = 0;
    for (size_t i = 0; i < w->shelf_count; i++) functions += w->shelf[i].function_count;
    r->preloads = calloc(w->shelf_count + 1, sizeof *r->preloads);
    r->functions = calloc(functions + 1, sizeof *r->functions);
    for (size_t i = 0; r->preloads && r->functions && i < w->shelf_count; i++) {
        shelf_item_t *item = &w->shelf[i];
        Peach__PreloadReport *report = make_report(item);
        if (!report) break;
        r->preloads[r->n_preloads++] = report;
        for (size_t j = 0;
             item->offered && j < item->function_count && r->n_functions < WIRE_MAX_NAMES; j++) {
            Peach__Function *function = make_function(item->functions[j], (uint32_t)i);
            if (function) r->functions[r->n_functions++] = function;
        }
    }
}

void shelf_register_free(Peach__Registration *r)
{
    for (size_t i = 0; i < r->n_preloads; i++) free(r->preloads[i]);
    for (size_t i = 0; i < r->n_functions; i++) free(r->functions[i]);
    free(r->preloads);
    free(r->functions);
}

static const shelf_item_t *find_digest(const worker_t *w, const ProtobufCBinaryData *digest)
{
    for (size_t i = 0; i < w->shelf_count; i++)
        if (!w->shelf[i].refused && w->shelf[i].now.source.path &&
            memcmp(w->shelf[i].now.source.digest, digest->data, WIRE_DIGEST_BYTES) == 0)
            return &w->shelf[i];
    return NULL;
}

void shelf_tell_sources(worker_t *w, link_t *link, const Peach__SourceRequest *request)
{
    for (size_t i = 0; i < request->n_digests; i++) {
        const shelf_item_t *item = find_digest(w, &request->digests[i]);
        Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
        Peach__Preload preload = PEACH__PRELOAD__INIT;
        Peach__PreloadItem from, *items = &from;
        Peach__Payload field;
        wire_frames_t frames = {.shares = link->batch.frames.shares};
        if (!item || preload_item(&item->now.source, &frames, &field, &from) != 0) continue;
        from.pushed_us = item->now.pushed_us;
        preload.preloads = &items;
        preload.n_preloads = 1;
        envelope.body_case = PEACH__ENVELOPE__BODY_PRELOAD;
        envelope.preload = &preload;
        link_send(link, &envelope, &frames);
        wire_frames_clear(&frames);
    }
}
