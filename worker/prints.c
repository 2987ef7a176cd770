/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The supervisor's end of what tasks print: lines go to the clients that asked for them, all
   else to our standard error. */
#include "inside.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINES = 64, MOST_BYTES = 1 << 20 }; /* in a message; of an item */
enum { LINE_MOST = 64 << 10 };             /* longer lines are cut */
enum { LOOKS = 16, LAST_LOOKS = 1024 };    /* reads in a turn; of what a process left */

/* Lines of one seat on their way to one broker. */
typedef struct {
    worker_t *w;
    seat_t *seat;
    link_t *link;
    Peach__Line lines[LINES], *pointers[LINES];
    char *texts[LINES];
    size_t count;
} lines_t;

static void send_lines(lines_t *self)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Logs logs = PEACH__LOGS__INIT;
    logs.lines = self->pointers;
    logs.n_lines = self->count;
    envelope.body_case = PEACH__ENVELOPE__BODY_LOGS;
    envelope.logs = &logs;
    if (self->count > 0) link_send(self->link, &envelope, NULL);
    for (size_t i = 0; i < self->count; i++) free(self->texts[i]);
    self->count = 0;
}

static void add_line(lines_t *self, const order_t *order, const char *text, bool notice)
{
    if (self->count == LINES || (self->count > 0 && self->link != order->link)) send_lines(self);
    bool takes = link_takes_lines(order->link);
    if (!takes && order->link->losing) return;
    if (!takes) text = "(output from here on is lost: it was not taken in time)";
    order->link->losing = !takes;
    char *valid = wire_text(text);
    if (!valid) return;
    Peach__Line *line = &self->lines[self->count];
    peach__line__init(line);
    self->link = order->link;
    line->id = order->lease;
    line->item = self->seat->printed.item;
    line->host = self->w->host;
    line->pid = (uint32_t)self->seat->process.pid;
    line->slot = (uint32_t)(self->seat - self->w->seats) - crew_first(self->w);
    line->notice = notice && takes;
    self->texts[self->count] = line->text = valid;
    self->pointers[self->count++] = line;
}

/* The order whose the lines are that come now; NULL when nobody wants them. */
static const order_t *order_of(const lines_t *self)
{
    const printed_t *p = &self->seat->printed;
    const order_t *order = p->marked ? orders_at(self->seat, p->number) : NULL;
    return order && order->link && order->job->logs ? order : NULL;
}

/* A line of text, without its end; its bytes may be written to. */
static void end_text(lines_t *self, char *text, size_t length)
{
    printed_t *p = &self->seat->printed;
    const order_t *order = order_of(self);
    if (!order || order->job->logs != WIRE_LOGS_ALL) {
        text[length] = '\n'; /* nobody asked for it */
        log_pass(text, length + 1);
    } else if (p->bytes <= MOST_BYTES) {
        p->bytes += length + 1;
        text[length] = 0;
        add_line(self, order,
                 p->bytes <= MOST_BYTES ? text : "(more than 1 MiB of output: the rest is lost)",
                 false);
    }
}

/* What the executor says of the job. */
static void end_notice(lines_t *self, const char *text)
{
    const order_t *order = order_of(self);
    if (order)
        add_line(self, order, text, true);
    else
        log_say(LOG_NOTE, "executor %d: %s", (int)self->seat->process.pid, text);
}

/* The mark of the seat's process in the line, or NULL: tasks may print such bytes, too. */
enum { MARK_MOST = PRINT_MARK_BYTES + 32 }; /* bytes of a mark and its numbers */

static char *find_mark(const seat_t *seat, char *line, size_t length)
{
    char mark[MARK_MOST];
    snprintf(mark, sizeof mark, PRINT_MARK, (unsigned long long)seat->process.token, 0u, 0u);
    return memmem(line, length, mark, PRINT_MARK_BYTES);
}

