/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "progress.h"

#include "cli.h"
#include "clock.h"

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LINE = 256, ALONE_MS = 500, LOADING_MS = 400 };

static char shown[LINE]; /* empty: nothing is */

void progress_clear(void)
{
    if (*shown) fputs("\r\033[K", stderr);
    *shown = 0;
}

static size_t columns(void)
{
    struct winsize size = {0};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
    return size.ws_col < LINE ? size.ws_col : LINE;
}

/* Not more than the line has: what is wrapped could not be written over. */
static void show(const char *text)
{
    if (strcmp(text, shown) == 0) return;
    fprintf(stderr, "\r%.*s\033[K", (int)columns() - 1, text);
    snprintf(shown, sizeof shown, "%s", text);
}

/* ---- a job ---- */

typedef struct {
    char text[LINE];
    size_t length;
} line_t;

__attribute__((format(printf, 2, 3))) static void add(line_t *line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line->text + line->length, LINE - line->length, format, args);
    va_end(args);
    if (n > 0) line->length += (size_t)n;
    if (line->length >= LINE) line->length = LINE - 1;
}

static void describe(line_t *line, const peach_progress_t *p, uint64_t total, uint64_t elapsed_ms)
{
    uint64_t ended = p->done + p->failed;
    add(line, "%llu/", (unsigned long long)ended);
    if (total)
        add(line, "%llu", (unsigned long long)total);
    else
        add(line, "%llu+", (unsigned long long)p->items);
    if (p->failed) add(line, ", %llu failed", (unsigned long long)p->failed);
    add(line, ", %u %s", p->slots, p->slots == 1 ? "slot" : "slots");
    double rate = elapsed_ms ? (double)ended * 1000 / (double)elapsed_ms : 0;
    if (ended) add(line, rate < 10 ? ", %.1f/s" : ", %.0f/s", rate);
    add(line, ", %s", duration_of(elapsed_ms).text);
    if (ended && ended < total && elapsed_ms)
        add(line, ", %s left", duration_of((uint64_t)((double)(total - ended) * 1000 / rate)).text);
}

static void show_bar(const progress_t *self, const peach_progress_t *p)
{
    static const char full[] = "##############################";
    static const char empty[] = "..............................";
    line_t text = {.length = 0}, line = {.length = 0};
    uint64_t ended = p->done + p->failed, total = p->items_final ? p->items : self->total;
    describe(&text, p, total, clock_ms() - self->began_ms);
    size_t room = columns(), width = text.length + 14 < room ? room - text.length - 4 : 0;
    if (width > sizeof full - 1) width = sizeof full - 1;
    if (total && width) {
        int filled = (int)((double)ended / (double)total * (double)width);
        add(&line, "[%.*s%.*s] ", filled, full, (int)width - filled, empty);
    }
    add(&line, "%s", text.text);
    show(line.text);
}

void progress_show(void *arg, const peach_progress_t *numbers)
{
    progress_t *self = arg;
    uint64_t now_ms = clock_ms();
    if (!self->began_ms) self->began_ms = now_ms;
    if (numbers->slots > 0 || !self->alone_ms) self->alone_ms = now_ms;
    if (now_ms - self->alone_ms > ALONE_MS && !self->told_alone) {
        complain("the fleet has no workers: waiting for one (peach worker, or peach init -n 4)");
        self->told_alone = true;
    }
    if (!self->quiet && isatty(STDERR_FILENO)) show_bar(self, numbers);
}

/* ---- preloads ---- */

static const char *text_of(const peach_value_t *map, const char *key)
{
    const peach_value_t *value = peach_value_get(map, key);
    const char *text = value ? peach_value_as_string(value, NULL) : NULL;
    return text ? text : "";
}

void progress_show_loading(const peach_value_t *view, uint64_t began_ms)
{
    const peach_value_t *workers = peach_value_get(view, "workers");
    const char *name = NULL;
    int64_t slots = 0;
    for (size_t i = 0; workers && i < peach_value_length(workers); i++) {
        const peach_value_t *worker = peach_value_at(workers, i);
        const peach_value_t *preloads = peach_value_get(worker, "preloads");
        const char *loads = NULL; /* one after the other: the first that is not done */
        for (size_t j = 0; preloads && j < peach_value_length(preloads) && !loads; j++) {
            const peach_value_t *preload = peach_value_at(preloads, j);
            if (strcmp(text_of(preload, "state"), "loading") == 0) loads = text_of(preload, "name");
        }
        if (!loads || (name && strcmp(name, loads) != 0)) continue;
        int64_t some = 0;
        peach_value_as_int(peach_value_get(worker, "slots"), &some);
        name = loads;
        slots += some;
    }
    if (!name || clock_ms() - began_ms < LOADING_MS) return;
    line_t line = {.length = 0};
    add(&line, "loading %s on %lld %s, %s", name, (long long)slots, slots == 1 ? "slot" : "slots",
        duration_of(clock_ms() - began_ms).text);
    show(line.text);
}
