/* A preload as users name it: a Python file, module:NAME, or a shared object. The
   client reads it to push it, the worker to load it.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_PRELOAD_H
#define PEACH_PRELOAD_H

#include "wire.h"

typedef struct {
    Peach__PreloadKind kind;
    char name[WIRE_MAX_NAME + 1]; /* multip.py, math:sqrt, mathx.so */
    char *path;                   /* absolute; "" for a module */
    uint8_t digest[WIRE_DIGEST_BYTES];
    payload_t *source; /* the file; empty for a module */
} preload_source_t;

/* Reads what spec names. 0, or PEACH_E_ARGUMENT or PEACH_E_SYSTEM with a sentence
   in error. */
int preload_read(preload_source_t *self, const char *spec, char *error, size_t error_size);
void preload_clear(preload_source_t *self);

/* The digest of what is in files, whose names stand in lines. A file that cannot be read counts,
   too. */
void preload_digest_files(const char *files, uint8_t digest[WIRE_DIGEST_BYTES]);

/* Fills item, which lends from self; its source is attached to frames, unless field is NULL. */
int preload_item(const preload_source_t *self, wire_frames_t *frames, Peach__Payload *field,
                 Peach__PreloadItem *item);

#endif
