/* The configuration file: JSON with a section a program, whose members are the program's
   options without their dashes.

       {"broker": {"bind": "tcp://127.0.0.1:5001", "heartbeat": 0.5},
        "worker": {"slots": 4, "preload": ["multip.py"], "insecure": true},
        "client": {"connect": "tcp://a:5001,tcp://b:5001"}}

   They become arguments in front of those of the command line, which therefore win. The
   file is $PEACH_CONFIG, or the first that is there of $XDG_CONFIG_HOME/peach.json
   (~/.config/peach.json) and /etc/peach.json.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_CONFIG_H
#define PEACH_CONFIG_H

#include <argp.h>
#include <stddef.h>

/* What main was given with the section's options put in behind argv[0]. It lives until the next
   call. known are the options that the section may have; a member "connect" is left out when
   $PEACH_BROKER is set. NULL after a sentence in error. */
char **config_arguments(const char *section, const struct argp_option *known, int *argc,
                        char **argv, char *error, size_t error_size);

/* The options of the section in the text of a file, as a list that ends with NULL; free it
   with config_free. An empty list if there is no such section. NULL with a sentence in
   error: what is wrong, and where. */
char **config_parse(const char *text, size_t size, const char *section,
                    const struct argp_option *known, char *error, size_t error_size);
void config_free(char ***options_p);

#endif
