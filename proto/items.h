/* The items of a task as one value: a list has its elements, an array its
   elements along the first dimension (numbers when it has one dimension). So a
   million numbers travel as one block.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_ITEMS_H
#define PEACH_ITEMS_H

#include "payload.h"
#include <peach/value.h>

/* Whether the value can be the items of a task. */
bool items_valid(const peach_value_t *items);

/* Item i as a value of its own. Out of a list it is moved, not copied: an item can
   be taken once. NULL when memory is out. */
peach_value_t *items_take(peach_value_t *items, size_t i);

/* The encoding of items first..first+count-1 as items again. Large ones are put into
   blocks of the pool, if there is one. NULL with *status: PEACH_E_MEMORY or
   PEACH_E_LIMIT (nested too deep). */
payload_t *items_pack(const peach_value_t *items, size_t first, size_t count, block_pool_t *pool,
                      int *status);

/* The encoding of one value, in the same way. */
payload_t *items_pack_one(const peach_value_t *value, block_pool_t *pool, int *status);

/* The same of these values: an array when all are ints or all are doubles, a list
   otherwise. */
payload_t *items_pack_values(peach_value_t *const *values, size_t count, block_pool_t *pool,
                             int *status);

/* The same of numbers, all ints or all doubles (kind), as their bits. */
payload_t *items_pack_numbers(peach_kind_t kind, const int64_t *numbers, size_t count,
                              block_pool_t *pool, int *status);

/* ---- numbers without a value of their own: int or double, on the caller's stack ---- */

enum { ITEMS_NUMBER_BYTES = 17 };

/* Writes what items_pack_values makes of one number. */
void items_put_number(uint8_t bytes[ITEMS_NUMBER_BYTES], const peach_value_t *number);

/* Whether this is such an encoding; then *number is the number. */
bool items_get_number(const void *bytes, size_t size, peach_value_t *number);

/* Whether item i is an element of a one-dimensional array of int64 or float64; then
 *number is a copy. */
bool items_number(const peach_value_t *items, size_t i, peach_value_t *number);

#endif
