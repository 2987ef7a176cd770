/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "extension.h"

#include "job.h"
#include "value_tree.h"

#include <stdlib.h>
#include <string.h>

/* ---- jobs ---- */

PyObject *job_object_new(session_object_t *session, peach_job_t *job, log_sink_t *sink,
                         PyObject *code, int form, int spread)
{
    job_object_t *self = PyObject_New(job_object_t, &job_type);
    if (!self) {
        peach_job_destroy(&job);
        sink_destroy(sink);
        return NULL;
    }
    Py_INCREF(session);
    Py_XINCREF(code);
    self->sink = sink;
    self->session = session;
    self->job = job;
    self->code = code;
    self->form = form;
    self->spread = spread;
    self->next = session->jobs;
    session->jobs = self;
    return (PyObject *)self;
}

/* Takes it out of its session's list. */
static peach_job_t *forget(job_object_t *self)
{
    job_object_t **at = &self->session->jobs;
    peach_job_t *job = self->job;
    while (*at && *at != self) at = &(*at)->next;
    if (*at) *at = self->next;
    self->job = NULL;
    return job;
}

/* Takes the session's lock; false with an exception when the job is not open any more. */
static bool job_enter(job_object_t *self)
{
    if (!session_enter(self->session)) return false;
    if (self->job) return true;
    session_leave(self->session);
    raise_status(PEACH_E_CANCELLED, "the job was closed");
    return false;
}

static PyObject *job_close(PyObject *object, PyObject *unused)
{
    job_object_t *self = (job_object_t *)object;
    (void)unused;
    if (self->job) session_drop_job(self->session, forget(self));
    Py_RETURN_NONE;
}

static void job_dealloc(PyObject *object)
{
    job_object_t *self = (job_object_t *)object;
    if (self->job) session_drop_job(self->session, forget(self));
    if (self->sink && self->sink->count > 0) sink_show(self->sink);
    if (self->sink) session_drop_sink(self->session, self->sink);
    Py_DECREF(self->session);
    Py_XDECREF(self->code);
    Py_TYPE(object)->tp_free(object);
}

