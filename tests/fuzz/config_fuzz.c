/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* A configuration file: options, or a sentence. */
#include "config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct argp_option known[] = {
        {"slots", 's', "N", 0, "", 0}, {"insecure", 1, NULL, 0, "", 0}, {0}};
    char error[64];
    memset(error, 'x', sizeof error);
    char **options = config_parse((const char *)data, size, "worker", known, error, sizeof error);
    for (char **o = options; o && *o; o++)
        if (strncmp(*o, "--slots=", 8) != 0 && strcmp(*o, "--insecure") != 0) abort();
    if (!options && (!memchr(error, 0, sizeof error) || !*error)) abort();
    config_free(&options);
    return 0;
}
