/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "value.h"

#include "value_tree.h"

#include <stdlib.h>
#include <string.h>

static PyObject *make_array, *dump_object, *load_object;
static bool (*reference_of)(PyObject *object, uint64_t *number);

/* ---- to Python ---- */

static const char *const dtype_names[] = {
    [PEACH_DTYPE_BOOL] = "bool",       [PEACH_DTYPE_INT8] = "int8",
    [PEACH_DTYPE_UINT8] = "uint8",     [PEACH_DTYPE_INT16] = "int16",
    [PEACH_DTYPE_UINT16] = "uint16",   [PEACH_DTYPE_INT32] = "int32",
    [PEACH_DTYPE_UINT32] = "uint32",   [PEACH_DTYPE_INT64] = "int64",
    [PEACH_DTYPE_UINT64] = "uint64",   [PEACH_DTYPE_FLOAT32] = "float32",
    [PEACH_DTYPE_FLOAT64] = "float64",
};

/* Memory of a payload, for as long as Python uses it. It is this process's own: what a
   function writes to its argument stays here; what others see, too, it may not write to. */
typedef struct {
    PyObject_HEAD payload_t *payload;
    void *data;
    Py_ssize_t size;
    int readonly;
} memory_t;

static int memory_buffer(PyObject *self, Py_buffer *view, int flags)
{
    memory_t *memory = (memory_t *)self;
    return PyBuffer_FillInfo(view, self, memory->data, memory->size, memory->readonly, flags);
}

static void memory_dealloc(PyObject *self)
{
    payload_unref(&((memory_t *)self)->payload);
    Py_TYPE(self)->tp_free(self);
}

static PyBufferProcs memory_as_buffer = {.bf_getbuffer = memory_buffer};
static PyTypeObject memory_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "peach.Memory",
    .tp_basicsize = sizeof(memory_t),
    .tp_dealloc = memory_dealloc,
    .tp_as_buffer = &memory_as_buffer,
    .tp_flags = Py_TPFLAGS_DEFAULT,
};

static PyObject *memory_of(const peach_value_t *value, void *data, size_t size)
{
    payload_t *payload = peach_array_payload(value);
    if (!payload && value->array.frozen) return PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    /* A bytearray of its own: the function may write to its argument. */
    if (!payload) return PyByteArray_FromStringAndSize(data, (Py_ssize_t)size);
    memory_t *memory = PyObject_New(memory_t, &memory_type);
    if (!memory) return NULL;
    memory->payload = payload_ref(payload);
    memory->data = data;
    memory->size = (Py_ssize_t)size;
    memory->readonly = value->array.frozen;
    return (PyObject *)memory;
}

static PyObject *from_array(const peach_value_t *value)
{
    size_t size, ndim = peach_value_array_ndim(value);
    void *data = (void *)peach_value_array_bytes(value, &size);
    const uint64_t *dims = peach_value_array_shape(value);
    if (ndim == 0 && peach_value_array_dtype(value) == PEACH_DTYPE_UINT64) {
        /* What is beyond int64: numpy would make a double of it with the first addition. */
        uint64_t number;
        memcpy(&number, data, sizeof number);
        return PyLong_FromUnsignedLongLong(number);
    }
    PyObject *bytes = memory_of(value, data, size);
    PyObject *view = bytes ? PyMemoryView_FromObject(bytes) : NULL;
    PyObject *shape = view ? PyTuple_New((Py_ssize_t)ndim) : NULL;
    for (size_t i = 0; shape && i < ndim; i++) {
        PyObject *dim = PyLong_FromUnsignedLongLong(dims[i]);
        if (dim)
            PyTuple_SET_ITEM(shape, (Py_ssize_t)i, dim);
        else
            Py_CLEAR(shape);
    }
    PyObject *array = NULL;
    if (shape)
        array = PyObject_CallFunction(make_array, "OsO", view,
                                      dtype_names[peach_value_array_dtype(value)], shape);
    Py_XDECREF(shape);
    Py_XDECREF(view);
    Py_XDECREF(bytes);
    return array;
}

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
    case PEACH_ARRAY: return from_array(value);
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
        size_t length = 0;
        void *data = (void *)peach_value_array_bytes(part, &length);
        PyObject *memory = data ? memory_of(part, data, length) : NULL;
        if (memory) {
            PyList_SET_ITEM(buffers, (Py_ssize_t)i - 1, memory);
            continue;
        }
        if (!data) PyErr_SetString(PyExc_ValueError, "a buffer of a pickle that is no array");
        Py_CLEAR(buffers);
    }
    PyObject *result =
        buffers ? PyObject_CallFunction(load_object, "y#O", bytes, (Py_ssize_t)size, buffers)
                : NULL;
    Py_XDECREF(buffers);
    return result;
}

