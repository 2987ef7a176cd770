/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "interrupts.h"

#include "cli.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t first, asked;

static void on_signal(int signal)
{
    static const char word[] = "\npeach: interrupted again: leaving at once\n";
    if (!first) first = signal;
    if (signal == SIGPIPE || !asked++) return; /* each write that fails brings a SIGPIPE */
    ssize_t ignored = write(STDERR_FILENO, word, sizeof word - 1);
    (void)ignored;
    _exit(EXIT_INTERRUPTED);
}

void interrupts_watch(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
    const struct sigaction action = {.sa_handler = on_signal};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction before;
        sigaction(signals[i], NULL, &before);
        if (signals[i] == SIGHUP && before.sa_handler == SIG_IGN) continue; /* nohup */
        sigaction(signals[i], &action, NULL);
    }
}

int interrupted(void) { return first; }
