/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The protobuf form of values, written and read in one pass.

   This is the message Value of peach.proto, byte for byte what protobuf-c makes
   of it (the unit tests compare the two). It is not done with the generated code
   because that recurses as deep as the sender likes and takes an allocation and
   a copy for every scalar and every array. */
#include "value_tree.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The data of an array of that size is aligned by padding (fields before and behind), so
   that it can be used where it is. */
enum { LARGE = 4096, ALIGN = 8, PADDING = 2 + 2 + ALIGN - 1, BEFORE = 14, BEHIND = 15 };

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

enum {
    FIELD_NULL = 1,
    FIELD_BOOL,
    FIELD_INT,
    FIELD_DOUBLE,
    FIELD_STRING,
    FIELD_BYTES,
    FIELD_LIST,
    FIELD_MAP,
    FIELD_ARRAY,
    FIELD_REF,
    FIELD_PICKLE
};

/* ---- packing: sizes first, then the bytes ---- */

static size_t varint_size(uint64_t v)
{
    return v < 0x80 ? 1 : (size_t)(70 - __builtin_clzll(v)) / 7;
}

static uint64_t zigzag(int64_t v) { return ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0); }

static size_t field_size(size_t payload) { return 1 + varint_size(payload) + payload; }

static size_t shape_size(const peach_value_t *v)
{
    size_t size = 0;
    for (size_t i = 0; i < v->array.ndim; i++) size += varint_size(v->array.shape[i]);
    return size;
}

static size_t array_body_size(const peach_value_t *v)
{
    size_t size = 1 + varint_size(v->array.dtype);
    if (v->array.ndim) size += field_size(shape_size(v));
    if (v->array.size) size += field_size(v->array.size);
    return v->array.size >= LARGE ? size + PADDING : size;
}

/* The sizes of lists, maps and entries in the order in which pack() meets them,
   so that sizing is done once and not once a level. */
typedef struct {
    size_t *sizes;
    size_t count, capacity, next;
} size_table_t;

static bool table_reserve(size_table_t *table, size_t *slot)
{
    if (table->count == table->capacity) {
        size_t capacity = table->capacity ? table->capacity * 2 : 64;
        size_t *sizes = realloc(table->sizes, capacity * sizeof *sizes);
        if (!sizes) return false;
        table->sizes = sizes;
        table->capacity = capacity;
    }
    *slot = table->count++;
    return true;
}

/* The size of the message Value. */
static int measure(const peach_value_t *v, size_table_t *table, int depth, size_t *size)
{
    switch (v->kind) {
    case PEACH_NULL: *size = 2; return 0;
    case PEACH_BOOL: *size = 2; return 0;
    case PEACH_INT: *size = 1 + varint_size(zigzag(v->integer)); return 0;
    case PEACH_REF: *size = 1 + varint_size((uint64_t)v->integer); return 0;
    case PEACH_DOUBLE: *size = 9; return 0;
    case PEACH_STRING:
    case PEACH_BYTES: *size = field_size(v->text.size); return 0;
    case PEACH_ARRAY: *size = field_size(array_body_size(v)); return 0;
    default: break;
    }
    if (depth == PEACH_MAX_DEPTH) return PEACH_E_LIMIT;
    size_t own, body = 0;
    if (!table_reserve(table, &own)) return PEACH_E_MEMORY;
    for (size_t i = 0; i < v->sequence.count; i++) {
        size_t entry = 0, element;
        if (v->kind == PEACH_MAP && !table_reserve(table, &entry)) return PEACH_E_MEMORY;
        size_t at;
        if (!table_reserve(table, &at)) return PEACH_E_MEMORY;
        int rc = measure(v->sequence.values[i], table, depth + 1, &element);
        if (rc) return rc;
        table->sizes[at] = element;
        if (v->kind == PEACH_MAP) {
            size_t key = strlen(v->sequence.keys[i]);
            table->sizes[entry] = (key ? field_size(key) : 0) + field_size(element);
            body += field_size(table->sizes[entry]);
        } else {
            body += field_size(element);
        }
    }
    table->sizes[own] = body;
    *size = field_size(body);
    return 0;
}

