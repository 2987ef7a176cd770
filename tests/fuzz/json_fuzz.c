/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* JSON that can be read can be written and read again, to the same value. */
#include <peach/value.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    peach_value_t *value, *again;
    char error[256];
    if (peach_value_from_json((const char *)data, size, &value, error, sizeof error) != 0) {
        if (value || !memchr(error, 0, sizeof error)) abort();
        return 0;
    }
    char *json = peach_value_to_json(value);
    if (!json) abort();
    if (peach_value_from_json(json, strlen(json), &again, error, sizeof error) != 0) abort();
    free(json);
    peach_value_destroy(&again);
    peach_value_destroy(&value);
    return 0;
}
