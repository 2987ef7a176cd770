/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "session.h"

#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- starting workers here ---- */

/* The folder for the log of workers that outlive us: $XDG_STATE_HOME/peach, or
   ~/.local/state/peach, or /tmp. */
static void log_path(char *path, size_t size)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char folder[PATH_MAX];
    if (state && *state)
        snprintf(folder, sizeof folder, "%s/peach", state);
    else if (home && *home)
        snprintf(folder, sizeof folder, "%s/.local/state/peach", home);
    else
        snprintf(folder, sizeof folder, "/tmp");
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(folder, 0755);
        *slash = '/';
    }
    if (mkdir(folder, 0755) != 0 && errno != EEXIST) snprintf(folder, sizeof folder, "/tmp");
    snprintf(path, size, "%s/worker.log", folder);
}

/* Of who could not become a worker: errno is for who reads at the other end. */
_Noreturn static void tell_and_exit(int told)
{
    int error = errno;
    ssize_t ignored = write(told, &error, sizeof error);
    (void)ignored;
    _exit(127);
}

/* In the grandchild: peach-worker, detached from everything of ours. */
_Noreturn static void become_worker(const char *endpoint, unsigned slots, int told)
{
    char path[PATH_MAX + 32], self[PATH_MAX], number[16], worker[PATH_MAX + 32];
    const char *programs = getenv("PEACH_BIN");
    setsid();
    log_path(path, sizeof path);
    int null = open("/dev/null", O_RDONLY);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    dup2(null, 0);
    dup2(log >= 0 ? log : null, 1);
    dup2(log >= 0 ? log : null, 2);
    dup2(told, 3);
    fcntl(3, F_SETFD, FD_CLOEXEC);
    close_range(4, ~0U, 0);
    snprintf(number, sizeof number, "%u", slots);
    char *const args[] = {"peach-worker", "--connect", (char *)endpoint,
                          "--slots",      number,      "--leave-after",
                          "60",           NULL};
    /* Where we are told, next to this program, or where the user's shell finds it. */
    if (programs && *programs) {
        snprintf(worker, sizeof worker, "%s/peach-worker", programs);
        execv(worker, args);
    }
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash) {
        *slash = 0;
        snprintf(worker, sizeof worker, "%s/peach-worker", self);
        execv(worker, args);
    }
    execvp("peach-worker", args);
    tell_and_exit(3);
}

static int start_worker(peach_t *self, unsigned slots)
{
    int told[2], error = 0;
    const char *endpoint = self->endpoints.text[self->endpoint];
    if (!endpoint_is_loopback(endpoint))
        return session_fail(self, PEACH_E_REFUSED,
                            "the fleet has too few slots, and a worker for '%s' is not started "
                            "from here because nothing protects the connection: run peach worker "
                            "--insecure --connect %s yourself",
                            endpoint, endpoint);
    if (pipe2(told, O_CLOEXEC) != 0)
        return session_fail(self, PEACH_E_SYSTEM, "pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        /* Twice, so that it is nobody's child and leaves no zombie. */
        pid_t worker = fork();
        if (worker == 0) become_worker(endpoint, slots, told[1]);
        if (worker < 0) tell_and_exit(told[1]);
        _exit(0);
    }
    close(told[1]);
    if (child < 0) error = errno;
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR) {
    }
    /* The pipe closes with the exec, or brings the reason why there is none. */
    ssize_t n = error ? 0 : read(told[0], &error, sizeof error);
    close(told[0]);
    if (n > 0 || error)
        return session_fail(self, PEACH_E_SYSTEM, "cannot start peach-worker: %s%s",
                            strerror(error), error == ENOENT ? " (is it on PATH?)" : "");
    return 0;
}

/* ---- init ---- */

static int read_preloads(peach_t *self, const char *const *preloads, size_t count,
                         preload_source_t *sources)
{
    char error[1024];
    for (size_t i = 0; i < count; i++) {
        int rc = preload_read(&sources[i], preloads[i], error, sizeof error);
        if (rc) return session_fail(self, PEACH_E_ARGUMENT, "%s", error);
        if (payload_size(sources[i].source) > self->max_payload_bytes)
            return session_fail(self, PEACH_E_LIMIT, "preload '%s' is over the broker's limit",
                                preloads[i]);
    }
    return 0;
}

