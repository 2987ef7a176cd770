/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "ready.h"

#include <peach/peach.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

int ready_open(ready_t *self)
{
    *self = (ready_t){epoll_create1(EPOLL_CLOEXEC), eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), false};
    if (self->set < 0 || self->more < 0) return PEACH_E_SYSTEM;
    return ready_watch(self, self->more);
}

void ready_close(ready_t *self)
{
    if (self->more >= 0) close(self->more);
    if (self->set >= 0) close(self->set);
    *self = (ready_t){-1, -1, false};
}

int ready_watch(ready_t *self, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(self->set, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : PEACH_E_SYSTEM;
}

void ready_forget(ready_t *self, int fd) { epoll_ctl(self->set, EPOLL_CTL_DEL, fd, NULL); }

void ready_tell(ready_t *self, bool more)
{
    uint64_t count = 1;
    if (more == self->has_more) return;
    ssize_t done =
        more ? write(self->more, &count, sizeof count) : read(self->more, &count, sizeof count);
    if (done == sizeof count) self->has_more = more;
}
