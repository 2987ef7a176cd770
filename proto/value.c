/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "value_tree.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static peach_value_t *value_new(peach_kind_t kind)
{
    peach_value_t *self = calloc(1, sizeof *self);
    if (self) self->kind = kind;
    return self;
}

peach_value_t *peach_value_null(void) { return value_new(PEACH_NULL); }

peach_value_t *peach_value_bool(bool value)
{
    peach_value_t *self = value_new(PEACH_BOOL);
    if (self) self->truth = value;
    return self;
}

peach_value_t *peach_value_int(int64_t value)
{
    peach_value_t *self = value_new(PEACH_INT);
    if (self) self->integer = value;
    return self;
}

peach_value_t *peach_value_double(double value)
{
    peach_value_t *self = value_new(PEACH_DOUBLE);
    if (self) self->real = value;
    return self;
}

static peach_value_t *text_new(peach_kind_t kind, const void *bytes, size_t size)
{
    peach_value_t *self = value_new(kind);
    if (!self) return NULL;
    self->text.bytes = malloc(size + 1);
    if (!self->text.bytes) {
        free(self);
        return NULL;
    }
    if (size) memcpy(self->text.bytes, bytes, size);
    self->text.bytes[size] = 0;
    self->text.size = size;
    return self;
}

size_t peach_utf8_sequence(const char *text, size_t left)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    if (length == 0 || s[0] > 0xF4 || length > left) return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if (length == 3 && ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F))) return 0;
    if (length == 4 && ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))) return 0;
    return length;
}

bool peach_utf8_valid(const char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        size_t length = peach_utf8_sequence(text + i, size - i);
        if (length == 0) return false;
        i += length;
    }
    return true;
}

peach_value_t *peach_value_string_n(const char *text, size_t size)
{
    return peach_utf8_valid(text, size) ? text_new(PEACH_STRING, text, size) : NULL;
}

peach_value_t *peach_value_string(const char *text)
{
    assert(text);
    return peach_value_string_n(text, strlen(text));
}

peach_value_t *peach_value_bytes(const void *bytes, size_t size)
{
    return text_new(PEACH_BYTES, bytes, size);
}

peach_value_t *peach_value_list(void) { return value_new(PEACH_LIST); }
peach_value_t *peach_value_map(void) { return value_new(PEACH_MAP); }
peach_value_t *peach_value_pickle(void) { return value_new(PEACH_PICKLE); }

bool peach_value_is_sequence(const peach_value_t *self)
{
    return self->kind == PEACH_LIST || self->kind == PEACH_MAP || self->kind == PEACH_PICKLE;
}

size_t peach_dtype_size(peach_dtype_t dtype)
{
    switch (dtype) {
    case PEACH_DTYPE_BOOL:
    case PEACH_DTYPE_INT8:
    case PEACH_DTYPE_UINT8: return 1;
    case PEACH_DTYPE_INT16:
    case PEACH_DTYPE_UINT16: return 2;
    case PEACH_DTYPE_INT32:
    case PEACH_DTYPE_UINT32:
    case PEACH_DTYPE_FLOAT32: return 4;
    case PEACH_DTYPE_INT64:
    case PEACH_DTYPE_UINT64:
    case PEACH_DTYPE_FLOAT64: return 8;
    default: return 0;
    }
}

bool peach_array_size(peach_dtype_t dtype, size_t ndim, const uint64_t *shape, size_t *size)
{
    /* An array without elements may still claim 2^60 empty rows, and whoever
       prints it would walk them: bound those too. Behind a 0 there is nothing to walk. */
    const uint64_t max_empty = 1 << 12;
    size_t bytes = peach_dtype_size(dtype), rows = 1;
    if (bytes == 0 || ndim > PEACH_MAX_DIMS) return false;
    for (size_t i = 0; i < ndim; i++) {
        if (__builtin_mul_overflow(bytes, shape[i], &bytes)) return false;
        if (bytes > 0) rows *= (size_t)shape[i]; /* less than bytes */
    }
    *size = bytes;
    return bytes > 0 || rows <= max_empty;
}

peach_value_t *peach_value_array(peach_dtype_t dtype, size_t ndim, const uint64_t *shape,
                                 const void *data)
{
    size_t size;
    if (!peach_array_size(dtype, ndim, shape, &size)) return NULL;
    peach_value_t *self = value_new(PEACH_ARRAY);
    if (!self) return NULL;
    self->array.dtype = dtype;
    self->array.ndim = ndim;
    self->array.size = size;
    self->array.shape = malloc((ndim ? ndim : 1) * sizeof *shape);
    self->array.data = data ? malloc(size ? size : 1) : calloc(1, size ? size : 1);
    if (!self->array.shape || !self->array.data) {
        peach_value_destroy(&self);
        return NULL;
    }
    if (ndim) memcpy(self->array.shape, shape, ndim * sizeof *shape);
    if (data && size) memcpy(self->array.data, data, size);
    return self;
}

