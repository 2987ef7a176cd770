/* Counts of times in buckets whose width grows with the time: any quantile to 3 %, in
   constant memory.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_HISTOGRAM_H
#define PEACH_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum { HISTOGRAM_FINE = 5 }; /* each power of two has 2^5 buckets */

typedef struct {
    uint64_t counts[(64 - HISTOGRAM_FINE + 1) << HISTOGRAM_FINE];
    uint64_t total;
} histogram_t;

static inline size_t histogram_bucket(uint64_t value)
{
    if (value < 1u << HISTOGRAM_FINE) return (size_t)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - HISTOGRAM_FINE;
    return ((size_t)(shift + 1) << HISTOGRAM_FINE) + (size_t)(value >> shift) -
           (1u << HISTOGRAM_FINE);
}

/* The smallest value that is in the bucket. */
static inline uint64_t histogram_floor(size_t bucket)
{
    size_t fine = bucket & ((1u << HISTOGRAM_FINE) - 1), row = bucket >> HISTOGRAM_FINE;
    return row == 0 ? fine : ((uint64_t)fine + (1u << HISTOGRAM_FINE)) << (row - 1);
}

static inline void histogram_add(histogram_t *self, uint64_t value)
{
    self->counts[histogram_bucket(value)]++;
    self->total++;
}

/* The value that this part (0 to 1) of all is below or at: its bucket's floor. */
static inline uint64_t histogram_at(const histogram_t *self, double part)
{
    uint64_t rank = (uint64_t)((double)self->total * part), seen = 0;
    size_t buckets = sizeof self->counts / sizeof *self->counts;
    for (size_t i = 0; i < buckets; i++) {
        seen += self->counts[i];
        if (seen > rank || (seen == self->total && seen > 0)) return histogram_floor(i);
    }
    return 0;
}

#endif
