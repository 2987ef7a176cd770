/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "wire_check.h"

#include "value_tree.h"
#include "wire.h"

#include <string.h>

typedef struct {
    size_t frames;
    const char *why;
    int status;
} check_t;

static bool fail(check_t *c, int status, const char *why)
{
    c->status = status;
    c->why = why;
    return false;
}

static bool text_ok(check_t *c, const char *text, size_t limit, const char *why)
{
    size_t size = strlen(text);
    if (size > limit) return fail(c, PEACH_E_LIMIT, why);
    return peach_utf8_valid(text, size) || fail(c, PEACH_E_PROTOCOL, "a text is not UTF-8");
}

static bool name_ok(check_t *c, const char *name)
{
    return text_ok(c, name, WIRE_MAX_NAME, "a name is longer than the limit");
}

static bool message_ok(check_t *c, const char *text)
{
    return text_ok(c, text, WIRE_MAX_TEXT, "a text is longer than the limit");
}

static bool count_ok(check_t *c, size_t count, size_t limit)
{
    return count <= limit || fail(c, PEACH_E_LIMIT, "too many elements in one message");
}

static bool session_ok(check_t *c, ProtobufCBinaryData session)
{
    return session.len == WIRE_SESSION_BYTES ||
           fail(c, PEACH_E_PROTOCOL, "a session is not 16 bytes");
}

static bool digest_ok(check_t *c, ProtobufCBinaryData digest)
{
    return digest.len == WIRE_DIGEST_BYTES || fail(c, PEACH_E_PROTOCOL, "a digest is not 32 bytes");
}

static bool payload_ok(check_t *c, const Peach__Payload *payload)
{
    if (!payload) return true;
    if (payload->shared &&
        (payload->frame || payload->inline_.len || payload->shared->size <= WIRE_INLINE_BYTES ||
         payload->shared->token.len != BLOCK_TOKEN_BYTES))
        return fail(c, PEACH_E_PROTOCOL, "a payload in shared memory that is none");
    if (payload->frame > c->frames)
        return fail(c, PEACH_E_PROTOCOL, "a payload names a frame that is not there");
    return payload->inline_.len <= WIRE_INLINE_BYTES ||
           fail(c, PEACH_E_LIMIT, "an inline payload is larger than 4096 bytes");
}

static bool labels_ok(check_t *c, Peach__Label **labels, size_t count)
{
    if (!count_ok(c, count, WIRE_MAX_NAME)) return false;
    for (size_t i = 0; i < count; i++)
        if (!name_ok(c, labels[i]->key) || !name_ok(c, labels[i]->value)) return false;
    return true;
}

static bool reports_ok(check_t *c, Peach__PreloadReport **reports, size_t count)
{
    if (!count_ok(c, count, WIRE_MAX_BATCH)) return false;
    for (size_t i = 0; i < count; i++)
        if (!name_ok(c, reports[i]->name) || !digest_ok(c, reports[i]->digest) ||
            !message_ok(c, reports[i]->error) || !message_ok(c, reports[i]->files) ||
            (reports[i]->files_digest.len > 0 && !digest_ok(c, reports[i]->files_digest)))
            return false;
    return true;
}

static bool registration_ok(check_t *c, const Peach__Registration *m)
{
    if (m->slots == 0 || m->slots > 4096 || m->window < m->slots || m->window > WIRE_MAX_NAMES ||
        m->waiting > 4096 || m->slots + m->waiting > m->window)
        return fail(c, PEACH_E_PROTOCOL, "slots or window are out of range");
    if (!labels_ok(c, m->labels, m->n_labels) || !reports_ok(c, m->preloads, m->n_preloads) ||
        !count_ok(c, m->n_functions, WIRE_MAX_NAMES))
        return false;
    for (size_t i = 0; i < m->n_functions; i++) {
        if (!name_ok(c, m->functions[i]->name)) return false;
        if (m->functions[i]->preload >= m->n_preloads)
            return fail(c, PEACH_E_PROTOCOL, "a function names a preload that is not there");
    }
    return true;
}

