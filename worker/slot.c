/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "slot.h"

#include "descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the new process ---- */

static void set_threads(unsigned threads)
{
    static const char *const names[] = {"OMP_NUM_THREADS",     "OPENBLAS_NUM_THREADS",
                                        "MKL_NUM_THREADS",     "BLIS_NUM_THREADS",
                                        "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"};
    char number[16];
    snprintf(number, sizeof number, "%u", threads);
    for (size_t i = 0; threads > 0 && i < sizeof names / sizeof *names; i++)
        setenv(names[i], number, 1);
}

/* Tasks find signals and limits as they are for any program, whatever our parent ignored. */
static void become_ordinary(void)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    descriptors_restore();
}

/* Closes all but standard descriptors and these, in order to have some for what comes. */
static void close_others(const int *ours, size_t count)
{
    unsigned from = 3;
    for (;;) {
        unsigned next = ~0U;
        for (size_t i = 0; i < count; i++)
            if (ours[i] >= (int)from && (unsigned)ours[i] < next) next = (unsigned)ours[i];
        if (next > from) close_range(from, next - 1, 0);
        if (next == ~0U) return;
        from = next + 1;
    }
}

/* In the child: nothing of the supervisor's but the executor's ends of channel, page and pipe. */
static void become_executor(const char *executor, const int ours[3], int control, pid_t parent,
                            unsigned index, unsigned threads)
{
    /* Whatever kills the supervisor kills its executors. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    setpgid(0, 0); /* Ctrl-C on the terminal is the supervisor's to handle */
    close_others((const int[]){ours[0], ours[1], ours[2], control}, 4);
    int high[3], high_control = control < 0 ? -1 : fcntl(control, F_DUPFD, 10);
    for (int i = 0; i < 3; i++) high[i] = fcntl(ours[i], F_DUPFD, 10);
    if (dup2(high[0], CHANNEL_FD) < 0 || dup2(high[1], SHARED_FD) < 0 ||
        dup2(high[2], PRINT_FD) < 0 || (control >= 0 && dup2(high_control, CONTROL_FD) < 0))
        _exit(127);
    int null = open("/dev/null", O_RDONLY);
    if (null >= 0) dup2(null, 0);
    /* What tasks print goes through us: whoever reads our standard error may be gone. */
    dup2(PRINT_FD, 1);
    dup2(PRINT_FD, 2);
    close_range(control < 0 ? CONTROL_FD : CONTROL_FD + 1, ~0U, 0);
    become_ordinary();
    set_threads(threads);
    char number[16];
    snprintf(number, sizeof number, control < 0 ? "%u" : "template", index);
    execl(executor, "peach-executor", number, (char *)NULL);
    _exit(127);
}

/* ---- what is between us ---- */

static void close_all(const int fds[3])
{
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0) close(fds[i]);
}

static int failed(slot_t *self, const char *what, char *error, size_t size)
{
    int why = errno;
    snprintf(error, size, "cannot start an executor: %s: %s", what, strerror(why));
    slot_clear(self);
    errno = why;
    return PEACH_E_SYSTEM;
}

static bool make_page(slot_t *self, int *theirs)
{
    if ((*theirs = memfd_create("peach-slot", MFD_CLOEXEC)) < 0 ||
        ftruncate(*theirs, sizeof(shared_t)) != 0)
        return false;
    void *memory = mmap(NULL, sizeof(shared_t), PROT_READ | PROT_WRITE, MAP_SHARED, *theirs, 0);
    if (memory == MAP_FAILED) return false;
    self->shared = memory;
    randombytes_buf(&self->token, sizeof self->token);
    self->shared->token = self->token;
    return true;
}

static bool make_pipe(slot_t *self, int *theirs)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    self->print_fd = ends[0];
    *theirs = ends[1];
    return true;
}

