/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "session.h"

#include "outbox.h"
#include "version.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_PATIENCE_MS = 30000 };
enum { SUBMIT_SERIAL = 3 }; /* its field */
enum { ACKNOWLEDGE_BYTES = 1 << 20, ACKNOWLEDGE_MS = 100 };

uint64_t session_deadline(int timeout_ms)
{
    return timeout_ms < 0 ? UINT64_MAX : clock_ms() + (uint64_t)timeout_ms;
}

int session_left(uint64_t deadline, uint64_t now_ms)
{
    if (deadline == UINT64_MAX) return 100000;
    return now_ms >= deadline ? 0 : (int)(deadline - now_ms < 100000 ? deadline - now_ms : 100000);
}

int session_fail(peach_t *self, int status, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    free(self->error);
    self->error = n < 0 ? NULL : text;
    self->error_status = status;
    return status;
}

const char *peach_error(const peach_t *self) { return self->error ? self->error : ""; }
int peach_error_status(const peach_t *self) { return self->error_status; }

static void say_hello(peach_t *self)
{
    char host[WIRE_MAX_NAME + 1] = "";
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Hello hello = PEACH__HELLO__INIT;
    ProtobufCBinaryData doubts[WIRE_MAX_DOUBTS];
    gethostname(host, sizeof host - 1);
    hello.version = WIRE_VERSION;
    hello.role = PEACH__ROLE__ROLE_CLIENT;
    hello.session = (ProtobufCBinaryData){sizeof self->session, self->session};
    hello.host = host;
    hello.pid = (uint32_t)getpid();
    hello.software = "libpeach " PEACH_VERSION;
    hello.attempt = ++self->attempt;
    hello.place = (char *)block_place();
    hello.doubts = doubts;
    hello.n_doubts = doubts_origins(self, doubts);
    if (self->known) {
        hello.token = (ProtobufCBinaryData){sizeof self->token, self->token};
        hello.received = self->received;
    }
    envelope.body_case = PEACH__ENVELOPE__BODY_HELLO;
    envelope.hello = &hello;
    if (wire_send(self->socket, NULL, &envelope, NULL) == 0) self->hello_ms = self->now_ms;
}

int session_send(peach_t *self, const Peach__Envelope *envelope, const wire_frames_t *frames)
{
    session_flush(self);
    int rc = wire_send(self->socket, NULL, envelope, frames);
    return rc ? session_fail(self, rc, "the broker does not take messages: %s",
                             peach_status_text(rc))
              : 0;
}

static void clear_batch(peach_t *self)
{
    wire_batch_clear(&self->batch);
    self->batch_numbered = false;
    self->batch_serial++;
    self->batch_jobs = 0;
}

void session_flush(peach_t *self)
{
    if (!self->welcomed || !puts_send(self) || self->batch.elements == 0) return;
    if (!self->batch_numbered &&
        wire_batch_number(&self->batch, SUBMIT_SERIAL, self->submitted + 1) != 0)
        return;
    self->batch_numbered = true;
    if (wire_batch_send(self->socket, NULL, PEACH__ENVELOPE__BODY_SUBMIT, &self->batch) != 0)
        return;
    self->submitted++;
    clear_batch(self);
}

/* ---- what the broker says ---- */

static void take_credit(peach_t *self, const Peach__Credit *credit)
{
    self->window_tasks = credit->window_tasks;
    self->window_bytes = credit->window_bytes;
    self->slots = credit->slots;
}

/* Begins with Hello again. */
static void begin_anew(peach_t *self)
{
    self->welcomed = false;
    self->hello_ms = 0;
}

