/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "raw.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

double clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double cpu_s(pid_t pid)
{
    char path[64];
    unsigned long user, system;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                        &user, &system) != 2) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void echo(const char *endpoint)
{
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_DEALER);
    zmq_connect(socket, endpoint);
    zmq_send(socket, "W", 1, 0);
    for (;;) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, socket, 0) < 0) exit(0);
        int more = zmq_msg_more(&frame);
        zmq_msg_send(&frame, socket, more ? ZMQ_SNDMORE : 0);
    }
}

/* The first message of a worker is "W"; what others send goes to the workers in
   turn with the sender in front, and comes back the same way. */
static void forward(int told)
{
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_ROUTER);
    const int none = 0;
    char endpoint[128];
    size_t size = sizeof endpoint;
    zmq_setsockopt(socket, ZMQ_SNDHWM, &none, sizeof none);
    zmq_setsockopt(socket, ZMQ_RCVHWM, &none, sizeof none);
    zmq_bind(socket, "tcp://127.0.0.1:*");
    zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &size);
    if (write(told, endpoint, sizeof endpoint) < 0) exit(1);
    zmq_msg_t workers[RAW_WORKERS];
    size_t count = 0, turn = 0;
    for (;;) {
        zmq_msg_t from, first, second;
        zmq_msg_init(&from);
        zmq_msg_init(&first);
        zmq_msg_init(&second);
        if (zmq_msg_recv(&from, socket, 0) < 0 || zmq_msg_recv(&first, socket, 0) < 0) exit(0);
        if (zmq_msg_more(&first)) { /* a reply: client, body */
            zmq_msg_recv(&second, socket, 0);
            zmq_msg_send(&first, socket, ZMQ_SNDMORE);
            zmq_msg_send(&second, socket, 0);
            zmq_msg_close(&from);
        } else if (zmq_msg_size(&first) == 1 && count < RAW_WORKERS) {
            zmq_msg_init(&workers[count]);
            zmq_msg_move(&workers[count++], &from);
        } else {
            zmq_msg_t to;
            zmq_msg_init(&to);
            zmq_msg_copy(&to, &workers[turn++ % count]);
            zmq_msg_send(&to, socket, ZMQ_SNDMORE);
            zmq_msg_send(&from, socket, ZMQ_SNDMORE);
            zmq_msg_send(&first, socket, 0);
        }
    }
}

static pid_t start(void (*run)(const char *), const char *endpoint, void (*serve)(int), int told)
{
    pid_t pid = fork();
    if (pid != 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (run) run(endpoint);
    if (serve) serve(told);
    exit(0);
}

void raw_start(raw_t *self)
{
    int told[2];
    char endpoint[128];
    if (pipe(told) != 0) exit(1);
    self->router = start(NULL, NULL, forward, told[1]);
    if (read(told[0], endpoint, sizeof endpoint) <= 0) exit(1);
    close(told[0]);
    close(told[1]);
    for (int i = 0; i < RAW_WORKERS; i++) self->workers[i] = start(echo, endpoint, NULL, 0);
    self->context = zmq_ctx_new();
    self->socket = zmq_socket(self->context, ZMQ_DEALER);
    const int none = 0;
    zmq_setsockopt(self->socket, ZMQ_SNDHWM, &none, sizeof none);
    zmq_setsockopt(self->socket, ZMQ_RCVHWM, &none, sizeof none);
    zmq_connect(self->socket, endpoint);
    usleep(300000); /* until all are there */
}

void raw_stop(raw_t *self)
{
    zmq_close(self->socket);
    zmq_ctx_term(self->context);
    for (int i = 0; i <= RAW_WORKERS; i++) {
        pid_t pid = i < RAW_WORKERS ? self->workers[i] : self->router;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
}

double raw_rate(raw_t *self, int tasks, int window)
{
    char body[32];
    double begin = clock_s();
    for (int sent = 0, done = 0; done < tasks;) {
        for (; sent < tasks && sent - done < window; sent++)
            zmq_send(self->socket, "0123456789", 10, 0);
        zmq_recv(self->socket, body, sizeof body, 0);
        done++;
    }
    return tasks / (clock_s() - begin);
}

double raw_trip(raw_t *self, const void *bytes, size_t size)
{
    zmq_msg_t back;
    double begin = clock_s();
    zmq_send(self->socket, bytes, size, 0);
    zmq_msg_init(&back);
    if (zmq_msg_recv(&back, self->socket, 0) != (int)size) exit(1);
    double took = clock_s() - begin;
    zmq_msg_close(&back);
    return took;
}
