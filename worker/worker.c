/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "inside.h"

#include "descriptors.h"
#include "endpoint.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { SPARE_DESCRIPTORS = 16 }; /* for brokers, preloads and values */

static int make_labels(worker_t *w, char *error, size_t size)
{
    size_t count = w->options.label_count;
    w->labels = calloc(count + 1, sizeof *w->labels);
    w->label_pointers = calloc(count + 1, sizeof *w->label_pointers);
    if (!w->labels || !w->label_pointers) return PEACH_E_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const char *text = w->options.labels[i], *equals = strchr(text, '=');
        if (!equals || equals == text || strlen(text) > WIRE_MAX_NAME) {
            snprintf(error, size, "label '%s': a label is KEY=VALUE, up to %d bytes", text,
                     WIRE_MAX_NAME);
            return PEACH_E_ARGUMENT;
        }
        peach__label__init(&w->labels[i]);
        w->labels[i].key = strndup(text, (size_t)(equals - text));
        w->labels[i].value = (char *)equals + 1;
        if (!w->labels[i].key) return PEACH_E_MEMORY;
        w->label_pointers[i] = &w->labels[i];
    }
    return 0;
}

static int open_links(worker_t *w, char *error, size_t size)
{
    endpoints_t endpoints;
    int rc = endpoints_parse(&endpoints, w->options.endpoints, error, size);
    if (rc == 0) rc = endpoints_check_exposure(&endpoints, w->options.insecure, error, size);
    if (rc) return rc;
    w->context = zmq_ctx_new();
    w->links = calloc(endpoints.count, sizeof *w->links);
    if (!w->context || !w->links) return PEACH_E_MEMORY;
    for (; w->link_count < endpoints.count && rc == 0; w->link_count++)
        rc = link_open(w, &w->links[w->link_count], endpoints.text[w->link_count]);
    if (rc)
        snprintf(error, size, "cannot connect to '%s': %s", endpoints.text[w->link_count - 1],
                 zmq_strerror(errno));
    return rc;
}

/* Whether executors can run Python: its runtime is next to them. */
static bool has_python(const worker_t *w)
{
    char path[PATH_MAX + 32];
    const char *slash = strrchr(w->options.executor, '/');
    int folder = slash ? (int)(slash - w->options.executor) : 0;
    snprintf(path, sizeof path, "%.*s/peach_python.so", folder, w->options.executor);
    return access(path, R_OK) == 0;
}

/* With less than it asks for of what the system lets it have, the worker has fewer slots. */
static int start_crew(worker_t *w, char *error, size_t size)
{
    unsigned most = crew_most(w);
    w->seats = calloc(most, sizeof *w->seats);
    if (!w->seats) return PEACH_E_MEMORY;
    w->seat_count = crew_first(w) + w->options.slots;
    for (unsigned i = 0; i < most; i++) {
        list_init(&w->seats[i].orders);
        w->seats[i].process.print_fd = -1;
    }
    w->seats[0].template = w->options.fork;
    /* Copies of the template are our children, and orphans of tasks are collected. */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return PEACH_E_SYSTEM;
    for (unsigned i = 0; i < w->seat_count; i++) { /* the template first */
        int rc = crew_start(w, &w->seats[i], error, size), why = rc ? errno : 0;
        unsigned started = i + (rc == 0) - crew_first(w);
        bool lacks = why == EMFILE || why == ENFILE || why == EAGAIN;
        if (rc && (!lacks || i <= crew_first(w))) return rc;
        if (!rc && (i < crew_first(w) || descriptors_spare(SPARE_DESCRIPTORS))) continue;
        if (started == w->options.slots) break;
        log_say(
            LOG_WARN,
            "the worker goes on with %u slots instead of %u: %s (ulimit -n and -u, or LimitNOFILE= "
            "and TasksMax= of systemd)",
            started, w->options.slots, rc ? error : "there are no descriptors for more");
        w->options.slots = started;
        w->seat_count = crew_first(w) + started;
    }
    return 0;
}

