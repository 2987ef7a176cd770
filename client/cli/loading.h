/* What a fleet loads, shown while a call of the library waits for it.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_LOADING_H
#define PEACH_LOADING_H

#include "options.h"

typedef struct loading loading_t;

/* Shows from now on what workers load: on a terminal, and not with --quiet; NULL otherwise. It has
   a connection and a thread of its own. options are lent. */
loading_t *loading_show(const options_t *options);
void loading_end(loading_t **self_p);

#endif
