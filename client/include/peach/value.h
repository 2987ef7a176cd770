/* Typed values: what functions take and return, in every language.

   A value is a tree of null, bool, int64, double, string (UTF-8), bytes, list,
   map (string keys, kept in order) and typed n-dimensional arrays (row major,
   little endian). It is plain data: no locks, no sharing. Several threads may
   read one value; only one may change it.

   Ownership: a constructor's result belongs to the caller until it is given to
   a function that says it takes it (append, set, the item lists of peach.h),
   or destroyed. Getters lend: what they return lives as long as its parent.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_VALUE_H
#define PEACH_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <peach/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct peach_value peach_value_t;

typedef enum peach_kind {
    PEACH_NULL = 1,
    PEACH_BOOL,
    PEACH_INT,
    PEACH_DOUBLE,
    PEACH_STRING,
    PEACH_BYTES,
    PEACH_LIST,
    PEACH_MAP,
    PEACH_ARRAY,
    PEACH_REF,    /* a value that was put (peach_put): the function gets that value */
    PEACH_PICKLE, /* a Python object: bytes (its pickle), and behind them its buffers. Only
                     Python can use it */
} peach_kind_t;

/* Element types of arrays; the numbers are those of the protocol. */
typedef enum peach_dtype {
    PEACH_DTYPE_BOOL = 1,
    PEACH_DTYPE_INT8,
    PEACH_DTYPE_UINT8,
    PEACH_DTYPE_INT16,
    PEACH_DTYPE_UINT16,
    PEACH_DTYPE_INT32,
    PEACH_DTYPE_UINT32,
    PEACH_DTYPE_INT64,
    PEACH_DTYPE_UINT64,
    PEACH_DTYPE_FLOAT32,
    PEACH_DTYPE_FLOAT64,
} peach_dtype_t;

enum {
    PEACH_MAX_DIMS = 32,  /* dimensions of an array */
    PEACH_MAX_DEPTH = 64, /* nesting of lists and maps */
};

/* ---- building. NULL when memory is out or the argument is not valid ---- */

PEACH_EXPORT peach_value_t *peach_value_null(void);
PEACH_EXPORT peach_value_t *peach_value_bool(bool value);
PEACH_EXPORT peach_value_t *peach_value_int(int64_t value);
PEACH_EXPORT peach_value_t *peach_value_double(double value);

/* Copies text, which must be UTF-8; NULL if it is not. */
PEACH_EXPORT peach_value_t *peach_value_string(const char *text);
PEACH_EXPORT peach_value_t *peach_value_string_n(const char *text, size_t size);

/* Copies size bytes. */
PEACH_EXPORT peach_value_t *peach_value_bytes(const void *bytes, size_t size);

PEACH_EXPORT peach_value_t *peach_value_list(void);
PEACH_EXPORT peach_value_t *peach_value_map(void);

/* An array of ndim dimensions (0 to PEACH_MAX_DIMS) with the given shape; when
   one is 0 those before it may multiply to 2^12 at most.
   Copies the elements from data, or leaves them zero when data is NULL; fill
   them through peach_value_array_data(). */
PEACH_EXPORT peach_value_t *peach_value_array(peach_dtype_t dtype, size_t ndim,
                                              const uint64_t *shape, const void *data);

/* The int64 vector first, first + 1, ..., last; empty when last < first. */
PEACH_EXPORT peach_value_t *peach_value_range(int64_t first, int64_t last);

/* Appends *element_p to a list and takes it (sets it to NULL), also when it
   fails. PEACH_E_TYPE if self is no list, PEACH_E_MEMORY. */
PEACH_EXPORT int peach_value_append(peach_value_t *self, peach_value_t **element_p);

/* Sets key (UTF-8, copied) of a map to *element_p and takes it, also when it
   fails. A key that is there already gets the new value. */
PEACH_EXPORT int peach_value_set(peach_value_t *self, const char *key, peach_value_t **element_p);

/* A deep copy. */
PEACH_EXPORT peach_value_t *peach_value_copy(const peach_value_t *self);

/* Destroys *self_p and sets it to NULL. *self_p may be NULL. */
PEACH_EXPORT void peach_value_destroy(peach_value_t **self_p);

/* ---- reading ---- */

PEACH_EXPORT peach_kind_t peach_value_kind(const peach_value_t *self);

