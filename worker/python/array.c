/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Arrays and other memory. */
#include "array.h"

#include "value_tree.h"

#include <stdlib.h>
#include <string.h>

static PyObject *make_array;
static peach_value_t *(*copy_array)(peach_dtype_t dtype, size_t ndim, const uint64_t *shape,
                                    const void *data);

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

PyObject *array_memory(const peach_value_t *value)
{
    size_t size;
    void *data = (void *)peach_value_array_bytes(value, &size);
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

PyObject *array_from_value(const peach_value_t *value)
{
    size_t ndim = peach_value_array_ndim(value);
    if (ndim == 0 && value->array.dtype == PEACH_DTYPE_UINT64) {
        /* What is beyond int64: numpy would make a double of it with the first addition. */
        uint64_t number;
        memcpy(&number, value->array.data, sizeof number);
        return PyLong_FromUnsignedLongLong(number);
    }
    const uint64_t *dims = peach_value_array_shape(value);
    PyObject *bytes = array_memory(value);
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

/* ---- lent or copied ---- */

/* What is lent to a value. */
typedef struct {
    Py_buffer view;
    PyObject *root; /* what it was found in: as long as that lives it does not clean up after
                       itself, there. May be NULL */
} loan_t;

/* The library may be the caller, without the GIL. */
static void end_loan(void *owner)
{
    loan_t *loan = owner;
    PyGILState_STATE state = PyGILState_Ensure();
    PyBuffer_Release(&loan->view);
    Py_XDECREF(loan->root);
    PyGILState_Release(state);
    free(loan);
}

static peach_value_t *lend(const Py_buffer *view, peach_dtype_t dtype, const uint64_t *shape,
                           PyObject *root)
{
    loan_t *loan = malloc(sizeof *loan);
    if (!loan || PyObject_GetBuffer(view->obj, &loan->view, PyBUF_FULL_RO) != 0) {
        free(loan);
        return NULL;
    }
    loan->root = Py_XNewRef(root);
    peach_value_t *value = peach_array_lent(dtype, (size_t)view->ndim, shape, loan->view.buf,
                                            (size_t)loan->view.len, end_loan, loan);
    if (!value) end_loan(loan);
    return value;
}

/* An array of contiguous memory that is worth not to be copied. */
static peach_value_t *large_array(const Py_buffer *view, peach_dtype_t dtype, const uint64_t *shape,
                                  PyObject *root, python_memory_t memory)
{
    if (memory == PYTHON_COPY && !PyBytes_CheckExact(view->obj))
        return copy_array(dtype, (size_t)view->ndim, shape, view->buf);
    return lend(view, dtype, shape, root);
}

/* ---- from Python ---- */

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

bool array_is_plain(PyObject *object)
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

/* A numpy scalar. */
static peach_value_t *to_scalar(const Py_buffer *view, peach_dtype_t dtype)
{
    peach_value_t *array = peach_value_array(dtype, 0, NULL, view->buf);
    peach_value_t *value = array ? peach_value_element(array, 0) : NULL;
    peach_value_destroy(&array);
    return value;
}

static peach_value_t *copy_elements(const Py_buffer *view, peach_dtype_t dtype,
                                    const uint64_t *shape, PyObject *object)
{
    peach_value_t *value = peach_value_array(dtype, (size_t)view->ndim, shape, NULL);
    if (value && PyBuffer_ToContiguous(peach_value_array_data(value, NULL), (Py_buffer *)view,
                                       view->len, 'C') != 0)
        peach_value_destroy(&value);
    if (!value && view->len == 0) {
        PyObject *text = PyObject_GetAttrString(object, "shape");
        PyErr_Format(PyExc_ValueError,
                     "an array without elements of shape %S has no Value form: the dimensions "
                     "before its first 0 may multiply to 4096 at most",
                     text ? text : Py_None);
        Py_XDECREF(text);
    }
    return value;
}

peach_value_t *array_to_value(PyObject *object, bool whole, python_memory_t memory)
{
    enum { LARGE = 64 << 10 };
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) != 0) {
        PyErr_Clear();
        return NULL;
    }
    peach_dtype_t dtype = dtype_of(view.format, view.itemsize);
    peach_value_t *value = NULL;
    uint64_t shape[PEACH_MAX_DIMS];
    if (!dtype || (Py_ssize_t)peach_dtype_size(dtype) != view.itemsize ||
        view.ndim > PEACH_MAX_DIMS) {
        PyErr_Format(PyExc_TypeError, "an array of format '%.50s' has no Value form",
                     view.format ? view.format : "");
    } else if (view.ndim == 0) {
        value = to_scalar(&view, dtype);
    } else {
        for (int i = 0; i < view.ndim; i++) shape[i] = (uint64_t)view.shape[i];
        if (whole && view.len >= LARGE && PyBuffer_IsContiguous(&view, 'C'))
            value = large_array(&view, dtype, shape, NULL, memory);
        else
            value = copy_elements(&view, dtype, shape, object);
    }
    PyBuffer_Release(&view);
    if (!value && !PyErr_Occurred()) PyErr_NoMemory();
    return value;
}

peach_value_t *array_of_buffer(PyObject *object, PyObject *root, python_memory_t memory)
{
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) != 0) return NULL;
    uint64_t shape = (uint64_t)view.len;
    peach_value_t *value = NULL;
    if (PyBuffer_IsContiguous(&view, 'C'))
        value = large_array(&view, PEACH_DTYPE_UINT8, &shape, root, memory);
    else
        PyErr_SetString(PyExc_BufferError, "a buffer of a pickle is not contiguous");
    PyBuffer_Release(&view);
    return value;
}

void array_init(PyObject *as_array)
{
    make_array = as_array;
    if (PyType_Ready(&memory_type) != 0) make_array = NULL;
}

void python_value_copies(peach_value_t *(*copy)(peach_dtype_t dtype, size_t ndim,
                                                const uint64_t *shape, const void *data))
{
    copy_array = copy;
}