/* What the broker answered about preloads. */
static int take_reply(peach_t *self, unsigned *workers_p)
{
    const Peach__PreloadReply *reply = wire_envelope(self->request.answer)->preload_reply;
    int rc = reply->status;
    if (rc && *reply->name)
        session_fail(self, rc, "preload %s failed on %s (pid %u): %s", reply->name, reply->host,
                     reply->pid, reply->message);
    else if (rc)
        session_fail(self, rc, "%s", reply->message);
    if (workers_p) *workers_p = reply->workers;
    wire_message_destroy(&self->request.answer);
    return rc;
}

static int ask_for_slots(peach_t *self, const preload_source_t *sources, size_t count,
                         unsigned slots, int timeout_ms)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Preload preload = PEACH__PRELOAD__INIT;
    Peach__PreloadItem *items = calloc(count + 1, sizeof *items), **pointers;
    Peach__Payload *fields = calloc(count + 1, sizeof *fields);
    wire_frames_t frames = {0};
    pointers = calloc(count + 1, sizeof *pointers);
    int rc = items && fields && pointers ? 0 : PEACH_E_MEMORY;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        pointers[i] = &items[i];
        rc = preload_item(&sources[i], &frames, &fields[i], &items[i]);
    }
    preload.request = self->request.id = ++self->last_request;
    preload.preloads = pointers;
    preload.n_preloads = count;
    preload.slots = slots;
    envelope.body_case = PEACH__ENVELOPE__BODY_PRELOAD;
    envelope.preload = &preload;
    if (rc == 0) rc = session_ask(self, &envelope, &frames, timeout_ms);
    wire_frames_clear(&frames);
    free(items);
    free(fields);
    free(pointers);
    return rc ? rc : take_reply(self, NULL);
}

int peach_unload(peach_t *self, const char *const *names, size_t count, int timeout_ms,
                 unsigned *workers_p)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Preload preload = PEACH__PRELOAD__INIT;
    if (workers_p) *workers_p = 0;
    for (size_t i = 0; i < count; i++)
        if (!*names[i] || strlen(names[i]) > WIRE_MAX_NAME)
            return session_fail(self, PEACH_E_ARGUMENT, "'%s' is no name of a preload", names[i]);
    preload.request = self->request.id = ++self->last_request;
    preload.unload = (char **)names;
    preload.n_unload = count;
    envelope.body_case = PEACH__ENVELOPE__BODY_PRELOAD;
    envelope.preload = &preload;
    int rc = session_ask(self, &envelope, NULL, timeout_ms);
    return rc ? rc : take_reply(self, workers_p);
}

int peach_init(peach_t *self, unsigned slots, const char *const *preloads, size_t count,
               int timeout_ms, unsigned *started_p)
{
    if (started_p) *started_p = 0;
    preload_source_t *sources = calloc(count + 1, sizeof *sources);
    if (!sources) return session_fail(self, PEACH_E_MEMORY, "out of memory");
    int rc = read_preloads(self, preloads, count, sources);
    /* The broker's count is news of this moment, not of the last second. */
    peach_value_t *view = NULL;
    int64_t have = 0;
    if (rc == 0) rc = peach_view(self, timeout_ms, &view);
    if (rc == 0) {
        peach_value_as_int(peach_value_get(view, "slots"), &have);
        if (have < (int64_t)slots) {
            rc = start_worker(self, slots - (unsigned)have);
            if (rc == 0 && started_p) *started_p = slots - (unsigned)have;
        }
    }
    peach_value_destroy(&view);
    if (rc == 0) rc = ask_for_slots(self, sources, count, slots, timeout_ms);
    if (rc == PEACH_E_TIMEOUT)
        session_fail(self, rc,
                     "not all of the %u slots were ready within %.1f s (peach workers "
                     "shows those that are)",
                     slots, timeout_ms / 1000.0);
    for (size_t i = 0; i < count; i++) preload_clear(&sources[i]);
    free(sources);
    return rc;
}

/* ---- view ---- */

static void put(peach_value_t *map, const char *key, peach_value_t *value)
{
    if (value) peach_value_set(map, key, &value);
}