worker_t *worker_new(const worker_options_t *options, int *status, char *error, size_t error_size)
{
    worker_t *w = calloc(1, sizeof *w);
    *status = PEACH_E_MEMORY;
    snprintf(error, error_size, "out of memory");
    if (!w) return NULL;
    w->options = *options;
    w->by_value = !options->no_push && has_python(w);
    list_init(&w->waiting);
    list_init(&w->blobs);
    list_init(&w->verdicts);
    list_init(&w->ended);
    store_init(&w->store);
    w->control = -1;
    w->now_ms = w->lost_ms = awake_ms(&w->clock);
    gethostname(w->host, sizeof w->host - 1);
    randombytes_buf(w->session, sizeof w->session);
    if ((*status = make_labels(w, error, error_size)) != 0 ||
        (*status = shelf_fill(w, error, error_size)) != 0 ||
        (*status = open_links(w, error, error_size)) != 0 ||
        (*status = start_crew(w, error, error_size)) != 0)
        worker_destroy(&w);
    return w;
}

void worker_destroy(worker_t **self_p)
{
    worker_t *w = *self_p;
    *self_p = NULL;
    if (!w) return;
    orders_clear(w);
    blobs_clear(w);
    verdicts_clear(w);
    for (unsigned i = 0; w->seats && i < w->seat_count; i++) slot_kill(&w->seats[i].process);
    for (unsigned i = 0; w->seats && i < w->seat_count; i++) {
        char cause[256];
        slot_reap(&w->seats[i].process, cause, sizeof cause);
        prints_read(w, &w->seats[i], true);
        prints_clear(&w->seats[i]);
        slot_clear(&w->seats[i].process);
        wire_batch_free(&w->seats[i].batch);
    }
    free(w->seats);
    if (w->control >= 0) close(w->control);
    for (size_t i = 0; i < w->link_count; i++) link_close(&w->links[i]);
    free(w->links);
    if (w->context) zmq_ctx_term(w->context);
    shelf_clear(w);
    for (size_t i = 0; w->labels && i < w->options.label_count; i++) free(w->labels[i].key);
    free(w->labels);
    free(w->label_pointers);
    free(w);
}

/* ---- the loop ---- */

/* Whether the executor works for a broker that has too many results on its way. It is
   the only one that waits for that: its channel fills, and it stops. */
static bool blocked(const seat_t *seat)
{
    const node_t *first = list_first(&seat->orders);
    const link_t *link = first ? LIST_ITEM(first, order_t, node)->link : NULL;
    return link && link_full(link);
}

/* What the loop waits for: each link's socket and monitor, stop_fd, the template's answers, each
   seat's channel and what it prints. */
typedef struct {
    void **sockets;
    struct pollfd *items;
} wait_t;

static int wait_for_events(worker_t *w, wait_t *wait, int stop_fd)
{
    size_t count = 0;
    bool full = false;
    for (size_t i = 0; i < w->link_count; i++) {
        const link_t *link = &w->links[i];
        wait->sockets[count] = link->socket;
        wait->items[count++] = (struct pollfd){-1, POLLIN, 0};
        int fd = link->socket ? wire_fd(link->monitor) : -1;
        wait->items[count++] = (struct pollfd){fd, POLLIN, 0};
    }
    wait->items[count++] = (struct pollfd){stop_fd, POLLIN, 0};
    wait->items[count++] = (struct pollfd){w->control, POLLIN, 0};
    for (unsigned i = 0; i < w->seat_count; i++) {
        const slot_t *process = &w->seats[i].process;
        bool waits = blocked(&w->seats[i]);
        full |= waits;
        short events = waits ? 0 : POLLIN;
        if (process->channel && channel_pending(process->channel)) events |= POLLOUT;
        /* One that waits for its broker is not looked at, not even for its end. */
        int fd = process->channel && events ? channel_fd(process->channel) : -1;
        wait->items[count++] = (struct pollfd){fd, events, 0};
        wait->items[count++] = (struct pollfd){process->print_fd, POLLIN, 0};
    }
    int rc = wire_poll(wait->sockets, wait->items, count, full ? 1 : LOOK_MS);
    w->now_ms = awake_ms(&w->clock);
    return rc < 0 && errno != EINTR ? PEACH_E_SYSTEM : 0;
}

