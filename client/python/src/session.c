/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "extension.h"

#include "value_tree.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* A thread that waits, and what it has seen. */
struct waiter {
    waiter_t *next;
    int fd; /* an eventfd that wakes it */
    uint64_t seen;
    bool lazy; /* it leaves the network to the others, if there are any */
};

/* ---- the lock ---- */

static void drop_now(session_object_t *self, uint64_t number)
{
    peach_value_t *ref = peach_value_ref(number);
    if (ref && self->peach) peach_drop(self->peach, &ref);
    peach_value_destroy(&ref);
}

static void bury(session_object_t *self)
{
    while (self->orphan_count > 0) peach_job_destroy(&self->orphans[--self->orphan_count]);
    while (self->dead_count > 0) sink_destroy(self->dead_sinks[--self->dead_count]);
}

bool session_enter(session_object_t *self)
{
    /* Before the lock, which another thread of that process may have had. */
    if (self->pid != getpid()) {
        raise_status(PEACH_E_ARGUMENT, "the client was opened by another process: a forked child "
                                       "needs one of its own");
        return false;
    }
    if (!PyThread_acquire_lock(self->lock, NOWAIT_LOCK)) {
        Py_BEGIN_ALLOW_THREADS
            PyThread_acquire_lock(self->lock, WAIT_LOCK);
        Py_END_ALLOW_THREADS
    }
    if (!self->peach) {
        PyThread_release_lock(self->lock);
        raise_status(PEACH_E_ARGUMENT, "the client is closed");
        return false;
    }
    bury(self);
    while (self->drop_count > 0) drop_now(self, self->drops[--self->drop_count]);
    return true;
}

/* Tells the executor that this may be a task of whether work of its own is unfinished. */
static void tell_waiting(session_object_t *self)
{
    bool busy = false;
    for (const job_object_t *job = self->jobs; job && !busy; job = job->next) {
        peach_progress_t p;
        if (!job->job) continue;
        peach_job_progress(job->job, &p);
        busy = p.items > p.done + p.failed;
    }
    if (busy == self->busy) return;
    self->busy = busy;
    atomic_fetch_add(waiting_word, busy ? 1u : -1u);
}

/* Without the lock: shows what the tasks of this session's jobs have printed. */
static void show_lines(session_object_t *self)
{
    for (job_object_t *job = self->jobs; job; job = job->next) {
        if (!job->sink || job->sink->count == 0) continue;
        Py_INCREF(job); /* the function may run anything, and the list may change */
        sink_show(job->sink);
        Py_DECREF(job);
        return; /* the others are shown with the next look */
    }
}

void session_leave(session_object_t *self)
{
    if (waiting_word) tell_waiting(self);
    PyThread_release_lock(self->lock);
    show_lines(self);
}

void session_leave_with(session_object_t *self, int rc)
{
    if (rc < 0 && rc != PEACH_E_TIMEOUT && rc != WAIT_RAISED)
        raise_status(rc, peach_error(self->peach));
    session_leave(self);
}

void session_drop(session_object_t *self, uint64_t number)
{
    if (!self->peach || self->pid != getpid()) return;
    if (PyThread_acquire_lock(self->lock, NOWAIT_LOCK)) {
        drop_now(self, number);
        PyThread_release_lock(self->lock);
        return;
    }
    /* The GIL protects the list. Without memory it goes with the session. */
    if (array_grow((void **)&self->drops, self->drop_count, &self->drop_capacity,
                   sizeof *self->drops))
        self->drops[self->drop_count++] = number;
}

void session_drop_sink(session_object_t *self, log_sink_t *sink)
{
    /* Its job may be an orphan, which writes to it until it is destroyed. */
    if (self->orphan_count == 0)
        sink_destroy(sink);
    else if (array_grow((void **)&self->dead_sinks, self->dead_count, &self->dead_capacity,
                        sizeof *self->dead_sinks))
        self->dead_sinks[self->dead_count++] = sink;
}

