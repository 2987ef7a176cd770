/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* What is decoded is encoded and decoded to the same; JSON of it can be read back. */
#include <peach/value.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    peach_value_t *value, *again;
    void *bytes;
    size_t packed;
    if (peach_value_unpack(data, size, &value) != 0) {
        if (value) abort();
        return 0;
    }
    if (peach_value_pack(value, &bytes, &packed) != 0) abort();
    if (peach_value_unpack(bytes, packed, &again) != 0 || !peach_value_equal(value, again)) abort();
    free(bytes);
    peach_value_destroy(&again);
    char *json = peach_value_to_json(value);
    if (!json) abort();
    free(json);
    peach_value_destroy(&value);
    return 0;
}