peach_value_t *peach_array_lent(peach_dtype_t dtype, size_t ndim, const uint64_t *shape,
                                const void *data, size_t size, void (*drop)(void *owner),
                                void *owner)
{
    peach_value_t *self = value_new(PEACH_ARRAY);
    uint64_t *copy = malloc((ndim ? ndim : 1) * sizeof *copy);
    if (!self || !copy) {
        free(self);
        free(copy);
        return NULL;
    }
    if (ndim) memcpy(copy, shape, ndim * sizeof *shape);
    self->array.dtype = dtype;
    self->array.ndim = ndim;
    self->array.size = size;
    self->array.shape = copy;
    self->array.data = (void *)data;
    self->array.drop = drop;
    self->array.owner = owner;
    return self;
}

payload_t *peach_array_payload(const peach_value_t *self)
{
    return self->kind == PEACH_ARRAY && self->array.drop == payload_drop ? self->array.owner : NULL;
}

peach_value_t *peach_value_range(int64_t first, int64_t last)
{
    uint64_t count = last < first ? 0 : (uint64_t)last - (uint64_t)first + 1;
    if (last >= first && count == 0) return NULL; /* all 2^64 of them */
    peach_value_t *self = peach_value_array(PEACH_DTYPE_INT64, 1, &count, NULL);
    if (!self) return NULL;
    int64_t *data = self->array.data;
    for (uint64_t i = 0; i < count; i++) data[i] = first + (int64_t)i;
    return self;
}

static int sequence_push(peach_value_t *self, char *key, peach_value_t *element)
{
    if (self->sequence.count == self->sequence.capacity) {
        size_t capacity = self->sequence.capacity ? self->sequence.capacity * 2 : 8;
        peach_value_t **values = realloc(self->sequence.values, capacity * sizeof *values);
        if (!values) return PEACH_E_MEMORY;
        self->sequence.values = values;
        if (self->kind == PEACH_MAP) {
            char **keys = realloc(self->sequence.keys, capacity * sizeof *keys);
            if (!keys) return PEACH_E_MEMORY;
            self->sequence.keys = keys;
        }
        self->sequence.capacity = capacity;
    }
    if (key) self->sequence.keys[self->sequence.count] = key;
    self->sequence.values[self->sequence.count++] = element;
    return 0;
}

int peach_value_append(peach_value_t *self, peach_value_t **element_p)
{
    assert(self && element_p && *element_p);
    bool list = self->kind == PEACH_LIST || self->kind == PEACH_PICKLE;
    int rc = list ? sequence_push(self, NULL, *element_p) : PEACH_E_TYPE;
    if (rc == 0)
        *element_p = NULL;
    else
        peach_value_destroy(element_p);
    return rc;
}

int peach_map_append(peach_value_t *self, const char *key, size_t key_size,
                     peach_value_t **element_p)
{
    char *copy = malloc(key_size + 1);
    int rc = PEACH_E_MEMORY;
    if (copy) {
        memcpy(copy, key, key_size);
        copy[key_size] = 0;
        rc = sequence_push(self, copy, *element_p);
    }
    if (rc == 0) {
        *element_p = NULL;
    } else {
        free(copy);
        peach_value_destroy(element_p);
    }
    return rc;
}

static size_t map_find(const peach_value_t *self, const char *key)
{
    size_t i = 0;
    while (i < self->sequence.count && strcmp(self->sequence.keys[i], key) != 0) i++;
    return i;
}

int peach_value_set(peach_value_t *self, const char *key, peach_value_t **element_p)
{
    assert(self && key && element_p && *element_p);
    int rc = self->kind != PEACH_MAP               ? PEACH_E_TYPE
             : !peach_utf8_valid(key, strlen(key)) ? PEACH_E_ARGUMENT
                                                   : 0;
    if (rc) {
        peach_value_destroy(element_p);
        return rc;
    }
    size_t i = map_find(self, key);
    if (i == self->sequence.count) return peach_map_append(self, key, strlen(key), element_p);
    peach_value_destroy(&self->sequence.values[i]);
    self->sequence.values[i] = *element_p;
    *element_p = NULL;
    return 0;
}

static peach_value_t *sequence_copy(const peach_value_t *self,
                                    peach_value_t *(*copy_of)(const peach_value_t *))
{
    peach_value_t *copy = value_new(self->kind);
    for (size_t i = 0; copy && i < self->sequence.count; i++) {
        peach_value_t *element = copy_of(self->sequence.values[i]);
        const char *key = self->kind == PEACH_MAP ? self->sequence.keys[i] : NULL;
        int rc = !element ? PEACH_E_MEMORY
                 : key    ? peach_map_append(copy, key, strlen(key), &element)
                          : peach_value_append(copy, &element);
        if (rc) peach_value_destroy(&copy);
    }
    return copy;
}