static void on_welcome(peach_t *self, const Peach__Welcome *welcome)
{
    if (welcome->version != WIRE_VERSION || !welcome->credit) return;
    self->max_payload_bytes = welcome->max_payload_bytes;
    take_credit(self, welcome->credit);
    bool resumed = welcome->resumed && self->known &&
                   memcmp(self->token, welcome->token.data, sizeof self->token) == 0;
    memcpy(self->token, welcome->token.data, sizeof self->token);
    self->welcomed = self->known = true;
    self->failed_endpoints = 0;
    self->welcomes++;
    self->batch.frames.shares = *welcome->place && strcmp(welcome->place, block_place()) == 0;
    if (welcome->heartbeat_ms > 0) self->heartbeat_ms = welcome->heartbeat_ms;
    if (welcome->session_ms > 0) self->session_ms = welcome->session_ms;
    clear_batch(self);
    puts_judge(self, resumed, welcome->received);
    uint64_t sent = self->submitted;
    self->submitted = resumed ? welcome->received : 0;
    if (!resumed) {
        self->received = self->told_received = 0;
        self->cancel_count = 0;
    }
    jobs_resubmit(self, resumed, self->submitted, sent);
}

/* Whether all values can be had. Those in the memory of a broker that is gone cannot: their
   items run again. */
static bool results_at_hand(wire_message_t *message)
{
    const Peach__Results *results = wire_envelope(message)->results;
    for (size_t i = 0; i < results->n_results; i++)
        for (size_t k = 0; k < results->results[i]->n_segments; k++)
            if (!wire_at_hand(message, results->results[i]->segments[k]->payload)) return false;
    return true;
}

/* Results come in order and once; after a Welcome that goes on with the session those
   that were lost come again. */
static void on_results(peach_t *self, wire_message_t *message)
{
    enum { TRIES = 3 }; /* with a broker that is there, and yet its memory is not */
    uint64_t serial = wire_envelope(message)->results->serial;
    if (serial == self->received + 1 && self->gone_tries < TRIES && !results_at_hand(message)) {
        self->gone_tries++;
        begin_anew(self);
        return;
    }
    switch (inbox_judge(&self->received, serial)) {
    case INBOX_TAKE:
        self->gone_tries = 0;
        jobs_results(self, message);
        break;
    case INBOX_DUPLICATE: return;
    case INBOX_GAP: begin_anew(self); return;
    }
    self->unacknowledged_bytes += wire_message_bytes(message);
}

static void say_goodbye(peach_t *self)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Goodbye goodbye = PEACH__GOODBYE__INIT;
    envelope.body_case = PEACH__ENVELOPE__BODY_GOODBYE;
    envelope.goodbye = &goodbye;
    wire_send(self->socket, NULL, &envelope, NULL);
}

static void on_error(peach_t *self, const Peach__Error *error)
{
    if (error->status == PEACH_E_NO_SESSION) {
        if (self->welcomed) self->hello_ms = 0; /* else it answers what came before Hello */
        self->welcomed = false;
    } else if (error->status == PEACH_E_VERSION) {
        self->refused = error->status;
        session_fail(self, error->status, "%s", error->message);
    } else if (error->status == PEACH_E_REFUSED && self->endpoints.count > 1) {
        connection_move_on(self);
    } else if (error->status != PEACH_E_REFUSED || !self->known) {
        /* One that is being drained refuses, too; its successor may take us. */
        if (error->status == PEACH_E_REFUSED) self->refused = error->status;
        session_fail(self, error->status, "%s", error->message);
    }
}

/* Whether the message answers the pending request. */
static bool answers(const peach_t *self, const Peach__Envelope *e)
{
    uint64_t id = self->request.id;
    switch (e->body_case) {
    case PEACH__ENVELOPE__BODY_PRELOAD_REPLY: return e->preload_reply->request == id;
    case PEACH__ENVELOPE__BODY_STATUS: return e->status->request == id;
    case PEACH__ENVELOPE__BODY_DRAIN_REPLY: return e->drain_reply->request == id;
    case PEACH__ENVELOPE__BODY_PUT_REPLY: return e->put_reply->request == id;
    case PEACH__ENVELOPE__BODY_CANCEL_JOBS_REPLY: return e->cancel_jobs_reply->request == id;
    default: return false;
    }
}

