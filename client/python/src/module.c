/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "extension.h"

#include "version.h"

#include <stdlib.h>

PyObject *tell_notice;     /* peach._client.tell_notice */
static PyObject *error_of; /* peach._errors.error_of: (status, text) -> exception */

PyObject *raise_status(int status, const char *text)
{
    PyObject *error = error_of ? PyObject_CallFunction(error_of, "is", status, text) : NULL;
    if (error)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    else if (!PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, text);
    Py_XDECREF(error);
    return NULL;
}

bool get_timeout(PyObject *object, int *timeout_ms)
{
    *timeout_ms = -1;
    if (!object || object == Py_None) return true;
    double seconds = PyFloat_AsDouble(object);
    if (seconds == -1 && PyErr_Occurred()) return false;
    if (!(seconds >= 0)) seconds = 0;
    *timeout_ms = seconds < 2e6 ? (int)(seconds * 1000 + 0.999) : -1;
    return true;
}

bool array_grow(void **array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) return true;
    size_t more = *capacity ? *capacity * 2 : 16;
    void *grown = realloc(*array, more * size);
    if (!grown) return false;
    *array = grown;
    *capacity = more;
    return true;
}

/* setup(error_of, tell_notice, as_array, dumps, loads): what Python code this module calls. */
static PyObject *setup(PyObject *module, PyObject *args)
{
    PyObject *as_array, *dumps, *loads;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOOO", &error_of, &tell_notice, &as_array, &dumps, &loads))
        return NULL;
    Py_INCREF(error_of);
    Py_INCREF(tell_notice);
    Py_INCREF(as_array);
    Py_INCREF(dumps);
    Py_INCREF(loads);
    python_value_init(as_array, dumps, loads);
    python_value_references(ref_number);
    python_value_copies(copies_array);
    Py_RETURN_NONE;
}

_Atomic uint32_t *waiting_word;

/* set_waiting(address): of the executor that this code runs in. */
static PyObject *set_waiting(PyObject *module, PyObject *address)
{
    (void)module;
    waiting_word = PyLong_AsVoidPtr(address);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"setup", setup, METH_VARARGS, NULL},
    {"set_waiting", set_waiting, METH_O, NULL},
    {"hold", hold, METH_VARARGS, NULL},
    {"hold_call", (PyCFunction)(void (*)(void))hold_call, METH_FASTCALL, NULL},
    {"hold_each", hold_each, METH_VARARGS, NULL},
    {0}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "peach._peach",
                                        .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__peach(void)
{
    if (PyType_Ready(&session_type) || PyType_Ready(&job_type) || PyType_Ready(&held_type) ||
        PyType_Ready(&ref_type))
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module && (PyModule_AddObjectRef(module, "Session", (PyObject *)&session_type) ||
                   PyModule_AddObjectRef(module, "Job", (PyObject *)&job_type) ||
                   PyModule_AddObjectRef(module, "Held", (PyObject *)&held_type) ||
                   PyModule_AddObjectRef(module, "Ref", (PyObject *)&ref_type) ||
                   PyModule_AddStringConstant(module, "version", PEACH_VERSION)))
        Py_CLEAR(module);
    return module;
}
