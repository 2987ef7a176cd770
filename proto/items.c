/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "items.h"

#include "value_tree.h"

#include <stdlib.h>
#include <string.h>

bool items_valid(const peach_value_t *items)
{
    return items->kind == PEACH_LIST || (items->kind == PEACH_ARRAY && items->array.ndim > 0);
}

static size_t row_bytes(const peach_value_t *array)
{
    uint64_t rows = array->array.shape[0];
    return rows ? array->array.size / (size_t)rows : 0;
}

peach_value_t *items_take(peach_value_t *items, size_t i)
{
    if (items->kind == PEACH_LIST) {
        peach_value_t *item = items->sequence.values[i];
        items->sequence.values[i] = NULL;
        return item;
    }
    return peach_value_element(items, i);
}

/* ---- packing ---- */

typedef struct {
    block_pool_t *pool;
    payload_t *payload;
} place_t;

static void *place(void *arg, size_t size)
{
    place_t *self = arg;
    block_t *block = self->pool && size >= BLOCK_LEAST ? block_new(self->pool, size) : NULL;
    if (block) {
        self->payload = payload_new_block(block);
        return self->payload ? block_data(block) : NULL;
    }
    void *bytes = malloc(size);
    self->payload = bytes ? payload_new_taking(bytes, size) : NULL;
    return self->payload ? bytes : NULL;
}

static payload_t *pack(const peach_value_t *items, block_pool_t *pool, int *status)
{
    place_t self = {pool, NULL};
    *status = peach_value_pack_in(items, place, &self);
    if (*status) payload_unref(&self.payload);
    return self.payload;
}

payload_t *items_pack_one(const peach_value_t *value, block_pool_t *pool, int *status)
{
    return pack(value, pool, status);
}

payload_t *items_pack(const peach_value_t *items, size_t first, size_t count, block_pool_t *pool,
                      int *status)
{
    /* A view of the slice: its own head, the elements of the whole. */
    peach_value_t view = *items;
    uint64_t shape[PEACH_MAX_DIMS];
    if (items->kind == PEACH_LIST) {
        view.sequence.values = items->sequence.values ? items->sequence.values + first : NULL;
        view.sequence.count = count;
        return pack(&view, pool, status);
    }
    size_t row = row_bytes(items);
    memcpy(shape, items->array.shape, items->array.ndim * sizeof *shape);
    shape[0] = count;
    view.array.shape = shape;
    view.array.data = (unsigned char *)items->array.data + first * row;
    view.array.size = count * row;
    return pack(&view, pool, status);
}

payload_t *items_pack_numbers(peach_kind_t kind, const int64_t *numbers, size_t count,
                              block_pool_t *pool, int *status)
{
    uint64_t shape = count;
    peach_value_t array = {.kind = PEACH_ARRAY};
    array.array.dtype = kind == PEACH_INT ? PEACH_DTYPE_INT64 : PEACH_DTYPE_FLOAT64;
    array.array.ndim = 1;
    array.array.shape = &shape;
    array.array.data = (void *)numbers;
    array.array.size = count * sizeof *numbers;
    return pack(&array, pool, status);
}

payload_t *items_pack_values(peach_value_t *const *values, size_t count, block_pool_t *pool,
                             int *status)
{
    peach_kind_t kind = count ? values[0]->kind : PEACH_LIST;
    for (size_t i = 1; i < count; i++)
        if (values[i]->kind != kind) kind = PEACH_LIST;
    if (kind != PEACH_INT && kind != PEACH_DOUBLE) {
        peach_value_t list = {.kind = PEACH_LIST};
        list.sequence.values = (peach_value_t **)values;
        list.sequence.count = count;
        return pack(&list, pool, status);
    }
    int64_t *numbers = malloc(count * sizeof *numbers);
    *status = PEACH_E_MEMORY;
    if (!numbers) return NULL;
    for (size_t i = 0; i < count; i++) numbers[i] = values[i]->integer; /* or real's bits */
    payload_t *payload = items_pack_numbers(kind, numbers, count, pool, status);
    free(numbers);
    return payload;
}

/* ---- numbers ---- */

/* An array of one element, as peach_value_pack writes it: array_value, dtype, shape, data. */
enum { DTYPE_AT = 3, DATA_AT = ITEMS_NUMBER_BYTES - 8 };
static const uint8_t number_head[DATA_AT] = {
    9 << 3 | 2, 15, 1 << 3, PEACH_DTYPE_INT64, 2 << 3 | 2, 1, 1, 3 << 3 | 2, 8};

void items_put_number(uint8_t bytes[ITEMS_NUMBER_BYTES], const peach_value_t *number)
{
    memcpy(bytes, number_head, sizeof number_head);
    if (number->kind == PEACH_DOUBLE) bytes[DTYPE_AT] = PEACH_DTYPE_FLOAT64;
    memcpy(bytes + DATA_AT, &number->integer, 8); /* of the union: real is there, too */
}

bool items_get_number(const void *bytes, size_t size, peach_value_t *number)
{
    const uint8_t *p = bytes;
    if (size != ITEMS_NUMBER_BYTES || memcmp(p, number_head, DTYPE_AT) != 0 ||
        memcmp(p + DTYPE_AT + 1, number_head + DTYPE_AT + 1, DATA_AT - DTYPE_AT - 1) != 0 ||
        (p[DTYPE_AT] != PEACH_DTYPE_INT64 && p[DTYPE_AT] != PEACH_DTYPE_FLOAT64))
        return false;
    number->kind = p[DTYPE_AT] == PEACH_DTYPE_INT64 ? PEACH_INT : PEACH_DOUBLE;
    memcpy(&number->integer, p + DATA_AT, 8);
    return true;
}

bool items_number(const peach_value_t *items, size_t i, peach_value_t *number)
{
    if (items->kind != PEACH_ARRAY || items->array.ndim != 1) return false;
    if (items->array.dtype == PEACH_DTYPE_INT64)
        number->kind = PEACH_INT;
    else if (items->array.dtype == PEACH_DTYPE_FLOAT64)
        number->kind = PEACH_DOUBLE;
    else
        return false;
    memcpy(&number->integer, (const uint8_t *)items->array.data + i * 8, 8);
    return true;
}
