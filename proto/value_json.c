/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "value_tree.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

static int convert(const json_t *json, int depth, peach_value_t **out);

/* A number beyond int64, which no scalar holds: an array without dimensions. */
static peach_value_t *unsigned_of(const char *text)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno || !isdigit((unsigned char)*text) || *end) return NULL;
    if (number <= INT64_MAX) return peach_value_int((int64_t)number);
    return peach_value_array(PEACH_DTYPE_UINT64, 0, NULL, &number);
}

/* {"$bytes": …}, {"$float": …} and {"$uint": …}: what to_json writes for what JSON lacks. */
static peach_value_t *tagged(const json_t *json)
{
    if (json_object_size(json) != 1) return NULL;
    const char *digits = json_string_value(json_object_get(json, "$uint"));
    if (digits) return unsigned_of(digits);
    const char *text = json_string_value(json_object_get(json, "$float"));
    if (text && strcmp(text, "nan") == 0) return peach_value_double(NAN);
    if (text && strcmp(text, "inf") == 0) return peach_value_double(INFINITY);
    if (text && strcmp(text, "-inf") == 0) return peach_value_double(-INFINITY);
    const json_t *encoded = json_object_get(json, "$bytes");
    if (!(text = json_string_value(encoded))) return NULL;
    size_t size = json_string_length(encoded), used;
    unsigned char *bytes = malloc(size + 1);
    peach_value_t *value = NULL;
    if (bytes && sodium_base642bin(bytes, size, text, size, NULL, &used, NULL,
                                   sodium_base64_VARIANT_ORIGINAL) == 0)
        value = peach_value_bytes(bytes, used);
    free(bytes);
    return value;
}

static int convert_object(const json_t *json, int depth, peach_value_t **out)
{
    if ((*out = tagged(json))) return 0;
    if (!(*out = peach_value_map())) return PEACH_E_MEMORY;
    const char *key;
    json_t *member;
    json_object_foreach ((json_t *)json, key, member) {
        peach_value_t *element;
        int rc = convert(member, depth + 1, &element);
        if (rc == 0) rc = peach_map_append(*out, key, strlen(key), &element);
        if (rc) {
            peach_value_destroy(out);
            return rc;
        }
    }
    return 0;
}

static int convert_list(const json_t *json, int depth, peach_value_t **out)
{
    if (!(*out = peach_value_list())) return PEACH_E_MEMORY;
    for (size_t i = 0; i < json_array_size(json); i++) {
        peach_value_t *element;
        int rc = convert(json_array_get(json, i), depth + 1, &element);
        if (rc == 0) rc = peach_value_append(*out, &element);
        if (rc) {
            peach_value_destroy(out);
            return rc;
        }
    }
    return 0;
}

static int convert(const json_t *json, int depth, peach_value_t **out)
{
    *out = NULL;
    if (depth > PEACH_MAX_DEPTH) return PEACH_E_LIMIT;
    switch (json_typeof(json)) {
    case JSON_OBJECT: return convert_object(json, depth, out);
    case JSON_ARRAY: return convert_list(json, depth, out);
    case JSON_STRING:
        *out = peach_value_string_n(json_string_value(json), json_string_length(json));
        break;
    case JSON_INTEGER: *out = peach_value_int(json_integer_value(json)); break;
    case JSON_REAL: *out = peach_value_double(json_real_value(json)); break;
    case JSON_TRUE: *out = peach_value_bool(true); break;
    case JSON_FALSE: *out = peach_value_bool(false); break;
    default: *out = peach_value_null(); break;
    }
    return *out ? 0 : PEACH_E_MEMORY;
}

/* What is wrong and where. PEACH_E_JSON, or PEACH_E_LIMIT for an integer that is too large, which
   is named. */
static int explain(const json_error_t *why, const char *text, char *error, size_t error_size)
{
    size_t end = why->position > 0 ? (size_t)why->position : 0, begin = end;
    while (begin > 0 && (isdigit((unsigned char)text[begin - 1]) || text[begin - 1] == '-'))
        begin--;
    if (json_error_code(why) != json_error_numeric_overflow || !strstr(why->text, "integer")) {
        snprintf(error, error_size, "%s (column %d)", why->text, why->column);
        return PEACH_E_JSON;
    }
    snprintf(error, error_size,
             "the integer %.*s does not fit into 64 bits (column %d): write it as a string, as "
             "a double (1.5e19), or up to 2^64-1 as {\"$uint\": \"DIGITS\"}",
             (int)(end - begin < 40 ? end - begin : 40), text + begin, why->column);
    return PEACH_E_LIMIT;
}

