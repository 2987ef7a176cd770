/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "joblog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char header[] = "Item\tEnded\tHost\tPid\tStatus\tFunction\tValue\n";

/* What the file says about an item. */
typedef struct {
    uint64_t hash; /* of its value's JSON; 0: nothing */
    bool failed;
} record_t;

/* An item that was submitted and has not ended. */
typedef struct {
    uint64_t number;
    char *json; /* NULL: it has ended */
} pending_t;

struct joblog {
    const char *path;
    char function[512]; /* as it is logged */
    int fd;
    bool failed_again;
    record_t *records; /* by their number */
    size_t record_count;
    uint64_t items, skipped;
    pending_t *pending; /* in the order of their submission, from the item first_pending on */
    size_t pending_count, pending_capacity, ended_count; /* that many in front have ended */
    uint64_t first_pending;
    char *text; /* of lines */
    size_t size;
    FILE *lines; /* that are to be written; NULL when one could not be */
};

static uint64_t hash_of(const char *text, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
    for (size_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3;
    return hash ? hash : 1;
}

/* ---- reading ---- */

static int broken(const joblog_t *self, const char *why)
{
    complain("joblog %s: %s", self->path, why);
    return PEACH_E_ARGUMENT;
}

static int keep_record(joblog_t *self, uint64_t number, record_t record)
{
    if (number >= self->record_count) {
        size_t count = number < SIZE_MAX / 2 / sizeof record ? (size_t)number + 1 : 0;
        if (count < 2 * self->record_count) count = 2 * self->record_count;
        record_t *grown = count ? realloc(self->records, count * sizeof *grown) : NULL;
        if (!grown) return broken(self, peach_status_text(PEACH_E_MEMORY));
        memset(grown + self->record_count, 0, (count - self->record_count) * sizeof *grown);
        self->records = grown;
        self->record_count = count;
    }
    self->records[number] = record;
    return 0;
}

static int read_line(joblog_t *self, char *line, size_t size)
{
    enum { AT_NUMBER, AT_STATUS = 4, AT_FUNCTION, AT_VALUE, FIELDS };
    char *fields[FIELDS] = {line}, *end;
    for (size_t i = 1; i < FIELDS; i++) {
        fields[i] = strchr(fields[i - 1], '\t');
        if (!fields[i]) return broken(self, "it has a line that is none of a joblog");
        *fields[i]++ = 0;
    }
    uint64_t number = strtoull(fields[AT_NUMBER], &end, 10);
    if (*end || end == fields[AT_NUMBER])
        return broken(self, "it has a line that is none of a joblog");
    if (strcmp(fields[AT_FUNCTION], self->function) != 0) {
        complain("joblog %s is of %s, not of %s", self->path, fields[AT_FUNCTION], self->function);
        return PEACH_E_ARGUMENT;
    }
    size_t value_size = size - (size_t)(fields[AT_VALUE] - line);
    return keep_record(
        self, number,
        (record_t){hash_of(fields[AT_VALUE], value_size), strcmp(fields[AT_STATUS], "ok") != 0});
}

/* Reads all lines, and cuts off a last one that is not whole. */
static int read_all(joblog_t *self)
{
    FILE *file = fdopen(dup(self->fd), "r");
    if (!file) return broken(self, strerror(errno));
    char *line = NULL;
    size_t room = 0;
    off_t whole = 0;
    ssize_t n;
    int rc = 0;
    while (rc == 0 && (n = getline(&line, &room, file)) > 0 && line[n - 1] == '\n') {
        if (whole == 0)
            rc = strcmp(line, header) == 0 ? 0 : broken(self, "it does not begin as a joblog does");
        else
            rc = read_line(self, line, (size_t)n - 1);
        whole += n;
    }
    if (rc == 0 && ferror(file)) rc = broken(self, strerror(errno));
    if (rc == 0 && ftruncate(self->fd, whole) != 0) rc = broken(self, strerror(errno));
    free(line);
    fclose(file);
    return rc;
}

/* ---- life ---- */

static int begin(joblog_t *self, joblog_start_t start)
{
    struct stat stat;
    self->fd = open(self->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (self->fd < 0 || fstat(self->fd, &stat) != 0) return broken(self, strerror(errno));
    if (flock(self->fd, LOCK_EX | LOCK_NB) != 0)
        return broken(self, "another command writes to it");
    if (start == JOBLOG_NEW) {
        if (S_ISREG(stat.st_mode) && ftruncate(self->fd, 0) != 0)
            return broken(self, strerror(errno));
    } else if (read_all(self) != 0) {
        return PEACH_E_ARGUMENT;
    }
    self->lines = open_memstream(&self->text, &self->size);
    if (!self->lines) return broken(self, strerror(errno));
    if (lseek(self->fd, 0, SEEK_END) <= 0) fputs(header, self->lines);
    return 0;
}

joblog_t *joblog_open(const char *path, const char *function, const char *source,
                      joblog_start_t start)
{
    joblog_t *self = calloc(1, sizeof *self);
    if (!self) {
        complain("%s", peach_status_text(PEACH_E_MEMORY));
        return NULL;
    }
    self->path = path;
    int size = snprintf(self->function, sizeof self->function, "%s", function);
    if (source)
        snprintf(self->function + size, sizeof self->function - (size_t)size, " %016llx",
                 (unsigned long long)hash_of(source, strlen(source)));
    self->failed_again = start == JOBLOG_RESUME_FAILED;
    if (begin(self, start) != 0) joblog_close(&self);
    return self;
}

void joblog_close(joblog_t **self_p)
{
    joblog_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    if (self->lines) fclose(self->lines);
    if (self->fd >= 0) close(self->fd);
    for (size_t i = 0; i < self->pending_count; i++) free(self->pending[i].json);
    free(self->pending);
    free(self->records);
    free(self->text);
    free(self);
}

/* ---- items ---- */

static int keep_pending(joblog_t *self, pending_t pending)
{
    if (self->pending_count == self->pending_capacity) {
        size_t capacity = self->pending_capacity ? 2 * self->pending_capacity : 256;
        pending_t *grown = realloc(self->pending, capacity * sizeof *grown);
        if (!grown) return PEACH_E_MEMORY;
        self->pending = grown;
        self->pending_capacity = capacity;
    }
    self->pending[self->pending_count++] = pending;
    return 0;
}

int joblog_item(joblog_t *self, const peach_value_t *item)
{
    char *json = peach_value_to_json(item);
    if (!json) return PEACH_E_MEMORY;
    uint64_t number = self->items++;
    record_t record = number < self->record_count ? self->records[number] : (record_t){0};
    int rc = 0;
    if (record.hash && record.hash != hash_of(json, strlen(json))) {
        complain("joblog %s: item %llu was another one, it is %.60s now: resume with the same "
                 "items in the same order, or with another joblog",
                 self->path, (unsigned long long)number, json);
        rc = PEACH_E_ARGUMENT;
    } else if (record.hash && !(record.failed && self->failed_again)) {
        self->skipped++;
        rc = PEACH_END;
    }
    if (rc == 0) rc = keep_pending(self, (pending_t){number, json});
    if (rc) free(json);
    return rc;
}

uint64_t joblog_number(const joblog_t *self, uint64_t submitted)
{
    return self->pending[submitted - self->first_pending].number;
}

uint64_t joblog_skipped(const joblog_t *self) { return self->skipped; }

/* What ended in front is let go of, when that is worth the move. */
static void forget_ended(joblog_t *self)
{
    enum { WORTH = 256 };
    while (self->ended_count < self->pending_count && !self->pending[self->ended_count].json)
        self->ended_count++;
    if (self->ended_count < WORTH || self->ended_count < self->pending_count / 2) return;
    self->pending_count -= self->ended_count;
    self->first_pending += self->ended_count;
    memmove(self->pending, self->pending + self->ended_count,
            self->pending_count * sizeof *self->pending);
    self->ended_count = 0;
}

void joblog_end(joblog_t *self, const peach_result_t *result)
{
    pending_t *item = &self->pending[result->item - self->first_pending];
    const peach_failure_t *failure = result->failure;
    if (self->lines && !(failure && failure->status == PEACH_E_CANCELLED)) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        fprintf(self->lines, "%llu\t%lld.%03ld\t%s\t", (unsigned long long)item->number,
                (long long)now.tv_sec, now.tv_nsec / 1000000,
                failure && *failure->host ? failure->host : "-");
        if (failure && failure->pid)
            fprintf(self->lines, "%u", failure->pid);
        else
            fputc('-', self->lines);
        fprintf(self->lines, "\t%s\t%s\t%s\n", failure ? peach_status_name(failure->status) : "ok",
                self->function, item->json);
    }
    free(item->json);
    item->json = NULL;
    forget_ended(self);
}

bool joblog_flush(joblog_t *self)
{
    size_t written = 0;
    ssize_t n = self->lines && fflush(self->lines) == 0 ? 0 : -1;
    while (n >= 0 && written < self->size) {
        n = write(self->fd, self->text + written, self->size - written);
        if (n > 0) written += (size_t)n;
        if (n < 0 && errno == EINTR) n = 0;
    }
    if (n >= 0) {
        rewind(self->lines);
        return true;
    }
    if (self->lines) {
        complain("joblog %s cannot be written: %s", self->path, strerror(errno));
        fclose(self->lines);
        self->lines = NULL;
    }
    return false;
}