static uint8_t *put_varint(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static uint8_t *put_head(uint8_t *p, unsigned field, size_t size)
{
    *p++ = (uint8_t)(field << 3 | WIRE_BYTES);
    return put_varint(p, size);
}

static uint8_t *put_bytes(uint8_t *p, unsigned field, const void *bytes, size_t size)
{
    p = put_head(p, field, size);
    if (size) memcpy(p, bytes, size);
    return p + size;
}

static uint8_t *put_array(uint8_t *p, const peach_value_t *v)
{
    p = put_head(p, FIELD_ARRAY, array_body_size(v));
    *p++ = 1 << 3 | WIRE_VARINT;
    p = put_varint(p, v->array.dtype);
    if (v->array.ndim) p = put_head(p, 2, shape_size(v));
    for (size_t i = 0; i < v->array.ndim; i++) p = put_varint(p, v->array.shape[i]);
    if (v->array.size < LARGE)
        return v->array.size ? put_bytes(p, 3, v->array.data, v->array.size) : p;
    static const uint8_t zeros[ALIGN];
    size_t before = -((uintptr_t)p + 2 + 1 + varint_size(v->array.size)) & (ALIGN - 1);
    p = put_bytes(p, BEFORE, zeros, before);
    p = put_bytes(p, 3, v->array.data, v->array.size);
    return put_bytes(p, BEHIND, zeros, ALIGN - 1 - before);
}

static uint8_t *put_value(uint8_t *p, const peach_value_t *v, size_table_t *table)
{
    switch (v->kind) {
    case PEACH_NULL: return put_head(p, FIELD_NULL, 0);
    case PEACH_BOOL: *p++ = FIELD_BOOL << 3 | WIRE_VARINT; return put_varint(p, v->truth);
    case PEACH_INT: *p++ = FIELD_INT << 3 | WIRE_VARINT; return put_varint(p, zigzag(v->integer));
    case PEACH_REF: *p++ = FIELD_REF << 3 | WIRE_VARINT; return put_varint(p, (uint64_t)v->integer);
    case PEACH_DOUBLE:
        *p++ = FIELD_DOUBLE << 3 | WIRE_FIXED64;
        memcpy(p, &v->real, 8);
        return p + 8;
    case PEACH_STRING: return put_bytes(p, FIELD_STRING, v->text.bytes, v->text.size);
    case PEACH_BYTES: return put_bytes(p, FIELD_BYTES, v->text.bytes, v->text.size);
    case PEACH_ARRAY: return put_array(p, v);
    default: break;
    }
    unsigned field = v->kind == PEACH_LIST  ? FIELD_LIST
                     : v->kind == PEACH_MAP ? FIELD_MAP
                                            : FIELD_PICKLE;
    p = put_head(p, field, table->sizes[table->next++]);
    for (size_t i = 0; i < v->sequence.count; i++) {
        if (v->kind == PEACH_MAP) {
            size_t key = strlen(v->sequence.keys[i]);
            p = put_head(p, 1, table->sizes[table->next++]);
            if (key) p = put_bytes(p, 1, v->sequence.keys[i], key);
        }
        p = put_head(p, v->kind == PEACH_MAP ? 2 : 1, table->sizes[table->next++]);
        p = put_value(p, v->sequence.values[i], table);
    }
    return p;
}

int peach_value_pack_in(const peach_value_t *self, void *(*place)(void *arg, size_t size),
                        void *arg)
{
    size_table_t table = {0};
    size_t size;
    int rc = measure(self, &table, 0, &size);
    if (rc == 0) {
        uint8_t *bytes = place(arg, size), *end = bytes ? put_value(bytes, self, &table) : NULL;
        assert((size_t)(end - bytes) == (bytes ? size : 0));
        if (!end) rc = PEACH_E_MEMORY;
    }
    free(table.sizes);
    return rc;
}

typedef struct {
    void *bytes;
    size_t size;
} memory_t;

static void *place_in_memory(void *arg, size_t size)
{
    memory_t *memory = arg;
    memory->size = size;
    return memory->bytes = malloc(size);
}

int peach_value_pack(const peach_value_t *self, void **bytes_p, size_t *size_p)
{
    assert(self && bytes_p && size_p);
    memory_t memory = {0};
    int rc = peach_value_pack_in(self, place_in_memory, &memory);
    *bytes_p = memory.bytes;
    *size_p = rc == 0 ? memory.size : 0;
    return rc;
}

/* ---- unpacking ---- */

typedef struct {
    const uint8_t *at, *end;
    payload_t *lender; /* that arrays lend their data from; NULL: they copy it */
} cursor_t;

typedef struct {
    unsigned field, wire;
    uint64_t number; /* varint, fixed */
    cursor_t bytes;  /* length-delimited */
} field_t;

static bool get_varint(cursor_t *c, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70 && c->at < c->end; shift += 7) {
        uint8_t b = *c->at++;
        if (shift == 63 && b > 1) return false;
        v |= (uint64_t)(b & 0x7F) << shift;
        if (b < 0x80) {
            *out = v;
            return true;
        }
    }
    return false;
}

