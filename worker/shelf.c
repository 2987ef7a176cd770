/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WINDOW_BYTES = 64 << 20, AHEAD = 1024 }; /* of a slot: orders, if they are short */
enum { RELOADS = 3 }; /* when no executor has a preload any more that one had */

/* ---- the shelf ---- */

static void item_unload(shelf_item_t *item)
{
    for (size_t i = 0; i < item->function_count; i++) free(item->functions[i]);
    free(item->functions);
    item->functions = NULL;
    item->function_count = 0;
}

static shelf_item_t *shelf_add(worker_t *w)
{
    shelf_item_t *grown = realloc(w->shelf, (w->shelf_count + 1) * sizeof *grown);
    if (!grown) return NULL;
    w->shelf = grown;
    shelf_item_t *item = &w->shelf[w->shelf_count++];
    *item = (shelf_item_t){0};
    return item;
}

int shelf_fill(worker_t *w, char *error, size_t error_size)
{
    for (size_t i = 0; i < w->options.preload_count; i++) {
        shelf_item_t *item = shelf_add(w);
        if (!item) return PEACH_E_MEMORY;
        int rc = preload_read(&item->source, w->options.preloads[i], error, error_size);
        if (rc) return rc;
    }
    return 0;
}

void shelf_clear(worker_t *w)
{
    for (size_t i = 0; i < w->shelf_count; i++) {
        shelf_item_t *item = &w->shelf[i];
        if (w->store && item->source.path &&
            strncmp(item->source.path, w->store, strlen(w->store)) == 0) {
            unlink(item->source.path);
            char *slash = strrchr(item->source.path, '/');
            *slash = 0;
            rmdir(item->source.path);
        }
        item_unload(item);
        free(item->error);
        preload_clear(&item->source);
    }
    free(w->shelf);
    w->shelf = NULL;
    w->shelf_count = 0;
    if (w->store) rmdir(w->store);
    free(w->store);
    w->store = NULL;
}

/* The registration changed. */
void shelf_tell(worker_t *w)
{
    w->registration++;
    for (size_t i = 0; i < w->link_count; i++) link_register(w, &w->links[i]);
}

/* ---- preloads that are pushed ---- */

static bool same_file(const char *path, const uint8_t digest[WIRE_DIGEST_BYTES])
{
    preload_source_t there;
    char error[256];
    if (!*path || preload_read(&there, path, error, sizeof error) != 0) return false;
    bool same = memcmp(there.digest, digest, WIRE_DIGEST_BYTES) == 0;
    preload_clear(&there);
    return same;
}

/* Writes the file into a folder of its own, so that its neighbours do not mix. */
static char *store_file(worker_t *w, const preload_source_t *source)
{
    const char *tmp = getenv("TMPDIR");
    char *folder = NULL, *path = NULL, hex[17];
    if (!w->store) {
        if (asprintf(&w->store, "%s/peach-worker-XXXXXX", tmp && *tmp ? tmp : "/tmp") < 0)
            return NULL;
        if (!mkdtemp(w->store)) {
            free(w->store);
            w->store = NULL;
            return NULL;
        }
    }
    sodium_bin2hex(hex, sizeof hex, source->digest, 8);
    if (asprintf(&folder, "%s/%s", w->store, hex) < 0) return NULL;
    int made = mkdir(folder, 0700);
    if ((made == 0 || errno == EEXIST) && asprintf(&path, "%s/%s", folder, source->name) >= 0) {
        FILE *file = fopen(path, "wb");
        size_t size = payload_size(source->source);
        if (!file || fwrite(payload_bytes(source->source), 1, size, file) != size ||
            fclose(file) != 0) {
            free(path);
            path = NULL;
        }
    }
    free(folder);
    return path;
}

/* Copies what a broker sent. The file is loaded from where its sender has it when
   the same file is there (then its neighbours are, too), or from a copy. */
