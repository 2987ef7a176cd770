/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "connection.h"

#include "clock.h"

enum { CONNECT_MS = 3000 };

peach_t *fleet_connect(const options_t *options, int *code)
{
    peach_error_t error;
    const peach_connect_options_t how = {.endpoints = options->endpoints,
                                         .timeout_ms = fleet_time_left(options, CONNECT_MS),
                                         .patience_ms = (int)options->patience_ms,
                                         .insecure = options->insecure};
    peach_t *fleet = peach_connect_with(&how, &error);
    if (fleet) return fleet;
    complain("%s", error.message);
    *code = exit_code_of(error.status);
    return NULL;
}

int fleet_time_left(const options_t *options, int otherwise_ms)
{
    if (!options->timeout_ms) return otherwise_ms;
    uint64_t gone_ms = clock_ms() - options->started_ms;
    return gone_ms < options->timeout_ms ? (int)(options->timeout_ms - gone_ms) : 1;
}
