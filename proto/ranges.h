/* A set of items of one task, kept as sorted, disjoint ranges. Results come in
   order almost always, so the usual set is one range that shrinks from the front.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_RANGES_H
#define PEACH_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t first, count;
} range_t;

typedef struct {
    range_t one; /* when many is NULL; empty if one.count is 0 */
    range_t *many;
    size_t count, capacity;
} ranges_t;

void ranges_init(ranges_t *self, uint32_t first, uint32_t count);
void ranges_clear(ranges_t *self);

/* A set of its own; false when memory is out. */
bool ranges_copy(ranges_t *to, const ranges_t *from);
bool ranges_empty(const ranges_t *self);

/* The ranges as an array that lives until the set changes. */
const range_t *ranges_all(const ranges_t *self, size_t *count);

/* Items in the set. */
uint32_t ranges_items(const ranges_t *self);

/* Takes first..first+count-1 out. false, and nothing changed, if one of them is
   not in the set or memory is out. */
bool ranges_remove(ranges_t *self, uint32_t first, uint32_t count);

#endif
