/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "resolve.h"

#include "endpoint.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct resolve {
    _Atomic int users; /* who asks, and the thread */
    _Atomic int state;
    int fd;
    char host[ENDPOINT_BYTES], why[ENDPOINT_BYTES + 128];
};

static void release(resolve_t *self)
{
    if (atomic_fetch_sub(&self->users, 1) > 1) return;
    if (self->fd >= 0) close(self->fd);
    free(self);
}

static resolve_state_t ask(resolve_t *self)
{
    struct addrinfo *found, hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int rc = getaddrinfo(self->host, NULL, &hints, &found);
    if (rc) {
        snprintf(self->why, sizeof self->why, "host '%s': %s", self->host, gai_strerror(rc));
        return RESOLVE_FAILED;
    }
    bool ipv4 = false;
    for (const struct addrinfo *a = found; a; a = a->ai_next) ipv4 |= a->ai_family == AF_INET;
    freeaddrinfo(found);
    return ipv4 ? RESOLVE_IPV4 : RESOLVE_IPV6;
}

static void *answer(void *arg)
{
    resolve_t *self = arg;
    uint64_t one = 1;
    atomic_store(&self->state, ask(self));
    ssize_t ignored = write(self->fd, &one, sizeof one);
    (void)ignored; /* who polls looks again soon in any case */
    release(self);
    return NULL;
}

/* The program's signals are for the threads that it knows. */
static int start(resolve_t *self)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, NULL, answer, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0) pthread_detach(thread);
    return rc;
}

resolve_t *resolve_new(const char *endpoint)
{
    resolve_t *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    atomic_init(&self->users, 1);
    self->fd = -1;
    if (!endpoint_host_name(endpoint, self->host)) {
        atomic_init(&self->state, endpoint_is_ipv6(endpoint) ? RESOLVE_IPV6 : RESOLVE_IPV4);
        return self;
    }
    atomic_init(&self->state, RESOLVE_PENDING);
    self->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_fetch_add(&self->users, 1);
    if (self->fd >= 0 && start(self) == 0) return self;
    atomic_fetch_sub(&self->users, 1);
    release(self);
    return NULL;
}

resolve_state_t resolve_state(const resolve_t *self, const char **why)
{
    resolve_state_t state = (resolve_state_t)atomic_load(&self->state);
    *why = state == RESOLVE_FAILED ? self->why : "";
    return state;
}

int resolve_fd(const resolve_t *self) { return self->fd; }

void resolve_destroy(resolve_t **self_p)
{
    resolve_t *self = *self_p;
    *self_p = NULL;
    if (self) release(self);
}
