/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Jobs from what Python says of them. */
#include "extension.h"

#include "value_tree.h"

enum { MAX_LABELS = 64 };

/* Arguments of Session.job, and what has to live as long as the library uses them. */
typedef struct {
    const char *name;
    PyObject *code, *items; /* code: a Ref or None; items: None leaves the job open */
    int spread, form, lend;
    peach_job_options_t options;
    log_sink_t *sink;
    peach_value_t *function; /* what code stands for */
    const char *labels[MAX_LABELS];
    PyObject *label_list; /* the strings of labels */
} start_t;

static void start_clear(start_t *self)
{
    sink_destroy(self->sink);
    peach_value_destroy(&self->function);
    Py_XDECREF(self->label_list);
}

static bool set_labels(start_t *self, PyObject *require)
{
    if (!require || require == Py_None) return true;
    self->label_list = PySequence_Fast(require, "require is a list of KEY=VALUE");
    if (!self->label_list) return false;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(self->label_list);
    if (count > MAX_LABELS) {
        PyErr_Format(PyExc_ValueError, "more than %d labels are required", MAX_LABELS);
        return false;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        self->labels[i] = PyUnicode_AsUTF8(PySequence_Fast_GET_ITEM(self->label_list, i));
        if (!self->labels[i]) return false;
    }
    self->options.require = self->labels;
    self->options.require_count = (size_t)count;
    return true;
}

static bool set_seed(start_t *self, PyObject *seed)
{
    if (!seed || seed == Py_None) return true;
    self->options.seed = PyLong_AsUnsignedLongLongMask(seed);
    self->options.seeded = true;
    return !PyErr_Occurred();
}

static bool set_times(start_t *self, PyObject *item, PyObject *queue, PyObject *deadline)
{
    int item_ms, queue_ms, deadline_ms;
    if (!get_timeout(item, &item_ms) || !get_timeout(queue, &queue_ms) ||
        !get_timeout(deadline, &deadline_ms))
        return false;
    self->options.item_timeout_ms = item_ms > 0 ? (unsigned)item_ms : 0;
    self->options.queue_timeout_ms = queue_ms > 0 ? (unsigned)queue_ms : 0;
    self->options.deadline_ms = deadline_ms > 0 ? (uint64_t)deadline_ms : 0;
    return true;
}

static bool set_logs(start_t *self, PyObject *logs)
{
    self->sink = sink_new(logs == Py_None ? NULL : logs);
    if (!self->sink) {
        PyErr_NoMemory();
        return false;
    }
    self->options.log = sink_take;
    self->options.log_arg = self->sink;
    self->options.notices_only = self->sink->show == NULL;
    return true;
}

static bool set_code(start_t *self)
{
    uint64_t number;
    if (self->code == Py_None) return true;
    if (!ref_number(self->code, &number)) {
        PyErr_SetString(PyExc_TypeError, "code is to be a Ref");
        return false;
    }
    self->options.code = self->function = peach_value_ref(number);
    if (!self->function) PyErr_NoMemory();
    return self->function != NULL;
}

static bool read_arguments(start_t *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"name",      "code",     "items",  "spread",  "keywords",
                            "chunk",     "retries",  "seed",   "timeout", "queue_timeout",
                            "deadline",  "priority", "weight", "require", "retry_errors",
                            "unordered", "form",     "buffer", "depth",   "logs",
                            "lend",      NULL};
    PyObject *seed = NULL, *require = NULL, *item = NULL, *queue = NULL, *deadline = NULL;
    PyObject *logs = NULL;
    int has_keywords = 0, retry_errors = 0, unordered = 0;
    unsigned long long buffer = 0;
    peach_job_options_t *o = &self->options;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "sOO|$ppIiOOOOIIOppiKIOp", names, &self->name,
                                     &self->code, &self->items, &self->spread, &has_keywords,
                                     &o->chunk, &o->retries, &seed, &item, &queue, &deadline,
                                     &o->priority, &o->weight, &require, &retry_errors, &unordered,
                                     &self->form, &buffer, &o->depth, &logs, &self->lend))
        return false;
    o->spread = self->spread;
    o->keywords = has_keywords;
    o->retry_errors = retry_errors;
    o->unordered = unordered;
    o->pickles = true;
    o->buffer_bytes = (size_t)buffer;
    return set_times(self, item, queue, deadline) && set_labels(self, require) &&
           set_seed(self, seed) && set_logs(self, logs) && set_code(self);
}

/* Takes the items, which are NULL for a job that is open. */
static PyObject *start(session_object_t *session, start_t *self, peach_value_t **items_p)
{
    PyObject *result = NULL;
    if (session_enter(session)) {
        peach_job_t *job = *items_p ? peach_map(session->peach, self->name, items_p, &self->options)
                                    : peach_map_open(session->peach, self->name, &self->options);
        if (job) {
            result =
                job_object_new(session, job, self->sink, self->code == Py_None ? NULL : self->code,
                               self->form, self->spread);
            self->sink = NULL; /* it has it */
        } else {
            raise_status(peach_error_status(session->peach), peach_error(session->peach));
        }
        session_leave(session);
    }
    peach_value_destroy(items_p);
    return result;
}

PyObject *session_job(PyObject *object, PyObject *args, PyObject *keywords)
{
    start_t self = {.form = PYTHON_OBJECT, .options = peach_job_defaults};
    peach_value_t *items = NULL;
    PyObject *result = NULL;
    if (read_arguments(&self, args, keywords) &&
        (self.items == Py_None ||
         (items = items_from(self.items, self.form, self.spread,
                             self.lend ? PYTHON_LEND : PYTHON_COPY)) != NULL))
        result = start((session_object_t *)object, &self, &items);
    start_clear(&self);
    return result;
}