static bool hello_ok(check_t *c, const Peach__Hello *m)
{
    /* Of another version nothing but the version may be relied on. */
    if (m->version != WIRE_VERSION) return true;
    if (m->role != PEACH__ROLE__ROLE_CLIENT && m->role != PEACH__ROLE__ROLE_WORKER)
        return fail(c, PEACH_E_PROTOCOL, "a Hello without a role");
    if (m->role == PEACH__ROLE__ROLE_WORKER && !m->registration)
        return fail(c, PEACH_E_PROTOCOL, "a worker's Hello without a registration");
    if (!count_ok(c, m->n_doubts, WIRE_MAX_DOUBTS)) return false;
    for (size_t i = 0; i < m->n_doubts; i++)
        if (!session_ok(c, m->doubts[i])) return false;
    return session_ok(c, m->session) && (m->token.len == 0 || session_ok(c, m->token)) &&
           name_ok(c, m->host) && name_ok(c, m->software) && name_ok(c, m->place) &&
           (!m->registration || registration_ok(c, m->registration));
}

static bool items_ok(check_t *c, Peach__PreloadItem **items, size_t count)
{
    if (!count_ok(c, count, WIRE_MAX_BATCH)) return false;
    for (size_t i = 0; i < count; i++) {
        if (items[i]->kind == PEACH__PRELOAD_KIND__PRELOAD_UNKNOWN || !*items[i]->name)
            return fail(c, PEACH_E_PROTOCOL, "a preload without kind or name");
        if (!name_ok(c, items[i]->name) || !digest_ok(c, items[i]->digest) ||
            !message_ok(c, items[i]->path) || !payload_ok(c, items[i]->source))
            return false;
    }
    return true;
}

static bool ranges_ok(check_t *c, Peach__Range **ranges, size_t count, uint32_t items)
{
    if (!count_ok(c, count, WIRE_MAX_NAMES)) return false;
    for (size_t i = 0; i < count; i++)
        if (ranges[i]->count == 0 || ranges[i]->first >= items ||
            ranges[i]->count > items - ranges[i]->first)
            return fail(c, PEACH_E_PROTOCOL, "a range is empty or outside its task");
    return true;
}

static bool jobs_ok(check_t *c, Peach__Job **jobs, size_t n_jobs)
{
    if (!count_ok(c, n_jobs, WIRE_MAX_BATCH)) return false;
    for (size_t i = 0; i < n_jobs; i++) {
        if (!*jobs[i]->function) return fail(c, PEACH_E_PROTOCOL, "a job without a function");
        if (jobs[i]->priority > WIRE_MAX_PRIORITY)
            return fail(c, PEACH_E_PROTOCOL, "a priority is over 7");
        if (jobs[i]->logs > WIRE_LOGS_NOTICES)
            return fail(c, PEACH_E_PROTOCOL, "logs of an unknown kind");
        if (jobs[i]->depth > WIRE_MAX_DEPTH)
            return fail(c, PEACH_E_PROTOCOL, "a job is nested deeper than 16");
        if (jobs[i]->keywords && !jobs[i]->spread)
            return fail(c, PEACH_E_PROTOCOL, "keyword arguments without a list of arguments");
        if (jobs[i]->weight > WIRE_MAX_WEIGHT)
            return fail(c, PEACH_E_PROTOCOL, "a weight is over 1000");
        if (!count_ok(c, jobs[i]->n_refs, WIRE_MAX_REFS) || !name_ok(c, jobs[i]->function) ||
            (jobs[i]->origin.len > 0 && !session_ok(c, jobs[i]->origin)) ||
            !labels_ok(c, jobs[i]->require, jobs[i]->n_require))
            return false;
    }
    return true;
}

