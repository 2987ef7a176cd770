/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "job.h"

#include "items.h"
#include "value_tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- failures ---- */

static void told_unref(told_t **self_p)
{
    told_t *self = *self_p;
    *self_p = NULL;
    if (!self || --self->uses > 0) return;
    if (self->message) peach__failure__free_unpacked(self->message, NULL);
    free(self->attempts);
    free(self);
}

static told_t *told_new(const Peach__Failure *from)
{
    told_t *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    self->uses = 1;
    Peach__Failure *m = self->message = wire_copy(&from->base);
    if (!m || !(self->attempts = calloc(m->n_attempts + 1, sizeof *self->attempts))) {
        told_unref(&self);
        return NULL;
    }
    for (size_t i = 0; i < m->n_attempts; i++)
        self->attempts[i] =
            (peach_attempt_t){m->attempts[i]->host, m->attempts[i]->pid, m->attempts[i]->cause};
    self->failure = (peach_failure_t){m->status < 0 ? m->status : PEACH_E_PROTOCOL,
                                      m->type,
                                      m->message,
                                      m->traceback,
                                      m->host,
                                      m->pid,
                                      m->n_attempts,
                                      self->attempts,
                                      m->exception.len ? m->exception.data : NULL,
                                      m->exception.len};
    return self;
}

void peach_result_clear(peach_result_t *result)
{
    peach_value_destroy(&result->value);
    if (result->failure) {
        told_t *told = (told_t *)((char *)result->failure - offsetof(told_t, failure));
        told_unref(&told);
    }
    *result = (peach_result_t){0};
}

/* ---- life ---- */

task_t *task_new(peach_job_t *job, uint64_t number, uint64_t first_item, uint32_t items,
                 payload_t **payload_p, bool unordered)
{
    task_t *self = pool_get(&job->session->free_tasks, sizeof *self);
    if (!self) return NULL;
    *self = (task_t){0};
    self->job = job;
    self->number = number;
    self->first_item = first_item;
    self->items = items;
    self->unordered = unordered;
    self->payload_bytes = ITEMS_NUMBER_BYTES;
    if (payload_p) {
        self->payload = *payload_p;
        self->payload_bytes = payload_size(self->payload);
        *payload_p = NULL;
    }
    self->pieces = &self->one;
    self->piece_capacity = 1;
    ranges_init(&self->todo, 0, items);
    return self;
}

static void piece_clear(piece_t *piece)
{
    payload_unref(&piece->payload);
    peach_value_destroy(&piece->items);
    told_unref(&piece->told);
}

void task_destroy(task_t **self_p)
{
    task_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    list_remove(&self->node);
    for (size_t i = 0; i < self->piece_count; i++) piece_clear(&self->pieces[i]);
    if (self->pieces != &self->one) free(self->pieces);
    ranges_clear(&self->todo);
    payload_unref(&self->payload);
    pool_put(&self->job->session->free_tasks, self);
}

/* ---- taking ---- */

/* Puts the piece where its first item says; it comes last almost always. Takes it. */
static bool insert(task_t *self, piece_t *piece)
{
    if (self->piece_count == self->piece_capacity) {
        size_t capacity = self->piece_capacity * 2;
        bool inside = self->pieces == &self->one;
        piece_t *grown = realloc(inside ? NULL : self->pieces, capacity * sizeof *grown);
        if (!grown) {
            piece_clear(piece);
            return false;
        }
        if (inside) *grown = self->one;
        self->pieces = grown;
        self->piece_capacity = capacity;
    }
    size_t at = self->piece_count++;
    /* The piece that is being read stays where it is. */
    size_t fixed = self->next_piece + (self->read_in_piece > 0);
    for (; at > fixed && self->pieces[at - 1].first > piece->first; at--)
        self->pieces[at] = self->pieces[at - 1];
    self->pieces[at] = *piece;
    self->bytes += piece->bytes;
    return true;
}

static void release_if_ended(task_t *self)
{
    if (ranges_empty(&self->todo)) payload_unref(&self->payload);
}

/* Whether the items are still to end. All or nothing: a broker gives an item to one
   worker at a time, so a segment that is old in part is old. What it had that is new
   comes again. */
static bool end_items(task_t *self, uint32_t first, uint32_t count)
{
    return first < self->items && count <= self->items - first &&
           ranges_remove(&self->todo, first, count);
}

static uint32_t take_piece(task_t *self, piece_t *piece, size_t size)
{
    uint32_t count = piece->count;
    piece->bytes = size + sizeof *piece;
    if (!insert(self, piece)) return 0;
    release_if_ended(self);
    return count;
}