static void serve_seats(worker_t *w, const struct pollfd *items)
{
    for (unsigned i = 0; i < w->seat_count; i++) {
        seat_t *seat = &w->seats[i];
        if (!seat->process.channel) continue;
        if (items[2 * i + 1].revents) prints_read(w, seat, false);
        if (items[2 * i].revents & POLLOUT) channel_flush(seat->process.channel);
        if (items[2 * i].revents & (POLLIN | POLLERR | POLLHUP)) crew_receive(w, seat);
    }
}

static void keep_time(worker_t *w)
{
    if (w->now_ms - w->looked_ms >= LOOK_MS) {
        w->looked_ms = w->now_ms;
        crew_keep(w);
        orders_look(w);
    }
    bool there = false;
    if (w->pool) block_pool_trim(w->pool);
    for (size_t i = 0; i < w->link_count; i++) {
        link_keep(w, &w->links[i]);
        there |= w->links[i].welcomed;
    }
    if (there) w->lost_ms = w->now_ms;
}

static bool finished(const worker_t *w)
{
    if (w->failed) return true;
    if (w->options.leave_after_s > 0 &&
        w->now_ms - w->lost_ms > (uint64_t)w->options.leave_after_s * 1000)
        return true;
    size_t drained = 0;
    for (size_t i = 0; i < w->link_count; i++) {
        if (!link_settled(&w->links[i])) return false;
        drained += w->links[i].drained;
    }
    return w->order_count == 0 && (w->draining || drained == w->link_count);
}

static void begin_drain(worker_t *w)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Drain drain = PEACH__DRAIN__INIT;
    envelope.body_case = PEACH__ENVELOPE__BODY_DRAIN;
    envelope.drain = &drain;
    w->draining = true;
    for (size_t i = 0; i < w->link_count; i++)
        if (w->links[i].welcomed) wire_send(w->links[i].socket, NULL, &envelope, NULL);
}

int worker_run(worker_t *w, int stop_fd)
{
    size_t count = 2 * w->link_count + 2 + 2 * crew_most(w);
    wait_t wait = {calloc(count, sizeof *wait.sockets), calloc(count, sizeof *wait.items)};
    const struct pollfd *items = wait.items;
    int rc = wait.sockets && wait.items ? 0 : PEACH_E_MEMORY, stops = 0;
    while (rc == 0 && !finished(w)) {
        if ((rc = wait_for_events(w, &wait, stop_fd)) != 0) break;
        char byte;
        if (items[2 * w->link_count].revents && read(stop_fd, &byte, 1) == 1) {
            if (++stops > 1) break;
            log_say(LOG_NOTE, "finishing %zu tasks; a second signal ends them", w->order_count);
            begin_drain(w);
        }
        for (size_t i = 0; i < w->link_count; i++) {
            if (items[2 * i + 1].revents && w->links[i].monitor) link_watch(w, &w->links[i]);
            if (items[2 * i].revents) link_receive(w, &w->links[i]);
        }
        if (items[2 * w->link_count + 1].revents) crew_answer(w);
        serve_seats(w, items + 2 * w->link_count + 2);
        orders_pump(w);
        keep_time(w);
    }
    if (rc) log_say(LOG_FAIL, "the worker cannot go on: %s", strerror(errno));
    orders_abandon(w);
    for (size_t i = 0; i < w->link_count; i++) link_goodbye(w, &w->links[i]);
    free(wait.sockets);
    free(wait.items);
    return rc == 0 && w->failed ? PEACH_E_PRELOAD : rc;
}
