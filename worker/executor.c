/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* peach-executor: runs what its supervisor sends, one item after another. It is
   started by peach-worker only, with the channel and the shared page open. */
#include "executor.h"

#include "standard.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { TRIM_MS = 1000 };

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t executor_clock(void) { return read_clock(CLOCK_MONOTONIC); }
uint64_t executor_coarse_clock(void) { return read_clock(CLOCK_MONOTONIC_COARSE); }

void executor_seed(void)
{
    unsigned seed;
    if (getrandom(&seed, sizeof seed, 0) == sizeof seed) srand(seed);
}

void executor_die(const char *why)
{
    fprintf(stderr, "peach-executor: %s\n", why);
    exit(1);
}

/* ---- the loop ---- */

static void on_sigint(int signal) { (void)signal; }

static void serve(executor_t *x)
{
    for (;;) {
        if (x->template && !template_wait(x)) continue;
        /* Results are sent when there is nothing else to do, or often enough. */
        if (x->batch.elements > 0 && !channel_ready(x->channel, 0)) results_flush(x);
        while ((x->sent_count > 0 || !block_pool_empty(x->pool)) &&
               !channel_ready(x->channel, TRIM_MS)) {
            results_release(x);
            block_pool_trim(x->pool);
        }
        wire_message_t *message;
        int rc = channel_get(x->channel, &message);
        if (rc) exit(rc == PEACH_E_LOST ? 0 : 1);
        const Peach__Envelope *e = wire_envelope(message);
        if (e->body_case == PEACH__ENVELOPE__BODY_ASSIGN) {
            running_assign(x, message, e->assign);
        } else if (e->body_case == PEACH__ENVELOPE__BODY_PRELOAD) {
            results_flush(x);
            atomic_store(&x->shared->preload, (uint32_t)e->preload->request + 1);
            for (size_t i = 0; i < e->preload->n_preloads; i++)
                loading_load(x, message, e->preload->preloads[i]);
        } else if (e->body_case == PEACH__ENVELOPE__BODY_PUT) {
            running_put(x, message, e->put);
        } else if (e->body_case == PEACH__ENVELOPE__BODY_DROP) {
            running_drop(x, e->drop);
        }
        wire_message_destroy(&message);
    }
}

int main(int argc, char **argv)
{
    executor_t x = {0};
    standard_open(STANDARD_EMPTY);
    void *page = mmap(NULL, sizeof(shared_t), PROT_READ | PROT_WRITE, MAP_SHARED, SHARED_FD, 0);
    if (argc != 2 || page == MAP_FAILED)
        executor_die("this program is started by peach-worker; see peach worker --help");
    close(SHARED_FD);
    x.shared = page;
    x.channel = channel_new(CHANNEL_FD);
    x.native = native_runtime_new(x.shared);
    static const table_seed_t no_seed; /* the supervisor's numbers are nobody's choice */
    x.pool = block_pool_new();
    x.blobs = idmap_new(&no_seed);
    x.batch.frames.shares = block_local();
    x.template = strcmp(argv[1], "template") == 0;
    if (!x.channel || !x.native || !x.pool || !x.blobs) executor_die("out of memory");
    setenv("PEACH_SLOT", argv[1], 1);
    executor_seed();
    struct sigaction action = {.sa_handler = on_sigint, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    serve(&x);
}