void session_drop_job(session_object_t *self, peach_job_t *job)
{
    if (!self->peach || self->pid != getpid()) return;
    if (PyThread_acquire_lock(self->lock, NOWAIT_LOCK)) {
        peach_job_destroy(&job);
        session_leave(self);
    } else if (array_grow((void **)&self->orphans, self->orphan_count, &self->orphan_capacity,
                          sizeof *self->orphans)) {
        self->orphans[self->orphan_count++] = job;
    }
}

/* ---- waiting ---- */

/* Grows whenever a job has something new. */
static uint64_t activity(const session_object_t *self)
{
    uint64_t sum = self->wakes;
    for (const job_object_t *job = self->jobs; job; job = job->next) {
        peach_progress_t progress;
        peach_job_progress(job->job, &progress);
        sum += progress.done + progress.failed;
    }
    return sum;
}

static void wake(const waiter_t *waiter)
{
    uint64_t one = 1;
    if (write(waiter->fd, &one, sizeof one) < 0) return; /* it is awake */
}

int session_serve(session_object_t *self)
{
    int rc = peach_poll(self->peach, 0);
    if (self->waiters) {
        uint64_t now = activity(self);
        for (waiter_t *w = self->waiters; w; w = w->next)
            if ((w->seen != now && !w->lazy) || rc) wake(w);
    }
    return rc;
}

int64_t session_deadline_of(int timeout_ms)
{
    struct timespec now;
    if (timeout_ms < 0) return -1;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + timeout_ms;
}

static int wait_for_something(session_object_t *self, int64_t deadline, bool lazy)
{
    enum { LOOK_MS = 500, LAZY_MS = 100 }; /* the library wants to be called now and then */
    uint64_t before = activity(self);
    int rc = session_serve(self);
    if (rc) return rc;
    waiter_t me = {self->waiters, self->spare_fd, activity(self), lazy && self->waiters};
    if (me.seen != before) return 0;
    int left = me.lazy ? LAZY_MS : LOOK_MS;
    if (deadline >= 0) {
        int64_t until = deadline - session_deadline_of(0);
        if (until <= 0) return PEACH_E_TIMEOUT;
        if (until < left) left = (int)until;
    }
    self->spare_fd = -1;
    if (me.fd < 0 && (me.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return WAIT_RAISED;
    }
    self->waiters = &me;
    if (waiting_word) tell_waiting(self);
    struct pollfd items[] = {{me.lazy ? -1 : peach_fd(self->peach), POLLIN, 0}, {me.fd, POLLIN, 0}};
    bool interrupted;
    PyThread_release_lock(self->lock);
    show_lines(self);
    Py_BEGIN_ALLOW_THREADS
        interrupted = poll(items, 2, left) < 0 && errno == EINTR;
        PyThread_acquire_lock(self->lock, WAIT_LOCK);
    Py_END_ALLOW_THREADS
    waiter_t **at = &self->waiters;
    while (*at != &me) at = &(*at)->next;
    *at = me.next;
    uint64_t woken;
    bool drained = !items[1].revents || read(me.fd, &woken, sizeof woken) > 0;
    if (drained && self->spare_fd < 0)
        self->spare_fd = me.fd;
    else
        close(me.fd);
    if (interrupted && PyErr_CheckSignals() != 0) return WAIT_RAISED;
    if (!self->peach) {
        raise_status(PEACH_E_ARGUMENT, "the client was closed meanwhile");
        return WAIT_RAISED;
    }
    return 0;
}

int session_wait(session_object_t *self, int64_t deadline)
{
    return wait_for_something(self, deadline, false);
}

/* ---- life ---- */

/* Session(endpoints, timeout, *, patience, insecure) */
static bool get_connect_options(PyObject *args, PyObject *keywords,
                                peach_connect_options_t *options)
{
    static char *names[] = {"endpoints", "timeout", "patience", "insecure", NULL};
    PyObject *timeout = NULL, *patience = NULL;
    int insecure = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "z|O$Op", names, &options->endpoints, &timeout,
                                     &patience, &insecure) ||
        !get_timeout(timeout, &options->timeout_ms))
        return false;
    options->insecure = insecure;
    if (!patience) return true; /* the library's */
    if (!get_timeout(patience, &options->patience_ms)) return false;
    if (options->patience_ms == 0)
        PyErr_Format(PyExc_ValueError, "patience %R is not a number of seconds, more than 0",
                     patience);
    return options->patience_ms != 0;
}

