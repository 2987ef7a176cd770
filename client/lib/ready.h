/* The descriptor of a handle for event loops. It is one for the life of the handle, over
   whatever connections: an epoll set of what may bring something. What was read from a
   socket and not taken yet shows in no descriptor of ZeroMQ's, so it has one of its own here.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_READY_H
#define PEACH_READY_H

#include <stdbool.h>

typedef struct {
    int set, more; /* of epoll; an eventfd */
    bool has_more;
} ready_t;

/* 0 or PEACH_E_SYSTEM with errno. ready_close is for both. */
int ready_open(ready_t *self);
void ready_close(ready_t *self);

/* What is readable makes the set readable, until it is forgotten: before it is closed. */
int ready_watch(ready_t *self, int fd);
void ready_forget(ready_t *self, int fd);

/* Whether something has come that is still to be taken: the set is readable as long. */
void ready_tell(ready_t *self, bool more);

#endif