int peach_value_from_json(const char *text, size_t size, peach_value_t **value_p, char *error,
                          size_t error_size)
{
    assert(text && value_p);
    *value_p = NULL;
    json_error_t why;
    size_t flags = JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
    json_t *json = json_loadb(text, size, flags, &why);
    if (!json) return explain(&why, text, error, error ? error_size : 0);
    int rc = convert(json, 0, value_p);
    if (rc && error) snprintf(error, error_size, "%s", peach_status_text(rc));
    json_decref(json);
    return rc;
}

/* ---- writing ---- */

/* jansson writes all reals of a text with one precision; this is the least that
   loses nothing, so that 0.1 stays 0.1. */
typedef struct {
    int precision;
} writer_t;

static json_t *json_of(const peach_value_t *v, writer_t *writer);

static json_t *real_of(double real, writer_t *writer)
{
    if (isfinite(real)) {
        char text[32];
        while (writer->precision < 17) {
            snprintf(text, sizeof text, "%.*g", writer->precision, real);
            if (strtod(text, NULL) == real) break;
            writer->precision++;
        }
        return json_real(real);
    }
    return json_pack("{s:s}", "$float", isnan(real) ? "nan" : real > 0 ? "inf" : "-inf");
}

static json_t *bytes_of(const peach_value_t *v)
{
    size_t room = sodium_base64_encoded_len(v->text.size, sodium_base64_VARIANT_ORIGINAL);
    char *text = malloc(room);
    if (!text) return NULL;
    sodium_bin2base64(text, room, (const unsigned char *)v->text.bytes, v->text.size,
                      sodium_base64_VARIANT_ORIGINAL);
    json_t *json = json_pack("{s:s}", "$bytes", text);
    free(text);
    return json;
}

/* The element, where it is one that no integer of JSON's reader holds; else NULL. */
static json_t *unsigned_at(const peach_value_t *v, size_t i)
{
    if (v->array.dtype != PEACH_DTYPE_UINT64 || v->array.ndim > 1) return NULL;
    uint64_t number;
    memcpy(&number, (const char *)v->array.data + i * sizeof number, sizeof number);
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, number);
    return number > INT64_MAX ? json_pack("{s:s}", "$uint", digits) : NULL;
}

static json_t *element_of(const peach_value_t *v, size_t i, writer_t *writer)
{
    json_t *json = unsigned_at(v, i);
    if (json) return json;
    peach_value_t *element = peach_value_element(v, i);
    json = element ? json_of(element, writer) : NULL;
    peach_value_destroy(&element);
    return json;
}

static json_t *array_of(const peach_value_t *v, writer_t *writer)
{
    if (v->array.ndim == 0) return element_of(v, 0, writer);
    json_t *list = json_array();
    for (size_t i = 0; list && i < peach_value_length(v); i++) {
        if (json_array_append_new(list, element_of(v, i, writer)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *sequence_of(const peach_value_t *v, writer_t *writer)
{
    json_t *json = v->kind == PEACH_MAP ? json_object() : json_array();
    for (size_t i = 0; json && i < v->sequence.count; i++) {
        json_t *element = json_of(v->sequence.values[i], writer);
        int rc = v->kind == PEACH_MAP ? json_object_set_new(json, v->sequence.keys[i], element)
                                      : json_array_append_new(json, element);
        if (rc != 0) {
            json_decref(json);
            return NULL;
        }
    }
    return json;
}

static json_t *json_of(const peach_value_t *v, writer_t *writer)
{
    switch (v->kind) {
    case PEACH_BOOL: return json_boolean(v->truth);
    case PEACH_INT: return json_integer(v->integer);
    case PEACH_DOUBLE: return real_of(v->real, writer);
    case PEACH_STRING: return json_stringn(v->text.bytes, v->text.size);
    case PEACH_BYTES: return bytes_of(v);
    case PEACH_LIST:
    case PEACH_MAP: return sequence_of(v, writer);
    case PEACH_ARRAY: return array_of(v, writer);
    case PEACH_PICKLE: return json_pack("{s:o}", "$pickle", sequence_of(v, writer));
    default: return json_null();
    }
}

char *peach_value_to_json(const peach_value_t *self)
{
    assert(self);
    writer_t writer = {15};
    json_t *json = json_of(self, &writer);
    if (!json) return NULL;
    size_t flags = JSON_ENCODE_ANY | JSON_COMPACT;
    char *text = json_dumps(json, flags | JSON_REAL_PRECISION((size_t)writer.precision));
    json_decref(json);
    return text;
}