static bool tasks_ok(check_t *c, Peach__Task **tasks, size_t n_tasks, size_t n_jobs)
{
    if (!count_ok(c, n_tasks, WIRE_MAX_BATCH)) return false;
    for (size_t i = 0; i < n_tasks; i++) {
        const Peach__Task *t = tasks[i];
        if (t->job >= n_jobs)
            return fail(c, PEACH_E_PROTOCOL, "a task names a job that is not there");
        if (t->items == 0 || t->items > WIRE_MAX_ITEMS)
            return fail(c, PEACH_E_PROTOCOL, "a task has no items or too many");
        if (!payload_ok(c, t->payload) || !ranges_ok(c, t->todo, t->n_todo, t->items)) return false;
    }
    return true;
}

/* Every column has a row for each task, and the payloads are all there. */
static bool singles_ok(check_t *c, Peach__Singles **singles, size_t count, size_t others,
                       const size_t *n_jobs)
{
    if (!count_ok(c, count, WIRE_MAX_BATCH)) return false;
    for (size_t i = 0; i < count; i++) {
        const Peach__Singles *s = singles[i];
        size_t rows = s->n_ids, bytes = 0;
        others += rows;
        if (!count_ok(c, others, WIRE_MAX_BATCH)) return false;
        if (s->n_sizes != rows || s->n_items != (n_jobs ? rows : 0) ||
            s->n_elapsed_us != (n_jobs ? 0 : rows))
            return fail(c, PEACH_E_PROTOCOL, "the columns of single tasks differ in length");
        if (n_jobs && s->job >= *n_jobs)
            return fail(c, PEACH_E_PROTOCOL, "a task names a job that is not there");
        for (size_t j = 0; j < rows; j++) {
            if (s->sizes[j] > WIRE_INLINE_BYTES)
                return fail(c, PEACH_E_LIMIT, "an inline payload is larger than 4096 bytes");
            bytes += s->sizes[j];
        }
        if (bytes != s->payloads.len)
            return fail(c, PEACH_E_PROTOCOL, "the payloads of single tasks are not all there");
    }
    return true;
}

static bool failure_ok(check_t *c, const Peach__Failure *f)
{
    if (f->item >= WIRE_MAX_ITEMS || f->count > WIRE_MAX_ITEMS - f->item)
        return fail(c, PEACH_E_PROTOCOL, "a failure is outside its task");
    if (!name_ok(c, f->type) || !message_ok(c, f->message) || !message_ok(c, f->traceback) ||
        !name_ok(c, f->host) || !count_ok(c, f->n_attempts, WIRE_MAX_NAME))
        return false;
    if (f->exception.len > WIRE_MAX_TEXT)
        return fail(c, PEACH_E_LIMIT, "the pickle of an exception is larger than 1 MiB");
    for (size_t i = 0; i < f->n_attempts; i++)
        if (!name_ok(c, f->attempts[i]->host) || !message_ok(c, f->attempts[i]->cause))
            return false;
    return true;
}

static bool results_ok(check_t *c, const Peach__Results *m)
{
    if (!count_ok(c, m->n_results, WIRE_MAX_BATCH) ||
        !singles_ok(c, m->singles, m->n_singles, m->n_results, NULL))
        return false;
    for (size_t i = 0; i < m->n_results; i++) {
        const Peach__Result *r = m->results[i];
        if (!count_ok(c, r->n_segments, WIRE_MAX_NAMES) ||
            !count_ok(c, r->n_failures, WIRE_MAX_NAMES))
            return false;
        for (size_t j = 0; j < r->n_segments; j++) {
            const Peach__Segment *s = r->segments[j];
            if (s->count == 0 || s->first >= WIRE_MAX_ITEMS || s->count > WIRE_MAX_ITEMS - s->first)
                return fail(c, PEACH_E_PROTOCOL, "a segment is empty or outside its task");
            if (!s->payload) return fail(c, PEACH_E_PROTOCOL, "a segment without a payload");
            if (!payload_ok(c, s->payload)) return false;
        }
        for (size_t j = 0; j < r->n_failures; j++)
            if (!failure_ok(c, r->failures[j])) return false;
    }
    return true;
}

