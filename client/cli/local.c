/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* A fleet of this command's own: a broker and a worker that end with it. */
#include "local.h"

#include "clock.h"
#include "interrupts.h"
#include "progress.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_MS = 10000 };

/* Starts a program that ends when we do. Descriptor 3 of it is fd. */
static pid_t start(const char *name, char **args, int fd)
{
    pid_t parent = getpid(), pid = fork();
    if (pid != 0) return pid;
    setpgid(0, 0); /* Ctrl-C is ours to handle */
    if (fd >= 0) {
        dup2(fd, 3);
        fcntl(3, F_SETFD, 0);
    }
    close_range(4, ~0U, 0);
    if (getppid() != parent) _exit(EXIT_FAILED);
    exec_program(name, args);
    _exit(EXIT_FAILED);
}

/* Reads the endpoint that the broker tells once it is bound. */
static bool read_endpoint(int fd, char *endpoint, size_t size)
{
    size_t length = 0;
    ssize_t n;
    while (length + 1 < size && (n = read(fd, endpoint + length, size - 1 - length)) != 0) {
        if (n < 0 && errno != EINTR) break;
        if (n > 0) length += (size_t)n;
        if (length > 0 && endpoint[length - 1] == '\n') break;
    }
    endpoint[length > 0 ? length - 1 : 0] = 0;
    return length > 1;
}

static pid_t start_broker(const char *port, char *endpoint, size_t size)
{
    char bind[64];
    int pipe_fds[2];
    snprintf(bind, sizeof bind, "tcp://127.0.0.1:%s", port ? port : "*");
    char *args[] = {"peach-broker", "--bind", bind, "--ready-fd", "3", "--exit-with-parent", NULL};
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) return -1;
    pid_t pid = start("peach-broker", args, pipe_fds[1]);
    close(pipe_fds[1]);
    bool bound = pid > 0 && read_endpoint(pipe_fds[0], endpoint, size);
    close(pipe_fds[0]);
    if (bound) return pid;
    if (pid > 0) waitpid(pid, NULL, 0); /* it said why */
    return -1;
}

static pid_t start_worker(const options_t *o, char *endpoint)
{
    const char *const numerals[][2] = {
        {"--memory", o->memory}, {"--recycle", o->recycle}, {"--start", o->start}};
    char **args = calloc(16 + 2 * o->preloads.count, sizeof *args);
    if (!args) return -1;
    size_t n = 0;
    args[n++] = "peach-worker";
    args[n++] = "--connect";
    args[n++] = endpoint;
    args[n++] = "--slots";
    args[n++] = (char *)(o->slots ? o->slots : "auto");
    args[n++] = "--strict";
    args[n++] = "--exit-with-parent";
    for (size_t i = 0; i < sizeof numerals / sizeof *numerals; i++) {
        if (!numerals[i][1]) continue;
        args[n++] = (char *)numerals[i][0];
        args[n++] = (char *)numerals[i][1];
    }
    for (size_t i = 0; i < o->preloads.count; i++) {
        args[n++] = "--preload";
        args[n++] = (char *)o->preloads.items[i];
    }
    pid_t pid = start("peach-worker", args, -1);
    free(args);
    return pid;
}

/* Ends a child and takes its exit status; one that does not go is killed. */
static void stop(pid_t pid)
{
    enum { PATIENCE_MS = 2000 };
    if (pid <= 0) return;
    kill(pid, SIGTERM);
    kill(pid, SIGTERM);
    for (int i = 0; i < PATIENCE_MS; i++) {
        if (waitpid(pid, NULL, WNOHANG) != 0) return;
        usleep(1000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* Waits until the worker has loaded its preloads, or ended because it could not. */
static int wait_for_worker(peach_t *fleet, pid_t *worker, bool quiet)
{
    uint64_t began_ms = clock_ms();
    for (;;) {
        peach_value_t *view;
        int status;
        if (interrupted()) return EXIT_INTERRUPTED;
        if (waitpid(*worker, &status, WNOHANG) == *worker) {
            progress_clear();
            *worker = 0;
            return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAILED;
        }
        int rc = peach_view(fleet, START_MS, &view);
        if (rc) {
            complain("%s", peach_error(fleet));
            return exit_code_of(rc);
        }
        const peach_value_t *first = peach_value_at(peach_value_get(view, "workers"), 0);
        const char *state =
            first ? peach_value_as_string(peach_value_get(first, "state"), NULL) : "";
        bool ready = strcmp(state, "ready") == 0;
        if (!quiet && !ready) progress_show_loading(view, began_ms);
        peach_value_destroy(&view);
        if (ready) return EXIT_DONE;
        peach_poll(fleet, 5);
        usleep(2000);
    }
}

/* Whether the programs that this run started are there; they are not reaped here. */
bool local_alive(void)
{
    siginfo_t ended = {0};
    return waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid == 0;
}

peach_t *local_start(local_t *self, const options_t *options, int *code)
{
    peach_error_t error;
    *self = (local_t){0};
    *code = EXIT_REFUSED;
    self->broker = start_broker(options->port, self->endpoint, sizeof self->endpoint);
    if (self->broker <= 0) return NULL;
    *code = EXIT_FAILED;
    self->worker = start_worker(options, self->endpoint);
    if (self->worker < 0) {
        complain("cannot start a worker: %s", strerror(errno));
        return NULL;
    }
    peach_t *fleet = peach_connect(self->endpoint, START_MS, &error);
    if (!fleet) {
        complain("%s", error.message);
        *code = exit_code_of(error.status);
        return NULL;
    }
    *code = wait_for_worker(fleet, &self->worker, options->quiet || !isatty(STDERR_FILENO));
    progress_clear();
    if (*code != EXIT_DONE) peach_close(&fleet);
    return fleet;
}

void local_stop(local_t *self)
{
    stop(self->worker);
    stop(self->broker);
    *self = (local_t){0};
}