peach_value_t *peach_value_copy(const peach_value_t *self)
{
    assert(self);
    switch (self->kind) {
    case PEACH_STRING:
    case PEACH_BYTES: return text_new(self->kind, self->text.bytes, self->text.size);
    case PEACH_ARRAY:
        return peach_value_array(self->array.dtype, self->array.ndim, self->array.shape,
                                 self->array.data);
    case PEACH_LIST:
    case PEACH_PICKLE:
    case PEACH_MAP: return sequence_copy(self, peach_value_copy);
    default: {
        peach_value_t *copy = value_new(self->kind);
        if (copy) *copy = *self;
        return copy;
    }
    }
}

static peach_value_t *array_alias(const peach_value_t *self)
{
    payload_t *payload = peach_array_payload(self);
    if (!payload) return peach_value_copy(self);
    peach_value_t *alias =
        peach_array_lent(self->array.dtype, self->array.ndim, self->array.shape, self->array.data,
                         self->array.size, payload_drop, payload);
    if (alias) payload_ref(payload);
    return alias;
}

peach_value_t *peach_value_alias(const peach_value_t *self)
{
    if (self->kind == PEACH_ARRAY) {
        peach_value_t *alias = array_alias(self);
        if (alias) alias->array.frozen = true;
        return alias;
    }
    if (!peach_value_is_sequence(self)) return peach_value_copy(self);
    return sequence_copy(self, peach_value_alias);
}

peach_value_t *peach_value_ref(uint64_t number)
{
    peach_value_t *self = value_new(PEACH_REF);
    if (self) self->integer = (int64_t)number;
    return self;
}

void peach_value_destroy(peach_value_t **self_p)
{
    assert(self_p);
    peach_value_t *self = *self_p;
    if (!self) return;
    switch (self->kind) {
    case PEACH_STRING:
    case PEACH_BYTES: free(self->text.bytes); break;
    case PEACH_LIST:
    case PEACH_PICKLE:
    case PEACH_MAP:
        for (size_t i = 0; i < self->sequence.count; i++) {
            peach_value_destroy(&self->sequence.values[i]);
            if (self->kind == PEACH_MAP) free(self->sequence.keys[i]);
        }
        free(self->sequence.values);
        free(self->sequence.keys);
        break;
    case PEACH_ARRAY:
        free(self->array.shape);
        if (self->array.drop)
            self->array.drop(self->array.owner);
        else
            free(self->array.data);
        break;
    default: break;
    }
    free(self);
    *self_p = NULL;
}

peach_kind_t peach_value_kind(const peach_value_t *self)
{
    assert(self);
    return self->kind;
}

int peach_value_as_bool(const peach_value_t *self, bool *out)
{
    if (self->kind != PEACH_BOOL) return PEACH_E_TYPE;
    *out = self->truth;
    return 0;
}

int peach_value_as_int(const peach_value_t *self, int64_t *out)
{
    if (self->kind != PEACH_INT) return PEACH_E_TYPE;
    *out = self->integer;
    return 0;
}

int peach_value_as_double(const peach_value_t *self, double *out)
{
    if (self->kind != PEACH_DOUBLE && self->kind != PEACH_INT) return PEACH_E_TYPE;
    *out = self->kind == PEACH_INT ? (double)self->integer : self->real;
    return 0;
}

static const char *text_of(const peach_value_t *self, peach_kind_t kind, size_t *size)
{
    if (self->kind != kind) return NULL;
    if (size) *size = self->text.size;
    return self->text.bytes;
}

const char *peach_value_as_string(const peach_value_t *self, size_t *size)
{
    return text_of(self, PEACH_STRING, size);
}

const void *peach_value_as_bytes(const peach_value_t *self, size_t *size)
{
    return text_of(self, PEACH_BYTES, size);
}

size_t peach_value_length(const peach_value_t *self)
{
    if (peach_value_is_sequence(self)) return self->sequence.count;
    if (self->kind != PEACH_ARRAY) return 0;
    return self->array.ndim ? (size_t)self->array.shape[0] : 1;
}

const peach_value_t *peach_value_at(const peach_value_t *self, size_t i)
{
    return peach_value_is_sequence(self) && i < self->sequence.count ? self->sequence.values[i]
                                                                     : NULL;
}

const char *peach_value_key(const peach_value_t *self, size_t i)
{
    return self->kind == PEACH_MAP && i < self->sequence.count ? self->sequence.keys[i] : NULL;
}