static void put_number(peach_value_t *map, const char *key, uint64_t number)
{
    put(map, key, peach_value_int(number > INT64_MAX ? INT64_MAX : (int64_t)number));
}

static void put_digest(peach_value_t *map, ProtobufCBinaryData digest)
{
    char hex[2 * WIRE_DIGEST_BYTES + 1];
    sodium_bin2hex(hex, sizeof hex, digest.data, digest.len);
    put(map, "digest", peach_value_string(hex));
}

static peach_value_t *view_worker(const Peach__WorkerStatus *w)
{
    static const char *const states[] = {"loading", "ready", "failed"};
    peach_value_t *map = peach_value_map(), *labels = peach_value_map();
    peach_value_t *preloads = peach_value_list();
    put(map, "id", peach_value_string(w->id));
    put(map, "host", peach_value_string(w->host));
    put_number(map, "pid", w->pid);
    put_number(map, "slots", w->slots);
    put_number(map, "tasks", w->running);
    put_number(map, "done", w->done_items);
    put_number(map, "failed", w->failed_items);
    put(map, "state",
        peach_value_string(!w->connected ? "lost"
                           : w->draining ? "draining"
                           : w->ready    ? "ready"
                                         : "loading"));
    put_number(map, "silent_ms", w->silent_ms);
    for (size_t i = 0; i < w->n_labels; i++)
        put(labels, w->labels[i]->key, peach_value_string(w->labels[i]->value));
    put(map, "labels", labels);
    for (size_t i = 0; i < w->n_preloads; i++) {
        const Peach__PreloadReport *report = w->preloads[i];
        peach_value_t *preload = peach_value_map();
        put(preload, "name", peach_value_string(report->name));
        put_digest(preload, report->digest);
        put(preload, "state", peach_value_string(states[report->state < 3 ? report->state : 2]));
        if (*report->error) put(preload, "error", peach_value_string(report->error));
        peach_value_append(preloads, &preload);
    }
    put(map, "preloads", preloads);
    return map;
}

static peach_value_t *view_function(const Peach__FunctionStatus *f)
{
    peach_value_t *map = peach_value_map();
    put(map, "name", peach_value_string(f->name));
    put(map, "preload", peach_value_string(f->preload));
    put_digest(map, f->digest);
    put_number(map, "workers", f->workers);
    put_number(map, "slots", f->slots);
    return map;
}

static peach_value_t *view_client(const Peach__ClientStatus *c)
{
    peach_value_t *map = peach_value_map();
    put(map, "id", peach_value_string(c->id));
    put(map, "host", peach_value_string(c->host));
    put_number(map, "pid", c->pid);
    put_number(map, "queued", c->queued);
    put_number(map, "running", c->running);
    return map;
}

static const Peach__ClientStatus *client_of(const Peach__Status *s, const Peach__JobStatus *j)
{
    for (size_t i = 0; i < s->n_clients; i++)
        if (strcmp(s->clients[i]->id, j->client) == 0) return s->clients[i];
    return NULL;
}

static peach_value_t *view_job(const Peach__Status *s, const Peach__JobStatus *j)
{
    const Peach__ClientStatus *client = client_of(s, j);
    peach_value_t *map = peach_value_map();
    put_number(map, "id", j->id);
    put(map, "client", peach_value_string(j->client));
    put(map, "host", peach_value_string(client ? client->host : ""));
    put_number(map, "pid", client ? client->pid : 0);
    put(map, "function", peach_value_string(j->function));
    put_number(map, "items", j->known_items);
    put(map, "items_final", peach_value_bool(j->known_final));
    put_number(map, "done", j->done_items);
    put_number(map, "failed", j->failed_items);
    put_number(map, "queued", j->queued);
    put_number(map, "running", j->running);
    put_number(map, "age_ms", j->age_ms);
    return map;
}

