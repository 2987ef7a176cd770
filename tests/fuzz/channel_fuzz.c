/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* What an executor that a task has confused may write into its channel. */
#include "channel.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int ends[2], rc;
    wire_message_t *message;
    if (size > 65536 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) return 0;
    channel_t *channel = channel_new(ends[1], CHANNEL_FROM_EXECUTOR);
    if (!channel || (size > 0 && write(ends[0], data, size) != (ssize_t)size)) abort();
    close(ends[0]);
    do {
        rc = channel_get(channel, &message);
        if ((rc == 0) != (message != NULL)) abort();
        wire_message_destroy(&message);
    } while (rc == 0);
    channel_destroy(&channel);
    return 0;
}