uint32_t task_take_segment(task_t *self, wire_message_t *message, const Peach__Segment *segment,
                           bool *failed)
{
    piece_t piece = {.first = segment->first, .count = segment->count};
    piece.payload = wire_payload(message, segment->payload);
    *failed = !piece.payload;
    if (*failed) {
        char why[160];
        Peach__Failure failure = PEACH__FAILURE__INIT;
        snprintf(why, sizeof why, "the result cannot be taken: %s", strerror(errno));
        failure.item = segment->first;
        failure.count = segment->count;
        failure.status = errno == ENOMEM ? PEACH_E_MEMORY : PEACH_E_SYSTEM;
        failure.message = why;
        return task_take_failure(self, &failure);
    }
    payload_settle(piece.payload);
    if (end_items(self, segment->first, segment->count))
        return take_piece(self, &piece, payload_size(piece.payload));
    piece_clear(&piece);
    return 0;
}

uint32_t task_take_single(task_t *self, const void *bytes, size_t size)
{
    peach_value_t number;
    if (!end_items(self, 0, 1)) return 0;
    piece_t piece = {.count = 1};
    if (items_get_number(bytes, size, &number)) {
        piece.number = number.integer; /* or real's bits */
        piece.kind = number.kind;
    } else if (!(piece.payload = payload_new(bytes, size))) {
        return 0;
    }
    return take_piece(self, &piece, size);
}

uint32_t task_take_failure(task_t *self, const Peach__Failure *failure)
{
    uint32_t count = failure->count ? failure->count : 1, ended = 0;
    told_t *told = told_new(failure);
    if (!told) return 0;
    if (failure->item < self->items && count <= self->items - failure->item &&
        ranges_remove(&self->todo, failure->item, count)) {
        piece_t piece = {
            .first = failure->item, .count = count, .told = told, .bytes = sizeof piece};
        if (insert(self, &piece)) ended = count;
        release_if_ended(self);
        return ended;
    }
    /* Some of them ended before: of those left, each range. */
    for (uint32_t i = failure->item; i < failure->item + count && i < self->items; i++) {
        if (!ranges_remove(&self->todo, i, 1)) continue;
        piece_t *last = self->piece_count ? &self->pieces[self->piece_count - 1] : NULL;
        ended++;
        if (last && last->told == told && last->first + last->count == i) {
            last->count++;
            continue;
        }
        told->uses++;
        piece_t piece = {.first = i, .count = 1, .told = told, .bytes = sizeof piece};
        insert(self, &piece);
    }
    told_unref(&told);
    release_if_ended(self);
    return ended;
}

/* ---- reading ---- */

bool task_all_read(const task_t *self) { return self->given == self->items; }

bool task_readable(const task_t *self)
{
    if (self->next_piece == self->piece_count) return false;
    const piece_t *piece = &self->pieces[self->next_piece];
    return self->unordered || self->given >= piece->first;
}

/* Makes the piece readable: what no worker should have sent becomes a failure. */
static int decode(piece_t *piece)
{
    if (piece->items || piece->told || piece->kind) return 0;
    int rc = peach_value_unpack_lent(piece->payload, &piece->items);
    if (rc == PEACH_E_MEMORY) return rc;
    if (rc == 0 && (!items_valid(piece->items) || peach_value_length(piece->items) != piece->count))
        rc = PEACH_E_PROTOCOL;
    if (rc) {
        Peach__Failure failure = PEACH__FAILURE__INIT;
        failure.status = rc;
        failure.message = "the result cannot be decoded";
        peach_value_destroy(&piece->items);
        if (!(piece->told = told_new(&failure))) return PEACH_E_MEMORY;
    }
    payload_unref(&piece->payload);
    return 0;
}

static void leave_piece(task_t *self)
{
    piece_t *piece = &self->pieces[self->next_piece++];
    self->bytes -= piece->bytes;
    piece_clear(piece);
    self->read_in_piece = 0;
}

int task_read(task_t *self, peach_result_t *result)
{
    piece_t *piece = &self->pieces[self->next_piece];
    int rc = decode(piece);
    if (rc) return rc;
    uint32_t at = self->read_in_piece;
    *result = (peach_result_t){.item = self->first_item + piece->first + at};
    if (piece->told) {
        piece->told->uses++;
        result->failure = &piece->told->failure;
    } else if (piece->kind) {
        peach_value_t number = {.kind = piece->kind, .integer = piece->number};
        if (!(result->value = peach_value_copy(&number))) return PEACH_E_MEMORY;
    } else if (!(result->value = items_take(piece->items, at))) {
        return PEACH_E_MEMORY;
    }
    self->given++;
    if (++self->read_in_piece == piece->count) leave_piece(self);
    return 0;
}

const void *task_numbers(task_t *self, peach_kind_t *kind, size_t *count)
{
    piece_t *piece = &self->pieces[self->next_piece];
    peach_value_t first;
    if (self->read_in_piece > 0 || decode(piece) != 0 || piece->told) return NULL;
    *count = piece->count;
    *kind = piece->kind;
    if (piece->kind) return &piece->number;
    if (!items_number(piece->items, 0, &first)) return NULL;
    *kind = first.kind;
    return piece->items->array.data;
}

uint32_t task_end_piece(task_t *self)
{
    uint32_t count = self->pieces[self->next_piece].count;
    self->given += count;
    leave_piece(self);
    return count;
}
