/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Items of jobs: values of objects, at once or held until a job takes them. */
#include "extension.h"

#include "value_tree.h"

#include <stdlib.h>
#include <string.h>

/* ---- held values ---- */

/* A value that is what its object was when it was made. A job takes it, once. */
typedef struct {
    PyObject_HEAD peach_value_t *value;
    PyObject *references; /* the object, if there are some in it: nobody else may have them */
} held_object_t;

static bool has_references(const peach_value_t *value)
{
    if (value->kind == PEACH_REF) return true;
    if (!peach_value_is_sequence(value)) return false;
    for (size_t i = 0; i < value->sequence.count; i++)
        if (has_references(value->sequence.values[i])) return true;
    return false;
}

/* Takes the value of the object, which may be NULL with an exception. */
static PyObject *held_new(peach_value_t *value, PyObject *object)
{
    held_object_t *self = value ? PyObject_New(held_object_t, &held_type) : NULL;
    if (self) {
        self->value = value;
        self->references = has_references(value) ? Py_NewRef(object) : NULL;
    } else {
        peach_value_destroy(&value);
    }
    return (PyObject *)self;
}

static void held_dealloc(PyObject *object)
{
    held_object_t *self = (held_object_t *)object;
    peach_value_destroy(&self->value);
    Py_XDECREF(self->references);
    Py_TYPE(object)->tp_free(object);
}

static peach_value_t *held_take(PyObject *object)
{
    held_object_t *self = (held_object_t *)object;
    peach_value_t *value = self->value;
    self->value = NULL;
    if (!value) PyErr_SetString(PyExc_ValueError, "the value was used");
    return value;
}

static PyObject *held_refers(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((held_object_t *)object)->references != NULL);
}

static PyGetSetDef held_members[] = {{"refers", held_refers, NULL, NULL, NULL}, {0}};

PyTypeObject held_type = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = "peach._peach.Held",
                          .tp_basicsize = sizeof(held_object_t), .tp_flags = Py_TPFLAGS_DEFAULT,
                          .tp_dealloc = held_dealloc, .tp_getset = held_members};

peach_value_t *value_from(PyObject *object, int form, python_memory_t memory)
{
    return Py_IS_TYPE(object, &held_type) ? held_take(object)
                                          : python_to_value(object, form, memory);
}

/* ---- an item ---- */

static peach_value_t *call_from(PyObject *item, int form, python_memory_t memory)
{
    PyObject *args = PySequence_Fast(item, "an item is a list of arguments");
    peach_value_t *list = args ? peach_value_list() : NULL;
    for (Py_ssize_t i = 0; list && i < PySequence_Fast_GET_SIZE(args); i++) {
        peach_value_t *arg = value_from(PySequence_Fast_GET_ITEM(args, i), form, memory);
        if (!arg || peach_value_append(list, &arg) != 0) peach_value_destroy(&list);
    }
    Py_XDECREF(args);
    if (!list && !PyErr_Occurred()) PyErr_NoMemory();
    return list;
}

peach_value_t *item_from(PyObject *item, int form, int spread, python_memory_t memory)
{
    return spread && !Py_IS_TYPE(item, &held_type) ? call_from(item, form, memory)
                                                   : value_from(item, form, memory);
}

/* ---- all items ---- */

/* Items so far: numbers of one type, or, once another one was among them, a list. */
typedef struct {
    int form, spread;
    python_memory_t memory;
    PyTypeObject *type; /* int or float; NULL before the first item */
    int64_t *numbers;   /* their bits */
    size_t count, capacity, seen;
    peach_value_t *list;
} items_t;

static bool make_list(items_t *self)
{
    if (!(self->list = peach_value_list())) return false;
    for (size_t i = 0; i < self->count; i++) {
        double real;
        memcpy(&real, &self->numbers[i], sizeof real);
        peach_value_t *number = self->type == &PyLong_Type ? peach_value_int(self->numbers[i])
                                                           : peach_value_double(real);
        if (!number || peach_value_append(self->list, &number) != 0) return false;
    }
    return true;
}

/* Whether the item is a number of the type that all had so far; then it was added, or memory is
   out: *good. */
static bool add_number(items_t *self, PyObject *item, bool *good)
{
    PyTypeObject *type = Py_TYPE(item);
    peach_value_t number;
    if (self->type && type != self->type) return false;
    if (!python_to_number(item, &number)) return false;
    self->type = type;
    *good =
        array_grow((void **)&self->numbers, self->count, &self->capacity, sizeof *self->numbers);
    if (*good) self->numbers[self->count++] = number.integer; /* or real's bits */
    return true;
}

