/* The fleet that a command is for.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_CONNECTION_H
#define PEACH_CONNECTION_H

#include "options.h"

/* The broker of the options; it is waited for as long as --timeout says, else 3 s. NULL after a
   complaint, with the exit code in *code. */
peach_t *fleet_connect(const options_t *options, int *code);

/* What --timeout leaves of its time, at least 1 ms; otherwise_ms when it was not given. */
int fleet_time_left(const options_t *options, int otherwise_ms);

#endif
