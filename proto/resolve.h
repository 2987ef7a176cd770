/* Asking for a host's address without waiting: a name server may take its time, and a loop
   that serves others must not. ZeroMQ asks for itself when it connects; what it wants to be
   told before is whether the address is of IPv6, and nobody tells a user that there is none.

   Each question has a thread of its own, which ends with the answer.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_RESOLVE_H
#define PEACH_RESOLVE_H

#include <stdbool.h>

typedef struct resolve resolve_t;

typedef enum {
    RESOLVE_PENDING,
    RESOLVE_IPV4, /* it has an address of IPv4, and perhaps others */
    RESOLVE_IPV6, /* only of IPv6 */
    RESOLVE_FAILED
} resolve_state_t;

/* Asks for the host of a checked endpoint. What is no name needs no question: that is
   answered at once. NULL when memory or threads are out. */
resolve_t *resolve_new(const char *endpoint);

/* Without waiting. why (lent) says what is wrong when it failed: "host 'a': ...". */
resolve_state_t resolve_state(const resolve_t *self, const char **why);

/* A descriptor that is readable once there is an answer; -1: there was nothing to ask. */
int resolve_fd(const resolve_t *self);

void resolve_destroy(resolve_t **self_p);

#endif
