/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "loading.h"

#include "clock.h"
#include "connection.h"
#include "progress.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { LOOK_MS = 200, ANSWER_MS = 1000 };

struct loading {
    const options_t *options;
    pthread_t thread;
    atomic_bool ended;
};

static void *look(void *arg)
{
    loading_t *self = arg;
    uint64_t began_ms = clock_ms();
    /* Of its own: a handle belongs to one thread, and the other's waits. */
    const peach_connect_options_t how = {.endpoints = self->options->endpoints,
                                         .timeout_ms = ANSWER_MS,
                                         .insecure = self->options->insecure};
    peach_t *fleet = peach_connect_with(&how, NULL);
    while (fleet && !atomic_load(&self->ended)) {
        peach_value_t *view;
        if (peach_view(fleet, ANSWER_MS, &view) == 0 && !atomic_load(&self->ended))
            progress_show_loading(view, began_ms);
        peach_value_destroy(&view);
        for (int i = 0; i < LOOK_MS / 10 && !atomic_load(&self->ended); i++) usleep(10000);
    }
    peach_close(&fleet);
    return NULL;
}

loading_t *loading_show(const options_t *options)
{
    if (options->quiet || !isatty(STDERR_FILENO)) return NULL;
    loading_t *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    self->options = options;
    if (pthread_create(&self->thread, NULL, look, self) == 0) return self;
    free(self);
    return NULL;
}

void loading_end(loading_t **self_p)
{
    loading_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    atomic_store(&self->ended, true);
    pthread_join(self->thread, NULL);
    progress_clear();
    free(self);
}
