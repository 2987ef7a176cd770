/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "cli.h"

#include "descriptors.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

void exec_program(const char *name, char **argv)
{
    char self[PATH_MAX], path[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    descriptors_restore(); /* executors are to have the user's */
    char *slash = strrchr(self, '/');
    if (slash) {
        *slash = 0;
        snprintf(path, sizeof path, "%s/%s", self, name);
        execv(path, argv);
    }
    execvp(name, argv);
    complain("cannot start %s: %s", name, strerror(errno));
}

const command_t broker_command = {
    .name = "broker", .summary = "run the broker of a fleet", .program = "peach-broker"};

const command_t worker_command = {.name = "worker",
                                  .summary = "run a worker: one process a slot on this host",
                                  .program = "peach-worker"};
