/* Values <-> Python objects.

   null None, bool, int (also a uint64 without dimensions), float, str, bytes, list, dict;
   arrays are numpy arrays (or memoryviews where numpy is missing) over the value's memory.
   The other way also tuples, numpy scalars and whatever has the buffer protocol.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_PYTHON_VALUE_H
#define PEACH_PYTHON_VALUE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <peach/value.h>

/* as_array, dumps and loads of _pickle.py; all are taken. */
void python_value_init(PyObject *as_array, PyObject *dumps, PyObject *loads);

/* In clients only: how objects are recognised that stand for values that were put, and what
   copies large memory for PYTHON_COPY (as peach_value_array; a Python exception for NULL). */
void python_value_references(bool (*of)(PyObject *object, uint64_t *number));
void python_value_copies(peach_value_t *(*copy)(peach_dtype_t dtype, size_t ndim,
                                                const uint64_t *shape, const void *data));

/* A new reference, or NULL with a Python exception. Copies the value, but for large arrays
   that lend from a payload: they keep it. */
PyObject *python_from_value(const peach_value_t *value);

/* How objects become values. */
typedef enum {
    PYTHON_VALUE,  /* what has a Value form, more or less: a tuple becomes a list */
    PYTHON_EXACT,  /* as values if they come back as what they are, lists and dicts of such
                      things too; otherwise as pickles */
    PYTHON_OBJECT, /* the same but for lists and dicts: they are pickled, which is faster */
} python_form_t;

/* Whose the memory of large arrays is, and of large buffers of pickles. */
typedef enum {
    PYTHON_LEND, /* the object's: the value is to be packed before anybody can write there */
    PYTHON_COPY, /* the value's */
} python_memory_t;

/* The value, or NULL with a Python exception (TypeError, OverflowError, …) that
   says what has no Value form, or what cannot be pickled. */
peach_value_t *python_to_value(PyObject *object, python_form_t form, python_memory_t memory);

/* Whether it is an int that fits or a float, itself and no subclass; then *number is it. */
bool python_to_number(PyObject *object, peach_value_t *number);

#endif
