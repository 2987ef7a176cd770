/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* Tasks a second, one item a task: peach beside plain libzmq in the same minute.
   The yardstick is a DEALER client, one ROUTER that forwards round robin and four
   DEALER processes that echo, over TCP, one message a task. */
#include <peach/peach.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum { WORKERS = 4, WINDOW = 2000 };

static double clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- the yardstick ---- */

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
    zmq_msg_t workers[WORKERS];
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
        } else if (zmq_msg_size(&first) == 1 && count < WORKERS) {
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

static double raw(int tasks)
{
    int told[2];
    char endpoint[128], body[32];
    pid_t pids[WORKERS + 1];
    if (pipe(told) != 0) exit(1);
    pids[WORKERS] = start(NULL, NULL, forward, told[1]);
    if (read(told[0], endpoint, sizeof endpoint) <= 0) exit(1);
    for (int i = 0; i < WORKERS; i++) pids[i] = start(echo, endpoint, NULL, 0);
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_DEALER);
    zmq_connect(socket, endpoint);
    usleep(300000); /* until all are there */
    double begin = clock_s();
    for (int sent = 0, done = 0; done < tasks;) {
        for (; sent < tasks && sent - done < WINDOW; sent++) zmq_send(socket, "0123456789", 10, 0);
        zmq_recv(socket, body, sizeof body, 0);
        done++;
    }
    double rate = tasks / (clock_s() - begin);
    zmq_close(socket);
    zmq_ctx_term(context);
    for (int i = 0; i <= WORKERS; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    return rate;
}

/* ---- peach ---- */

static double mapped(peach_t *fleet, const char *function, int tasks, uint32_t chunk)
{
    peach_job_options_t options = peach_job_defaults;
    options.chunk = chunk;
    peach_value_t *items = peach_value_range(0, tasks - 1);
    double begin = clock_s();
    peach_job_t *job = peach_map(fleet, function, &items, &options);
    peach_result_t result;
    int done = 0;
    while (job && peach_job_next(job, &result, 60000) == 0) {
        done += result.value != NULL;
        peach_result_clear(&result);
    }
    double rate = done / (clock_s() - begin);
    peach_job_destroy(&job);
    if (done != tasks) {
        fprintf(stderr, "%d of %d: %s\n", done, tasks, peach_error(fleet));
        exit(1);
    }
    return rate;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    enum { RUNS = 5, TASKS = 50000, ITEMS = 1000000 };
    double yard[RUNS], single[RUNS], chunked[RUNS], ratio[RUNS];
    const char *function = argc > 1 ? argv[1] : "fnc";
    peach_error_t error;
    peach_t *fleet = peach_connect(NULL, 3000, &error);
    if (!fleet) {
        fprintf(stderr, "%s\n", error.message);
        return 3;
    }
    mapped(fleet, function, 1000, 0); /* warm */
    for (int i = 0; i < RUNS; i++) {
        yard[i] = raw(TASKS);
        single[i] = mapped(fleet, function, TASKS, 1);
        chunked[i] = mapped(fleet, function, ITEMS, 0);
        ratio[i] = single[i] / yard[i];
    }
    qsort(yard, RUNS, sizeof *yard, compare);
    qsort(single, RUNS, sizeof *single, compare);
    qsort(chunked, RUNS, sizeof *chunked, compare);
    qsort(ratio, RUNS, sizeof *ratio, compare);
    printf("median of %d runs\n", RUNS);
    printf("plain libzmq, one message a task  %10.0f tasks/s\n", yard[RUNS / 2]);
    printf("peach, one item a task            %10.0f tasks/s (%.2f of it)\n", single[RUNS / 2],
           ratio[RUNS / 2]);
    printf("peach, %d items in chunks   %10.0f items/s\n", ITEMS, chunked[RUNS / 2]);
    peach_close(&fleet);
    return 0;
}
