/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Preloads on their way to the executors, and what becomes of them there. */
#include "inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RELOADS = 3 }; /* when no executor has a preload any more that one had */

static unsigned index_of(const worker_t *w, const seat_t *seat)
{
    return (unsigned)(seat - w->seats);
}

static bool failed(const shelf_item_t *item)
{
    return item->state == PEACH__PRELOAD_STATE__PRELOAD_FAILED;
}

static shelf_item_t *find(const worker_t *w, uint32_t request)
{
    for (size_t i = 0; i < w->shelf_count; i++)
        if (w->shelf[i].request == request && !failed(&w->shelf[i])) return &w->shelf[i];
    return NULL;
}

/* ---- to the executors ---- */

/* Whether a process can have one version of it only: what the linker has loaded, or Python
   imported, stays. */
static bool needs_new_process(const shelf_item_t *item)
{
    return item->now.source.kind != PEACH__PRELOAD_KIND__PRELOAD_PYTHON_FILE;
}

static int ask(worker_t *w, seat_t *seat, shelf_item_t *item)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Preload preload = PEACH__PRELOAD__INIT;
    Peach__PreloadItem from, *items = &from;
    Peach__Payload field;
    wire_frames_t frames = {.shares = block_local()};
    bool plugin = item->now.source.kind == PEACH__PRELOAD_KIND__PRELOAD_PLUGIN;
    int rc = preload_item(&item->now.source, &frames, plugin ? NULL : &field, &from);
    preload.request = item->request;
    preload.preloads = &items;
    preload.n_preloads = 1;
    envelope.body_case = PEACH__ENVELOPE__BODY_PRELOAD;
    envelope.preload = &preload;
    if (rc == 0) rc = channel_put(seat->process.channel, &envelope, &frames);
    wire_frames_clear(&frames);
    if (rc) return rc;
    channel_flush(seat->process.channel);
    seat->lacking++;
    seat_set_add(&item->asked, index_of(w, seat));
    if (needs_new_process(item)) seat_set_add(&item->stuck, index_of(w, seat));
    return 0;
}

void loads_offer(worker_t *w, shelf_item_t *item)
{
    for (unsigned i = 0; i < w->seat_count; i++) {
        seat_t *seat = &w->seats[i];
        if (!seat->process.channel || seat->retiring) continue;
        if (seat_set_has(&item->stuck, i) || ask(w, seat, item) != 0) crew_retire(w, seat);
    }
}

int loads_send(worker_t *w, seat_t *seat, bool copy)
{
    unsigned i = index_of(w, seat);
    int rc = 0;
    seat->lacking = 0;
    for (size_t k = 0; k < w->shelf_count && rc == 0; k++) {
        shelf_item_t *item = &w->shelf[k];
        if (failed(item)) continue;
        if (!copy) {
            rc = ask(w, seat, item);
            continue;
        }
        seat->lacking++;
        seat_set_add(&item->asked, i);
        if (needs_new_process(item)) seat_set_add(&item->stuck, i);
    }
    return rc;
}

void loads_order(worker_t *w)
{
    uint64_t *order = calloc(w->shelf_count + 1, sizeof *order);
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Preload preload = PEACH__PRELOAD__INIT;
    preload.order = order;
    for (size_t i = 0; order && i < w->shelf_count; i++)
        if (!failed(&w->shelf[i])) order[preload.n_order++] = w->shelf[i].request;
    envelope.body_case = PEACH__ENVELOPE__BODY_PRELOAD;
    envelope.preload = &preload;
    for (unsigned i = 0; order && i < w->seat_count; i++) {
        channel_t *channel = w->seats[i].process.channel;
        if (!channel || w->seats[i].retiring) continue;
        channel_put(channel, &envelope, NULL);
        channel_flush(channel);
    }
    free(order);
}

/* ---- what nobody waits for any more ---- */

void loads_forget(worker_t *w, shelf_item_t *item)
{
    for (unsigned i = 0; i < w->seat_count; i++)
        if (seat_set_has(&item->asked, i) && !seat_set_has(&item->has, i)) w->seats[i].lacking--;
    item->asked = item->has = (seat_set_t){0};
    item->ready = 0;
}

void loads_drop(worker_t *w, shelf_item_t *item)
{
    loads_forget(w, item);
    for (unsigned i = 0; i < w->seat_count; i++)
        if (seat_set_has(&item->stuck, i) && w->seats[i].process.channel)
            crew_retire(w, &w->seats[i]);
}

void loads_fail(worker_t *w, shelf_item_t *item, const char *error)
{
    if (failed(item)) return;
    loads_forget(w, item);
    item->state = PEACH__PRELOAD_STATE__PRELOAD_FAILED;
    item->offered = false;
    item->error = wire_text(error);
    shelf_item_unload(item);
    log_say(LOG_FAIL, "preload %s failed: %s", item->now.source.name,
            item->error ? item->error : "");
    if (w->options.strict) w->failed = true;
    loads_order(w); /* executors that have it are not to use it */
    shelf_tell(w);
}

