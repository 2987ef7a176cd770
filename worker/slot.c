/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "slot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHANNEL_FD = 3, SHARED_FD = 4 };

/* In the child: nothing of the supervisor's but its two descriptors. */
static void become_executor(const char *executor, int socket, int page, pid_t parent,
                            unsigned index, unsigned threads)
{
    static const char *const thread_names[] = {"OMP_NUM_THREADS",     "OPENBLAS_NUM_THREADS",
                                               "MKL_NUM_THREADS",     "BLIS_NUM_THREADS",
                                               "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"};
    /* Whatever kills the supervisor kills its executors. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setpgid(0, 0); /* Ctrl-C on the terminal is the supervisor's to handle */
    int high_socket = fcntl(socket, F_DUPFD, 10), high_page = fcntl(page, F_DUPFD, 10);
    if (dup2(high_socket, CHANNEL_FD) < 0 || dup2(high_page, SHARED_FD) < 0) _exit(127);
    int null = open("/dev/null", O_RDONLY);
    if (null >= 0) dup2(null, 0);
    dup2(2, 1); /* what tasks print must not mix with anybody's results */
    close_range(5, ~0U, 0);
    char number[16];
    if (threads > 0) {
        snprintf(number, sizeof number, "%u", threads);
        for (size_t i = 0; i < sizeof thread_names / sizeof *thread_names; i++)
            setenv(thread_names[i], number, 1);
    }
    snprintf(number, sizeof number, "%u", index);
    execl(executor, "peach-executor", number, (char *)NULL);
    _exit(127);
}

static int failed(slot_t *self, const char *what, char *error, size_t size)
{
    snprintf(error, size, "cannot start an executor: %s: %s", what, strerror(errno));
    slot_clear(self);
    return PEACH_E_SYSTEM;
}

int slot_start(slot_t *self, const char *executor, unsigned index, unsigned threads, char *error,
               size_t error_size)
{
    int pair[2] = {-1, -1}, page = memfd_create("peach-slot", MFD_CLOEXEC);
    *self = (slot_t){0};
    if (page < 0 || ftruncate(page, sizeof(shared_t)) != 0)
        return failed(self, "memfd", error, error_size);
    void *memory = mmap(NULL, sizeof(shared_t), PROT_READ | PROT_WRITE, MAP_SHARED, page, 0);
    if (memory == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        close(page);
        return failed(self, "socketpair", error, error_size);
    }
    self->shared = memory;
    const int room = 1 << 20;
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    pid_t parent = getpid();
    self->pid = fork();
    if (self->pid == 0) become_executor(executor, pair[1], page, parent, index, threads);
    close(pair[1]);
    close(page);
    self->channel = self->pid > 0 ? channel_new(pair[0]) : NULL;
    if (!self->channel) {
        close(pair[0]);
        return failed(self, "fork", error, error_size);
    }
    return 0;
}

bool slot_ended(const slot_t *self)
{
    siginfo_t ended = {0};
    if (self->pid <= 0) return false;
    return waitid(P_PID, (id_t)self->pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           ended.si_pid != 0;
}

void slot_reap(slot_t *self, char *cause, size_t cause_size)
{
    int status = 0;
    snprintf(cause, cause_size, "the executor is gone");
    if (self->pid <= 0) return;
    kill(self->pid, SIGKILL); /* no effect on one that has ended */
    while (waitpid(self->pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status))
        snprintf(cause, cause_size, "the executor was killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(cause, cause_size, "the executor exited with code %d", WEXITSTATUS(status));
    self->pid = 0;
}

void slot_clear(slot_t *self)
{
    channel_destroy(&self->channel);
    if (self->shared) munmap(self->shared, sizeof *self->shared);
    *self = (slot_t){0};
}

uint64_t slot_memory_bytes(const slot_t *self)
{
    char path[64];
    unsigned long long total, resident;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)self->pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    bool read = fscanf(file, "%llu %llu", &total, &resident) == 2;
    fclose(file);
    return read ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

void slot_dismiss(slot_t *self)
{
    if (self->channel) shutdown(channel_fd(self->channel), SHUT_WR);
}

void slot_interrupt(slot_t *self, uint32_t number, uint32_t item)
{
    atomic_store(&self->shared->stop, ((uint64_t)number + 1) << 32 | item);
    if (self->pid > 0) kill(self->pid, SIGINT);
}