/* The line has ended, or is to be cut. Text in front of a mark has no end of its own. */
static void end_line(lines_t *self)
{
    printed_t *p = &self->seat->printed;
    unsigned number, item;
    char *mark =
        memchr(p->line, *PRINT_MARK, p->length) ? find_mark(self->seat, p->line, p->length) : NULL;
    size_t length = mark ? (size_t)(mark - p->line) : p->length;
    p->line[p->length] = 0;
    bool notice = mark && mark[PRINT_MARK_BYTES] == PRINT_NOTICE;
    bool read = mark && sscanf(mark + PRINT_MARK_BYTES, "%u %u", &number, &item) == 2;
    if (!mark || length > 0) end_text(self, p->line, length);
    if (notice) end_notice(self, mark + PRINT_MARK_BYTES + 1);
    p->length = 0;
    if (!mark || notice) return;
    p->marked = read && number != PRINT_NOBODY;
    p->number = number;
    p->item = item;
    p->bytes = 0;
}

/* Bytes at the end of the line that are the beginning of a mark, or of a character. */
static size_t unfinished(const printed_t *p)
{
    size_t look = p->length < MARK_MOST ? p->length : MARK_MOST;
    const char *mark = memrchr(p->line + p->length - look, *PRINT_MARK, look);
    if (mark) return (size_t)(p->line + p->length - mark);
    for (size_t back = 1; back <= 3 && back <= p->length; back++) {
        unsigned char byte = (unsigned char)p->line[p->length - back];
        if ((byte & 0xC0) == 0x80) continue;
        size_t size = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
        return size > back ? back : 0;
    }
    return 0;
}

static void cut_line(lines_t *self)
{
    printed_t *p = &self->seat->printed;
    char rest[MARK_MOST];
    size_t left = unfinished(p);
    memcpy(rest, p->line + p->length - left, left);
    p->length -= left;
    end_line(self);
    memcpy(p->line, rest, left);
    p->length = left;
}

/* Room for one more byte, and for what ends the line. */
static bool reserve(printed_t *p)
{
    if (p->length + 2 <= p->capacity) return true;
    size_t capacity = p->capacity ? p->capacity * 2 : 256;
    char *grown = realloc(p->line, capacity);
    if (!grown) return false;
    p->line = grown;
    p->capacity = capacity;
    return true;
}

static void take_bytes(lines_t *self, const char *bytes, size_t size)
{
    printed_t *p = &self->seat->printed;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == '\n' && reserve(p)) {
            end_line(self);
        } else if (bytes[i] != 0 && bytes[i] != '\n' && reserve(p)) {
            p->line[p->length++] = bytes[i];
            if (p->length == LINE_MOST) cut_line(self);
        }
    }
}

/* What nobody asked for need not wait for the end of its line: a bar, say, has none. */
static void pass_unmarked(printed_t *p)
{
    if (p->marked || p->length == 0) return;
    const char *mark = memchr(p->line, *PRINT_MARK, p->length);
    size_t length = mark ? (size_t)(mark - p->line) : p->length;
    log_pass(p->line, length);
    p->length -= length;
    memmove(p->line, p->line + length, p->length);
}

void prints_read(worker_t *w, seat_t *seat, bool last)
{
    char bytes[16384];
    lines_t lines = {.w = w, .seat = seat};
    for (int looks = last ? LAST_LOOKS : LOOKS; looks-- > 0 && seat->process.print_fd >= 0;) {
        ssize_t n = read(seat->process.print_fd, bytes, sizeof bytes);
        if (n < 0) break;
        if (n == 0) { /* a task closed it, or the process has ended: nothing more comes */
            close(seat->process.print_fd);
            seat->process.print_fd = -1;
            break;
        }
        take_bytes(&lines, bytes, (size_t)n);
    }
    pass_unmarked(&seat->printed);
    if (last && seat->printed.length > 0) end_line(&lines);
    send_lines(&lines);
}

void prints_clear(seat_t *seat)
{
    free(seat->printed.line);
    seat->printed = (printed_t){0};
}