static peach_value_t *view_of(const Peach__Status *s)
{
    uint64_t slots = 0;
    peach_value_t *view = peach_value_map(), *workers = peach_value_list();
    peach_value_t *functions = peach_value_list(), *clients = peach_value_list();
    peach_value_t *jobs = peach_value_list();
    if (!view || !workers || !functions || !clients || !jobs) return NULL;
    for (size_t i = 0; i < s->n_workers; i++) {
        peach_value_t *worker = view_worker(s->workers[i]);
        if (s->workers[i]->connected && !s->workers[i]->draining) slots += s->workers[i]->slots;
        if (worker) peach_value_append(workers, &worker);
    }
    for (size_t i = 0; i < s->n_functions; i++) {
        peach_value_t *function = view_function(s->functions[i]);
        if (function) peach_value_append(functions, &function);
    }
    for (size_t i = 0; i < s->n_clients; i++) {
        peach_value_t *client = view_client(s->clients[i]);
        if (client) peach_value_append(clients, &client);
    }
    for (size_t i = 0; i < s->n_jobs; i++) {
        peach_value_t *job = view_job(s, s->jobs[i]);
        if (job) peach_value_append(jobs, &job);
    }
    put(view, "version", peach_value_string(s->version));
    put(view, "endpoint", peach_value_string(s->endpoint));
    put_number(view, "uptime_ms", s->uptime_ms);
    put(view, "draining", peach_value_bool(s->draining));
    put_number(view, "slots", slots);
    put_number(view, "queued_tasks", s->queued_tasks);
    put_number(view, "running_tasks", s->running_tasks);
    put_number(view, "done_items", s->done_items);
    put_number(view, "failed_items", s->failed_items);
    put_number(view, "retried_items", s->retried_items);
    put_number(view, "payload_bytes", s->payload_bytes);
    put_number(view, "bad_messages", s->bad_messages);
    put_number(view, "bad_connections", s->bad_connections);
    put_number(view, "refused_connections", s->refused_connections);
    put_number(view, "descriptors", s->descriptors);
    put_number(view, "descriptor_limit", s->descriptor_limit);
    put(view, "workers", workers);
    put(view, "functions", functions);
    put(view, "clients", clients);
    put(view, "jobs", jobs);
    return view;
}

int peach_view(peach_t *self, int timeout_ms, peach_value_t **view_p)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__StatusRequest request = PEACH__STATUS_REQUEST__INIT;
    *view_p = NULL;
    request.request = self->request.id = ++self->last_request;
    envelope.body_case = PEACH__ENVELOPE__BODY_STATUS_REQUEST;
    envelope.status_request = &request;
    int rc = session_ask(self, &envelope, NULL, timeout_ms);
    if (rc) return rc;
    *view_p = view_of(wire_envelope(self->request.answer)->status);
    wire_message_destroy(&self->request.answer);
    return *view_p ? 0 : session_fail(self, PEACH_E_MEMORY, "out of memory");
}

int peach_drain(peach_t *self, const peach_drain_t *what, int timeout_ms, unsigned *workers_p)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Drain drain = PEACH__DRAIN__INIT;
    drain.request = self->request.id = ++self->last_request;
    drain.worker = (char *)(what->worker ? what->worker : "");
    drain.host = (char *)(what->host ? what->host : "");
    drain.all = what->all;
    drain.broker = what->broker;
    envelope.body_case = PEACH__ENVELOPE__BODY_DRAIN;
    envelope.drain = &drain;
    int rc = session_ask(self, &envelope, NULL, timeout_ms);
    if (rc) return rc;
    if (workers_p) *workers_p = wire_envelope(self->request.answer)->drain_reply->workers;
    wire_message_destroy(&self->request.answer);
    return 0;
}

int peach_cancel(peach_t *self, const peach_cancel_t *what, int timeout_ms, unsigned *jobs_p)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__CancelJobs cancel = PEACH__CANCEL_JOBS__INIT;
    if (what->count > WIRE_MAX_NAMES)
        return session_fail(self, PEACH_E_ARGUMENT, "more than %d jobs", WIRE_MAX_NAMES);
    cancel.request = self->request.id = ++self->last_request;
    cancel.jobs = (uint64_t *)what->jobs;
    cancel.n_jobs = what->count;
    cancel.all = what->all;
    envelope.body_case = PEACH__ENVELOPE__BODY_CANCEL_JOBS;
    envelope.cancel_jobs = &cancel;
    int rc = session_ask(self, &envelope, NULL, timeout_ms);
    if (rc) return rc;
    if (jobs_p) *jobs_p = wire_envelope(self->request.answer)->cancel_jobs_reply->jobs;
    wire_message_destroy(&self->request.answer);
    return 0;
}
