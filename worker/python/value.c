/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "array.h"

#include "value_tree.h"

#include <stdlib.h>
#include <string.h>

static PyObject *dump_object, *load_object;
static bool (*reference_of)(PyObject *object, uint64_t *number);

/* ---- to Python ---- */

static PyObject *from_pickle(const peach_value_t *value);

static PyObject *from_list(const peach_value_t *value)
{
    size_t count = peach_value_length(value);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list && i < count; i++) {
        PyObject *element = python_from_value(peach_value_at(value, i));
        if (element)
            PyList_SET_ITEM(list, (Py_ssize_t)i, element);
        else
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *from_map(const peach_value_t *value)
{
    size_t count = peach_value_length(value);
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict && i < count; i++) {
        PyObject *element = python_from_value(peach_value_at(value, i));
        if (!element || PyDict_SetItemString(dict, peach_value_key(value, i), element) != 0)
            Py_CLEAR(dict);
        Py_XDECREF(element);
    }
    return dict;
}

PyObject *python_from_value(const peach_value_t *value)
{
    bool truth = false;
    int64_t integer = 0;
    double real = 0;
    size_t size;
    switch (peach_value_kind(value)) {
    case PEACH_BOOL: peach_value_as_bool(value, &truth); return PyBool_FromLong(truth);
    case PEACH_INT: peach_value_as_int(value, &integer); return PyLong_FromLongLong(integer);
    case PEACH_DOUBLE: peach_value_as_double(value, &real); return PyFloat_FromDouble(real);
    case PEACH_STRING: {
        const char *text = peach_value_as_string(value, &size);
        return PyUnicode_FromStringAndSize(text, (Py_ssize_t)size);
    }
    case PEACH_BYTES: {
        const char *bytes = peach_value_as_bytes(value, &size);
        return PyBytes_FromStringAndSize(bytes, (Py_ssize_t)size);
    }
    case PEACH_LIST: return from_list(value);
    case PEACH_MAP: return from_map(value);
    case PEACH_ARRAY: return array_from_value(value);
    case PEACH_PICKLE: return from_pickle(value);
    case PEACH_REF:
        PyErr_SetString(PyExc_ValueError, "a reference to a value that was not put");
        return NULL;
    default: Py_RETURN_NONE;
    }
}

/* pickle.loads of the first element with the others as its buffers. */
static PyObject *from_pickle(const peach_value_t *value)
{
    size_t count = peach_value_length(value), size = 0;
    const void *bytes = count ? peach_value_as_bytes(peach_value_at(value, 0), &size) : NULL;
    if (!bytes) {
        PyErr_SetString(PyExc_ValueError, "a pickle without bytes");
        return NULL;
    }
    PyObject *buffers = PyList_New((Py_ssize_t)count - 1);
    for (size_t i = 1; buffers && i < count; i++) {
        const peach_value_t *part = peach_value_at(value, i);
        bool array = peach_value_kind(part) == PEACH_ARRAY;
        PyObject *memory = array ? array_memory(part) : NULL;
        if (memory) {
            PyList_SET_ITEM(buffers, (Py_ssize_t)i - 1, memory);
            continue;
        }
        if (!array) PyErr_SetString(PyExc_ValueError, "a buffer of a pickle that is no array");
        Py_CLEAR(buffers);
    }
    PyObject *result =
        buffers ? PyObject_CallFunction(load_object, "y#O", bytes, (Py_ssize_t)size, buffers)
                : NULL;
    Py_XDECREF(buffers);
    return result;
}

/* ---- from Python ---- */

typedef struct {
    bool exact; /* without an exception NULL says that it would not come back as what it is */
    python_memory_t memory;
} how_t;

static peach_value_t *to_value(PyObject *object, int depth, how_t how);

static peach_value_t *no_form(PyObject *object)
{
    PyErr_Format(PyExc_TypeError,
                 "a %.200s has no Value form (None, bool, int, float, str, bytes, list, tuple, "
                 "dict with str keys and arrays have one)",
                 Py_TYPE(object)->tp_name);
    return NULL;
}

static peach_value_t *to_list(PyObject *object, int depth, how_t how)
{
    peach_value_t *list = peach_value_list();
    /* The size is asked for each time: str() of an element may change the list. */
    for (Py_ssize_t i = 0; list && i < PySequence_Fast_GET_SIZE(object); i++) {
        peach_value_t *element = to_value(PySequence_Fast_GET_ITEM(object, i), depth, how);
        if (!element || peach_value_append(list, &element) != 0) peach_value_destroy(&list);
    }
    if (!list && !how.exact && !PyErr_Occurred()) PyErr_NoMemory();
    return list;
}

static peach_value_t *to_map(PyObject *object, int depth, how_t how)
{
    peach_value_t *map = peach_value_map();
    PyObject *key, *member;
    Py_ssize_t position = 0;
    while (map && PyDict_Next(object, &position, &key, &member)) {
        Py_ssize_t size = 0;
        const char *text = PyUnicode_Check(key) ? PyUnicode_AsUTF8AndSize(key, &size) : NULL;
        if (!text && !PyErr_Occurred())
            PyErr_Format(PyExc_TypeError, "a dict key that is a %.200s has no Value form",
                         Py_TYPE(key)->tp_name);
        if (text && strlen(text) != (size_t)size) {
            PyErr_SetString(PyExc_TypeError, "a dict key with a NUL has no Value form");
            text = NULL;
        }
        peach_value_t *element = text ? to_value(member, depth, how) : NULL;
        if (!element || peach_value_set(map, text, &element) != 0) peach_value_destroy(&map);
    }
    if (!map && !how.exact && !PyErr_Occurred()) PyErr_NoMemory();
    return map;
}