/* ---- from Python ---- */

/* exact: without an exception NULL says that it would not come back as what it is. */
static peach_value_t *to_value(PyObject *object, int depth, bool exact);

/* The dtype of a struct-module format on this (little-endian) machine, or 0. */
static peach_dtype_t dtype_of(const char *format, Py_ssize_t size)
{
    if (!format) return PEACH_DTYPE_UINT8;
    if (*format == '@' || *format == '=' || *format == '<') format++;
    if (strlen(format) != 1) return 0;
    if (*format == '?') return PEACH_DTYPE_BOOL;
    if (*format == 'f') return PEACH_DTYPE_FLOAT32;
    if (*format == 'd') return PEACH_DTYPE_FLOAT64;
    static const peach_dtype_t is_signed[] = {PEACH_DTYPE_INT8, PEACH_DTYPE_INT16,
                                              PEACH_DTYPE_INT32, PEACH_DTYPE_INT64};
    static const peach_dtype_t is_unsigned[] = {PEACH_DTYPE_UINT8, PEACH_DTYPE_UINT16,
                                                PEACH_DTYPE_UINT32, PEACH_DTYPE_UINT64};
    int log = size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : size == 8 ? 3 : -1;
    if (log < 0) return 0;
    if (strchr("bhilqn", *format)) return is_signed[log];
    return strchr("BHILQN", *format) ? is_unsigned[log] : 0;
}

static peach_value_t *no_form(PyObject *object)
{
    PyErr_Format(PyExc_TypeError,
                 "a %.200s has no Value form (None, bool, int, float, str, bytes, list, tuple, "
                 "dict with str keys and arrays have one)",
                 Py_TYPE(object)->tp_name);
    return NULL;
}

/* The library may be the caller, without the GIL. */
static void drop_buffer(void *view)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyBuffer_Release(view);
    PyGILState_Release(state);
    free(view);
}

peach_value_t *python_lend_buffer(Py_buffer *view, peach_dtype_t dtype, const uint64_t *shape)
{
    if (!PyBuffer_IsContiguous(view, 'C')) return NULL;
    Py_buffer *owner = malloc(sizeof *owner);
    if (!owner || PyObject_GetBuffer(view->obj, owner, PyBUF_FULL_RO) != 0) {
        PyErr_Clear();
        free(owner);
        return NULL;
    }
    peach_value_t *value = peach_array_lent(dtype, (size_t)view->ndim, shape, owner->buf,
                                            (size_t)owner->len, drop_buffer, owner);
    if (!value) drop_buffer(owner);
    return value;
}

/* A large array that is the object itself lends its memory to the value, which is packed
   before anybody can change it. */
static peach_value_t *to_array(PyObject *object, int depth)
{
    enum { LARGE = 64 << 10 };
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) != 0) {
        PyErr_Clear();
        return no_form(object);
    }
    peach_dtype_t dtype = dtype_of(view.format, view.itemsize);
    peach_value_t *value = NULL;
    uint64_t shape[PEACH_MAX_DIMS];
    if (!dtype || (Py_ssize_t)peach_dtype_size(dtype) != view.itemsize ||
        view.ndim > PEACH_MAX_DIMS) {
        PyErr_Format(PyExc_TypeError, "an array of format '%.50s' has no Value form",
                     view.format ? view.format : "");
    } else if (view.ndim == 0) {
        peach_value_t *scalar = peach_value_array(dtype, 0, NULL, view.buf); /* a numpy scalar */
        value = scalar ? peach_value_element(scalar, 0) : NULL;
        peach_value_destroy(&scalar);
        if (value && dtype == PEACH_DTYPE_UINT64 && peach_value_kind(value) != PEACH_INT) {
            PyErr_SetString(PyExc_OverflowError, "an int beyond 64 bits has no Value form");
            peach_value_destroy(&value);
        }
    } else {
        for (int i = 0; i < view.ndim; i++) shape[i] = (uint64_t)view.shape[i];
        value = depth == 0 && view.len >= LARGE ? python_lend_buffer(&view, dtype, shape) : NULL;
        bool lent = value != NULL;
        if (!lent) value = peach_value_array(dtype, (size_t)view.ndim, shape, NULL);
        if (!value)
            PyErr_NoMemory();
        else if (!lent && PyBuffer_ToContiguous(peach_value_array_data(value, NULL), &view,
                                                view.len, 'C') != 0)
            peach_value_destroy(&value);
    }
    PyBuffer_Release(&view);
    return value;
}