static PyObject *session_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    peach_connect_options_t options = {0};
    peach_error_t error;
    if (!get_connect_options(args, keywords, &options)) return NULL;
    session_object_t *self = (session_object_t *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->pid = getpid();
    self->spare_fd = -1;
    self->lock = PyThread_allocate_lock();
    Py_BEGIN_ALLOW_THREADS
        if (self->lock) self->peach = peach_connect_with(&options, &error);
    Py_END_ALLOW_THREADS
    if (self->peach) return (PyObject *)self;
    if (!self->lock)
        PyErr_NoMemory();
    else
        raise_status(error.status, error.message);
    Py_DECREF(self);
    return NULL;
}

static void close_session(session_object_t *self)
{
    if (!self->peach || self->pid != getpid()) return; /* a fork's copy stays as it is */
    for (job_object_t *job = self->jobs; job; job = job->next) peach_job_destroy(&job->job);
    self->jobs = NULL;
    if (waiting_word) tell_waiting(self);
    bury(self);
    for (waiter_t *w = self->waiters; w; w = w->next) wake(w);
    peach_t *peach = self->peach;
    self->peach = NULL;
    Py_BEGIN_ALLOW_THREADS
        peach_close(&peach);
    Py_END_ALLOW_THREADS
}

static void session_dealloc(PyObject *object)
{
    session_object_t *self = (session_object_t *)object;
    close_session(self); /* nobody has it: no lock is needed */
    if (self->lock) PyThread_free_lock(self->lock);
    if (self->spare_fd >= 0) close(self->spare_fd);
    free(self->drops);
    free(self->orphans);
    free(self->dead_sinks);
    Py_TYPE(object)->tp_free(object);
}

static PyObject *session_close(PyObject *object, PyObject *unused)
{
    session_object_t *self = (session_object_t *)object;
    (void)unused;
    if (!self->peach || self->pid != getpid()) Py_RETURN_NONE;
    if (!session_enter(self)) return NULL;
    close_session(self);
    session_leave(self);
    Py_RETURN_NONE;
}

/* ---- what waits for an answer ---- */

/* [needs, value]; takes the value. NULL with an exception. */
static peach_value_t *with_needs(peach_value_t *value, const char *needs)
{
    peach_value_t *list = peach_value_list(), *text = peach_value_string(needs);
    if (!list || !text || peach_value_append(list, &text) != 0 ||
        peach_value_append(list, &value) != 0) {
        peach_value_destroy(&list);
        PyErr_NoMemory();
    }
    peach_value_destroy(&text);
    peach_value_destroy(&value);
    return list;
}