static PyObject *text_or_empty(const char *text)
{
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

/* (status, type, message, traceback, host, pid, [(host, pid, cause)], pickle or None) */
static PyObject *failure_from(const peach_failure_t *f)
{
    PyObject *attempts = PyList_New((Py_ssize_t)f->attempt_count);
    for (size_t i = 0; attempts && i < f->attempt_count; i++) {
        PyObject *attempt =
            Py_BuildValue("(sIs)", f->attempts[i].host, f->attempts[i].pid, f->attempts[i].cause);
        if (attempt)
            PyList_SET_ITEM(attempts, (Py_ssize_t)i, attempt);
        else
            Py_CLEAR(attempts);
    }
    if (!attempts) return NULL;
    return Py_BuildValue("(iNNNNINy#)", f->status, text_or_empty(f->type),
                         text_or_empty(f->message), text_or_empty(f->traceback),
                         text_or_empty(f->host), f->pid, attempts, f->exception,
                         (Py_ssize_t)f->exception_size);
}

/* (item, value, failure or None). What cannot be unpickled is a failure, too: of the type
   of the exception that says so. */
static PyObject *result_from(const peach_result_t *result)
{
    PyObject *value = NULL, *failure = NULL;
    if (result->failure) {
        failure = failure_from(result->failure);
    } else if (!(value = python_from_value(result->value))) {
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        if (error) Py_INCREF(failure = error);
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
    }
    if (!value && !failure) return NULL;
    if (!value) Py_INCREF(value = Py_None);
    if (!failure) Py_INCREF(failure = Py_None);
    return Py_BuildValue("(KNN)", (unsigned long long)result->item, value, failure);
}

enum { MAX_TAKE = 4096 };

/* take(limit, timeout): up to limit results that are there, waiting for the first; None
   after the last. Without one in time: TimeoutError; with timeout 0: []. */
static PyObject *job_take(PyObject *object, PyObject *args)
{
    job_object_t *self = (job_object_t *)object;
    PyObject *timeout = NULL;
    int limit, timeout_ms;
    if (!PyArg_ParseTuple(args, "i|O", &limit, &timeout) || !get_timeout(timeout, &timeout_ms))
        return NULL;
    if (limit < 1 || limit > MAX_TAKE) limit = MAX_TAKE;
    peach_result_t *results = calloc((size_t)limit, sizeof *results);
    if (!results) return PyErr_NoMemory();
    if (!job_enter(self)) {
        free(results);
        return NULL;
    }
    int64_t deadline = session_deadline_of(timeout_ms);
    int rc = 0, count = 0;
    while (rc == 0 && count < limit && self->job) {
        rc = peach_job_next(self->job, &results[count], 0);
        if (rc == 0)
            count++;
        else if (rc == PEACH_E_TIMEOUT && count == 0 && timeout_ms != 0)
            rc = session_wait(self->session, deadline);
    }
    session_leave_with(self->session, count == 0 ? rc : 0);
    /* Without the lock: unpickling may run anything. */
    PyObject *list = PyErr_Occurred() ? NULL : PyList_New(count);
    for (int i = 0; i < count; i++) {
        PyObject *row = list ? result_from(&results[i]) : NULL;
        if (row)
            PyList_SET_ITEM(list, i, row);
        else
            Py_CLEAR(list);
        peach_result_clear(&results[i]);
    }
    free(results);
    if (!list || count > 0 || (timeout_ms == 0 && rc == PEACH_E_TIMEOUT)) return list;
    Py_DECREF(list);
    if (rc == PEACH_END) Py_RETURN_NONE;
    return raise_status(self->job ? PEACH_E_TIMEOUT : PEACH_E_CANCELLED,
                        self->job ? "there was no result in time" : "the job was closed");
}

/* wait(timeout) -> whether all items have ended; raises for no broker. */
static PyObject *job_wait(PyObject *object, PyObject *args)
{
    job_object_t *self = (job_object_t *)object;
    PyObject *timeout = NULL;
    int timeout_ms, rc = 0;
    if (!PyArg_ParseTuple(args, "|O", &timeout) || !get_timeout(timeout, &timeout_ms) ||
        !job_enter(self))
        return NULL;
    int64_t deadline = session_deadline_of(timeout_ms);
    bool ended = false;
    while (rc == 0 && self->job) {
        rc = peach_job_wait(self->job, 0);
        ended = rc == 0;
        if (ended || rc != PEACH_E_TIMEOUT) break;
        rc = session_wait(self->session, deadline);
    }
    session_leave_with(self->session, rc);
    if (PyErr_Occurred()) return NULL;
    return PyBool_FromLong(ended);
}

/* over() -> whether all items have ended, or it was closed; keeps it going. */
static PyObject *job_over(PyObject *object, PyObject *unused)
{
    job_object_t *self = (job_object_t *)object;
    (void)unused;
    if (!self->job) Py_RETURN_TRUE;
    if (!session_enter(self->session)) return NULL;
    int rc = self->job ? peach_job_wait(self->job, 0) : 0;
    session_leave_with(self->session, rc);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(rc == 0);
}

/* ---- many good results ---- */

/* A piece of results: numbers of one kind, or one result. */
typedef struct {
    peach_kind_t kind; /* PEACH_INT or PEACH_DOUBLE; else it is result */
    size_t count;
    int64_t *numbers; /* a copy */
    peach_result_t result;
} piece_copy_t;

typedef struct {
    piece_copy_t *pieces;
    size_t count, capacity, items;
} pieces_t;

static piece_copy_t *pieces_add(pieces_t *self)
{
    if (!array_grow((void **)&self->pieces, self->count, &self->capacity, sizeof *self->pieces))
        return NULL;
    self->pieces[self->count] = (piece_copy_t){0};
    return &self->pieces[self->count++];
}

/* Moves what can be read into pieces. 0, PEACH_E_MEMORY, or what job_read says. */
static int read_pieces(peach_job_t *job, pieces_t *pieces)
{
    enum { MOST = 1 << 20 };
    task_t *task;
    while (pieces->items < MOST && (task = job_readable(job)) != NULL) {
        peach_kind_t kind;
        size_t count;
        piece_copy_t *piece = pieces_add(pieces);
        if (!piece) return PEACH_E_MEMORY;
        const void *numbers = task_numbers(task, &kind, &count);
        if (numbers) {
            if (!(piece->numbers = malloc(count * sizeof *piece->numbers))) return PEACH_E_MEMORY;
            memcpy(piece->numbers, numbers, count * sizeof *piece->numbers);
            piece->kind = kind;
            piece->count = count;
            job_end_piece(job, task);
        } else {
            int rc = job_read(job, task, &piece->result);
            if (rc) return rc;
            piece->count = 1;
        }
        pieces->items += piece->count;
    }
    return 0;
}

static PyObject *number_from(const piece_copy_t *piece, size_t i)
{
    double real;
    if (piece->kind == PEACH_INT) return PyLong_FromLongLong(piece->numbers[i]);
    memcpy(&real, &piece->numbers[i], sizeof real);
    return PyFloat_FromDouble(real);
}

/* (values, failure or None): values of the items before the first that failed. */
static PyObject *pieces_list(const pieces_t *pieces)
{
    PyObject *list = PyList_New((Py_ssize_t)pieces->items), *failure = NULL;
    Py_ssize_t at = 0;
    bool good = list != NULL;
    for (size_t i = 0; good && !failure && i < pieces->count; i++) {
        const piece_copy_t *piece = &pieces->pieces[i];
        for (size_t j = 0; good && piece->kind && j < piece->count; j++) {
            PyObject *number = number_from(piece, j);
            if (number) PyList_SET_ITEM(list, at++, number);
            good = number != NULL;
        }
        if (piece->kind) continue;
        PyObject *row = result_from(&piece->result);
        good = row != NULL;
        if (good && PyTuple_GET_ITEM(row, 2) != Py_None)
            Py_INCREF(failure = PyTuple_GET_ITEM(row, 2));
        else if (good)
            PyList_SET_ITEM(list, at++, Py_NewRef(PyTuple_GET_ITEM(row, 1)));
        Py_XDECREF(row);
    }
    if (good && at < PyList_GET_SIZE(list)) /* what a failure cut off */
        good = PyList_SetSlice(list, at, PyList_GET_SIZE(list), NULL) == 0;
    if (!good) {
        Py_XDECREF(list);
        Py_XDECREF(failure);
        return NULL;
    }
    if (!failure) Py_INCREF(failure = Py_None);
    return Py_BuildValue("(NN)", list, failure);
}

/* values(timeout): ([value, ...], failure or None) of what is there, up to the first item
   that failed, waiting for the first; None after the last. [] when none came in time. */
static PyObject *job_values(PyObject *object, PyObject *args)
{
    job_object_t *self = (job_object_t *)object;
    PyObject *timeout = NULL, *result = NULL;
    int timeout_ms, rc = 0;
    pieces_t pieces = {0};
    if (!PyArg_ParseTuple(args, "|O", &timeout) || !get_timeout(timeout, &timeout_ms) ||
        !job_enter(self))
        return NULL;
    int64_t deadline = session_deadline_of(timeout_ms);
    while (rc == 0 && pieces.items == 0 && self->job) {
        rc = read_pieces(self->job, &pieces);
        if (rc || pieces.items > 0) break;
        rc = job_turn(self->job, 0, 0);
        if (rc == PEACH_E_TIMEOUT && timeout_ms != 0) rc = session_wait(self->session, deadline);
    }
    bool closed = !self->job;
    session_leave_with(self->session, rc);
    if (PyErr_Occurred())
        ;
    else if (closed)
        raise_status(PEACH_E_CANCELLED, "the job was closed");
    else if (rc == PEACH_END)
        Py_INCREF(result = Py_None);
    else
        result = pieces_list(&pieces);
    for (size_t i = 0; i < pieces.count; i++) {
        free(pieces.pieces[i].numbers);
        peach_result_clear(&pieces.pieces[i].result);
    }
    free(pieces.pieces);
    return result;
}

/* collect(): all results of a job that has ended without a failure: an array where they
   are numbers of one kind, else a list. */
static PyObject *job_collect(PyObject *object, PyObject *unused)
{
    job_object_t *self = (job_object_t *)object;
    peach_value_t *values = NULL;
    PyObject *result = NULL;
    (void)unused;
    if (!job_enter(self)) return NULL;
    int rc = peach_job_collect(self->job, &values, 0);
    if (rc) raise_status(rc, peach_error(self->session->peach));
    session_leave(self->session);
    if (values) result = python_from_value(values);
    peach_value_destroy(&values);
    return result;
}

static PyObject *job_add(PyObject *object, PyObject *item)
{
    job_object_t *self = (job_object_t *)object;
    peach_value_t *value = item_from(item, self->form, self->spread, PYTHON_COPY);
    if (!value) return NULL;
    if (!job_enter(self)) {
        peach_value_destroy(&value);
        return NULL;
    }
    int rc = peach_job_add(self->job, &value);
    if (rc) raise_status(rc, peach_error(self->session->peach));
    session_leave(self->session);
    if (rc) return NULL;
    Py_RETURN_NONE;
}

static PyObject *job_finish(PyObject *object, PyObject *unused)
{
    job_object_t *self = (job_object_t *)object;
    (void)unused;
    if (!job_enter(self)) return NULL;
    peach_job_finish(self->job);
    session_leave(self->session);
    Py_RETURN_NONE;
}

static PyObject *job_cancel(PyObject *object, PyObject *unused)
{
    job_object_t *self = (job_object_t *)object;
    (void)unused;
    if (!job_enter(self)) return NULL;
    peach_job_cancel(self->job);
    session_serve(self->session);
    session_leave(self->session);
    Py_RETURN_NONE;
}

/* progress() -> (items, final, done, failed, slots) */
static PyObject *job_progress(PyObject *object, PyObject *unused)
{
    job_object_t *self = (job_object_t *)object;
    peach_progress_t p;
    (void)unused;
    if (!job_enter(self)) return NULL;
    peach_job_progress(self->job, &p);
    session_leave(self->session);
    return Py_BuildValue("(KOKKI)", (unsigned long long)p.items, p.items_final ? Py_True : Py_False,
                         (unsigned long long)p.done, (unsigned long long)p.failed, p.slots);
}

static PyMethodDef job_methods[] = {{"take", job_take, METH_VARARGS, NULL},
                                    {"wait", job_wait, METH_VARARGS, NULL},
                                    {"collect", job_collect, METH_NOARGS, NULL},
                                    {"values", job_values, METH_VARARGS, NULL},
                                    {"over", job_over, METH_NOARGS, NULL},
                                    {"add", job_add, METH_O, NULL},
                                    {"finish", job_finish, METH_NOARGS, NULL},
                                    {"cancel", job_cancel, METH_NOARGS, NULL},
                                    {"progress", job_progress, METH_NOARGS, NULL},
                                    {"close", job_close, METH_NOARGS, NULL},
                                    {0}};

PyTypeObject job_type = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = "peach._peach.Job",
                         .tp_basicsize = sizeof(job_object_t), .tp_flags = Py_TPFLAGS_DEFAULT,
                         .tp_dealloc = job_dealloc, .tp_methods = job_methods};
