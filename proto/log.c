/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = PIPE_BUF }; /* a pipe takes as much in one piece, or nothing */

static struct {
    const char *program;
    char host[HOST_NAME_MAX + 1];
    log_level_t least;
    bool dated, is_socket;
    int fd;
    unsigned long lost; /* lines */
} out = {.fd = -1};

void log_open(const char *program, log_level_t least, bool dated)
{
    struct stat file;
    out.program = program;
    out.least = least;
    out.dated = dated;
    gethostname(out.host, sizeof out.host - 1);
    out.fd = STDERR_FILENO;
    if (fstat(out.fd, &file) != 0) return;
    out.is_socket = S_ISSOCK(file.st_mode);
    /* Open anew, so that it does not block us while it blocks others as they like. */
    if (S_ISFIFO(file.st_mode) || S_ISCHR(file.st_mode)) {
        int own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (own >= 0) out.fd = own;
    }
}

/* Whether all of it got out; a file takes all, a pipe up to LINE_BYTES or nothing. */
static bool put(const char *bytes, size_t size)
{
    ssize_t n;
    if (out.is_socket) {
        n = send(out.fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        struct pollfd item = {out.fd, POLLOUT, 0};
        if (poll(&item, 1, 0) <= 0 || !(item.revents & POLLOUT)) return false;
        do n = write(out.fd, bytes, size);
        while (n < 0 && errno == EINTR);
    }
    return n == (ssize_t)size;
}

static void put_line(const char *bytes, size_t size)
{
    if (out.fd < 0) return;
    if (out.lost > 0) {
        char note[96];
        int n =
            snprintf(note, sizeof note, "%s: (%lu lines of this log were lost: nobody read it)\n",
                     out.program ? out.program : "", out.lost);
        if (put(note, (size_t)n)) out.lost = 0;
    }
    if (out.lost > 0 || !put(bytes, size)) out.lost++;
}

void log_pass(const char *lines, size_t size)
{
    while (size > 0) {
        size_t part = size < LINE_BYTES ? size : LINE_BYTES;
        const char *end = part < size ? memrchr(lines, '\n', part) : NULL;
        if (end) part = (size_t)(end - lines) + 1;
        put_line(lines, part);
        lines += part;
        size -= part;
    }
}

static size_t put_head(char *head, size_t size, log_level_t level)
{
    static const char *const names[] = {"detail", "info", "warning", "error"};
    if (!out.dated) return (size_t)snprintf(head, size, "%s: ", out.program);
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(head, size, "%Y-%m-%dT%H:%M:%S", &utc);
    return n + (size_t)snprintf(head + n, size - n, ".%03ldZ %s %s[%d] %s: ", now.tv_nsec / 1000000,
                                out.host, out.program, (int)getpid(), names[level]);
}

void log_say(log_level_t level, const char *format, ...)
{
    char head[HOST_NAME_MAX + 128], *text = NULL, *line = NULL;
    if (out.fd < 0 || level < out.least) return;
    put_head(head, sizeof head, level);
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0) return;
    int size = asprintf(&line, "%s%s\n", head, text);
    if (size > 0) log_pass(line, (size_t)size);
    free(text);
    if (size > 0) free(line);
}
