/* What somebody meant who mistyped a word.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_NEAREST_H
#define PEACH_NEAREST_H

#include <stddef.h>

/* The one of the words that the fewest edits make of word (a letter more, less, another one, or two
   neighbours exchanged; case does not count); of equals the first. NULL when none is near: more
   than a third of the letters would change. */
const char *nearest(const char *word, const char *const *words, size_t count);

#endif
