/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "idmap.h"

#include <peach/status.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t id;
    void *value; /* NULL: free */
} entry_t;

/* Linear probing; an entry that leaves is filled from behind. */
struct idmap {
    uint64_t seed[2];
    entry_t *entries;
    size_t mask, count; /* capacity, a power of two, less 1 */
};

/* A multiplication, folded: all bits of the product depend on all of both. */
static uint64_t fold(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide_t;
    wide_t product = (wide_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static size_t home(const idmap_t *self, uint64_t id)
{
    return (size_t)fold(fold(id ^ self->seed[0], self->seed[1]), 0x8EBC6AF09C88C6E3u) & self->mask;
}

idmap_t *idmap_new(const table_seed_t *seed)
{
    idmap_t *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    memcpy(self->seed, seed->bytes, sizeof self->seed);
    /* A seed of zeros, too, spreads what is in sequence. */
    self->seed[0] ^= 0xA0761D6478BD642Fu;
    self->seed[1] = (self->seed[1] ^ 0xE7037ED1A0B428DBu) | 1;
    self->mask = 15;
    self->entries = calloc(self->mask + 1, sizeof *self->entries);
    if (!self->entries) idmap_destroy(&self);
    return self;
}

void idmap_destroy(idmap_t **self_p)
{
    idmap_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    free(self->entries);
    free(self);
}

/* The id's entry, or the free one where it belongs. */
static entry_t *find(const idmap_t *self, uint64_t id)
{
    size_t i = home(self, id);
    while (self->entries[i].value && self->entries[i].id != id) i = (i + 1) & self->mask;
    return &self->entries[i];
}

static int grow(idmap_t *self)
{
    entry_t *old = self->entries;
    size_t capacity = self->mask + 1;
    entry_t *entries = calloc(capacity * 2, sizeof *entries);
    if (!entries) return PEACH_E_MEMORY;
    self->entries = entries;
    self->mask = capacity * 2 - 1;
    for (size_t i = 0; i < capacity; i++)
        if (old[i].value) *find(self, old[i].id) = old[i];
    free(old);
    return 0;
}

int idmap_put(idmap_t *self, uint64_t id, void *value)
{
    assert(value);
    entry_t *e = find(self, id);
    if (!e->value) {
        if ((self->count + 1) * 4 > (self->mask + 1) * 3) {
            if (grow(self) != 0) return PEACH_E_MEMORY;
            e = find(self, id);
        }
        self->count++;
        e->id = id;
    }
    e->value = value;
    return 0;
}

void *idmap_get(const idmap_t *self, uint64_t id) { return find(self, id)->value; }

void *idmap_remove(idmap_t *self, uint64_t id)
{
    entry_t *e = find(self, id);
    void *value = e->value;
    if (!value) return NULL;
    self->count--;
    size_t hole = (size_t)(e - self->entries);
    for (size_t i = (hole + 1) & self->mask; self->entries[i].value; i = (i + 1) & self->mask) {
        size_t from = home(self, self->entries[i].id);
        if (((i - from) & self->mask) >= ((i - hole) & self->mask)) { /* it may move back */
            self->entries[hole] = self->entries[i];
            hole = i;
        }
    }
    self->entries[hole] = (entry_t){0};
    return value;
}

size_t idmap_count(const idmap_t *self) { return self->count; }

void *idmap_next(const idmap_t *self, size_t *cursor)
{
    while (*cursor <= self->mask) {
        void *value = self->entries[(*cursor)++].value;
        if (value) return value;
    }
    return NULL;
}
