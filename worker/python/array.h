/* Arrays and the buffers of pickles, between values and Python. Inside of value.c.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_PYTHON_ARRAY_H
#define PEACH_PYTHON_ARRAY_H

#include "value.h"

/* as_array of _pickle.py, taken. */
void array_init(PyObject *as_array);

/* An array value as what as_array makes of it; and its bytes as an object with a buffer,
   which keeps the payload that they lend from. New references, or NULL with an exception. */
PyObject *array_from_value(const peach_value_t *value);
PyObject *array_memory(const peach_value_t *value);

/* Whether it is an array whose Value form is all there is to it. */
bool array_is_plain(PyObject *object);

/* An object with a buffer as an array, or as a number if it is a numpy scalar. memory is for
   whole values; within others it is copied. NULL with an exception, or without one when the
   object gives no buffer. */
peach_value_t *array_to_value(PyObject *object, bool whole, python_memory_t memory);

/* A buffer of the pickle of root as an array of uint8. NULL with an exception. */
peach_value_t *array_of_buffer(PyObject *object, PyObject *root, python_memory_t memory);

#endif