/* Beyond int64 it is a uint64: an array without dimensions. */
static peach_value_t *to_int(PyObject *object)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow > 0) {
        uint64_t large = PyLong_AsUnsignedLongLong(object);
        if (!PyErr_Occurred()) return peach_value_array(PEACH_DTYPE_UINT64, 0, NULL, &large);
        PyErr_Clear();
    }
    if (overflow) {
        PyErr_SetString(PyExc_OverflowError, "an int beyond 64 bits has no Value form");
        return NULL;
    }
    if (number == -1 && PyErr_Occurred()) return NULL;
    return peach_value_int(number);
}

static bool is_exact(PyObject *object)
{
    return PyLong_CheckExact(object) || PyFloat_CheckExact(object) ||
           PyUnicode_CheckExact(object) || PyBytes_CheckExact(object) ||
           PyList_CheckExact(object) || PyDict_CheckExact(object) || array_is_plain(object);
}

static peach_value_t *to_value(PyObject *object, int depth, how_t how)
{
    uint64_t number;
    if (depth > PEACH_MAX_DEPTH) {
        PyErr_Format(PyExc_ValueError, "nested deeper than %d levels", (int)PEACH_MAX_DEPTH);
        return NULL;
    }
    if (object == Py_None) return peach_value_null();
    if (PyBool_Check(object)) return peach_value_bool(object == Py_True);
    if (reference_of && reference_of(object, &number)) return peach_value_ref(number);
    if (how.exact && !is_exact(object)) return NULL;
    if (PyLong_Check(object)) return to_int(object);
    if (PyFloat_Check(object)) return peach_value_double(PyFloat_AS_DOUBLE(object));
    if (PyUnicode_Check(object)) {
        Py_ssize_t size;
        const char *text = PyUnicode_AsUTF8AndSize(object, &size);
        return text ? peach_value_string_n(text, (size_t)size) : NULL;
    }
    if (PyBytes_Check(object))
        return peach_value_bytes(PyBytes_AS_STRING(object), (size_t)PyBytes_GET_SIZE(object));
    if (PyByteArray_Check(object))
        return peach_value_bytes(PyByteArray_AS_STRING(object),
                                 (size_t)PyByteArray_GET_SIZE(object));
    if (PyList_Check(object) || PyTuple_Check(object)) return to_list(object, depth + 1, how);
    if (PyDict_Check(object)) return to_map(object, depth + 1, how);
    peach_value_t *array =
        PyObject_CheckBuffer(object) ? array_to_value(object, depth == 0, how.memory) : NULL;
    return array || PyErr_Occurred() ? array : no_form(object);
}

/* ---- pickles ---- */

static peach_value_t *to_pickle(PyObject *object, python_memory_t memory)
{
    PyObject *made = PyObject_CallOneArg(dump_object, object);
    PyObject *data, *buffers;
    peach_value_t *pickle = NULL;
    if (made && PyArg_ParseTuple(made, "SO!", &data, &PyList_Type, &buffers)) {
        pickle = peach_value_pickle();
        peach_value_t *part =
            peach_value_bytes(PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data));
        if (pickle && (!part || peach_value_append(pickle, &part) != 0))
            peach_value_destroy(&pickle);
        for (Py_ssize_t i = 0; pickle && i < PyList_GET_SIZE(buffers); i++) {
            part = array_of_buffer(PyList_GET_ITEM(buffers, i), object, memory);
            if (!part || peach_value_append(pickle, &part) != 0) peach_value_destroy(&pickle);
        }
        peach_value_destroy(&part);
    }
    Py_XDECREF(made);
    return pickle;
}

bool python_to_number(PyObject *object, peach_value_t *number)
{
    int overflow;
    if (PyLong_CheckExact(object)) {
        number->kind = PEACH_INT;
        number->integer = PyLong_AsLongLongAndOverflow(object, &overflow);
        return !overflow;
    }
    if (!PyFloat_CheckExact(object)) return false;
    number->kind = PEACH_DOUBLE;
    number->real = PyFloat_AS_DOUBLE(object);
    return true;
}

/* A pickle of a list or dict cannot hold references; its Value can. */
static peach_value_t *to_pickle_or_exact(PyObject *object, how_t how, bool whole)
{
    PyObject *type, *error, *traceback;
    peach_value_t *value = to_pickle(object, how.memory);
    if (value || !whole || !reference_of) return value;
    PyErr_Fetch(&type, &error, &traceback);
    value = to_value(object, 0, how);
    if (!value) {
        PyErr_Restore(type, error, traceback);
        return NULL;
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return value;
}

peach_value_t *python_to_value(PyObject *object, python_form_t form, python_memory_t memory)
{
    peach_value_t *value = NULL;
    how_t how = {form != PYTHON_VALUE, memory};
    bool whole = form == PYTHON_OBJECT && (PyList_Check(object) || PyDict_Check(object));
    if (!whole) value = to_value(object, 0, how);
    if (!value && form != PYTHON_VALUE) {
        PyErr_Clear(); /* what has no Value form can be a pickle */
        value = to_pickle_or_exact(object, how, whole);
    }
    if (!value && !PyErr_Occurred()) PyErr_NoMemory();
    return value;
}

void python_value_init(PyObject *as_array, PyObject *dumps, PyObject *loads)
{
    array_init(as_array);
    dump_object = dumps;
    load_object = loads;
}

void python_value_references(bool (*of)(PyObject *object, uint64_t *number)) { reference_of = of; }
