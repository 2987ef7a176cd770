/* The tree behind peach_value_t, shared by value.c (building and reading),
   value_codec.c (the protocol's form), value_json.c and items.c, and by who keeps a number
   on its stack.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_VALUE_TREE_H
#define PEACH_VALUE_TREE_H

#include "payload.h"
#include <peach/value.h>

struct peach_value {
    peach_kind_t kind;
    union {
        bool truth;
        int64_t integer;
        double real;
        struct { /* string and bytes; a NUL stands behind the last byte */
            char *bytes;
            size_t size;
        } text;
        struct { /* list, map and pickle; keys is NULL but for a map */
            peach_value_t **values;
            char **keys;
            size_t count, capacity;
        } sequence;
        struct {
            peach_dtype_t dtype;
            size_t ndim;
            uint64_t *shape;
            void *data;
            size_t size;               /* bytes of data */
            void (*drop)(void *owner); /* NULL: data is ours; else it is the owner's, */
            void *owner;               /* who is told when it is not needed any more */
            bool frozen;               /* others see it, too: functions may not write to it */
        } array;
    };
};

/* Bytes that an array of this dtype and shape has; false when dtype or ndim is
   not valid or the product overflows. */
bool peach_array_size(peach_dtype_t dtype, size_t ndim, const uint64_t *shape, size_t *size);

/* The same as peach_value_unpack of a payload; large arrays lend their data from it, if
   it is aligned to 8 bytes there, and keep a reference. */
int peach_value_unpack_lent(payload_t *payload, peach_value_t **value_p);

/* An array over data of that size, which its owner keeps until it is told: drop(owner).
   NULL when memory is out. */
PEACH_EXPORT peach_value_t *peach_array_lent(peach_dtype_t dtype, size_t ndim,
                                             const uint64_t *shape, const void *data, size_t size,
                                             void (*drop)(void *owner), void *owner);

/* A value that shares what it can with this one: arrays that lend from a payload are not
   copied. All of its arrays are frozen. NULL when memory is out. */
peach_value_t *peach_value_alias(const peach_value_t *self);

/* A reference to the value of that number; NULL when memory is out. */
PEACH_EXPORT peach_value_t *peach_value_ref(uint64_t number);

/* A Python object as its pickle, to be filled: bytes, and behind them its buffers (arrays of
   uint8, or references to values that were put). NULL when memory is out. */
PEACH_EXPORT peach_value_t *peach_value_pickle(void);

/* Whether it has elements in sequence. */
bool peach_value_is_sequence(const peach_value_t *self);

/* The payload that an array lends from; NULL when it does not. */
PEACH_EXPORT payload_t *peach_array_payload(const peach_value_t *self);

/* The same as peach_value_pack into memory that place(arg, size) gives: aligned to 8
   bytes, or NULL. 0, PEACH_E_MEMORY, PEACH_E_LIMIT. */
int peach_value_pack_in(const peach_value_t *self, void *(*place)(void *arg, size_t size),
                        void *arg);

/* Appends to a map without looking for the key (the caller did), taking the value. */
int peach_map_append(peach_value_t *self, const char *key, size_t key_size,
                     peach_value_t **element_p);

/* The length of the UTF-8 sequence at text, or 0 if it is none in the bytes that are left
   (overlong forms, surrogates and code points past U+10FFFF are not). */
size_t peach_utf8_sequence(const char *text, size_t left);
bool peach_utf8_valid(const char *text, size_t size);

#endif