static bool get_fixed(cursor_t *c, size_t width, uint64_t *out)
{
    if ((size_t)(c->end - c->at) < width) return false;
    *out = 0;
    memcpy(out, c->at, width);
    c->at += width;
    return true;
}

static bool get_field(cursor_t *c, field_t *f)
{
    uint64_t tag, size;
    if (!get_varint(c, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) return false;
    f->field = (unsigned)(tag >> 3);
    f->wire = (unsigned)(tag & 7);
    switch (f->wire) {
    case WIRE_VARINT: return get_varint(c, &f->number);
    case WIRE_FIXED64: return get_fixed(c, 8, &f->number);
    case WIRE_FIXED32: return get_fixed(c, 4, &f->number);
    case WIRE_BYTES:
        if (!get_varint(c, &size) || size > (size_t)(c->end - c->at)) return false;
        f->bytes = (cursor_t){c->at, c->at + size, c->lender};
        c->at += size;
        return true;
    default: return false; /* groups are not in proto3 */
    }
}

static int get_value(cursor_t c, int depth, peach_value_t **out);

static int get_list(cursor_t c, int depth, peach_value_t *list)
{
    while (c.at < c.end) {
        field_t f;
        peach_value_t *element = NULL;
        if (!get_field(&c, &f)) return PEACH_E_PROTOCOL;
        if (f.field != 1) continue;
        if (f.wire != WIRE_BYTES) return PEACH_E_PROTOCOL;
        int rc = get_value(f.bytes, depth, &element);
        if (rc == 0) rc = peach_value_append(list, &element);
        if (rc) return rc;
    }
    return 0;
}

static int get_entry(cursor_t c, int depth, peach_value_t *map)
{
    cursor_t key = {0}, value = {0};
    bool found = false;
    while (c.at < c.end) {
        field_t f;
        if (!get_field(&c, &f)) return PEACH_E_PROTOCOL;
        if (f.field > 2) continue;
        if (f.wire != WIRE_BYTES) return PEACH_E_PROTOCOL;
        if (f.field == 1) {
            key = f.bytes;
        } else {
            value = f.bytes;
            found = true;
        }
    }
    size_t size = (size_t)(key.end - key.at);
    if (!found || !peach_utf8_valid((const char *)key.at, size) ||
        (size && memchr(key.at, 0, size)))
        return PEACH_E_PROTOCOL;
    peach_value_t *element = NULL;
    int rc = get_value(value, depth, &element);
    return rc ? rc : peach_map_append(map, size ? (const char *)key.at : "", size, &element);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorting a copy keeps this from being quadratic in what a stranger sends. */
static int check_distinct(const peach_value_t *map)
{
    size_t count = map->sequence.count;
    if (count < 2) return 0;
    char **keys = malloc(count * sizeof *keys);
    if (!keys) return PEACH_E_MEMORY;
    memcpy(keys, map->sequence.keys, count * sizeof *keys);
    qsort(keys, count, sizeof *keys, compare_keys);
    int rc = 0;
    for (size_t i = 1; i < count && rc == 0; i++)
        if (strcmp(keys[i - 1], keys[i]) == 0) rc = PEACH_E_PROTOCOL;
    free(keys);
    return rc;
}

static int get_map(cursor_t c, int depth, peach_value_t *map)
{
    while (c.at < c.end) {
        field_t f;
        if (!get_field(&c, &f)) return PEACH_E_PROTOCOL;
        if (f.field != 1) continue;
        if (f.wire != WIRE_BYTES) return PEACH_E_PROTOCOL;
        int rc = get_entry(f.bytes, depth, map);
        if (rc) return rc;
    }
    return check_distinct(map);
}

static int get_array(cursor_t c, peach_value_t **out)
{
    uint64_t dtype = 0, shape[PEACH_MAX_DIMS];
    size_t ndim = 0, size;
    cursor_t data = {0};
    while (c.at < c.end) {
        field_t f;
        if (!get_field(&c, &f)) return PEACH_E_PROTOCOL;
        if (f.field == 1 && f.wire == WIRE_VARINT) {
            dtype = f.number;
        } else if (f.field == 2 && (f.wire == WIRE_BYTES || f.wire == WIRE_VARINT)) {
            /* packed, or one by one as a lenient encoder may write it */
            do {
                if (ndim == PEACH_MAX_DIMS) return PEACH_E_LIMIT;
                if (f.wire == WIRE_VARINT)
                    shape[ndim] = f.number;
                else if (f.bytes.at == f.bytes.end)
                    break;
                else if (!get_varint(&f.bytes, &shape[ndim]))
                    return PEACH_E_PROTOCOL;
                ndim++;
            } while (f.wire == WIRE_BYTES && f.bytes.at < f.bytes.end);
        } else if (f.field == 3 && f.wire == WIRE_BYTES) {
            data = f.bytes;
        } else if (f.field <= 3) {
            return PEACH_E_PROTOCOL;
        }
    }
    if (dtype > PEACH_DTYPE_FLOAT64 ||
        !peach_array_size((peach_dtype_t)dtype, ndim, shape, &size) ||
        size != (size_t)(data.end - data.at))
        return PEACH_E_PROTOCOL;
    if (c.lender && size >= LARGE && ((uintptr_t)data.at & (ALIGN - 1)) == 0) {
        *out = peach_array_lent((peach_dtype_t)dtype, ndim, shape, data.at, size, payload_drop,
                                c.lender);
        if (*out) payload_ref(c.lender);
    } else
        *out = peach_value_array((peach_dtype_t)dtype, ndim, shape, data.at);
    return *out ? 0 : PEACH_E_MEMORY;
}

static int get_kind(const field_t *f, int depth, peach_value_t **out)
{
    static const uint8_t wire_of[] = {
        0,          WIRE_BYTES, WIRE_VARINT, WIRE_VARINT, WIRE_FIXED64, WIRE_BYTES,
        WIRE_BYTES, WIRE_BYTES, WIRE_BYTES,  WIRE_BYTES,  WIRE_VARINT,  WIRE_BYTES};
    if (f->wire != wire_of[f->field]) return PEACH_E_PROTOCOL;
    const char *text = (const char *)f->bytes.at;
    size_t size = (size_t)(f->bytes.end - f->bytes.at);
    int rc = 0;
    switch (f->field) {
    case FIELD_NULL: *out = peach_value_null(); break;
    case FIELD_BOOL: *out = peach_value_bool(f->number != 0); break;
    case FIELD_INT:
        *out = peach_value_int((int64_t)(f->number >> 1) ^ -(int64_t)(f->number & 1));
        break;
    case FIELD_REF: *out = peach_value_ref(f->number); break;
    case FIELD_DOUBLE: {
        double real;
        memcpy(&real, &f->number, 8);
        *out = peach_value_double(real);
        break;
    }
    case FIELD_STRING:
        if (!peach_utf8_valid(text, size)) return PEACH_E_PROTOCOL;
        *out = peach_value_string_n(text, size);
        break;
    case FIELD_BYTES: *out = peach_value_bytes(text, size); break;
    case FIELD_ARRAY: return get_array(f->bytes, out);
    default:
        if (depth == PEACH_MAX_DEPTH) return PEACH_E_LIMIT;
        *out = f->field == FIELD_LIST  ? peach_value_list()
               : f->field == FIELD_MAP ? peach_value_map()
                                       : peach_value_pickle();
        if (!*out) return PEACH_E_MEMORY;
        rc = f->field == FIELD_MAP ? get_map(f->bytes, depth + 1, *out)
                                   : get_list(f->bytes, depth + 1, *out);
        if (rc) peach_value_destroy(out);
        return rc;
    }
    return *out ? 0 : PEACH_E_MEMORY;
}

/* A message Value; its last field counts, as in protobuf. */
static int get_value(cursor_t c, int depth, peach_value_t **out)
{
    field_t last = {0};
    while (c.at < c.end) {
        field_t f;
        if (!get_field(&c, &f)) return PEACH_E_PROTOCOL;
        if (f.field <= FIELD_PICKLE) last = f;
    }
    *out = NULL;
    return last.field ? get_kind(&last, depth, out) : PEACH_E_PROTOCOL;
}

static int unpack(const void *bytes, size_t size, payload_t *lender, peach_value_t **value_p)
{
    *value_p = NULL;
    if (size == 0) return PEACH_E_PROTOCOL;
    if (!bytes) return PEACH_E_MEMORY; /* shared memory that cannot be mapped */
    return get_value((cursor_t){bytes, (const uint8_t *)bytes + size, lender}, 0, value_p);
}

int peach_value_unpack(const void *bytes, size_t size, peach_value_t **value_p)
{
    assert((bytes || size == 0) && value_p);
    return unpack(bytes, size, NULL, value_p);
}

int peach_value_unpack_lent(payload_t *payload, peach_value_t **value_p)
{
    return unpack(payload_bytes(payload), payload_size(payload), payload, value_p);
}
