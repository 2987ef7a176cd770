/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "columns.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 16 };

struct columns {
    FILE *file;
    char *text; /* cells, each with a NUL behind it, a row after the other */
    size_t size, count, at;
    bool right[MOST];
    size_t width[MOST];
};

static void end_cell(columns_t *self)
{
    fputc(0, self->file);
    self->at++;
}

columns_t *columns_new(const char *titles)
{
    columns_t *self = calloc(1, sizeof *self);
    if (self) self->file = open_memstream(&self->text, &self->size);
    if (!self || !self->file) {
        free(self);
        return NULL;
    }
    for (bool more = true; more && self->count < MOST;) {
        size_t length = strcspn(titles, " ");
        bool right = self->right[self->count++] = *titles == '>';
        fwrite(titles + right, 1, length - right, self->file);
        end_cell(self);
        more = titles[length] == ' ';
        titles += length + more;
    }
    self->at = 0;
    return self;
}

void columns_add(columns_t *self, const char *format, ...)
{
    va_list args;
    if (!self) return;
    va_start(args, format);
    vfprintf(self->file, format, args);
    va_end(args);
}

void columns_next(columns_t *self)
{
    if (self) end_cell(self);
}

void columns_end_row(columns_t *self)
{
    while (self && self->at < self->count) end_cell(self);
    if (self) self->at = 0;
}

/* Letters of UTF-8: bytes that do not go on with one. */
static size_t letters(const char *text)
{
    size_t count = 0;
    for (; *text; text++) count += ((unsigned char)*text & 0xC0) != 0x80;
    return count;
}

static void print_cells(const columns_t *self)
{
    const char *cell = self->text, *end = self->text + self->size;
    for (size_t column = 0; cell < end; cell += strlen(cell) + 1) {
        bool last = column + 1 == self->count;
        int gap = (int)(self->width[column] - letters(cell));
        if (self->right[column])
            printf("%*s%s", gap, "", cell);
        else
            printf("%s%*s", cell, last ? 0 : gap, "");
        fputs(last ? "\n" : "  ", stdout);
        column = last ? 0 : column + 1;
    }
}

void columns_print(columns_t **self_p)
{
    columns_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    if (fclose(self->file) == 0) {
        size_t column = 0;
        for (const char *cell = self->text; cell < self->text + self->size;
             cell += strlen(cell) + 1) {
            size_t length = letters(cell);
            if (length > self->width[column]) self->width[column] = length;
            column = (column + 1) % self->count;
        }
        print_cells(self);
    }
    free(self->text);
    free(self);
}
