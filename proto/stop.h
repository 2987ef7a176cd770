/* SIGTERM and SIGINT as something to poll.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_STOP_H
#define PEACH_STOP_H

/* Handles both signals from now on: each puts a byte into the pipe whose reading end
   is returned. Pipes that break and files that are too large are errors from now on, no
   signals. -1 with errno set. */
int stop_fd_open(void);

#endif
