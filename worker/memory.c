/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "memory.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DEEP = 16 }; /* generations of processes */

/* The number behind a name in a file of the process, in KiB; 0 when it is not there. */
static uint64_t read_kib(pid_t pid, const char *name, const char *field)
{
    char path[64], line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, field, strlen(field)) == 0 &&
            sscanf(line + strlen(field), " %llu", &kib) == 1)
            break;
    fclose(file);
    return kib;
}

/* Cheap, but pages that a process has in common with those it was forked from count in each. */
static uint64_t resident(pid_t pid) { return read_kib(pid, "status", "RssAnon:"); }

/* Dear: the kernel walks through all pages. Each counts where it is mapped, in equal shares. */
static uint64_t shares(pid_t pid) { return read_kib(pid, "smaps_rollup", "Pss_Anon:"); }

static uint64_t sum_children(pid_t pid, uint64_t (*kib)(pid_t), int deep);

static uint64_t sum(pid_t pid, uint64_t (*kib)(pid_t), int deep)
{
    return kib(pid) + (deep < MOST_DEEP ? sum_children(pid, kib, deep + 1) : 0);
}

/* Of the children of one thread. */
static uint64_t sum_thread(const char *path, uint64_t (*kib)(pid_t), int deep)
{
    int child;
    uint64_t total = 0;
    FILE *file = fopen(path, "r");
    while (file && fscanf(file, "%d", &child) == 1) total += sum(child, kib, deep);
    if (file) fclose(file);
    return total;
}

static uint64_t sum_children(pid_t pid, uint64_t (*kib)(pid_t), int deep)
{
    char path[64], children[64 + 256 + 16];
    uint64_t total = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *threads = opendir(path);
    for (struct dirent *entry; threads && (entry = readdir(threads)) != NULL;) {
        if (*entry->d_name == '.') continue;
        snprintf(children, sizeof children, "%s/%s/children", path, entry->d_name);
        total += sum_thread(children, kib, deep);
    }
    if (threads) closedir(threads);
    return total;
}

uint64_t memory_bytes(pid_t pid, uint64_t most)
{
    uint64_t bytes = sum(pid, resident, 0) << 10;
    if (bytes <= most) return bytes;
    uint64_t exact = sum(pid, shares, 0) << 10;
    return exact > 0 ? exact : bytes;
}
