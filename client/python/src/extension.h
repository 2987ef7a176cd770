/* The extension module peach._peach: libpeach for Python. module.c (the module, errors),
   session.c (a connection), start.c and job.c (jobs), held.c (their items), copies.c, ref.c
   (references), sink.c (what tasks print). Thin: what can be Python is.

   Threads: a session has a lock. It is held for the library's calls, which do not wait, and
   is free while a thread waits for the network, without the GIL, in session_wait; so any
   number of threads can use one session, and whoever wakes first serves them all.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_EXTENSION_H
#define PEACH_EXTENSION_H

#include "value.h" /* with Python.h, which comes first */

#include <peach/peach.h>

#include <stdatomic.h>

typedef struct waiter waiter_t;
typedef struct job_object job_object_t;

/* Where lines that a job's tasks print wait for their reader. */
typedef struct {
    PyObject *show; /* called with (item, host, pid, slot, text); NULL: nobody wants them */
    struct told_line {
        uint64_t item;
        uint32_t pid, slot;
        bool notice;
        char *host, *text;
    } * lines;
    size_t count, capacity;
} log_sink_t;

typedef struct {
    PyObject_HEAD peach_t *peach; /* NULL once it was closed */
    PyThread_type_lock lock;
    waiter_t *waiters;  /* threads that wait */
    job_object_t *jobs; /* that are open */
    bool busy;          /* some of their items have not ended; counted in waiting_word */
    /* What was let go of while the lock was taken: references and jobs. */
    uint64_t *drops;
    peach_job_t **orphans;
    log_sink_t **dead_sinks; /* of orphans */
    size_t drop_count, drop_capacity, orphan_count, orphan_capacity, dead_count, dead_capacity;
    uint64_t wakes; /* calls of wake() */
    int spare_fd;   /* an eventfd that nobody waits with; -1: none */
    long pid;       /* of the process that opened it: a forked child may not use it */
} session_object_t;

struct job_object {
    PyObject_HEAD session_object_t *session;
    peach_job_t *job;
    job_object_t *next; /* in its session */
    log_sink_t *sink;   /* or NULL */
    PyObject *code;     /* a Ref that is to live as long, or NULL */
    int form;           /* python_form_t of its items */
    int spread;
};

/* A value that was put. */
typedef struct {
    PyObject_HEAD session_object_t *session;
    uint64_t number;
} ref_object_t;

extern PyTypeObject session_type, job_type, held_type, ref_type;

/* ---- module.c ---- */

/* Raises peach.PeachError, or what it has for the status, with this text. Always NULL. */
PyObject *raise_status(int status, const char *text);

/* A timeout in seconds or None as milliseconds (-1); false with an exception. */
bool get_timeout(PyObject *object, int *timeout_ms);

/* In an executor: where it is told that a task waits for tasks of its own; else NULL. */
extern _Atomic uint32_t *waiting_word;

/* Room in an array for one more element of that size; false when memory is out. */
bool array_grow(void **array, size_t count, size_t *capacity, size_t size);

/* ---- session.c ---- */

/* Takes the lock; false with an exception when the session is closed. */
bool session_enter(session_object_t *self);
void session_leave(session_object_t *self);

/* The same for who waited: raises what rc says, unless it is good or the end, the time is over,
   or an exception is there already. */
void session_leave_with(session_object_t *self, int rc);

/* With the lock: sends and receives, and wakes the threads that wait for what came. */
int session_serve(session_object_t *self);

/* With the lock, which is free meanwhile: waits for something to come, or for the deadline
   (monotonic ms; -1: none). 0, PEACH_E_TIMEOUT, or -1000 with a Python exception. */
enum { WAIT_RAISED = -1000 };
int session_wait(session_object_t *self, int64_t deadline);
int64_t session_deadline_of(int timeout_ms);

/* Drops the reference, or destroys the job, now or when the lock is free: called by
   deallocation, which may come while this thread has it. */
void session_drop(session_object_t *self, uint64_t number);
void session_drop_job(session_object_t *self, peach_job_t *job);

/* The sink of a job that was dropped. */
void session_drop_sink(session_object_t *self, log_sink_t *sink);

/* ---- job.c ---- */

/* Takes the job and the sink, code is borrowed. */
PyObject *job_object_new(session_object_t *session, peach_job_t *job, log_sink_t *sink,
                         PyObject *code, int form, int spread);

/* ---- start.c ---- */

/* Session.job(name, code, items, *, ...): items None leaves it open. lend: the caller waits for
   the job's end, so that large memory of the items need not be copied. */
PyObject *session_job(PyObject *object, PyObject *args, PyObject *keywords);

/* ---- held.c ---- */

/* An object, or what was held of one, as a value; an item of a job; all items of an iterable,
   an array where all are ints or floats, otherwise a list. With PYTHON_LEND large memory is the
   objects' until it is sent: for callers that do not return before. NULL with an exception. */
peach_value_t *value_from(PyObject *object, int form, python_memory_t memory);
peach_value_t *item_from(PyObject *item, int form, int spread, python_memory_t memory);
peach_value_t *items_from(PyObject *object, int form, int spread, python_memory_t memory);

/* hold(object, form): the object if nothing in it can change, otherwise a Held of what it is
   now, which a job takes in its place. hold_call(args, form): the same of a call's arguments.
   hold_each(objects, form, spread): a list of what hold, or hold_call, makes of each. */
PyObject *hold(PyObject *module, PyObject *args);
PyObject *hold_call(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *hold_each(PyObject *module, PyObject *args);

/* ---- copies.c ---- */

/* peach_value_array, but equal copies of the same memory are one. */
peach_value_t *copies_array(peach_dtype_t dtype, size_t ndim, const uint64_t *shape,
                            const void *data);

/* ---- ref.c ---- */

/* A Ref for the value of that number, which it drops when it goes. */
PyObject *ref_object_new(session_object_t *session, uint64_t number);

/* Whether the object is a Ref; then its number. */
bool ref_number(PyObject *object, uint64_t *number);

/* ---- sink.c ---- */

/* Called with notices: the text. */
extern PyObject *tell_notice;

/* A sink for a function, which is borrowed; NULL: for notices only. The library writes to it,
   and sink_show gives what is there to the function: without the lock. */
log_sink_t *sink_new(PyObject *show);
void sink_destroy(log_sink_t *sink);
void sink_take(void *sink, const peach_line_t *line);
void sink_show(log_sink_t *sink);

#endif
