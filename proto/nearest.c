/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "nearest.h"

#include <ctype.h>
#include <string.h>

enum { LONGEST = 128 }; /* letters of a word that are compared */

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static int letter(char c) { return tolower((unsigned char)c); }

/* Edits between two words of at most LONGEST letters: the rows are those of the usual table,
   the last three of them. */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[3][LONGEST + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_length; j++) above[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t change = letter(a[i - 1]) != letter(b[j - 1]);
            row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + change);
            if (i > 1 && j > 1 && letter(a[i - 1]) == letter(b[j - 2]) &&
                letter(a[i - 2]) == letter(b[j - 1]))
                row[j] = least(row[j], before[j - 2] + 1);
        }
        size_t *spare = before;
        before = above;
        above = row;
        row = spare;
    }
    return above[b_length];
}

const char *nearest(const char *word, const char *const *words, size_t count)
{
    const char *found = NULL;
    size_t fewest = 0, length = strnlen(word, LONGEST);
    for (size_t i = 0; i < count; i++) {
        size_t other = strnlen(words[i], LONGEST);
        size_t edits = distance(word, length, words[i], other);
        size_t allowed = ((length > other ? length : other) + 2) / 3;
        if (edits > allowed || edits == length || (found && edits >= fewest)) continue;
        found = words[i];
        fewest = edits;
    }
    return found;
}
