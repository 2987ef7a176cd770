/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* peach-executor: runs what its supervisor sends, one item after another. It is
   started by peach-worker only, with the channel and the shared page open. */
#include "executor.h"

#include "standard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
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

/* ---- children of tasks ---- */

volatile sig_atomic_t executor_forked; /* this process is a child of the executor */

static void on_fork(void) { executor_forked = 1; }

void executor_clear_fork(void) { executor_forked = 0; }

void executor_end_fork(void)
{
    static const char word[] =
        "peach-executor: a function forked, and returned in the child, which "
        "ends here (os._exit is what ends a child)\n";
    ssize_t ignored = write(STDERR_FILENO, word, sizeof word - 1);
    (void)ignored;
    _exit(0);
}

/* ---- descriptors ---- */

/* 0 when it is closed. */
static uint64_t inode_of(int fd)
{
    struct stat file;
    return fstat(fd, &file) == 0 ? file.st_ino : 0;
}

void executor_note_descriptors(executor_t *x)
{
    int control[] = {CHANNEL_FD, PRINT_FD, CONTROL_FD};
    for (int i = 0; i < (x->template ? 3 : 2); i++) fcntl(control[i], F_SETFD, FD_CLOEXEC);
    x->channel_inode = inode_of(CHANNEL_FD);
    x->print_inode = inode_of(PRINT_FD);
}

/* A descriptor that leads to the supervisor's pipe; -1: none does any more. */
static int find_print(const executor_t *x)
{
    const int candidates[] = {PRINT_FD, 1, 2};
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++)
        if (inode_of(candidates[i]) == x->print_inode) return candidates[i];
    return -1;
}

void executor_check_descriptors(executor_t *x)
{
    struct pollfd standard[] = {{0, 0, 0}, {1, 0, 0}, {2, 0, 0}};
    if (inode_of(CHANNEL_FD) != x->channel_inode)
        executor_die("the function closed the executor's channel (descriptor 3)");
    if (inode_of(PRINT_FD) != x->print_inode) {
        int print = find_print(x);
        if (print >= 0) dup3(print, PRINT_FD, O_CLOEXEC);
    }
    if (poll(standard, 3, 0) <= 0) return;
    for (int fd = 0; fd < 3; fd++) {
        if (!(standard[fd].revents & POLLNVAL)) continue;
        int print = fd > 0 ? find_print(x) : -1, null = open("/dev/null", O_RDWR | O_CLOEXEC);
        dup2(print >= 0 ? print : null, fd);
        if (null >= 0 && null != fd) close(null);
    }
}

/* ---- the loop ---- */

static shared_t *page;

/* For native functions, which ask whether they are to stop. */
static void on_sigint(int signal)
{
    (void)signal;
    uint64_t claimed = shared_claimed(page);
    if (claimed > 0 && shared_stops(page, (uint32_t)claimed - 1, atomic_load(&page->item)))
        atomic_store(&page->heard, (uint32_t)claimed);
}

static void serve_preload(executor_t *x, wire_message_t *message, const Peach__Preload *preload)
{
    results_flush(x);
    if (preload->n_preloads == 0) loading_order(x, preload->order, preload->n_order);
    for (size_t i = 0; i < preload->n_preloads; i++) {
        atomic_store(&x->shared->preload, (uint32_t)preload->request);
        loading_load(x, message, (uint32_t)preload->request, preload->preloads[i]);
        atomic_store(&x->shared->preload, 0);
    }
}

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
            serve_preload(x, message, e->preload);
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
    void *memory = mmap(NULL, sizeof(shared_t), PROT_READ | PROT_WRITE, MAP_SHARED, SHARED_FD, 0);
    if (argc != 2 || memory == MAP_FAILED)
        executor_die("this program is started by peach-worker; see peach worker --help");
    close(SHARED_FD);
    x.shared = page = memory;
    x.channel = channel_new(CHANNEL_FD, 0);
    x.native = native_runtime_new(x.shared);
    static const table_seed_t no_seed; /* the supervisor's numbers are nobody's choice */
    x.pool = block_pool_new();
    x.blobs = idmap_new(&no_seed);
    x.batch.frames.shares = block_local();
    x.template = strcmp(argv[1], "template") == 0;
    executor_note_descriptors(&x);
    if (!x.channel || !x.native || !x.pool || !x.blobs) executor_die("out of memory");
    setvbuf(stdout, NULL, _IOLBF, 0);
    pthread_atfork(NULL, NULL, on_fork);
    setenv("PEACH_SLOT", argv[1], 1);
    executor_seed();
    struct sigaction action = {.sa_handler = on_sigint, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a block that cannot be made travels as a frame */
    serve(&x);
}
