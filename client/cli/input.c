/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "input.h"

#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LEAST_ROOM = 65536 };

struct input {
    const char *name; /* as on the command line */
    int fd;
    bool ended;
    char *buffer;
    size_t capacity, begin, end; /* what was read and not given out */
    size_t searched;             /* up to there no line ends */
    size_t line;                 /* of the one that was given out last */
    char place[512];
};

input_t *input_open(const char *path)
{
    input_t *self = calloc(1, sizeof *self);
    if (!self) {
        complain("%s", peach_status_text(PEACH_E_MEMORY));
        return NULL;
    }
    self->name = path ? path : "standard input";
    self->fd = path ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (self->fd >= 0) return self;
    complain("%s cannot be read: %s", path, strerror(errno));
    free(self);
    return NULL;
}

void input_close(input_t **self_p)
{
    input_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    if (self->fd != STDIN_FILENO) close(self->fd);
    free(self->buffer);
    free(self);
}

int input_fd(const input_t *self) { return self->fd; }

const char *input_place(input_t *self)
{
    snprintf(self->place, sizeof self->place, "%s, line %zu", self->name, self->line);
    return self->place;
}

static bool make_room(input_t *self)
{
    if (self->begin > 0) {
        memmove(self->buffer, self->buffer + self->begin, self->end - self->begin);
        self->end -= self->begin;
        self->searched -= self->begin;
        self->begin = 0;
    }
    if (self->capacity - self->end >= LEAST_ROOM) return true;
    size_t capacity = 2 * self->capacity + LEAST_ROOM + 1;
    char *grown = realloc(self->buffer, capacity);
    if (!grown) return false;
    self->buffer = grown;
    self->capacity = capacity;
    return true;
}

/* Reads what is there. 0; PEACH_E_TIMEOUT, PEACH_E_SYSTEM. */
static int fill(input_t *self)
{
    struct pollfd item = {self->fd, POLLIN, 0};
    if (poll(&item, 1, 0) == 0) return PEACH_E_TIMEOUT;
    if (!make_room(self)) {
        complain("%s: %s", input_place(self), peach_status_text(PEACH_E_MEMORY));
        return PEACH_E_SYSTEM;
    }
    ssize_t n = read(self->fd, self->buffer + self->end, self->capacity - self->end - 1);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return PEACH_E_TIMEOUT;
    if (n < 0) {
        complain("%s cannot be read: %s", self->name, strerror(errno));
        return PEACH_E_SYSTEM;
    }
    self->ended = n == 0;
    self->end += (size_t)n;
    return 0;
}

/* What stands before end is a line; after it stands skip bytes that are none of the next. */
static int give(input_t *self, size_t end, size_t skip, char **text, size_t *size)
{
    *text = self->buffer + self->begin;
    *size = end - self->begin;
    self->buffer[end] = 0;
    self->begin = self->searched = end + skip;
    self->line++;
    return 0;
}

int input_next(input_t *self, char **text, size_t *size)
{
    for (;;) {
        char *end = self->searched < self->end
                        ? memchr(self->buffer + self->searched, '\n', self->end - self->searched)
                        : NULL;
        if (end) return give(self, (size_t)(end - self->buffer), 1, text, size);
        self->searched = self->end;
        if (self->ended && self->begin == self->end) return PEACH_END;
        if (self->ended) return give(self, self->end, 0, text, size); /* the last, unfinished */
        int rc = fill(self);
        if (rc) return rc;
    }
}