static bool status_ok(check_t *c, const Peach__Status *m)
{
    if (!count_ok(c, m->n_workers, WIRE_MAX_NAMES) ||
        !count_ok(c, m->n_functions, WIRE_MAX_NAMES) ||
        !count_ok(c, m->n_clients, WIRE_MAX_NAMES) || !count_ok(c, m->n_jobs, WIRE_MAX_NAMES) ||
        !name_ok(c, m->version) || !message_ok(c, m->endpoint))
        return false;
    for (size_t i = 0; i < m->n_workers; i++) {
        const Peach__WorkerStatus *w = m->workers[i];
        if (!name_ok(c, w->id) || !name_ok(c, w->host) || !labels_ok(c, w->labels, w->n_labels) ||
            !reports_ok(c, w->preloads, w->n_preloads))
            return false;
    }
    for (size_t i = 0; i < m->n_functions; i++)
        if (!name_ok(c, m->functions[i]->name) || !name_ok(c, m->functions[i]->preload) ||
            !digest_ok(c, m->functions[i]->digest))
            return false;
    for (size_t i = 0; i < m->n_clients; i++)
        if (!name_ok(c, m->clients[i]->id) || !name_ok(c, m->clients[i]->host)) return false;
    for (size_t i = 0; i < m->n_jobs; i++)
        if (!name_ok(c, m->jobs[i]->client) || !name_ok(c, m->jobs[i]->function)) return false;
    return true;
}

static bool names_ok(check_t *c, char **names, size_t count)
{
    if (!count_ok(c, count, WIRE_MAX_BATCH)) return false;
    for (size_t i = 0; i < count; i++)
        if (!name_ok(c, names[i])) return false;
    return true;
}

static bool unbegun_ok(check_t *c, const Peach__Unbegun *m)
{
    if (!session_ok(c, m->origin) || !count_ok(c, m->n_tasks, WIRE_MAX_BATCH)) return false;
    for (size_t i = 0; i < m->n_tasks; i++) {
        const Peach__UnbegunTask *t = m->tasks[i];
        if (!ranges_ok(c, t->unbegun, t->n_unbegun, WIRE_MAX_ITEMS)) return false;
    }
    return true;
}

static bool digests_ok(check_t *c, const Peach__SourceRequest *m)
{
    if (!count_ok(c, m->n_digests, WIRE_MAX_BATCH)) return false;
    for (size_t i = 0; i < m->n_digests; i++)
        if (!digest_ok(c, m->digests[i])) return false;
    return true;
}

