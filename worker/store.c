/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char prefix[] = "peach-worker-";
enum { YOUNG_S = 60 }; /* a folder may not be locked yet */

void store_init(store_t *self) { *self = (store_t){.lock = -1}; }

static const char *base(void)
{
    const char *tmp = getenv("TMPDIR");
    return tmp && *tmp ? tmp : "/tmp";
}

/* ---- what is left over ---- */

static int remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *where)
{
    (void)stat, (void)kind, (void)where;
    remove(path);
    return 0;
}

/* Whether it is a worker's folder, of ours, that nobody holds any more. */
static bool is_left_over(const char *path)
{
    struct stat stat;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool left = fd >= 0 && fstat(fd, &stat) == 0 && stat.st_uid == geteuid() &&
                time(NULL) - stat.st_mtime > YOUNG_S && flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (fd >= 0) close(fd);
    return left;
}

static void sweep(void)
{
    char path[PATH_MAX];
    DIR *folder = opendir(base());
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        if (strncmp(entry->d_name, prefix, sizeof prefix - 1) != 0) continue;
        snprintf(path, sizeof path, "%s/%s", base(), entry->d_name);
        if (is_left_over(path)) nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    }
    if (folder) closedir(folder);
}

/* ---- files ---- */

static bool make_folder(store_t *self)
{
    if (self->folder) return true;
    sweep();
    if (asprintf(&self->folder, "%s/%sXXXXXX", base(), prefix) < 0) {
        self->folder = NULL;
        return false;
    }
    if (mkdtemp(self->folder)) {
        self->lock = open(self->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (self->lock >= 0) flock(self->lock, LOCK_EX | LOCK_NB);
        return true;
    }
    int why = errno;
    free(self->folder);
    self->folder = NULL;
    errno = why;
    return false;
}

static bool write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (!file) return false;
    bool written = fwrite(bytes, 1, size, file) == size;
    int why = errno;
    if (fclose(file) != 0 && written) {
        written = false;
        why = errno;
    }
    errno = why;
    return written;
}

char *store_file(store_t *self, const char *name, const void *bytes, size_t size, char *error,
                 size_t error_size)
{
    char folder[PATH_MAX], *path = NULL;
    bool made = make_folder(self);
    if (made) {
        snprintf(folder, sizeof folder, "%s/%u", self->folder, ++self->last);
        made = mkdir(folder, 0700) == 0;
    }
    if (made && asprintf(&path, "%s/%s", folder, name) < 0) path = NULL;
    if (path && write_file(path, bytes, size)) return path;
    snprintf(error, error_size, "it cannot be kept in %s: %s", base(), strerror(errno));
    if (path) store_remove(self, path);
    free(path);
    return NULL;
}

void store_remove(const store_t *self, const char *path)
{
    char folder[PATH_MAX];
    if (!self->folder || strncmp(path, self->folder, strlen(self->folder)) != 0) return;
    unlink(path);
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    rmdir(folder);
}

void store_clear(store_t *self)
{
    if (self->folder) rmdir(self->folder);
    if (self->lock >= 0) close(self->lock);
    free(self->folder);
    store_init(self);
}