/* false with an exception, or when memory is out. */
static bool add_item(items_t *self, PyObject *item)
{
    enum { SIGNALS = 1 << 16 }; /* items between two looks at them: a list may be long */
    bool good;
    if (++self->seen % SIGNALS == 0 && PyErr_CheckSignals() != 0) return false;
    if (!self->list && !self->spread && add_number(self, item, &good)) return good;
    if (!self->list && !make_list(self)) return false;
    peach_value_t *value = item_from(item, self->form, self->spread, self->memory);
    return value && peach_value_append(self->list, &value) == 0;
}

/* Each item is taken when it is given: who fills one buffer again for each may do so. */
static bool add_items(items_t *self, PyObject *object)
{
    PyObject *iterator = PyObject_GetIter(object), *item = NULL;
    bool good = iterator != NULL;
    while (good && (item = PyIter_Next(iterator)) != NULL) {
        good = add_item(self, item);
        Py_DECREF(item);
    }
    Py_XDECREF(iterator);
    return good && !PyErr_Occurred();
}

static peach_value_t *end_items(items_t *self)
{
    uint64_t count = self->count;
    peach_value_t *array = NULL;
    if (self->list || count == 0) {
        free(self->numbers);
        return self->list ? self->list : peach_value_list();
    }
    array =
        peach_array_lent(self->type == &PyLong_Type ? PEACH_DTYPE_INT64 : PEACH_DTYPE_FLOAT64, 1,
                         &count, self->numbers, count * sizeof *self->numbers, free, self->numbers);
    if (!array) free(self->numbers);
    return array;
}

static bool is_number_array(PyObject *object)
{
    Py_buffer view;
    if (strcmp(Py_TYPE(object)->tp_name, "numpy.ndarray") != 0) return false;
    if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) != 0) {
        PyErr_Clear();
        return false;
    }
    bool numbers = view.ndim == 1 && view.format && strchr("bBhHiIlLqd", *view.format);
    PyBuffer_Release(&view);
    return numbers;
}

peach_value_t *items_from(PyObject *object, int form, int spread, python_memory_t memory)
{
    items_t items = {.form = form, .spread = spread, .memory = memory};
    peach_value_t *value = NULL;
    if (Py_IS_TYPE(object, &held_type)) return held_take(object);
    if (!spread && is_number_array(object)) return python_to_value(object, PYTHON_VALUE, memory);
    if (add_items(&items, object)) {
        value = end_items(&items);
    } else {
        free(items.numbers);
        peach_value_destroy(&items.list);
    }
    if (!value && !PyErr_Occurred()) PyErr_NoMemory();
    return value;
}

/* ---- for Python ---- */

/* Whether nothing in it can change. */
static bool is_fixed(PyObject *object, int depth)
{
    enum { DEEP = 16 };
    PyTypeObject *type = Py_TYPE(object);
    if (type == &PyLong_Type || type == &PyFloat_Type || type == &PyUnicode_Type ||
        type == &PyBytes_Type || type == &PyBool_Type || object == Py_None ||
        type == &PyComplex_Type)
        return true;
    if (type != &PyTuple_Type || depth == DEEP) return false;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); i++)
        if (!is_fixed(PyTuple_GET_ITEM(object, i), depth + 1)) return false;
    return true;
}

static PyObject *hold_item(PyObject *object, int form, int spread)
{
    if (is_fixed(object, 0)) return Py_NewRef(object);
    return held_new(item_from(object, form, spread, PYTHON_COPY), object);
}

PyObject *hold(PyObject *module, PyObject *args)
{
    PyObject *object;
    int form;
    (void)module;
    return PyArg_ParseTuple(args, "Oi", &object, &form) ? hold_item(object, form, false) : NULL;
}

PyObject *hold_call(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 2 || !PyTuple_Check(args[0]) || !PyLong_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "hold_call takes a tuple and a form");
        return NULL;
    }
    return hold_item(args[0], (int)PyLong_AsLong(args[1]), true);
}

PyObject *hold_each(PyObject *module, PyObject *args)
{
    PyObject *object, *list = NULL;
    int form, spread;
    (void)module;
    if (PyArg_ParseTuple(args, "Oip", &object, &form, &spread)) list = PySequence_List(object);
    for (Py_ssize_t i = 0; list && i < PyList_GET_SIZE(list); i++) {
        PyObject *held = hold_item(PyList_GET_ITEM(list, i), form, spread);
        if (held)
            PyList_SetItem(list, i, held);
        else
            Py_CLEAR(list);
    }
    return list;
}