static bool body_ok(check_t *c, const Peach__Envelope *e)
{
    switch (e->body_case) {
    case PEACH__ENVELOPE__BODY_HELLO: return hello_ok(c, e->hello);
    case PEACH__ENVELOPE__BODY_WELCOME:
        return e->welcome->version != WIRE_VERSION ||
               (session_ok(c, e->welcome->token) && name_ok(c, e->welcome->place) &&
                items_ok(c, e->welcome->preloads, e->welcome->n_preloads));
    case PEACH__ENVELOPE__BODY_SUBMIT:
        return jobs_ok(c, e->submit->jobs, e->submit->n_jobs) &&
               tasks_ok(c, e->submit->tasks, e->submit->n_tasks, e->submit->n_jobs) &&
               singles_ok(c, e->submit->singles, e->submit->n_singles, e->submit->n_tasks,
                          &e->submit->n_jobs);
    case PEACH__ENVELOPE__BODY_ASSIGN:
        return jobs_ok(c, e->assign->jobs, e->assign->n_jobs) &&
               tasks_ok(c, e->assign->tasks, e->assign->n_tasks, e->assign->n_jobs) &&
               singles_ok(c, e->assign->singles, e->assign->n_singles, e->assign->n_tasks,
                          &e->assign->n_jobs);
    case PEACH__ENVELOPE__BODY_RESULTS: return results_ok(c, e->results);
    case PEACH__ENVELOPE__BODY_CANCEL:
        return count_ok(c, e->cancel->n_jobs, WIRE_MAX_NAMES) &&
               count_ok(c, e->cancel->n_leases, WIRE_MAX_NAMES) &&
               count_ok(c, e->cancel->n_give_back, WIRE_MAX_NAMES);
    case PEACH__ENVELOPE__BODY_LEASES: return count_ok(c, e->leases->n_leases, WIRE_MAX_NAMES);
    case PEACH__ENVELOPE__BODY_PRELOAD:
        return items_ok(c, e->preload->preloads, e->preload->n_preloads) &&
               names_ok(c, e->preload->unload, e->preload->n_unload) &&
               names_ok(c, e->preload->revert, e->preload->n_revert) &&
               count_ok(c, e->preload->n_order, WIRE_MAX_BATCH);
    case PEACH__ENVELOPE__BODY_SOURCE_REQUEST: return digests_ok(c, e->source_request);
    case PEACH__ENVELOPE__BODY_UNBEGUN: return unbegun_ok(c, e->unbegun);
    case PEACH__ENVELOPE__BODY_CANCEL_JOBS:
        return count_ok(c, e->cancel_jobs->n_jobs, WIRE_MAX_NAMES);
    case PEACH__ENVELOPE__BODY_PUT:
        return (e->put->number != 0 || fail(c, PEACH_E_PROTOCOL, "a value without a number")) &&
               payload_ok(c, e->put->payload);
    case PEACH__ENVELOPE__BODY_PUT_REPLY: return message_ok(c, e->put_reply->message);
    case PEACH__ENVELOPE__BODY_DROP: return count_ok(c, e->drop->n_numbers, WIRE_MAX_NAMES);
    case PEACH__ENVELOPE__BODY_PRELOAD_REPLY:
        return message_ok(c, e->preload_reply->message) && name_ok(c, e->preload_reply->name) &&
               name_ok(c, e->preload_reply->host);
    case PEACH__ENVELOPE__BODY_LOGS:
        if (!count_ok(c, e->logs->n_lines, WIRE_MAX_BATCH)) return false;
        for (size_t i = 0; i < e->logs->n_lines; i++)
            if (!name_ok(c, e->logs->lines[i]->host) || !message_ok(c, e->logs->lines[i]->text))
                return false;
        return true;
    case PEACH__ENVELOPE__BODY_REGISTRATION: return registration_ok(c, e->registration);
    case PEACH__ENVELOPE__BODY_STATUS: return status_ok(c, e->status);
    case PEACH__ENVELOPE__BODY_GOODBYE: return message_ok(c, e->goodbye->reason);
    case PEACH__ENVELOPE__BODY_ERROR: return message_ok(c, e->error->message);
    case PEACH__ENVELOPE__BODY_DRAIN:
        return name_ok(c, e->drain->worker) && name_ok(c, e->drain->host);
    case PEACH__ENVELOPE__BODY_CREDIT:
    case PEACH__ENVELOPE__BODY_STATUS_REQUEST:
    case PEACH__ENVELOPE__BODY_HEARTBEAT:
    case PEACH__ENVELOPE__BODY_CANCEL_JOBS_REPLY:
    case PEACH__ENVELOPE__BODY_DRAIN_REPLY: return true;
    default: return fail(c, PEACH_E_PROTOCOL, "an envelope without a body that is known");
    }
}

int wire_check(const Peach__Envelope *envelope, size_t frame_count, const char **why)
{
    check_t c = {frame_count, "", 0};
    body_ok(&c, envelope);
    *why = c.why;
    return c.status;
}
