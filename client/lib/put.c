/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Values that are put: kept here, too, for a broker that does not have them. */
#include "items.h"
#include "job.h"
#include "value_tree.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    node_t node;
    uint64_t number;
    uint8_t digest[WIRE_DIGEST_BYTES];
    payload_t *payload;
    size_t uses;     /* peach_put less peach_drop, and jobs that refer to it */
    bool there;      /* the broker has it */
    uint64_t before; /* it was sent before the Submit of that serial; 0: it was not sent */
} put_t;

/* They begin where no other handle's do, so that a reference of another one is none here. */
static uint64_t new_number(peach_t *self)
{
    uint32_t handle; /* random */
    memcpy(&handle, self->session, sizeof handle);
    return ((uint64_t)(handle >> 1) << 32) + ++self->last_put;
}

static put_t *find(const peach_t *self, uint64_t number)
{
    for (node_t *n = list_first(&self->puts); n; n = list_next(&self->puts, n))
        if (LIST_ITEM(n, put_t, node)->number == number) return LIST_ITEM(n, put_t, node);
    return NULL;
}

static void put_destroy(put_t *put)
{
    list_remove(&put->node);
    payload_unref(&put->payload);
    free(put);
}

void puts_clear(peach_t *self)
{
    while (!list_empty(&self->puts)) put_destroy(LIST_ITEM(list_first(&self->puts), put_t, node));
}

/* Gives the broker the value. Without waiting it wants no answer, and is sent now. */
static int send_put(peach_t *self, put_t *put, bool wait, int timeout_ms)
{
    wire_kept_t message;
    wire_frames_t frames = {.shares = self->batch.frames.shares};
    int rc = wire_put(&message, put->number, put->payload, &frames);
    if (wait) message.put.request = self->request.id = ++self->last_request;
    if (rc == 0)
        rc = wait ? session_ask(self, &message.envelope, &frames, timeout_ms)
                  : wire_send(self->socket, NULL, &message.envelope, &frames);
    wire_frames_clear(&frames);
    if (rc == 0 && !wait) put->before = self->submitted + 1;
    if (rc || !wait) return rc;
    const Peach__PutReply *reply = wire_envelope(self->request.answer)->put_reply;
    if (reply->status) rc = session_fail(self, reply->status, "%s", reply->message);
    wire_message_destroy(&self->request.answer);
    put->there = rc == 0;
    return rc;
}

void puts_judge(peach_t *self, bool resumed, uint64_t received)
{
    for (node_t *n = list_first(&self->puts); n; n = list_next(&self->puts, n)) {
        put_t *put = LIST_ITEM(n, put_t, node);
        bool came = put->there || (put->before && put->before <= received);
        put->there = resumed && came;
        put->before = 0;
        self->puts_missing |= !put->there;
    }
}

bool puts_send(peach_t *self)
{
    if (!self->puts_missing) return true;
    for (node_t *n = list_first(&self->puts); n; n = list_next(&self->puts, n)) {
        put_t *put = LIST_ITEM(n, put_t, node);
        if (!put->there && !put->before && send_put(self, put, false, 0) != 0) return false;
    }
    self->puts_missing = false;
    return true;
}

static put_t *same(const peach_t *self, const put_t *put)
{
    for (node_t *n = list_first(&self->puts); n; n = list_next(&self->puts, n)) {
        put_t *known = LIST_ITEM(n, put_t, node);
        if (memcmp(known->digest, put->digest, sizeof put->digest) == 0) return known;
    }
    return NULL;
}

static put_t *put_new(peach_t *self, const peach_value_t *value, int *status)
{
    payload_t *payload = items_pack_one(value, self->pool, status);
    put_t *put = payload ? calloc(1, sizeof *put) : NULL;
    if (!put) {
        payload_unref(&payload);
        if (*status == 0) *status = PEACH_E_MEMORY;
        return NULL;
    }
    put->payload = payload;
    crypto_generichash(put->digest, sizeof put->digest, payload_bytes(payload),
                       payload_size(payload), NULL, 0);
    return put;
}

