/* Signals that ask a job to end: what it has on the fleet is cancelled, what it started ends.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_INTERRUPTS_H
#define PEACH_INTERRUPTS_H

/* From here on SIGINT, SIGTERM, SIGHUP (a terminal that closed; not under nohup) and SIGPIPE (the
   reader of the output went away) are noticed. A second one but SIGPIPE ends the process at
   once, with EXIT_INTERRUPTED. */
void interrupts_watch(void);

/* The first signal that came; 0 when none has. */
int interrupted(void);

#endif