/* Each stores the value and returns 0, or PEACH_E_TYPE and leaves *out alone.
   as_double also takes an int. */
PEACH_EXPORT int peach_value_as_bool(const peach_value_t *self, bool *out);
PEACH_EXPORT int peach_value_as_int(const peach_value_t *self, int64_t *out);
PEACH_EXPORT int peach_value_as_double(const peach_value_t *self, double *out);

/* The bytes of a string (with a NUL behind them) or of bytes; *size gets their
   number and may be NULL. NULL for another kind. */
PEACH_EXPORT const char *peach_value_as_string(const peach_value_t *self, size_t *size);
PEACH_EXPORT const void *peach_value_as_bytes(const peach_value_t *self, size_t *size);

/* Elements of a list or pickle, entries of a map, elements along the first dimension of
   an array (1 when it has none); 0 for the other kinds. */
PEACH_EXPORT size_t peach_value_length(const peach_value_t *self);

/* Element i of a list or pickle, value i of a map; lent. NULL past the end. */
PEACH_EXPORT const peach_value_t *peach_value_at(const peach_value_t *self, size_t i);

/* Element i of a list (a copy) or of an array along its first dimension: a number when
   it has one dimension or none (then i is 0), an array when it has more. A uint64
   beyond int64 is an array without dimensions, so that no digit is lost. The caller's; NULL past
   the end, for other kinds, or when memory is out. */
PEACH_EXPORT peach_value_t *peach_value_element(const peach_value_t *self, size_t i);

/* Key i of a map; lent. NULL past the end. */
PEACH_EXPORT const char *peach_value_key(const peach_value_t *self, size_t i);

/* The value under key of a map; lent. NULL when there is none. */
PEACH_EXPORT const peach_value_t *peach_value_get(const peach_value_t *self, const char *key);

/* Arrays: element type (0 if self is no array), dimensions, shape[ndim], bytes
   of one element, elements in bytes. */
PEACH_EXPORT peach_dtype_t peach_value_array_dtype(const peach_value_t *self);
PEACH_EXPORT size_t peach_value_array_ndim(const peach_value_t *self);
PEACH_EXPORT const uint64_t *peach_value_array_shape(const peach_value_t *self);
PEACH_EXPORT void *peach_value_array_data(peach_value_t *self, size_t *size_bytes);
PEACH_EXPORT const void *peach_value_array_bytes(const peach_value_t *self, size_t *size_bytes);
PEACH_EXPORT size_t peach_dtype_size(peach_dtype_t dtype);

/* Equal kind and content; doubles by their bits, maps in order. */
PEACH_EXPORT bool peach_value_equal(const peach_value_t *a, const peach_value_t *b);

/* ---- the protocol's form (the message Value in peach.proto) ---- */

/* The encoding in *bytes_p, to be freed with free(). PEACH_E_LIMIT when it is
   nested deeper than PEACH_MAX_DEPTH, PEACH_E_MEMORY. */
PEACH_EXPORT int peach_value_pack(const peach_value_t *self, void **bytes_p, size_t *size_p);

/* Decodes; checks UTF-8, shapes and nesting. On failure *value_p is NULL and
   the result is PEACH_E_PROTOCOL, PEACH_E_LIMIT or PEACH_E_MEMORY. */
PEACH_EXPORT int peach_value_unpack(const void *bytes, size_t size, peach_value_t **value_p);

/* ---- JSON ---- */

/* Reads one JSON text. An integer beyond int64 is an error: it would lose digits as a double.
   0; PEACH_E_JSON; PEACH_E_LIMIT for such an integer and for what is nested too deep;
   PEACH_E_MEMORY: then *value_p is NULL and error (of error_size bytes, or NULL) says what is
   wrong and where. */
PEACH_EXPORT int peach_value_from_json(const char *text, size_t size, peach_value_t **value_p,
                                       char *error, size_t error_size);

/* One line of JSON, to be freed with free(); NULL when memory is out. Arrays
   become nested lists; what JSON lacks is written as an object that from_json
   reads back: bytes {"$bytes": "<base64>"}, {"$float": "nan"}, "inf" or "-inf", and a
   uint64 beyond int64 {"$uint": "<digits>"}. A Python object becomes
   {"$pickle": [bytes, buffer, ...]}, which is not read back. */
PEACH_EXPORT char *peach_value_to_json(const peach_value_t *self);

#ifdef __cplusplus
}
#endif
#endif
