/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* References to values that were put. */
#include "extension.h"

#include "session.h"

PyObject *ref_object_new(session_object_t *session, uint64_t number)
{
    ref_object_t *self = PyObject_New(ref_object_t, &ref_type);
    if (!self) return NULL;
    Py_INCREF(session);
    self->session = session;
    self->number = number;
    return (PyObject *)self;
}

static void ref_dealloc(PyObject *object)
{
    ref_object_t *self = (ref_object_t *)object;
    session_drop(self->session, self->number);
    Py_DECREF(self->session);
    Py_TYPE(object)->tp_free(object);
}

bool ref_number(PyObject *object, uint64_t *number)
{
    if (!Py_IS_TYPE(object, &ref_type)) return false;
    *number = ((ref_object_t *)object)->number;
    return true;
}

static Py_hash_t ref_hash(PyObject *object) { return (Py_hash_t)((ref_object_t *)object)->number; }

/* Values that are equal are put once: then their references are equal. */
static PyObject *ref_compare(PyObject *a, PyObject *b, int op)
{
    if ((op != Py_EQ && op != Py_NE) || !Py_IS_TYPE(a, &ref_type) || !Py_IS_TYPE(b, &ref_type))
        Py_RETURN_NOTIMPLEMENTED;
    const ref_object_t *one = (ref_object_t *)a, *other = (ref_object_t *)b;
    bool equal = one->number == other->number && one->session == other->session;
    return PyBool_FromLong(equal == (op == Py_EQ));
}

static PyObject *ref_repr(PyObject *object)
{
    return PyUnicode_FromFormat("<peach.Ref %llu>",
                                (unsigned long long)((ref_object_t *)object)->number);
}

/* _holds(thing): whether the value is still what the thing is. Compared, not hashed as for put:
   many times as fast. */
static PyObject *ref_holds(PyObject *object, PyObject *thing)
{
    const ref_object_t *self = (ref_object_t *)object;
    peach_value_t *value = python_to_value(thing, PYTHON_OBJECT, PYTHON_LEND);
    if (!value || !session_enter(self->session)) {
        peach_value_destroy(&value);
        return NULL;
    }
    bool same = puts_hold(self->session->peach, self->number, value);
    session_leave(self->session);
    peach_value_destroy(&value);
    return PyBool_FromLong(same);
}

static PyObject *ref_reduce(PyObject *object, PyObject *unused)
{
    (void)object, (void)unused;
    PyErr_SetString(PyExc_TypeError,
                    "a peach.Ref can be an argument, or be in a list or dict of arguments, but "
                    "not in another object");
    return NULL;
}

static PyMethodDef ref_methods[] = {
    {"_holds", ref_holds, METH_O, NULL}, {"__reduce__", ref_reduce, METH_NOARGS, NULL}, {0}};

PyTypeObject ref_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "peach.Ref",
    .tp_doc = "A value that was put into the fleet. It is gone when nothing refers to it.",
    .tp_basicsize = sizeof(ref_object_t),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_hash = ref_hash,
    .tp_richcompare = ref_compare,
    .tp_repr = ref_repr,
    .tp_dealloc = ref_dealloc,
    .tp_methods = ref_methods};
