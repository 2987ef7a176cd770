/* Endpoints as users write them: tcp://HOST:PORT, several with commas between.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_ENDPOINT_H
#define PEACH_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>

enum { ENDPOINT_MAX = 64, ENDPOINT_BYTES = 512 };

typedef struct {
    char text[ENDPOINT_MAX][ENDPOINT_BYTES];
    size_t count;
} endpoints_t;

/* Splits and checks a list. 0, or PEACH_E_ARGUMENT with a sentence in error that
   names the endpoint that is wrong. */
int endpoints_parse(endpoints_t *self, const char *list, char *error, size_t error_size);

/* Whether only this machine can reach it. */
bool endpoint_is_loopback(const char *endpoint);

/* 0 when all are loopback or insecure is true; otherwise PEACH_E_REFUSED with a
   sentence that says why and what to do. */
int endpoints_check_exposure(const endpoints_t *self, bool insecure, char *error,
                             size_t error_size);

#endif