static void on_message(peach_t *self, wire_message_t **message_p)
{
    const Peach__Envelope *e = wire_envelope(*message_p);
    switch (e->body_case) {
    case PEACH__ENVELOPE__BODY_WELCOME: on_welcome(self, e->welcome); break;
    case PEACH__ENVELOPE__BODY_RESULTS: on_results(self, *message_p); break;
    case PEACH__ENVELOPE__BODY_LOGS: jobs_logs(self, e->logs); break;
    case PEACH__ENVELOPE__BODY_CREDIT: take_credit(self, e->credit); break;
    case PEACH__ENVELOPE__BODY_UNBEGUN: doubts_take(self, e->unbegun); break;
    case PEACH__ENVELOPE__BODY_ERROR: on_error(self, e->error); break;
    case PEACH__ENVELOPE__BODY_GOODBYE:
        say_goodbye(self); /* we have read all that it sent */
        connection_move_on(self);
        break;
    default:
        if (self->request.id && !self->request.answer && answers(self, e)) {
            self->request.answer = *message_p;
            *message_p = NULL;
        }
    }
}

static int receive(peach_t *self)
{
    enum { MESSAGES_A_TURN = 256 };
    for (int i = 0; i < MESSAGES_A_TURN && self->socket; i++) {
        wire_message_t *message;
        const char *why;
        int rc = wire_receive(self->socket, NULL, &message, &why);
        if (rc == PEACH_E_TIMEOUT) return 0;
        if (rc == PEACH_E_SYSTEM) return session_fail(self, rc, "%s", zmq_strerror(errno));
        self->heard_ms = self->clock.awake_ms;
        if (rc) continue; /* not for us to judge: what is missing is asked for again */
        on_message(self, &message);
        wire_message_destroy(&message);
    }
    return 0;
}

/* ---- turns ---- */

/* It acknowledges results, too: the broker forgets them then. */
static void say_heartbeat(peach_t *self)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Heartbeat heartbeat = PEACH__HEARTBEAT__INIT;
    heartbeat.received = self->received;
    envelope.body_case = PEACH__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &heartbeat;
    self->beat_ms = self->now_ms;
    if (wire_send(self->socket, NULL, &envelope, NULL) != 0) return;
    self->told_received = self->received;
    self->unacknowledged_bytes = 0;
}

/* Behind what was submitted before them. */
static void send_cancels(peach_t *self)
{
    if (self->cancel_count == 0 || !self->welcomed) return;
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Cancel cancel = PEACH__CANCEL__INIT;
    size_t count = self->cancel_count < WIRE_MAX_NAMES ? self->cancel_count : WIRE_MAX_NAMES;
    cancel.jobs = self->cancels + self->cancel_count - count;
    cancel.n_jobs = count;
    envelope.body_case = PEACH__ENVELOPE__BODY_CANCEL;
    envelope.cancel = &cancel;
    session_flush(self);
    if (self->batch.elements == 0 && wire_send(self->socket, NULL, &envelope, NULL) == 0)
        self->cancel_count -= count;
}

int session_cancel(peach_t *self, uint64_t job)
{
    uint64_t *grown = realloc(self->cancels, (self->cancel_count + 1) * sizeof *grown);
    if (!grown) return session_fail(self, PEACH_E_MEMORY, "%s", peach_status_text(PEACH_E_MEMORY));
    self->cancels = grown;
    self->cancels[self->cancel_count++] = job;
    send_cancels(self);
    return 0;
}

static void keep_time(peach_t *self)
{
    uint64_t silence = self->session_ms / 2;
    if (!self->welcomed) {
        uint64_t waited = self->now_ms - self->opened_ms;
        if (self->hello_ms == 0) say_hello(self);
        if (waited > (self->endpoints.count > 1 ? CHANGE_MS : silence)) connection_move_on(self);
        return;
    }
    uint64_t beat = self->now_ms - self->beat_ms;
    bool results = self->received != self->told_received;
    if (self->clock.awake_ms - self->heard_ms > silence && self->now_ms - self->opened_ms > silence)
        connection_move_on(self); /* half-open, or the broker hangs */
    else if (beat >= self->heartbeat_ms || (results && beat >= ACKNOWLEDGE_MS) ||
             self->unacknowledged_bytes >= ACKNOWLEDGE_BYTES)
        say_heartbeat(self);
}