/* ---- from the executors ---- */

/* Whether the seat is to try again what was loaded here before: for as long as others have it,
   and else a few times. What it lacks (memory, a service) may come back. */
static bool loads_again(const seat_t *seat, const shelf_item_t *item, const char *error)
{
    if (item->state != PEACH__PRELOAD_STATE__PRELOAD_READY) return false;
    if (item->ready == 0 && seat->failures > RELOADS) return false;
    int shown = (int)(seat->failures > 1 ? strcspn(error, "\n") : strlen(error));
    log_say(LOG_WARN, "executor %d is replaced: it could not load %s again: %.*s",
            (int)seat->process.pid, item->now.source.name, shown, error);
    return true;
}

static void take_functions(shelf_item_t *item, const Peach__Registration *report)
{
    shelf_item_unload(item);
    item->functions = calloc(report->n_functions + 1, sizeof *item->functions);
    for (size_t i = 0; item->functions && i < report->n_functions; i++) {
        char *name = strdup(report->functions[i]->name);
        if (name) item->functions[item->function_count++] = name;
    }
}

/* A module, and what a file imports from beside it, is whatever Python finds: when that has changed
   since others imported it, they are replaced, so that all run the same. */
static void compare_files(worker_t *w, const seat_t *seat, shelf_item_t *item,
                          const Peach__PreloadReport *report)
{
    if (!*report->files || report->files_digest.len == 0) return;
    bool same = item->files && strcmp(item->files, report->files) == 0 &&
                memcmp(item->files_digest, report->files_digest.data, WIRE_DIGEST_BYTES) == 0;
    if (same) return;
    bool known = item->files != NULL;
    free(item->files);
    item->files = strdup(report->files);
    memcpy(item->files_digest, report->files_digest.data, WIRE_DIGEST_BYTES);
    if (!known) return;
    log_say(LOG_NOTE,
            "what %s imports has changed: executors that have what was there are replaced",
            item->now.source.name);
    for (unsigned i = 0; i < w->seat_count; i++)
        if (&w->seats[i] != seat && w->seats[i].process.channel && seat_set_has(&item->has, i))
            crew_retire(w, &w->seats[i]);
}

static void take_success(worker_t *w, seat_t *seat, shelf_item_t *item,
                         const Peach__Registration *report)
{
    seat->lacking--;
    seat_set_add(&item->has, index_of(w, seat));
    compare_files(w, seat, item, report->preloads[0]);
    if (seat->template) return;
    take_functions(item, report);
    if (item->offered) shelf_tell(w); /* they may be others than those of the version before */
    if (++item->ready < w->options.slots || item->state != PEACH__PRELOAD_STATE__PRELOAD_LOADING)
        return;
    item->state = PEACH__PRELOAD_STATE__PRELOAD_READY;
    item->offered = true;
    log_say(LOG_DETAIL_ONLY, "loaded %s", item->now.source.name);
    shelf_tell(w);
}

void loads_report(worker_t *w, seat_t *seat, const Peach__Registration *report)
{
    if (seat->retiring || report->n_preloads != 1) return;
    const Peach__PreloadReport *of = report->preloads[0];
    shelf_item_t *item = find(w, of->request);
    unsigned i = index_of(w, seat);
    if (!item || !seat_set_has(&item->asked, i) || seat_set_has(&item->has, i)) return;
    if (of->state != PEACH__PRELOAD_STATE__PRELOAD_FAILED)
        take_success(w, seat, item, report);
    else if (loads_again(seat, item, of->error))
        crew_retire(w, seat);
    else
        loads_fail(w, item, of->error);
}

void loads_died(worker_t *w, seat_t *seat, const char *cause)
{
    char text[512];
    uint32_t loading = atomic_load(&seat->process.shared->preload);
    shelf_item_t *item = loading ? find(w, loading) : NULL;
    unsigned i = index_of(w, seat);
    if (!item || seat->retiring || !seat_set_has(&item->asked, i) || seat_set_has(&item->has, i))
        return;
    snprintf(text, sizeof text, "%s while it loaded this preload", cause);
    if (!loads_again(seat, item, text)) loads_fail(w, item, text);
}

void loads_unload(worker_t *w, seat_t *seat)
{
    unsigned i = index_of(w, seat);
    for (size_t k = 0; k < w->shelf_count; k++) {
        shelf_item_t *item = &w->shelf[k];
        if (seat_set_has(&item->has, i) && !seat->template) item->ready--;
        seat_set_remove(&item->asked, i);
        seat_set_remove(&item->has, i);
        seat_set_remove(&item->stuck, i);
    }
    seat->lacking = 0;
}
