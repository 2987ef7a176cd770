/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "ranges.h"

#include <stdlib.h>
#include <string.h>

void ranges_init(ranges_t *self, uint32_t first, uint32_t count)
{
    *self = (ranges_t){.one = {first, count}};
}

void ranges_clear(ranges_t *self)
{
    free(self->many);
    *self = (ranges_t){0};
}

bool ranges_copy(ranges_t *to, const ranges_t *from)
{
    *to = *from;
    if (!from->many) return true;
    to->many = malloc(from->capacity * sizeof *to->many);
    if (to->many) memcpy(to->many, from->many, from->count * sizeof *to->many);
    return to->many;
}

const range_t *ranges_all(const ranges_t *self, size_t *count)
{
    *count = self->many ? self->count : self->one.count > 0;
    return self->many ? self->many : &self->one;
}

bool ranges_empty(const ranges_t *self)
{
    size_t count;
    ranges_all(self, &count);
    return count == 0;
}

uint32_t ranges_items(const ranges_t *self)
{
    size_t count;
    uint32_t items = 0;
    const range_t *all = ranges_all(self, &count);
    for (size_t i = 0; i < count; i++) items += all[i].count;
    return items;
}

/* Makes room for one more range in the array form. */
static bool reserve(ranges_t *self)
{
    if (self->many && self->count < self->capacity) return true;
    size_t count, capacity = self->capacity ? self->capacity * 2 : 4;
    const range_t *all = ranges_all(self, &count);
    range_t *many = malloc(capacity * sizeof *many);
    if (!many) return false;
    memcpy(many, all, count * sizeof *many);
    free(self->many);
    self->many = many;
    self->count = count;
    self->capacity = capacity;
    return true;
}

bool ranges_remove(ranges_t *self, uint32_t first, uint32_t count)
{
    size_t total, low = 0, high;
    range_t *all = (range_t *)ranges_all(self, &total);
    for (high = total; low < high;) { /* the last range that starts at or before first */
        size_t middle = (low + high) / 2;
        if (all[middle].first <= first)
            low = middle + 1;
        else
            high = middle;
    }
    if (low-- == 0 || count == 0) return false;
    range_t *r = &all[low];
    uint64_t end = (uint64_t)first + count, r_end = (uint64_t)r->first + r->count;
    if (end > r_end) return false;
    uint32_t before = first - r->first, behind = (uint32_t)(r_end - end);
    if (before > 0 && behind > 0) {
        if (!reserve(self)) return false;
        r = &self->many[low];
        memmove(r + 2, r + 1, (self->count - low - 1) * sizeof *r);
        r[0].count = before;
        r[1] = (range_t){(uint32_t)end, behind};
        self->count++;
    } else if (before > 0) {
        r->count = before;
    } else {
        *r = (range_t){(uint32_t)end, behind};
        if (behind == 0 && self->many) {
            memmove(r, r + 1, (self->count - low - 1) * sizeof *r);
            self->count--;
        }
    }
    return true;
}
