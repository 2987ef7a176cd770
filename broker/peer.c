/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "peer.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

peer_t *peer_new(const Peach__Hello *hello)
{
    peer_t *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    memcpy(self->session, hello->session.data, sizeof self->session);
    randombytes_buf(self->token, sizeof self->token);
    self->role = hello->role;
    self->pid = hello->pid;
    self->host = strdup(hello->host);
    outbox_init(&self->outbox);
    list_init(&self->blobs);
    jobs_init(&self->jobs);
    zmq_msg_init(&self->route);
    if (!self->host) peer_destroy(&self);
    return self;
}

int peer_hello(peer_t *self, const Peach__Hello *hello)
{
    size_t count = hello->n_doubts;
    uint8_t(*doubts)[WIRE_SESSION_BYTES] = count ? malloc(count * sizeof *doubts) : NULL;
    if (count && !doubts) return PEACH_E_MEMORY;
    for (size_t i = 0; i < count; i++) memcpy(doubts[i], hello->doubts[i].data, sizeof doubts[i]);
    free(self->doubts);
    self->doubts = doubts;
    self->doubt_count = count;
    self->attempt = hello->attempt;
    self->batch.frames.shares = *hello->place && strcmp(hello->place, block_place()) == 0;
    return 0;
}

static void batch_clear(peer_t *self)
{
    wire_batch_clear(&self->batch);
    for (size_t i = 0; i < self->batch_job_count && i < PEER_JOBS; i++)
        shell_job_unref(&self->batch_jobs[i]);
    self->batch_job_count = 0;
}

static unsigned batch_body(const peer_t *self)
{
    return self->role == PEACH__ROLE__ROLE_WORKER ? PEACH__ENVELOPE__BODY_ASSIGN
                                                  : PEACH__ENVELOPE__BODY_RESULTS;
}

/* Puts the batch behind what waits; results are kept until they are acknowledged. */
static int batch_queue(peer_t *self)
{
    if (self->batch.elements == 0) return 0;
    bool keep = self->role == PEACH__ROLE__ROLE_CLIENT;
    int rc = outbox_add(&self->outbox, batch_body(self), &self->batch, keep);
    if (rc == 0) batch_clear(self);
    return rc;
}

void peer_disconnect(peer_t *self)
{
    /* Orders that were on their way are lost; when a worker is back it says what it has. */
    if (self->role == PEACH__ROLE__ROLE_CLIENT)
        batch_queue(self);
    else
        batch_clear(self);
    idmap_destroy(&self->has); /* what was on its way is lost, too */
    outbox_rewind(&self->outbox, self->outbox.acknowledged);
    zmq_msg_close(&self->route);
    zmq_msg_init(&self->route);
    self->connected = false;
}

void peer_connect(peer_t *self, zmq_msg_t *route)
{
    peer_disconnect(self);
    zmq_msg_move(&self->route, route);
    self->connected = true;
}

bool peer_resume(peer_t *self, uint64_t received) { return outbox_rewind(&self->outbox, received); }

void peer_destroy(peer_t **self_p)
{
    peer_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    batch_clear(self);
    jobs_clear(&self->jobs);
    outbox_clear(&self->outbox);
    wire_batch_free(&self->batch);
    list_remove(&self->node);
    list_remove(&self->dirty_node);
    list_remove(&self->lost_node);
    zmq_msg_close(&self->route);
    if (self->registration) peach__registration__free_unpacked(self->registration, NULL);
    free(self->doubts);
    free(self->host);
    free(self);
}

bool peer_pending(const peer_t *self)
{
    return self->batch.elements > 0 || (self->connected && outbox_pending(&self->outbox));
}

int peer_flush(peer_t *self, void *router)
{
    int rc = self->role == PEACH__ROLE__ROLE_CLIENT ? batch_queue(self) : 0;
    if (rc || !self->connected) return rc ? rc : PEACH_E_LOST;
    rc = outbox_send(&self->outbox, router, &self->route);
    if (rc == 0 && self->batch.elements > 0) { /* Assign: nothing of it need be kept */
        rc = wire_batch_send(router, &self->route, batch_body(self), &self->batch);
        if (rc == 0) batch_clear(self);
    }
    return rc == PEACH_E_TIMEOUT ? 0 : rc;
}

int peer_make_room(peer_t *self, void *router, size_t frames)
{
    if (wire_batch_has_room(&self->batch, frames)) return 0;
    peer_flush(self, router); /* a connection that is gone shows again at the next flush */
    return batch_queue(self);
}

int peer_greet(peer_t *self, void *router, const Peach__Envelope *envelope,
               const wire_frames_t *frames)
{
    return wire_send(router, &self->route, envelope, frames);
}

int peer_send(peer_t *self, void *router, const Peach__Envelope *envelope,
              const wire_frames_t *frames)
{
    int rc = peer_flush(self, router); /* messages keep their order */
    if (rc) return rc;
    if (!peer_pending(self)) {
        rc = wire_send(router, &self->route, envelope, frames);
        if (rc != PEACH_E_TIMEOUT) return rc;
    }
    if ((rc = batch_queue(self)) != 0) return rc;
    return outbox_add_envelope(&self->outbox, envelope, frames);
}

int peer_batch_job(peer_t *self, shell_job_t *job, uint32_t *index)
{
    for (size_t i = 0; i < self->batch_job_count && i < PEER_JOBS; i++) {
        if (self->batch_jobs[i] == job) {
            *index = (uint32_t)i;
            return 0;
        }
    }
    int rc = wire_batch_add(&self->batch, 1, &job->message->base);
    if (rc) return rc;
    if (self->batch_job_count < PEER_JOBS) {
        self->batch_jobs[self->batch_job_count] = job;
        shell_job_ref(job);
    }
    *index = (uint32_t)self->batch_job_count++;
    return 0;
}
