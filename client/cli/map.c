/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "connection.h"
#include "interrupts.h"
#include "work.h"

static int run(const options_t *options)
{
    work_t work;
    int code = work_prepare(&work, options);
    peach_t *fleet = code == EXIT_DONE ? fleet_connect(options, &code) : NULL;
    if (fleet) {
        interrupts_watch();
        code = work_run(&work, fleet);
    }
    peach_close(&fleet);
    work_clear(&work);
    return code;
}

const command_t map_command = {
    .name = "map",
    .bit = MAP,
    .summary = "run a function over items, one JSON result a line",
    .arguments = "FUNC ITEM...\n--source TEXT ITEM...",
    .about = "Runs FUNC over the items on the fleet and prints one JSON result a line, in "
             "order.\v" ITEM_HELP,
    .run = run,
};

const command_t call_command = {
    .name = "call",
    .bit = CALL,
    .summary = "call a function once",
    .arguments = "FUNC [ARG...]\n--source TEXT [ARG...]",
    .about = "Calls FUNC once with these arguments (JSON) and prints its result as JSON.",
    .run = run,
};
