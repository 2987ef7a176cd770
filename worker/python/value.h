/* Values <-> Python objects.

   null None, bool, int, float, str, bytes, list, dict; arrays are numpy arrays (or
   memoryviews where numpy is missing) over the value's memory. The other way also
   tuples, numpy scalars and whatever has the buffer protocol.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_PYTHON_VALUE_H
#define PEACH_PYTHON_VALUE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <peach/value.h>

/* as_array of bootstrap.py, used for arrays; borrowed. */
void python_value_init(PyObject *as_array);

/* A new reference, or NULL with a Python exception. Copies the value. */
PyObject *python_from_value(const peach_value_t *value);

/* The value, or NULL with a Python exception (TypeError, OverflowError, …) that
   says what has no Value form. */
peach_value_t *python_to_value(PyObject *object);

/* Whether it is an int that fits or a float, itself and no subclass; then *number is it. */
bool python_to_number(PyObject *object, peach_value_t *number);

#endif
