/* What goes on, in one line of the terminal that is written over.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_PROGRESS_H
#define PEACH_PROGRESS_H

#include <peach/peach.h>

/* Of one job. All zero but total is a job that begins. */
typedef struct {
    bool quiet;     /* no bar; what the user has to know is said nonetheless */
    uint64_t total; /* items that there will be, where the library does not know; else 0 */
    uint64_t began_ms, alone_ms;
    bool told_alone;
} progress_t;

/* For peach_job_options_t.progress; self is a progress_t. */
void progress_show(void *self, const peach_progress_t *numbers);

/* What workers load, out of a view (peach_view), since began_ms by clock_ms: nothing is shown
   before that is a while ago. */
void progress_show_loading(const peach_value_t *view, uint64_t began_ms);

/* The line is empty again: call it before anything else is printed to the terminal. */
void progress_clear(void);

#endif
