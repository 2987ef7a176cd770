/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* All results of a job as one value. */
#include "job.h"
#include "value_tree.h"

#include <stdlib.h>
#include <string.h>

/* What came so far: numbers of one kind, or, once another kind was among them, a list. */
typedef struct {
    peach_kind_t kind; /* PEACH_INT or PEACH_DOUBLE; 0 while there is nothing */
    int64_t *numbers;  /* their bits */
    size_t count, capacity, expected;
    peach_value_t *list;
} collection_t;

static int add_numbers(collection_t *c, const void *numbers, size_t count)
{
    if (c->capacity - c->count < count) {
        /* All at once if it is known: memory that moves costs more than what is put there. */
        size_t capacity = c->capacity == 0 && c->expected >= count ? c->expected
                          : c->count + count > 2 * c->capacity     ? c->count + count
                                                                   : 2 * c->capacity;
        int64_t *grown = realloc(c->numbers, capacity * sizeof *grown);
        if (!grown) return PEACH_E_MEMORY;
        c->numbers = grown;
        c->capacity = capacity;
    }
    memcpy(c->numbers + c->count, numbers, count * sizeof *c->numbers);
    c->count += count;
    return 0;
}

static int make_list(collection_t *c)
{
    if (!(c->list = peach_value_list())) return PEACH_E_MEMORY;
    for (size_t i = 0; i < c->count; i++) {
        double real;
        memcpy(&real, &c->numbers[i], sizeof real);
        peach_value_t *number =
            c->kind == PEACH_INT ? peach_value_int(c->numbers[i]) : peach_value_double(real);
        if (!number || peach_value_append(c->list, &number) != 0) return PEACH_E_MEMORY;
    }
    return 0;
}

static int fail(peach_job_t *job, const peach_result_t *result)
{
    const peach_failure_t *f = result->failure;
    return session_fail(job->session, f->status, "item %llu: %s%s%s%s%s",
                        (unsigned long long)result->item, f->type, *f->type ? ": " : "", f->message,
                        *f->traceback ? "\n" : "", f->traceback);
}

/* Takes what can be read of the task. */
static int take(peach_job_t *job, task_t *task, collection_t *c)
{
    peach_kind_t kind;
    size_t count;
    const void *numbers = c->list ? NULL : task_numbers(task, &kind, &count);
    if (numbers && (c->kind == 0 || c->kind == kind)) {
        int rc = add_numbers(c, numbers, count);
        c->kind = kind;
        if (rc == 0) job_end_piece(job, task);
        return rc;
    }
    if (!c->list && make_list(c) != 0) return PEACH_E_MEMORY;
    peach_result_t result;
    int rc = job_read(job, task, &result);
    if (rc == 0)
        rc = result.failure ? fail(job, &result) : peach_value_append(c->list, &result.value);
    peach_result_clear(&result);
    return rc;
}

int peach_job_collect(peach_job_t *job, peach_value_t **values_p, int timeout_ms)
{
    collection_t c = {.expected = job->next ? 0 : (size_t)(job->total - job->read)};
    uint64_t deadline = session_deadline(timeout_ms);
    int rc = 0;
    *values_p = NULL;
    while (rc == 0) {
        task_t *task;
        while (rc == 0 && (task = job_readable(job)) != NULL) rc = take(job, task, &c);
        if (rc == 0) rc = job_turn(job, deadline, timeout_ms);
    }
    if (rc == PEACH_END) {
        uint64_t count = c.count;
        rc = 0;
        if (!c.list && c.kind == 0)
            *values_p = peach_value_list();
        else
            *values_p = c.list
                            ? c.list
                            : peach_array_lent(
                                  c.kind == PEACH_INT ? PEACH_DTYPE_INT64 : PEACH_DTYPE_FLOAT64, 1,
                                  &count, c.numbers, c.count * sizeof *c.numbers, free, c.numbers);
        if (*values_p && !c.list) c.numbers = NULL; /* the array has it */
        c.list = NULL;
        if (!*values_p) rc = PEACH_E_MEMORY;
    }
    if (rc == PEACH_E_MEMORY) session_fail(job->session, rc, "%s", peach_status_text(rc));
    free(c.numbers);
    peach_value_destroy(&c.list);
    return rc;
}