static bool make_channel(slot_t *self, int *theirs)
{
    const int room = 1 << 20;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return false;
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    *theirs = pair[1];
    if ((self->channel = channel_new(pair[0], CHANNEL_FROM_EXECUTOR)) != NULL) return true;
    close(pair[0]);
    errno = ENOMEM;
    return false;
}

/* Makes channel, page and pipe; theirs[3] are the executor's ends of them, for the caller to
   close. On failure nothing is left of it, and errno says why. */
static int prepare(slot_t *self, int theirs[3], char *error, size_t size)
{
    *self = (slot_t){.print_fd = -1};
    theirs[0] = theirs[1] = theirs[2] = -1;
    if (make_page(self, &theirs[1]) && make_pipe(self, &theirs[2]) &&
        make_channel(self, &theirs[0]))
        return 0;
    int rc = failed(self, "its channel", error, size), why = errno;
    close_all(theirs);
    errno = why;
    return rc;
}

/* ---- starting ---- */

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
    int why = errno;
    close_all(theirs);
    if (control[1] >= 0) close(control[1]);
    if (made && self->pid > 0) {
        setpgid(self->pid, self->pid); /* whoever is first: it leads a group before it runs */
        if (control_p) *control_p = control[0];
        return 0;
    }
    if (control[0] >= 0) close(control[0]);
    self->pid = 0;
    errno = why;
    return failed(self, "fork", error, error_size);
}

int slot_ask(slot_t *self, int control, uint32_t number, char *error, size_t error_size)
{
    int theirs[3];
    int rc = prepare(self, theirs, error, error_size);
    if (rc) return rc;
    shared_request_t request = {getpid(), number};
    union {
        char bytes[CMSG_SPACE(sizeof theirs)];
        struct cmsghdr aligned;
    } room = {0};
    struct iovec part = {&request, sizeof request};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = room.bytes,
                             .msg_controllen = sizeof room.bytes};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof theirs);
    memcpy(CMSG_DATA(head), theirs, sizeof theirs);
    bool asked = sendmsg(control, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof request;
    int why = errno;
    close_all(theirs);
    errno = why;
    return asked ? 0 : failed(self, "the template", error, error_size);
}

bool slot_answer(int control, uint32_t *number, pid_t *pid)
{
    shared_request_t answer;
    if (recv(control, &answer, sizeof answer, MSG_DONTWAIT) != sizeof answer) return false;
    *number = answer.number;
    *pid = answer.pid;
    return true;
}

/* ---- ending ---- */

bool slot_ended(const slot_t *self)
{
    siginfo_t ended = {0};
    if (self->pid <= 0) return false;
    return waitid(P_PID, (id_t)self->pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           ended.si_pid != 0;
}

void slot_kill(const slot_t *self)
{
    if (self->pid <= 0) return;
    kill(self->pid, SIGKILL); /* no effect on one that has ended */
    kill(-self->pid, SIGKILL);
}

void slot_reap(slot_t *self, char *cause, size_t cause_size)
{
    int status = 0;
    siginfo_t ended;
    snprintf(cause, cause_size, "the executor is gone");
    if (self->pid <= 0) return;
    kill(self->pid, SIGKILL);
    /* While it is not collected its number is nobody else's, and so is its group's. */
    while (waitid(P_PID, (id_t)self->pid, &ended, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
    }
    kill(-self->pid, SIGKILL);
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

void slot_dismiss(slot_t *self)
{
    if (self->channel) shutdown(channel_fd(self->channel), SHUT_WR);
}

void slot_interrupt(slot_t *self, uint32_t number, uint32_t item)
{
    atomic_store(&self->shared->stop, ((uint64_t)number + 1) << 32 | item);
    if (self->pid > 0) kill(self->pid, SIGINT);
}

void slot_interrupt_again(slot_t *self, uint32_t number)
{
    if (self->pid > 0 && atomic_load(&self->shared->heard) != number + 1) kill(-self->pid, SIGINT);
}
