/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "interrupts.h"
#include "local.h"
#include "work.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* A file that is not there is told before anything is started. */
static bool preloads_are_there(const texts_t *preloads)
{
    for (size_t i = 0; i < preloads->count; i++) {
        const char *path = preloads->items[i], *end = strrchr(path, '.');
        bool file = end && (strcmp(end, ".py") == 0 || strcmp(end, ".so") == 0);
        if (!file || access(path, R_OK) == 0) continue;
        complain("preload '%s': %s", path, strerror(errno));
        return false;
    }
    return true;
}

static int run(const options_t *options)
{
    local_t local = {0};
    work_t work;
    peach_t *fleet = NULL;
    int code = work_prepare(&work, options);
    if (code == EXIT_DONE && !preloads_are_there(&options->preloads)) code = EXIT_USAGE;
    if (code == EXIT_DONE) {
        interrupts_watch();
        fleet = local_start(&local, options, &code);
    }
    work.is_alive = local_alive;
    work.missing_hint = "; here that is -l FILE of the same command";
    if (fleet) code = work_run(&work, fleet);
    peach_close(&fleet);
    local_stop(&local);
    work_clear(&work);
    return code;
}

const command_t run_command = {
    .name = "run",
    .bit = RUN,
    .summary = "start a broker and workers here, map a function, stop them",
    .arguments = "FUNC ITEM...\n--source TEXT ITEM...",
    .about = "Starts a broker and N executors on this host, runs FUNC over the items, prints one "
             "JSON result a line, in order, and stops them.\v" ITEM_HELP,
    .run = run,
};