int session_turn(peach_t *self, int timeout_ms)
{
    /* Short enough to say Hello soon, and to notice a broker that came back. */
    int longest = self->welcomed ? 200 : 20;
    int rc = self->socket ? 0 : connection_reopen(self);
    if (rc) return rc;
    session_flush(self);
    bool waiting = self->batch.elements > 0 || self->puts_missing;
    if (self->welcomed && waiting) longest = 2; /* it was not taken: try again soon */
    void *const sockets[] = {self->socket, NULL};
    struct pollfd items[] = {{self->resolve ? resolve_fd(self->resolve) : -1, POLLIN, 0},
                             {self->socket ? wire_fd(self->monitor) : -1, POLLIN, 0}};
    if (wire_poll(sockets, items, 2, timeout_ms < longest ? timeout_ms : longest) < 0 &&
        errno != EINTR)
        return session_fail(self, PEACH_E_SYSTEM, "%s", zmq_strerror(errno));
    self->now_ms = clock_ms();
    awake_at(&self->clock, self->now_ms);
    if (self->socket && (rc = receive(self)) != 0) return rc;
    if (items[1].revents) connection_watch(self);
    if (self->refused) return self->refused;
    if (self->socket) keep_time(self);
    jobs_keep_time(self);
    doubts_keep_time(self);
    block_pool_trim(self->pool);
    jobs_feed(self);
    session_flush(self);
    send_cancels(self);
    ready_tell(&self->ready, self->socket && wire_has_message(self->socket) > 0);
    if (self->patience_ms >= 0 &&
        self->clock.awake_ms - self->heard_ms > (uint64_t)self->patience_ms)
        return session_fail(self, PEACH_E_NO_BROKER, "no broker at %s for %g s",
                            self->endpoints.text[self->endpoint], self->patience_ms / 1000.0);
    return 0;
}

int session_ask(peach_t *self, const Peach__Envelope *envelope, const wire_frames_t *frames,
                int timeout_ms)
{
    uint64_t deadline = session_deadline(timeout_ms);
    uint64_t asked = 0;
    int rc = 0;
    while (rc == 0 && !self->request.answer) {
        if (self->welcomed && asked != self->welcomes) {
            /* A broker that was lost has lost the question. */
            rc = session_send(self, envelope, frames);
            if (rc == 0) asked = self->welcomes;
            if (rc == PEACH_E_TIMEOUT) rc = 0; /* it is not there, or busy */
            if (rc) break;
        }
        int left = session_left(deadline, clock_ms());
        if (left == 0)
            rc = session_fail(self, PEACH_E_TIMEOUT, "no answer within %d ms", timeout_ms);
        else
            rc = session_turn(self, left);
    }
    self->request.id = 0;
    return rc;
}

int peach_poll(peach_t *self, int timeout_ms)
{
    if (timeout_ms < 0) timeout_ms = 100000;
    return session_turn(self, timeout_ms);
}

int peach_fd(peach_t *self) { return self->ready.set; }

void peach_set_patience(peach_t *self, int patience_ms) { self->patience_ms = patience_ms; }

/* ---- life ---- */

