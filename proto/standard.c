/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "standard.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void standard_open(standard_t how)
{
    static const int broken[] = {O_WRONLY, O_RDONLY, O_RDWR}; /* messages may be lost */
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) continue;
        /* The lowest number is free, so that is the one it gets. */
        if (open("/dev/null", how == STANDARD_BROKEN ? broken[fd] : O_RDWR) != fd) abort();
    }
}
