/* Blocks of one size that are used again: what is allocated and freed for every task. It
   keeps some of those that are not in use. For one thread at a time.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_POOL_H
#define PEACH_POOL_H

#include <stddef.h>
#include <stdlib.h>

#ifdef __SANITIZE_ADDRESS__
enum { POOL_KEEPS = 0 }; /* so that using one that was put back is found */
#else
enum { POOL_KEEPS = 16384 };
#endif

typedef struct {
    void *free; /* each one's first word is the next */
    size_t kept;
} pool_t;

/* Not cleared. NULL when memory is out. */
static inline void *pool_get(pool_t *self, size_t size)
{
    void *block = self->free;
    if (!block) return malloc(size);
    self->free = *(void **)block;
    self->kept--;
    return block;
}

static inline void pool_put(pool_t *self, void *block)
{
    if (self->kept == POOL_KEEPS) {
        free(block);
        return;
    }
    *(void **)block = self->free;
    self->free = block;
    self->kept++;
}

static inline void pool_clear(pool_t *self)
{
    for (void *next; self->free; self->free = next) {
        next = *(void **)self->free;
        free(self->free);
    }
    self->kept = 0;
}

#endif