static int take_item(worker_t *w, wire_message_t *message, const Peach__PreloadItem *from,
                     shelf_item_t *item)
{
    preload_source_t *source = &item->source;
    source->kind = from->kind;
    if (strchr(from->name, '/') || *from->name == '.') return PEACH_E_PROTOCOL;
    snprintf(source->name, sizeof source->name, "%s", from->name);
    memcpy(source->digest, from->digest.data, sizeof source->digest);
    source->source = wire_payload(message, from->source);
    if (!source->source) return PEACH_E_MEMORY;
    uint8_t digest[WIRE_DIGEST_BYTES];
    bool module = from->kind == PEACH__PRELOAD_KIND__PRELOAD_MODULE;
    crypto_hash_sha256(digest, module ? (const uint8_t *)from->name : payload_bytes(source->source),
                       module ? strlen(from->name) : payload_size(source->source));
    if (memcmp(digest, source->digest, sizeof digest) != 0) return PEACH_E_PROTOCOL;
    if (module || same_file(from->path, source->digest))
        source->path = strdup(module ? "" : from->path);
    else
        source->path = store_file(w, source);
    return source->path ? 0 : PEACH_E_SYSTEM;
}

static bool known(const worker_t *w, const Peach__PreloadItem *item)
{
    for (size_t i = 0; i < w->shelf_count; i++)
        if (strcmp(w->shelf[i].source.name, item->name) == 0 &&
            memcmp(w->shelf[i].source.digest, item->digest.data, WIRE_DIGEST_BYTES) == 0)
            return true;
    return false;
}

void shelf_take(worker_t *w, wire_message_t *message, Peach__PreloadItem **items, size_t count)
{
    size_t before = w->shelf_count;
    for (size_t i = 0; i < count; i++) {
        if (known(w, items[i])) continue;
        shelf_item_t *item = shelf_add(w);
        if (!item) continue;
        int rc = w->options.no_push ? PEACH_E_REFUSED : take_item(w, message, items[i], item);
        if (rc == 0) continue;
        snprintf(item->source.name, sizeof item->source.name, "%s", items[i]->name);
        memcpy(item->source.digest, items[i]->digest.data, WIRE_DIGEST_BYTES);
        item->state = PEACH__PRELOAD_STATE__PRELOAD_FAILED;
        item->error = strdup(w->options.no_push
                                 ? "this worker does not take preloads from clients (--no-push)"
                                 : peach_status_text(rc));
    }
    if (w->shelf_count == before && count == 0) return;
    for (unsigned i = 0; i < w->seat_count; i++)
        if (w->seats[i].process.channel) shelf_send(w, &w->seats[i], before);
    shelf_tell(w);
}

/* ---- to and from the executors ---- */

/* Counts preloads as answered for that no executor is asked for any more. */
static void skip_failed(worker_t *w, seat_t *seat)
{
    while (seat->process.preloads < w->shelf_count &&
           w->shelf[seat->process.preloads].state == PEACH__PRELOAD_STATE__PRELOAD_FAILED)
        seat->process.preloads++;
}

/* A plugin is loaded from a file, which is to be the one that is registered. */
static void keep_plugin(worker_t *w, preload_source_t *source)
{
    char *path = same_file(source->path, source->digest) ? NULL : store_file(w, source);
    if (!path) return; /* without a copy the executor says what it finds */
    free(source->path);
    source->path = path;
}

int shelf_send(worker_t *w, seat_t *seat, size_t index)
{
    int rc = 0;
    for (size_t i = index; i < w->shelf_count && rc == 0; i++) {
        if (w->shelf[i].state == PEACH__PRELOAD_STATE__PRELOAD_FAILED) continue;
        Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
        Peach__Preload preload = PEACH__PRELOAD__INIT;
        Peach__PreloadItem item, *items = &item;
        Peach__Payload field;
        wire_frames_t frames = {.shares = block_local()};
        preload_source_t *source = &w->shelf[i].source;
        bool plugin = source->kind == PEACH__PRELOAD_KIND__PRELOAD_PLUGIN;
        if (plugin) keep_plugin(w, source);
        rc = preload_item(source, &frames, plugin ? NULL : &field, &item);
        preload.request = i;
        preload.preloads = &items;
        preload.n_preloads = 1;
        envelope.body_case = PEACH__ENVELOPE__BODY_PRELOAD;
        envelope.preload = &preload;
        if (rc == 0) rc = channel_put(seat->process.channel, &envelope, &frames);
        wire_frames_clear(&frames);
    }
    if (rc == 0) channel_flush(seat->process.channel);
    skip_failed(w, seat);
    return rc;
}