const peach_value_t *peach_value_get(const peach_value_t *self, const char *key)
{
    return self->kind == PEACH_MAP ? peach_value_at(self, map_find(self, key)) : NULL;
}

peach_dtype_t peach_value_array_dtype(const peach_value_t *self)
{
    return self->kind == PEACH_ARRAY ? self->array.dtype : (peach_dtype_t)0;
}

size_t peach_value_array_ndim(const peach_value_t *self)
{
    return self->kind == PEACH_ARRAY ? self->array.ndim : 0;
}

const uint64_t *peach_value_array_shape(const peach_value_t *self)
{
    return self->kind == PEACH_ARRAY ? self->array.shape : NULL;
}

const void *peach_value_array_bytes(const peach_value_t *self, size_t *size_bytes)
{
    if (self->kind != PEACH_ARRAY) return NULL;
    if (size_bytes) *size_bytes = self->array.size;
    return self->array.data;
}

void *peach_value_array_data(peach_value_t *self, size_t *size_bytes)
{
    return (void *)peach_value_array_bytes(self, size_bytes);
}

static peach_value_t *scalar(peach_dtype_t dtype, const unsigned char *p)
{
#define LOAD(type) \
    type x;        \
    memcpy(&x, p, sizeof x)
    switch (dtype) {
    case PEACH_DTYPE_BOOL: return peach_value_bool(*p);
    case PEACH_DTYPE_INT8: {
        LOAD(int8_t);
        return peach_value_int(x);
    }
    case PEACH_DTYPE_UINT8: {
        LOAD(uint8_t);
        return peach_value_int(x);
    }
    case PEACH_DTYPE_INT16: {
        LOAD(int16_t);
        return peach_value_int(x);
    }
    case PEACH_DTYPE_UINT16: {
        LOAD(uint16_t);
        return peach_value_int(x);
    }
    case PEACH_DTYPE_INT32: {
        LOAD(int32_t);
        return peach_value_int(x);
    }
    case PEACH_DTYPE_UINT32: {
        LOAD(uint32_t);
        return peach_value_int(x);
    }
    case PEACH_DTYPE_INT64: {
        LOAD(int64_t);
        return peach_value_int(x);
    }
    case PEACH_DTYPE_UINT64: {
        LOAD(uint64_t);
        return x > INT64_MAX ? peach_value_array(dtype, 0, NULL, &x) : peach_value_int((int64_t)x);
    }
    case PEACH_DTYPE_FLOAT32: {
        LOAD(float);
        return peach_value_double((double)x);
    }
    case PEACH_DTYPE_FLOAT64: {
        LOAD(double);
        return peach_value_double(x);
    }
    default: return NULL;
    }
}

peach_value_t *peach_value_element(const peach_value_t *self, size_t i)
{
    if (i >= peach_value_length(self) || self->kind == PEACH_MAP) return NULL;
    if (self->kind == PEACH_LIST) return peach_value_copy(self->sequence.values[i]);
    size_t ndim = self->array.ndim, row = self->array.size / peach_value_length(self);
    const unsigned char *p = (const unsigned char *)self->array.data + i * row;
    if (ndim <= 1) return scalar(self->array.dtype, p);
    return peach_value_array(self->array.dtype, ndim - 1, self->array.shape + 1, p);
}

bool peach_value_equal(const peach_value_t *a, const peach_value_t *b)
{
    if (a->kind != b->kind) return false;
    switch (a->kind) {
    case PEACH_BOOL: return a->truth == b->truth;
    case PEACH_INT:
    case PEACH_REF: return a->integer == b->integer;
    case PEACH_DOUBLE: return memcmp(&a->real, &b->real, sizeof a->real) == 0;
    case PEACH_STRING:
    case PEACH_BYTES:
        return a->text.size == b->text.size &&
               memcmp(a->text.bytes, b->text.bytes, a->text.size) == 0;
    case PEACH_LIST:
    case PEACH_PICKLE:
    case PEACH_MAP:
        if (a->sequence.count != b->sequence.count) return false;
        for (size_t i = 0; i < a->sequence.count; i++) {
            if (a->kind == PEACH_MAP && strcmp(a->sequence.keys[i], b->sequence.keys[i]) != 0)
                return false;
            if (!peach_value_equal(a->sequence.values[i], b->sequence.values[i])) return false;
        }
        return true;
    case PEACH_ARRAY:
        return a->array.dtype == b->array.dtype && a->array.ndim == b->array.ndim &&
               memcmp(a->array.shape, b->array.shape, a->array.ndim * sizeof *a->array.shape) ==
                   0 &&
               memcmp(a->array.data, b->array.data, a->array.size) == 0;
    default: return true;
    }
}
