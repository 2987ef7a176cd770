/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "table.h"

#include <peach/status.h>

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    void *value; /* NULL: free */
    uint64_t hash;
    size_t key_size;
    union {
        uint8_t small[16];
        uint8_t *large;
    } key;
} entry_t;

/* Linear probing; an entry that leaves is filled from behind, so there are no
   tombstones. */
struct table {
    table_seed_t seed;
    entry_t *entries;
    size_t capacity, count; /* capacity is a power of two */
};

static const uint8_t *key_of(const entry_t *e)
{
    return e->key_size <= sizeof e->key.small ? e->key.small : e->key.large;
}

table_t *table_new(const table_seed_t *seed)
{
    table_t *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    self->seed = *seed;
    self->capacity = 8;
    self->entries = calloc(self->capacity, sizeof *self->entries);
    if (!self->entries) {
        free(self);
        return NULL;
    }
    return self;
}

void table_destroy(table_t **self_p)
{
    table_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    for (size_t i = 0; i < self->capacity; i++)
        if (self->entries[i].value && self->entries[i].key_size > sizeof self->entries[i].key.small)
            free(self->entries[i].key.large);
    free(self->entries);
    free(self);
}

static uint64_t hash_of(const table_t *self, const void *key, size_t key_size)
{
    uint8_t digest[crypto_shorthash_BYTES];
    crypto_shorthash(digest, key, key_size, self->seed.bytes);
    uint64_t hash;
    memcpy(&hash, digest, sizeof hash);
    return hash;
}

/* The key's entry, or the free one where it belongs. */
static entry_t *find(const table_t *self, uint64_t hash, const void *key, size_t key_size)
{
    size_t mask = self->capacity - 1, i = hash & mask;
    for (;; i = (i + 1) & mask) {
        entry_t *e = &self->entries[i];
        if (!e->value ||
            (e->hash == hash && e->key_size == key_size && memcmp(key_of(e), key, key_size) == 0))
            return e;
    }
}

static int grow(table_t *self)
{
    entry_t *old = self->entries;
    size_t old_capacity = self->capacity;
    entry_t *entries = calloc(old_capacity * 2, sizeof *entries);
    if (!entries) return PEACH_E_MEMORY;
    self->entries = entries;
    self->capacity = old_capacity * 2;
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i].value) *find(self, old[i].hash, key_of(&old[i]), old[i].key_size) = old[i];
    free(old);
    return 0;
}

int table_put(table_t *self, const void *key, size_t key_size, void *value)
{
    assert(value);
    uint64_t hash = hash_of(self, key, key_size);
    entry_t *e = find(self, hash, key, key_size);
    if (e->value) {
        e->value = value;
        return 0;
    }
    if ((self->count + 1) * 4 > self->capacity * 3) {
        if (grow(self) != 0) return PEACH_E_MEMORY;
        e = find(self, hash, key, key_size);
    }
    uint8_t *bytes = e->key.small;
    if (key_size > sizeof e->key.small && !(bytes = malloc(key_size))) return PEACH_E_MEMORY;
    if (key_size) memcpy(bytes, key, key_size);
    if (key_size > sizeof e->key.small) e->key.large = bytes;
    e->value = value;
    e->hash = hash;
    e->key_size = key_size;
    self->count++;
    return 0;
}

void *table_get(const table_t *self, const void *key, size_t key_size)
{
    return find(self, hash_of(self, key, key_size), key, key_size)->value;
}

void *table_remove(table_t *self, const void *key, size_t key_size)
{
    entry_t *e = find(self, hash_of(self, key, key_size), key, key_size);
    void *value = e->value;
    if (!value) return NULL;
    if (e->key_size > sizeof e->key.small) free(e->key.large);
    self->count--;
    size_t mask = self->capacity - 1, hole = (size_t)(e - self->entries);
    for (size_t i = (hole + 1) & mask; self->entries[i].value; i = (i + 1) & mask) {
        size_t home = self->entries[i].hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) { /* may move back to the hole */
            self->entries[hole] = self->entries[i];
            hole = i;
        }
    }
    self->entries[hole] = (entry_t){0};
    return value;
}

size_t table_count(const table_t *self) { return self->count; }

void *table_next(const table_t *self, size_t *cursor, const void **key, size_t *key_size)
{
    while (*cursor < self->capacity) {
        entry_t *e = &self->entries[(*cursor)++];
        if (!e->value) continue;
        if (key) *key = key_of(e);
        if (key_size) *key_size = e->key_size;
        return e->value;
    }
    return NULL;
}
