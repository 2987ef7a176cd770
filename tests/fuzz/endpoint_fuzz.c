/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* A list of endpoints: checked, or refused with a sentence. */
#include "endpoint.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static endpoints_t endpoints;
    char error[128], *text = malloc(size + 1);
    if (!text) return 0;
    memcpy(text, data, size);
    text[size] = 0;
    if (endpoints_parse(&endpoints, text, error, sizeof error) == 0) {
        if (endpoints.count == 0 || endpoints.count > ENDPOINT_MAX) abort();
        for (size_t i = 0; i < endpoints.count; i++)
            if (strncmp(endpoints.text[i], "tcp://", 6) != 0 &&
                strncmp(endpoints.text[i], "ipc://", 6) != 0)
                abort();
        endpoints_check_exposure(&endpoints, false, error, sizeof error);
    } else if (!memchr(error, 0, sizeof error)) {
        abort();
    }
    free(text);
    return 0;
}
