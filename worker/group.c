/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "group.h"

#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* A time as /proc has it: ticks since the system was started, with those in which it slept. */
static uint64_t to_ticks(uint64_t monotonic_ns)
{
    uint64_t ago = now_ns(CLOCK_MONOTONIC) - monotonic_ns;
    uint64_t ticks = (uint64_t)sysconf(_SC_CLK_TCK);
    return (now_ns(CLOCK_BOOTTIME) - ago) / (1000000000 / ticks);
}

/* The group of a process, and when it was started. */
static bool read_stat(int pid, int *group, unsigned long long *start)
{
    char path[32], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    char *fields = file && fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    if (file) fclose(file);
    /* Behind the name: state, parent, group, ..., and the start as field 22 of all. */
    return fields && sscanf(fields + 1,
                            " %*c %*d %d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
                            "%*d %*d %*d %llu",
                            group, start) == 2;
}

void group_end_since(uint64_t began_ns)
{
    uint64_t since = to_ticks(began_ns);
    DIR *folder = opendir("/proc");
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        int group, pid = isdigit((unsigned char)*entry->d_name) ? atoi(entry->d_name) : 0;
        unsigned long long start;
        if (pid > 0 && pid != getpid() && read_stat(pid, &group, &start) && group == getpid() &&
            start >= since)
            kill(pid, SIGKILL);
    }
    if (folder) closedir(folder);
}
