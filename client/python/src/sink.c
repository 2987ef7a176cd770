/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Lines that tasks print, on their way to a function. */
#include "extension.h"

#include <stdlib.h>
#include <string.h>

log_sink_t *sink_new(PyObject *show)
{
    log_sink_t *self = calloc(1, sizeof *self);
    if (self) self->show = Py_XNewRef(show);
    return self;
}

static void line_clear(struct told_line *line)
{
    free(line->host);
    free(line->text);
}

void sink_destroy(log_sink_t *self)
{
    if (!self) return;
    for (size_t i = 0; i < self->count; i++) line_clear(&self->lines[i]);
    free(self->lines);
    Py_XDECREF(self->show);
    free(self);
}

/* Without the GIL perhaps. Without memory the line is lost. */
void sink_take(void *arg, const peach_line_t *line)
{
    log_sink_t *self = arg;
    struct told_line told = {.item = line->item,
                             .pid = line->pid,
                             .slot = line->slot,
                             .notice = line->notice,
                             .host = strdup(line->host),
                             .text = strdup(line->text)};
    if (told.host && told.text &&
        array_grow((void **)&self->lines, self->count, &self->capacity, sizeof *self->lines))
        self->lines[self->count++] = told;
    else
        line_clear(&told);
}

void sink_show(log_sink_t *self)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    struct told_line *lines = self->lines; /* more may come meanwhile */
    size_t count = self->count;
    self->lines = NULL;
    self->count = self->capacity = 0;
    for (size_t i = 0; i < count; i++) {
        struct told_line *line = &lines[i];
        PyObject *done =
            line->notice || !self->show
                ? PyObject_CallFunction(tell_notice, "s", line->text)
                : PyObject_CallFunction(self->show, "KsIIs", (unsigned long long)line->item,
                                        line->host, line->pid, line->slot, line->text);
        if (!done) PyErr_WriteUnraisable(self->show);
        Py_XDECREF(done);
        line_clear(line);
    }
    free(lines);
    PyErr_Restore(type, value, traceback);
}
