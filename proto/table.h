/* Hash table from bytes to a pointer. Keys are hashed with SipHash under a key
   of the table's owner, so that no peer can choose names that collide; the core
   takes it from outside to stay deterministic.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_TABLE_H
#define PEACH_TABLE_H

#include <stddef.h>
#include <stdint.h>

typedef struct table table_t;

typedef struct {
    uint8_t bytes[16];
} table_seed_t;

table_t *table_new(const table_seed_t *seed);

/* Does not touch the values. Sets *self_p to NULL. */
void table_destroy(table_t **self_p);

/* Copies the key. A key that is there already gets the new value. 0 or
   PEACH_E_MEMORY. value must not be NULL. */
int table_put(table_t *self, const void *key, size_t key_size, void *value);

/* NULL when the key is not there. */
void *table_get(const table_t *self, const void *key, size_t key_size);

/* Removes the key and returns its value, or NULL. */
void *table_remove(table_t *self, const void *key, size_t key_size);

size_t table_count(const table_t *self);

/* The entries in no particular order: start with *cursor = 0, NULL at the end.
   The table must not change meanwhile. key and key_size may be NULL. */
void *table_next(const table_t *self, size_t *cursor, const void **key, size_t *key_size);

#endif
