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

int items_pack(const peach_value_t *items, size_t first, size_t count, void **bytes, size_t *size)
{
    /* A view of the slice: its own head, the elements of the whole. */
    peach_value_t view = *items;
    uint64_t shape[PEACH_MAX_DIMS];
    if (items->kind == PEACH_LIST) {
        view.sequence.values = items->sequence.values ? items->sequence.values + first : NULL;
        view.sequence.count = count;
        return peach_value_pack(&view, bytes, size);
    }
    size_t row = row_bytes(items);
    memcpy(shape, items->array.shape, items->array.ndim * sizeof *shape);
    shape[0] = count;
    view.array.shape = shape;
    view.array.data = (unsigned char *)items->array.data + first * row;
    view.array.size = count * row;
    return peach_value_pack(&view, bytes, size);
}

int items_pack_values(peach_value_t *const *values, size_t count, void **bytes, size_t *size)
{
    peach_kind_t kind = count ? values[0]->kind : PEACH_LIST;
    for (size_t i = 1; i < count; i++)
        if (values[i]->kind != kind) kind = PEACH_LIST;
    if (kind != PEACH_INT && kind != PEACH_DOUBLE) {
        peach_value_t list = {.kind = PEACH_LIST};
        list.sequence.values = (peach_value_t **)values;
        list.sequence.count = count;
        return peach_value_pack(&list, bytes, size);
    }
    uint64_t shape = count;
    peach_value_t *array = peach_value_array(
        kind == PEACH_INT ? PEACH_DTYPE_INT64 : PEACH_DTYPE_FLOAT64, 1, &shape, NULL);
    if (!array) return PEACH_E_MEMORY;
    for (size_t i = 0; i < count; i++) {
        if (kind == PEACH_INT)
            ((int64_t *)array->array.data)[i] = values[i]->integer;
        else
            ((double *)array->array.data)[i] = values[i]->real;
    }
    int rc = peach_value_pack(array, bytes, size);
    peach_value_destroy(&array);
    return rc;
}
