/* Lines of standard input or of a file, as they come: nothing here waits.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_INPUT_H
#define PEACH_INPUT_H

#include <stddef.h>

typedef struct input input_t;

/* path is NULL for standard input. NULL after a complaint. */
input_t *input_open(const char *path);
void input_close(input_t **self_p);

/* The next line, without its end; lent until the next call. 0; PEACH_END; PEACH_E_TIMEOUT when
   there is none now; PEACH_E_SYSTEM after a complaint. */
int input_next(input_t *self, char **text, size_t *size);

/* For poll: it can be read when there is more, or the end. */
int input_fd(const input_t *self);

/* For messages: "standard input, line 3". Lent until the next call. */
const char *input_place(input_t *self);

#endif