peach_value_t *peach_put(peach_t *self, peach_value_t **value_p, int timeout_ms)
{
    int rc = 0;
    peach_value_t *value = *value_p;
    *value_p = NULL;
    put_t *put = value ? put_new(self, value, &rc) : NULL;
    peach_value_destroy(&value);
    if (!put) {
        session_fail(self, rc ? rc : PEACH_E_ARGUMENT, "the value cannot be put: %s",
                     rc ? peach_status_text(rc) : "there is none");
        return NULL;
    }
    put_t *known = same(self, put);
    if (known) {
        put_destroy(put);
        put = known;
    } else {
        put->number = new_number(self);
        list_append(&self->puts, &put->node); /* a broker that comes meanwhile gets it, too */
        rc = send_put(self, put, true, timeout_ms);
    }
    put->uses++;
    peach_value_t *ref = rc == 0 ? peach_value_ref(put->number) : NULL;
    if (!ref && put->uses == 1) put_destroy(put);
    return ref;
}

/* One use less; the last one takes it from the broker, too. */
static int end_use(peach_t *self, put_t *put)
{
    if (--put->uses > 0) return 0;
    wire_kept_t drop;
    uint64_t number = put->number;
    wire_drop(&drop, &number);
    put_destroy(put);
    /* A broker that is not there has forgotten it, or does so with the session. */
    return self->welcomed && self->socket ? session_send(self, &drop.envelope, NULL) : 0;
}

int peach_drop(peach_t *self, peach_value_t **ref_p)
{
    peach_value_t *ref = *ref_p;
    *ref_p = NULL;
    put_t *put = ref && ref->kind == PEACH_REF ? find(self, (uint64_t)ref->integer) : NULL;
    peach_value_destroy(&ref);
    return put ? end_use(self, put)
               : session_fail(self, PEACH_E_ARGUMENT, "this is no value that was put here");
}

bool puts_hold(const peach_t *self, uint64_t number, const peach_value_t *value)
{
    const put_t *put = find(self, number);
    peach_value_t *known = NULL;
    bool same = put && peach_value_unpack_lent(put->payload, &known) == 0 &&
                peach_value_equal(known, value);
    peach_value_destroy(&known);
    return same;
}

/* ---- the references of a job ---- */

static int add_ref(peach_job_t *job, uint64_t number)
{
    Peach__Job *m = &job->message;
    for (size_t i = 0; i < m->n_refs; i++)
        if (m->refs[i]->put == number) return 0;
    put_t *put = find(job->session, number);
    if (!put)
        return session_fail(job->session, PEACH_E_ARGUMENT,
                            "a reference to a value that another client put, or that was dropped: "
                            "put it with the client that is to use it");
    if (m->n_refs == WIRE_MAX_REFS)
        return session_fail(job->session, PEACH_E_LIMIT, "more than %d values in one job",
                            WIRE_MAX_REFS);
    Peach__Ref **grown = realloc(m->refs, (m->n_refs + 1) * sizeof *grown);
    Peach__Ref *ref = malloc(sizeof *ref);
    if (grown) m->refs = grown;
    if (!grown || !ref) {
        free(ref);
        return session_fail(job->session, PEACH_E_MEMORY, "out of memory");
    }
    peach__ref__init(ref);
    ref->put = number;
    m->refs[m->n_refs++] = ref;
    put->uses++;
    return 0;
}

int job_find_refs(peach_job_t *job, const peach_value_t *value)
{
    int rc = 0;
    if (value->kind == PEACH_REF) return add_ref(job, (uint64_t)value->integer);
    if (!peach_value_is_sequence(value)) return 0;
    for (size_t i = 0; i < value->sequence.count && rc == 0; i++)
        rc = job_find_refs(job, value->sequence.values[i]);
    return rc;
}

int job_all_refs(peach_job_t *job)
{
    const list_t *puts = &job->session->puts;
    int rc = 0;
    for (node_t *n = list_first(puts); n && rc == 0; n = list_next(puts, n))
        rc = add_ref(job, LIST_ITEM(n, put_t, node)->number);
    return rc;
}

void job_free_refs(peach_job_t *job)
{
    for (size_t i = 0; i < job->message.n_refs; i++) {
        put_t *put = find(job->session, job->message.refs[i]->put);
        if (put) end_use(job->session, put);
        free(job->message.refs[i]);
    }
    free(job->message.refs);
}
