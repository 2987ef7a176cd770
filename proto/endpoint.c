/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "endpoint.h"

#include <peach/status.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int wrong(char *error, size_t size, const char *endpoint, const char *why)
{
    snprintf(error, size, "endpoint '%s': %s (an endpoint is tcp://HOST:PORT)", endpoint, why);
    return PEACH_E_ARGUMENT;
}

static int check(const char *text, char *error, size_t size)
{
    if (strncmp(text, "ipc://", 6) == 0 && text[6]) return 0;
    if (strncmp(text, "tcp://", 6) != 0) return wrong(error, size, text, "it is not tcp://");
    const char *colon = strrchr(text + 6, ':');
    if (!colon || colon == text + 6) return wrong(error, size, text, "host or port is missing");
    if (strcmp(colon + 1, "*") == 0) return 0;
    char *end;
    long port = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end || port < 1 || port > 65535)
        return wrong(error, size, text, "the port is not a number from 1 to 65535");
    return 0;
}

int endpoints_parse(endpoints_t *self, const char *list, char *error, size_t error_size)
{
    self->count = 0;
    while (*list) {
        size_t length = strcspn(list, ",");
        if (length >= ENDPOINT_BYTES || self->count == ENDPOINT_MAX)
            return wrong(error, error_size, "...", "the list is too long");
        char *text = self->text[self->count++];
        memcpy(text, list, length);
        text[length] = 0;
        int rc = check(text, error, error_size);
        if (rc) return rc;
        list += length + (list[length] == ',');
    }
    return self->count ? 0 : wrong(error, error_size, list, "it is empty");
}

bool endpoint_is_loopback(const char *endpoint)
{
    if (strncmp(endpoint, "ipc://", 6) == 0) return true;
    if (strncmp(endpoint, "tcp://", 6) != 0) return false;
    char host[ENDPOINT_BYTES];
    snprintf(host, sizeof host, "%s", endpoint + 6);
    char *colon = strrchr(host, ':');
    if (colon) *colon = 0;
    struct in_addr v4;
    return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
           (inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

int endpoints_check_exposure(const endpoints_t *self, bool insecure, char *error, size_t error_size)
{
    for (size_t i = 0; i < self->count && !insecure; i++) {
        if (endpoint_is_loopback(self->text[i])) continue;
        snprintf(error, error_size,
                 "'%s' is not a loopback address, and whoever reaches a fleet can run code on it: "
                 "use 127.0.0.1, or say --insecure if the network between the hosts is yours alone",
                 self->text[i]);
        return PEACH_E_REFUSED;
    }
    return 0;
}
