/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* A template loads the preloads, runs nothing, and copies itself for the seats. */
#include "executor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell_runtimes(executor_t *x, fork_phase_t phase)
{
    if (x->python) x->python->forks(x->python, phase);
}

/* In a copy: its own channel and page, in the places of the template's. */
static void become_copy(executor_t *x, pid_t supervisor, pid_t between, const int theirs[3])
{
    /* Whatever kills the supervisor kills its executors; the process in between goes now, and
       then we are the supervisor's child, unless that has been killed meanwhile. */
    while (getppid() == between) usleep(100);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != supervisor) _exit(127);
    setpgid(0, 0);
    executor_clear_fork();
    close(CONTROL_FD);
    channel_destroy(&x->channel);
    x->channel = dup2(theirs[0], CHANNEL_FD) < 0 ? NULL : channel_new(CHANNEL_FD, 0);
    void *page = mmap(x->shared, sizeof *x->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                      theirs[1], 0);
    for (int i = 0; i < 3; i++) dup2(theirs[2], (const int[]){1, 2, PRINT_FD}[i]);
    if (!x->channel || page == MAP_FAILED) executor_die("out of memory");
    for (int i = 0; i < 3; i++) close(theirs[i]);
    x->template = false;
    executor_note_descriptors(x);
    tell_runtimes(x, FORK_CHILD);
    executor_seed();
    for (size_t i = 0; i < x->loaded_count; i++)
        if (channel_put_batch(x->channel, 0, &x->loaded[i].message) != 0)
            executor_die("out of memory");
    if (channel_flush(x->channel) != 0) exit(1);
}

/* Copies this process; true in the copy. The process in between makes the copy the
   supervisor's child. */
static bool copy_process(executor_t *x, const shared_request_t *request, const int theirs[3])
{
    int told[2];
    pid_t copy = 0;
    if (pipe2(told, O_CLOEXEC) != 0) told[0] = told[1] = -1;
    tell_runtimes(x, FORK_BEFORE);
    pid_t between = told[0] < 0 ? -1 : fork();
    if (between == 0) {
        between = getpid();
        copy = fork();
        if (copy == 0) {
            close(told[0]);
            close(told[1]);
            become_copy(x, request->pid, between, theirs);
            return true;
        }
        _exit(write(told[1], &copy, sizeof copy) < 0);
    }
    tell_runtimes(x, FORK_PARENT);
    if (told[1] >= 0) close(told[1]);
    if (between < 0 || read(told[0], &copy, sizeof copy) != sizeof copy) copy = 0;
    if (told[0] >= 0) close(told[0]);
    while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR) {
    }
    shared_request_t answer = {copy > 0 ? copy : 0, request->number};
    if (send(CONTROL_FD, &answer, sizeof answer, MSG_NOSIGNAL) < 0) exit(0);
    return false;
}

/* Reads a request and the descriptors that came with it. */
static bool read_request(shared_request_t *request, int theirs[3])
{
    enum { BYTES = 3 * sizeof(int) };
    union {
        char bytes[CMSG_SPACE(BYTES)];
        struct cmsghdr aligned;
    } room;
    struct iovec part = {request, sizeof *request};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = room.bytes,
                             .msg_controllen = sizeof room.bytes};
    if (recvmsg(CONTROL_FD, &message, MSG_CMSG_CLOEXEC) != sizeof *request) return false;
    const struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (!head || (message.msg_flags & MSG_CTRUNC) || head->cmsg_len != CMSG_LEN(BYTES))
        return false;
    memcpy(theirs, CMSG_DATA(head), BYTES);
    return true;
}

/* Serves requests for copies until there is a message; false in a copy. What came over the
   channel comes first: it was sent before the request. */
bool template_wait(executor_t *x)
{
    while (!channel_ready(x->channel, 0)) {
        struct pollfd items[] = {{CHANNEL_FD, POLLIN, 0}, {CONTROL_FD, POLLIN, 0}};
        if (poll(items, 2, -1) < 0 || items[0].revents || !items[1].revents) continue;
        shared_request_t request;
        int theirs[3];
        if (!read_request(&request, theirs)) exit(0);
        if (copy_process(x, &request, theirs)) return false;
        for (int i = 0; i < 3; i++) close(theirs[i]);
    }
    return true;
}