static void fail(worker_t *w, shelf_item_t *item, const char *error)
{
    if (item->state == PEACH__PRELOAD_STATE__PRELOAD_FAILED) return;
    item->state = PEACH__PRELOAD_STATE__PRELOAD_FAILED;
    item->error = wire_text(error);
    item_unload(item);
    fprintf(stderr, "peach-worker: preload %s failed: %s\n", item->source.name,
            item->error ? item->error : "");
    if (w->options.strict) w->failed = true;
    shelf_tell(w);
}

/* Whether the seat is to try again what was loaded here before: for as long as others have it,
   and else a few times. What it lacks (memory, a service) may come back. */
static bool loads_again(const seat_t *seat, const shelf_item_t *item, const char *error)
{
    if (item->state != PEACH__PRELOAD_STATE__PRELOAD_READY) return false;
    if (item->ready == 0 && seat->failures > RELOADS) return false;
    int shown = (int)(seat->failures > 1 ? strcspn(error, "\n") : strlen(error));
    fprintf(stderr, "peach-worker: executor %d is replaced: it could not load %s again: %.*s\n",
            (int)seat->process.pid, item->source.name, shown, error);
    return true;
}

void shelf_report(worker_t *w, seat_t *seat, const Peach__Registration *report)
{
    skip_failed(w, seat);
    if (seat->retiring || seat->process.preloads >= w->shelf_count || report->n_preloads != 1)
        return;
    shelf_item_t *item = &w->shelf[seat->process.preloads];
    bool failed = report->preloads[0]->state == PEACH__PRELOAD_STATE__PRELOAD_FAILED;
    if (failed && loads_again(seat, item, report->preloads[0]->error)) {
        seat->retiring = true;
        slot_dismiss(&seat->process);
        return;
    }
    seat->process.preloads++;
    if (failed) {
        fail(w, item, report->preloads[0]->error);
    } else if (!seat->template && item->state != PEACH__PRELOAD_STATE__PRELOAD_FAILED) {
        item_unload(item);
        item->functions = calloc(report->n_functions + 1, sizeof *item->functions);
        for (size_t i = 0; item->functions && i < report->n_functions; i++) {
            char *name = strdup(report->functions[i]->name);
            if (name) item->functions[item->function_count++] = name;
        }
        if (++item->ready == w->options.slots &&
            item->state == PEACH__PRELOAD_STATE__PRELOAD_LOADING) {
            item->state = PEACH__PRELOAD_STATE__PRELOAD_READY;
            worker_say(w, "loaded %s", item->source.name);
            shelf_tell(w);
        }
    }
    skip_failed(w, seat);
}

void shelf_died(worker_t *w, seat_t *seat, const char *cause)
{
    char text[512];
    skip_failed(w, seat);
    uint32_t begun = atomic_load(&seat->process.shared->preload);
    if (seat->retiring || seat->process.preloads >= w->shelf_count ||
        begun <= seat->process.preloads)
        return;
    shelf_item_t *item = &w->shelf[seat->process.preloads];
    snprintf(text, sizeof text, "%s while it loaded this preload", cause);
    if (!loads_again(seat, item, text)) fail(w, item, text);
}

void shelf_unload(worker_t *w, seat_t *seat)
{
    for (size_t i = 0; !seat->template && i < seat->process.preloads && i < w->shelf_count; i++)
        if (w->shelf[i].ready > 0) w->shelf[i].ready--;
}

/* ---- the registration ---- */

static Peach__Function *make_function(const char *name, uint32_t preload)
{
    Peach__Function *function = malloc(sizeof *function);
    if (!function) return NULL;
    peach__function__init(function);
    function->name = (char *)name;
    function->preload = preload;
    return function;
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
        Peach__PreloadReport *report = malloc(sizeof *report);
        if (!report) break;
        peach__preload_report__init(report);
        report->name = item->source.name;
        report->digest = (ProtobufCBinaryData){WIRE_DIGEST_BYTES, item->source.digest};
        report->state = item->state;
        if (item->error) report->error = item->error;
        r->preloads[r->n_preloads++] = report;
        for (size_t j = 0; item->state == PEACH__PRELOAD_STATE__PRELOAD_READY &&
                           j < item->function_count && r->n_functions < WIRE_MAX_NAMES;
             j++) {
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
