/* Endpoints as users write them: tcp://HOST:PORT or, shorter, HOST:PORT, HOST, PORT; ipc://PATH.
   Several stand with commas between.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_ENDPOINT_H
#define PEACH_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>

enum { ENDPOINT_MAX = 64, ENDPOINT_BYTES = 512 };

typedef struct {
    char text[ENDPOINT_MAX][ENDPOINT_BYTES]; /* in full: tcp://HOST:PORT, ipc://PATH */
    size_t count;
} endpoints_t;

/* Splits and checks a list, and writes short ones in full: HOST is port 5001 there, PORT is on
   127.0.0.1. 0, or PEACH_E_ARGUMENT with a sentence in error that names the endpoint that is
   wrong. */
int endpoints_parse(endpoints_t *self, const char *list, char *error, size_t error_size);

/* Whether only this machine can reach it. */
bool endpoint_is_loopback(const char *endpoint);

/* Whether it is an address of IPv6, in numbers. */
bool endpoint_is_ipv6(const char *endpoint);

/* Whether its host is a name, which has to be looked up; then it is copied to host. */
bool endpoint_host_name(const char *endpoint, char host[ENDPOINT_BYTES]);

/* 0 when all are loopback or insecure is true (or PEACH_INSECURE=1 in the environment says
   so); otherwise PEACH_E_REFUSED with a sentence that says why and what to do. */
int endpoints_check_exposure(const endpoints_t *self, bool insecure, char *error,
                             size_t error_size);

/* The endpoint as ZeroMQ can bind it: a host's name becomes its address, which is looked up
   here and now. 0, or PEACH_E_ARGUMENT with a sentence. */
int endpoint_for_bind(char endpoint[ENDPOINT_BYTES], char *error, size_t error_size);

#endif