/* put(thing, timeout, needs): needs is of a function, see PROTOCOL.md. */
static PyObject *session_put(PyObject *object, PyObject *args)
{
    session_object_t *self = (session_object_t *)object;
    PyObject *thing, *timeout = NULL;
    const char *needs = NULL;
    int timeout_ms;
    uint64_t number = 0;
    if (!PyArg_ParseTuple(args, "O|Oz", &thing, &timeout, &needs) ||
        !get_timeout(timeout, &timeout_ms))
        return NULL;
    peach_value_t *value = value_from(thing, PYTHON_OBJECT, PYTHON_LEND), *ref = NULL;
    if (value && needs) value = with_needs(value, needs);
    if (!value) return NULL;
    if (!session_enter(self)) {
        peach_value_destroy(&value);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
        ref = peach_put(self->peach, &value, timeout_ms);
    Py_END_ALLOW_THREADS
    PyObject *result = NULL;
    if (ref)
        number = (uint64_t)ref->integer;
    else
        raise_status(peach_error_status(self->peach), peach_error(self->peach));
    session_leave(self);
    if (ref && !(result = ref_object_new(self, number))) session_drop(self, number);
    peach_value_destroy(&ref);
    return result;
}

static PyObject *session_init(PyObject *object, PyObject *args)
{
    session_object_t *self = (session_object_t *)object;
    PyObject *preloads, *timeout = NULL, *result = NULL;
    unsigned slots, started = 0;
    int timeout_ms;
    if (!PyArg_ParseTuple(args, "IO|O", &slots, &preloads, &timeout) ||
        !get_timeout(timeout, &timeout_ms))
        return NULL;
    PyObject *list = PySequence_Fast(preloads, "preloads is a list of names");
    if (!list) return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(list);
    const char **names = calloc((size_t)count + 1, sizeof *names);
    for (Py_ssize_t i = 0; names && i < count; i++)
        if (!(names[i] = PyUnicode_AsUTF8(PySequence_Fast_GET_ITEM(list, i)))) goto done;
    if (!names)
        PyErr_NoMemory();
    else if (session_enter(self)) {
        int rc;
        Py_BEGIN_ALLOW_THREADS
            rc = peach_init(self->peach, slots, names, (size_t)count, timeout_ms, &started);
        Py_END_ALLOW_THREADS
        if (rc)
            raise_status(rc, peach_error(self->peach));
        else
            result = PyLong_FromUnsignedLong(started);
        session_leave(self);
    }
done:
    free(names);
    Py_DECREF(list);
    return result;
}

static PyObject *session_view(PyObject *object, PyObject *args)
{
    session_object_t *self = (session_object_t *)object;
    PyObject *timeout = NULL, *result = NULL;
    peach_value_t *view = NULL;
    int timeout_ms, rc;
    if (!PyArg_ParseTuple(args, "|O", &timeout) || !get_timeout(timeout, &timeout_ms) ||
        !session_enter(self))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
        rc = peach_view(self->peach, timeout_ms, &view);
    Py_END_ALLOW_THREADS
    if (rc) raise_status(rc, peach_error(self->peach));
    session_leave(self);
    if (view) result = python_from_value(view);
    peach_value_destroy(&view);
    return result;
}

/* Ends the waiting of all threads, for a thread that has something new for them. */
static PyObject *session_wake(PyObject *object, PyObject *unused)
{
    session_object_t *self = (session_object_t *)object;
    (void)unused;
    self->wakes++;
    for (waiter_t *w = self->waiters; w; w = w->next) wake(w);
    Py_RETURN_NONE;
}

/* wait(timeout, wakes, lazy): until something came for any job, or wake() was called: more than
   wakes times. lazy: while others wait they are to serve the network. */
static PyObject *session_wait_method(PyObject *object, PyObject *args)
{
    session_object_t *self = (session_object_t *)object;
    PyObject *timeout = NULL;
    int timeout_ms, lazy = 0, rc = 0;
    unsigned long long wakes;
    if (!PyArg_ParseTuple(args, "OK|p", &timeout, &wakes, &lazy) ||
        !get_timeout(timeout, &timeout_ms) || !session_enter(self))
        return NULL;
    if (self->wakes == wakes) rc = wait_for_something(self, session_deadline_of(timeout_ms), lazy);
    session_leave_with(self, rc);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef session_methods[] = {
    {"job", (PyCFunction)(void (*)(void))session_job, METH_VARARGS | METH_KEYWORDS, NULL},
    {"put", session_put, METH_VARARGS, NULL},
    {"init", session_init, METH_VARARGS, NULL},
    {"view", session_view, METH_VARARGS, NULL},
    {"wait", session_wait_method, METH_VARARGS, NULL},
    {"wake", session_wake, METH_NOARGS, NULL},
    {"close", session_close, METH_NOARGS, NULL},
    {0}};

static PyObject *session_closed(PyObject *object, void *unused)
{
    (void)unused;
    const session_object_t *self = (session_object_t *)object;
    return PyBool_FromLong(self->peach == NULL || self->pid != getpid());
}

static PyObject *session_wakes(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((session_object_t *)object)->wakes);
}

static PyGetSetDef session_members[] = {
    {"closed", session_closed, NULL, NULL, NULL}, {"wakes", session_wakes, NULL, NULL, NULL}, {0}};

PyTypeObject session_type = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = "peach._peach.Session",
                             .tp_basicsize = sizeof(session_object_t),
                             .tp_flags = Py_TPFLAGS_DEFAULT,
                             .tp_new = session_new,
                             .tp_dealloc = session_dealloc,
                             .tp_methods = session_methods,
                             .tp_getset = session_members};