static peach_value_t *to_list(PyObject *object, int depth, bool exact)
{
    peach_value_t *list = peach_value_list();
    /* The size is asked for each time: str() of an element may change the list. */
    for (Py_ssize_t i = 0; list && i < PySequence_Fast_GET_SIZE(object); i++) {
        peach_value_t *element = to_value(PySequence_Fast_GET_ITEM(object, i), depth, exact);
        if (!element || peach_value_append(list, &element) != 0) peach_value_destroy(&list);
    }
    if (!list && !exact && !PyErr_Occurred()) PyErr_NoMemory();
    return list;
}

static peach_value_t *to_map(PyObject *object, int depth, bool exact)
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
        peach_value_t *element = text ? to_value(member, depth, exact) : NULL;
        if (!element || peach_value_set(map, text, &element) != 0) peach_value_destroy(&map);
    }
    if (!map && !exact && !PyErr_Occurred()) PyErr_NoMemory();
    return map;
}

static peach_value_t *to_int(PyObject *object)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow) {
        PyErr_SetString(PyExc_OverflowError, "an int beyond 64 bits has no Value form");
        return NULL;
    }
    if (number == -1 && PyErr_Occurred()) return NULL;
    return peach_value_int(number);
}

/* An array whose Value form is all there is to it. */
static bool is_plain_array(PyObject *object)
{
    Py_buffer view;
    if (strcmp(Py_TYPE(object)->tp_name, "numpy.ndarray") != 0) return false;
    if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) != 0) {
        PyErr_Clear();
        return false;
    }
    bool plain = view.ndim > 0 && view.ndim <= PEACH_MAX_DIMS &&
                 PyBuffer_IsContiguous(&view, 'C') && dtype_of(view.format, view.itemsize);
    PyBuffer_Release(&view);
    return plain;
}

static bool is_exact(PyObject *object)
{
    return PyLong_CheckExact(object) || PyFloat_CheckExact(object) ||
           PyUnicode_CheckExact(object) || PyBytes_CheckExact(object) ||
           PyList_CheckExact(object) || PyDict_CheckExact(object) || is_plain_array(object);
}

static peach_value_t *to_value(PyObject *object, int depth, bool exact)
{
    uint64_t number;
    if (depth > PEACH_MAX_DEPTH) {
        PyErr_Format(PyExc_ValueError, "nested deeper than %d levels", (int)PEACH_MAX_DEPTH);
        return NULL;
    }
    if (object == Py_None) return peach_value_null();
    if (PyBool_Check(object)) return peach_value_bool(object == Py_True);
    if (reference_of && reference_of(object, &number)) return peach_value_ref(number);
    if (exact && !is_exact(object)) return NULL;
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
    if (PyList_Check(object) || PyTuple_Check(object)) return to_list(object, depth + 1, exact);
    if (PyDict_Check(object)) return to_map(object, depth + 1, exact);
    if (PyObject_CheckBuffer(object)) return to_array(object, depth);
    return no_form(object);
}

/* ---- pickles ---- */

static peach_value_t *to_buffer(PyObject *object)
{
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) != 0) return NULL;
    uint64_t shape = (uint64_t)view.len;
    peach_value_t *value = python_lend_buffer(&view, PEACH_DTYPE_UINT8, &shape);
    PyBuffer_Release(&view);
    if (!value) PyErr_SetString(PyExc_BufferError, "a buffer of a pickle is not contiguous");
    return value;
}

static peach_value_t *to_pickle(PyObject *object)
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
            part = to_buffer(PyList_GET_ITEM(buffers, i));
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

peach_value_t *python_to_value(PyObject *object, python_form_t form)
{
    peach_value_t *value = NULL;
    bool whole = form == PYTHON_OBJECT && (PyList_Check(object) || PyDict_Check(object));
    if (!whole) value = to_value(object, 0, form != PYTHON_VALUE);
    if (!value && form != PYTHON_VALUE) {
        PyErr_Clear(); /* what has no Value form can be a pickle */
        value = to_pickle(object);
    }
    if (!value && !PyErr_Occurred()) PyErr_NoMemory();
    return value;
}

void python_value_init(PyObject *as_array, PyObject *dumps, PyObject *loads)
{
    make_array = as_array;
    dump_object = dumps;
    load_object = loads;
    if (PyType_Ready(&memory_type) != 0) make_array = NULL;
}

void python_value_references(bool (*of)(PyObject *object, uint64_t *number)) { reference_of = of; }
