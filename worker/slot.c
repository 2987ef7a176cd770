/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "slot.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child: nothing of the supervisor's but its two descriptors. */
static void become_executor(const char *executor, const int ours[3], int control, pid_t parent,
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
    int high[3], high_control = control < 0 ? -1 : fcntl(control, F_DUPFD, 10);
    for (int i = 0; i < 3; i++) high[i] = fcntl(ours[i], F_DUPFD, 10);
    if (dup2(high[0], CHANNEL_FD) < 0 || dup2(high[1], SHARED_FD) < 0 ||
        dup2(high[2], PRINT_FD) < 0 || (control >= 0 && dup2(high_control, CONTROL_FD) < 0))
        _exit(127);
    int null = open("/dev/null", O_RDONLY);
    if (null >= 0) dup2(null, 0);
    dup2(2, 1); /* what tasks print must not mix with anybody's results */
    close_range(control < 0 ? CONTROL_FD : CONTROL_FD + 1, ~0U, 0);
    char number[16];
    if (threads > 0) {
        snprintf(number, sizeof number, "%u", threads);
        for (size_t i = 0; i < sizeof thread_names / sizeof *thread_names; i++)
            setenv(thread_names[i], number, 1);
    }
    snprintf(number, sizeof number, control < 0 ? "%u" : "template", index);
    execl(executor, "peach-executor", number, (char *)NULL);
    _exit(127);
}

static int failed(slot_t *self, const char *what, char *error, size_t size)
{
    snprintf(error, size, "cannot start an executor: %s: %s", what, strerror(errno));
    slot_clear(self);
    return PEACH_E_SYSTEM;
}

static void close_all(const int fds[3])
{
    for (int i = 0; i < 3; i++) close(fds[i]);
}

/* Makes channel, page and pipe; theirs[3] are the executor's ends of them. */
static int prepare(slot_t *self, int theirs[3], char *error, size_t size)
{
    const int room = 1 << 20;
    int pair[2] = {-1, -1}, print[2], page = memfd_create("peach-slot", MFD_CLOEXEC);
    *self = (slot_t){.print_fd = -1};
    theirs[0] = theirs[2] = -1;
    theirs[1] = page;
    if (pipe2(print, O_CLOEXEC) != 0) {
        close_all(theirs);
        return failed(self, "pipe", error, size);
    }
    self->print_fd = print[0];
    fcntl(print[0], F_SETFL, O_NONBLOCK);
    theirs[2] = print[1];
    if (page < 0 || ftruncate(page, sizeof(shared_t)) != 0) {
        close_all(theirs);
        return failed(self, "memfd", error, size);
    }
    void *memory = mmap(NULL, sizeof(shared_t), PROT_READ | PROT_WRITE, MAP_SHARED, page, 0);
    if (memory == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        close_all(theirs);
        return failed(self, "socketpair", error, size);
    }
    self->shared = memory;
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    theirs[0] = pair[1];
    if ((self->channel = channel_new(pair[0])) != NULL) return 0;
    close(pair[0]);
    close_all(theirs);
    return failed(self, "memory", error, size);
}

int slot_start(slot_t *self, const char *executor, unsigned index, unsigned threads, int *control_p,
               char *error, size_t error_size)
{
    int theirs[3], control[2] = {-1, -1};
    int rc = prepare(self, theirs, error, error_size);
    if (rc) return rc;
    pid_t parent = getpid();
    bool made = !control_p || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) == 0;
    if (made) self->pid = fork();
    if (made && self->pid == 0)
        become_executor(executor, theirs, control[1], parent, index, threads);
    close_all(theirs);
    if (control[1] >= 0) close(control[1]);
    if (made && self->pid > 0) {
        if (control_p) *control_p = control[0];
        return 0;
    }
    if (control[0] >= 0) close(control[0]);
    self->pid = 0;
    return failed(self, "fork", error, error_size);
}

int slot_fork(slot_t *self, int control, char *error, size_t error_size)
{
    enum { PATIENCE_MS = 10000 };
    int theirs[3];
    int rc = prepare(self, theirs, error, error_size);
    if (rc) return rc;
    pid_t ours = getpid(), made = 0;
    union {
        char bytes[CMSG_SPACE(sizeof theirs)];
        struct cmsghdr aligned;
    } room = {0};
    struct iovec part = {&ours, sizeof ours};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = room.bytes,
                             .msg_controllen = sizeof room.bytes};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof theirs);
    memcpy(CMSG_DATA(head), theirs, sizeof theirs);
    bool asked = sendmsg(control, &message, MSG_NOSIGNAL) == sizeof ours;
    close_all(theirs);
    struct pollfd answer = {control, POLLIN, 0};
    if (asked && poll(&answer, 1, PATIENCE_MS) > 0 &&
        recv(control, &made, sizeof made, 0) == sizeof made && made > 0) {
        self->pid = made;
        return 0;
    }
    if (asked) errno = EAGAIN;
    return failed(self, "the template", error, error_size);
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
    if (self->print_fd >= 0) close(self->print_fd);
    if (self->shared) munmap(self->shared, sizeof *self->shared);
    *self = (slot_t){.print_fd = -1};
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