static int greet(peach_t *self, int timeout_ms)
{
    uint64_t deadline = session_deadline(timeout_ms);
    int rc = 0;
    while (rc == 0 && !self->welcomed && (self->now_ms < deadline))
        rc = session_turn(self, session_left(deadline, self->now_ms));
    if (rc == 0 && !self->welcomed)
        rc = session_fail(self, PEACH_E_NO_BROKER,
                          "no broker answered at %s%s within %.1f s%s%s%s: start one with peach "
                          "broker, or name another with --connect or PEACH_BROKER",
                          self->endpoints.text[0], self->endpoints.count > 1 ? " (and others)" : "",
                          timeout_ms / 1000.0, *self->unreached ? " (" : "", self->unreached,
                          *self->unreached ? ")" : "");
    return rc;
}

static void tell(peach_error_t *error, int status, const char *message)
{
    if (!error) return;
    error->status = status;
    snprintf(error->message, sizeof error->message, "%s", message);
}

/* All but the connection; a negative status with peach_error set. */
static int prepare(peach_t *self, const peach_connect_options_t *options)
{
    char text[1024];
    const char *endpoints = options->endpoints ? options->endpoints : getenv("PEACH_BROKER");
    if (!endpoints || !*endpoints) endpoints = WIRE_DEFAULT_ENDPOINT;
    list_init(&self->jobs);
    list_init(&self->puts);
    list_init(&self->doubts);
    if (ready_open(&self->ready) != 0)
        return session_fail(self, PEACH_E_SYSTEM, "%s", strerror(errno));
    self->patience_ms = -1; /* until a broker has answered the timeout counts */
    self->now_ms = clock_ms();
    self->heard_ms = awake_at(&self->clock, self->now_ms);
    self->heartbeat_ms = DEFAULT_BEAT_MS;
    self->session_ms = DEFAULT_SESSION_MS;
    self->slots = 1;
    table_seed_t seed;
    randombytes_buf(&seed, sizeof seed);
    randombytes_buf(self->session, sizeof self->session);
    int rc = endpoints_parse(&self->endpoints, endpoints, text, sizeof text);
    if (rc == 0)
        rc = endpoints_check_exposure(&self->endpoints, options->insecure, text, sizeof text);
    if (rc) return session_fail(self, rc, "%s", text);
    if ((self->context = zmq_ctx_new()) != NULL && (self->tasks = idmap_new(&seed)) != NULL &&
        (self->pool = block_pool_new()) != NULL)
        return 0;
    return session_fail(self, PEACH_E_MEMORY, "%s", peach_status_text(PEACH_E_MEMORY));
}

peach_t *peach_connect_with(const peach_connect_options_t *options, peach_error_t *error)
{
    tell(error, PEACH_E_MEMORY, peach_status_text(PEACH_E_MEMORY));
    peach_t *self = sodium_init() < 0 ? NULL : calloc(1, sizeof *self);
    if (!self) return NULL;
    int rc = prepare(self, options);
    if (rc == 0) rc = connection_open(self);
    if (rc == 0) rc = greet(self, options->timeout_ms);
    if (rc == 0) {
        self->patience_ms = options->patience_ms ? options->patience_ms : DEFAULT_PATIENCE_MS;
        return self;
    }
    tell(error, rc, peach_error(self));
    peach_close(&self);
    return NULL;
}

peach_t *peach_connect(const char *endpoints, int timeout_ms, peach_error_t *error)
{
    const peach_connect_options_t options = {.endpoints = endpoints, .timeout_ms = timeout_ms};
    return peach_connect_with(&options, error);
}

void peach_close(peach_t **self_p)
{
    peach_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    while (!list_empty(&self->jobs)) {
        peach_job_t *job = (peach_job_t *)list_first(&self->jobs); /* its first member */
        peach_job_destroy(&job);
    }
    if (self->welcomed) say_goodbye(self);
    wire_batch_free(&self->batch);
    wire_message_destroy(&self->request.answer);
    free(self->cancels);
    idmap_destroy(&self->tasks);
    puts_clear(self);
    doubts_clear(self);
    pool_clear(&self->free_tasks);
    block_pool_destroy(&self->pool);
    connection_close(self);
    ready_close(&self->ready);
    if (self->context) zmq_ctx_term(self->context);
    free(self->error);
    free(self);
}
