/* What a broker tells of its fleet (peach_view), and how it is shown.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_VIEW_H
#define PEACH_VIEW_H

#include "options.h"

/* A member of a map: "", 0 and 0 when it is not there, or is none. The text is lent. */
const char *view_text(const peach_value_t *map, const char *key);
long long view_number(const peach_value_t *map, const char *key);
size_t view_length(const peach_value_t *map, const char *key);

/* Asks the broker, and prints: with --json all, or the member under key; otherwise as print does.
   The exit code. */
int view_show(const options_t *options, const char *key, void (*print)(const peach_value_t *view));

/* Functions that can be called: a name and its qualified one are one, and so are its versions. */
size_t functions_count(const peach_value_t *view);

#endif
