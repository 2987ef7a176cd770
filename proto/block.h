/* Memory that the processes of one user on one host hand to each other without
   copying it: a sealed memfd. Its owner fills it and names it in a message (Shared in
   peach.proto); who gets the name opens /proc/PID/fd/FD, and the kernel checks that it
   may. Each process on the way opens it and names its own descriptor to the next, so
   it lives as long as one of them holds it and is gone when all of them are: there is
   nothing to clean up.

   Fresh memory costs more than what is done with it, so owners keep what they made
   in a pool and use it again when nobody else has it open.

   A block that can be named takes a descriptor, and a process may have few. Who only reads
   lets go of it (block_settle); when half of a process's descriptors are in use no new
   blocks are made, and what is opened is copied: such values travel as frames.

   Threads: references may be dropped by any thread. A pool may be used by one thread
   at a time; what it gave may outlive it.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_BLOCK_H
#define PEACH_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "peach.pb-c.h"

enum { BLOCK_TOKEN_BYTES = 16, BLOCK_LEAST = 32 << 10 }; /* smaller payloads are sent */

typedef struct block block_t;
typedef struct block_pool block_pool_t;

/* What says that two processes can share blocks: the host (since it was started), the
   namespace of process ids, the user. Empty when this process cannot, or when
   PEACH_SHARED_MEMORY=0 says that it must not. Static storage. */
const char *block_place(void);

/* Whether this process can share blocks with one that it started. */
bool block_local(void);

/* NULL when memory is out. */
block_pool_t *block_pool_new(void);

/* Gives back what is not in use; blocks that are go when they are not any more. */
void block_pool_destroy(block_pool_t **self_p);

/* Gives back what was not used for two seconds. */
void block_pool_trim(block_pool_t *self);
bool block_pool_empty(block_pool_t *self);

/* A block of the caller's to fill. NULL when the system has no memory for it, or descriptors
   are scarce. */
block_t *block_new(block_pool_t *pool, size_t size);

/* The block of that name, or a copy of it that has no name. NULL with errno when it is not
   there, is none, or may not be opened: ENOENT when its process is gone. */
block_t *block_open(const Peach__Shared *name);

/* This process is the last on its way, and reads it: from now on it has no name. */
void block_settle(block_t *self);

block_t *block_ref(block_t *self);
void block_unref(block_t *self);

/* Aligned to a page. In who opened it what is written there stays there. NULL when it
   cannot be mapped. */
void *block_data(block_t *self);
size_t block_size(const block_t *self);

/* What this process calls it; lent. NULL when it has no name. */
Peach__Shared *block_name(block_t *self);

#endif
