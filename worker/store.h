/* Files of the worker's own, in a folder of its own in $TMPDIR: what preloads are loaded from
   when their sender's file is not here, or may change while it is in use. Each is in a folder
   of its own, so that neighbours do not mix and no path is used twice.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_STORE_H
#define PEACH_STORE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    char *folder; /* NULL until there is a file */
    int lock;     /* on the folder: it is not left over; -1 */
    unsigned last;
} store_t;

void store_init(store_t *self);

/* Writes a file and returns its path, the caller's. NULL with a sentence in error. The first
   one removes folders that workers left which were killed. */
char *store_file(store_t *self, const char *name, const void *bytes, size_t size, char *error,
                 size_t error_size);

/* Removes the file if it is one of the store's. */
void store_remove(const store_t *self, const char *path);

/* Removes the folder, which is empty by then. */
void store_clear(store_t *self);

#endif
