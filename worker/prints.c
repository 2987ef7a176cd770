/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The supervisor's end of what tasks print: lines go to their clients. */
#include "inside.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINES = 64, MOST_BYTES = 1 << 20 }; /* in a message; of an item */

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
    if (self->count > 0 && self->link->welcomed)
        wire_send(self->link->socket, NULL, &envelope, NULL);
    for (size_t i = 0; i < self->count; i++) free(self->texts[i]);
    self->count = 0;
}

static void add_line(lines_t *self, const order_t *order, const char *text)
{
    if (self->count == LINES || (self->count > 0 && self->link != order->link)) send_lines(self);
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
    line->notice = *text == PRINT_NOTICE;
    self->texts[self->count] = valid;
    line->text = valid + line->notice;
    self->pointers[self->count++] = line;
}

static void end_line(lines_t *self)
{
    printed_t *p = &self->seat->printed;
    p->line[p->length] = 0;
    unsigned number, item;
    const order_t *order = p->marked ? orders_at(self->seat, p->number) : NULL;
    if (p->marking) {
        p->marked = sscanf(p->line, PRINT_MARK, &number, &item) == 2;
        p->number = number;
        p->item = item;
        p->bytes = 0;
    } else if (*p->line == PRINT_NOTICE && order && order->link && order->job->logs) {
        add_line(self, order, p->line);
    } else if (!order || !order->link || order->job->logs != WIRE_LOGS_ALL) {
        fprintf(stderr, "%s\n", p->line); /* nobody asked for it */
    } else if (p->bytes <= MOST_BYTES) {
        p->bytes += p->length + 1;
        add_line(self, order,
                 p->bytes <= MOST_BYTES ? p->line
                                        : "(more than 1 MiB of output: the rest is lost)");
    }
    p->length = 0;
    p->marking = false;
}

static void take_bytes(lines_t *self, const char *bytes, size_t size)
{
    printed_t *p = &self->seat->printed;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == PRINT_MARK[0]) {
            if (p->length > 0) end_line(self); /* that has no end of its own */
            p->marking = true;
        } else if (bytes[i] == '\n') {
            end_line(self);
            continue;
        }
        if (bytes[i] != 0) p->line[p->length++] = bytes[i];
        if (p->length == sizeof p->line - 1) end_line(self);
    }
}

void prints_read(worker_t *w, seat_t *seat, bool last)
{
    char bytes[16384];
    lines_t lines = {.w = w, .seat = seat};
    for (int looks = 16; looks-- > 0;) {
        ssize_t n = read(seat->process.print_fd, bytes, sizeof bytes);
        if (n <= 0) break;
        take_bytes(&lines, bytes, (size_t)n);
    }
    if (last && seat->printed.length > 0) end_line(&lines);
    send_lines(&lines);
}
