/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "batch.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

/* A pair of sockets in this process. */
typedef struct {
    void *context, *router, *dealer;
} pair_t;

static int open_pair(void **state)
{
    pair_t *p = calloc(1, sizeof *p);
    const int mandatory = 1;
    p->context = zmq_ctx_new();
    p->router = zmq_socket(p->context, ZMQ_ROUTER);
    p->dealer = zmq_socket(p->context, ZMQ_DEALER);
    zmq_setsockopt(p->router, ZMQ_ROUTER_MANDATORY, &mandatory, sizeof mandatory);
    zmq_bind(p->router, "inproc://wire");
    zmq_connect(p->dealer, "inproc://wire");
    *state = p;
    return 0;
}

static int close_pair(void **state)
{
    pair_t *p = *state;
    zmq_close(p->dealer);
    zmq_close(p->router);
    zmq_ctx_term(p->context);
    free(p);
    return 0;
}

static wire_message_t *expect(pair_t *p, zmq_msg_t *route)
{
    wire_message_t *message;
    const char *why;
    zmq_msg_init(route);
    assert_int_equal(wire_receive(p->router, route, &message, &why), 0);
    return message;
}

static void a_batch_with_small_and_large_payloads_arrives_whole(void **state)
{
    pair_t *p = *state;
    static char large[100000];
    memset(large, 'x', sizeof large);
    payload_t *payloads[3] = {payload_new("tiny", 4), payload_new(large, sizeof large),
                              payload_new(NULL, 0)};
    wire_batch_t batch = {0};
    Peach__Job job = PEACH__JOB__INIT;
    job.function = "f";
    assert_int_equal(wire_batch_add(&batch, 1, &job.base), 0);
    for (uint64_t i = 0; i < 3; i++) {
        Peach__Task task = PEACH__TASK__INIT;
        Peach__Payload field;
        assert_int_equal(wire_attach(&batch.frames, payloads[i], &field), 0);
        task.id = i;
        task.items = 1;
        task.payload = &field;
        assert_int_equal(wire_batch_add(&batch, 2, &task.base), 0);
    }
    assert_int_equal(batch.frames.count, 1); /* the large one only */
    assert_int_equal(wire_batch_send(p->dealer, NULL, PEACH__ENVELOPE__BODY_SUBMIT, &batch), 0);
    wire_batch_free(&batch);
    zmq_msg_t route;
    wire_message_t *message = expect(p, &route);
    const Peach__Submit *submit = wire_envelope(message)->submit;
    assert_int_equal(submit->n_tasks, 3);
    assert_string_equal(submit->jobs[0]->function, "f");
    for (size_t i = 0; i < 3; i++) {
        payload_t *got = wire_payload(message, submit->tasks[i]->payload);
        assert_int_equal(payload_size(got), payload_size(payloads[i]));
        assert_memory_equal(payload_bytes(got), payload_bytes(payloads[i]), payload_size(got));
        payload_unref(&got);
        payload_unref(&payloads[i]);
    }
    wire_message_destroy(&message);
    zmq_msg_close(&route);
}

static void a_payload_outlives_its_message_and_is_sent_again(void **state)
{
    pair_t *p = *state;
    static char large[50000];
    payload_t *payload = payload_new(large, sizeof large);
    for (int i = 0; i < 2; i++) {
        Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
        Peach__Preload preload = PEACH__PRELOAD__INIT;
        Peach__PreloadItem item = PEACH__PRELOAD_ITEM__INIT, *items = &item;
        Peach__Payload field;
        uint8_t digest[WIRE_DIGEST_BYTES] = {0};
        wire_frames_t frames = {0};
        assert_int_equal(wire_attach(&frames, payload, &field), 0);
        item.kind = PEACH__PRELOAD_KIND__PRELOAD_PLUGIN;
        item.name = "x.so";
        item.digest = (ProtobufCBinaryData){sizeof digest, digest};
        item.source = &field;
        preload.preloads = &items;
        preload.n_preloads = 1;
        envelope.body_case = PEACH__ENVELOPE__BODY_PRELOAD;
        envelope.preload = &preload;
        assert_int_equal(wire_send(p->dealer, NULL, &envelope, &frames), 0);
        wire_frames_clear(&frames);
        payload_unref(&payload);
        zmq_msg_t route;
        wire_message_t *message = expect(p, &route);
        payload = wire_payload(message, wire_envelope(message)->preload->preloads[0]->source);
        wire_message_destroy(&message);
        zmq_msg_close(&route);
        assert_int_equal(payload_size(payload), sizeof large);
    }
    payload_unref(&payload);
}

static void nothing_there_and_nobody_there_are_told_apart(void **state)
{
    pair_t *p = *state;
    wire_message_t *message;
    const char *why;
    zmq_msg_t route;
    zmq_msg_init(&route);
    assert_int_equal(wire_receive(p->router, &route, &message, &why), PEACH_E_TIMEOUT);
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Heartbeat heartbeat = PEACH__HEARTBEAT__INIT;
    envelope.body_case = PEACH__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &heartbeat;
    zmq_msg_t stranger;
    zmq_msg_init_size(&stranger, 5);
    memcpy(zmq_msg_data(&stranger), "nobod", 5);
    assert_int_equal(wire_send(p->router, &stranger, &envelope, NULL), PEACH_E_LOST);
    zmq_msg_close(&stranger);
    zmq_msg_close(&route);
}

/* ---- what must be refused ---- */

static int decode(const Peach__Envelope *envelope, size_t frames)
{
    size_t size = peach__envelope__get_packed_size(envelope);
    uint8_t *bytes = malloc(size + 1);
    peach__envelope__pack(envelope, bytes);
    zmq_msg_t *messages = calloc(frames + 1, sizeof *messages);
    for (size_t i = 0; i < frames; i++) zmq_msg_init(&messages[i]);
    wire_message_t *message;
    const char *why;
    int rc = wire_decode(bytes, size, messages, frames, &message, &why);
    if (rc) assert_true(strlen(why) > 0);
    for (size_t i = 0; i < frames; i++) zmq_msg_close(&messages[i]);
    free(messages);
    free(bytes);
    wire_message_destroy(&message);
    return rc;
}

static void every_bound_of_the_protocol_is_checked(void **state)
{
    (void)state;
    static char long_name[WIRE_MAX_NAME + 2];
    memset(long_name, 'n', sizeof long_name - 1);
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL); /* no body */

    Peach__Submit submit = PEACH__SUBMIT__INIT;
    Peach__Job job = PEACH__JOB__INIT, *jobs = &job;
    Peach__Task task = PEACH__TASK__INIT, *tasks = &task;
    Peach__Payload payload = PEACH__PAYLOAD__INIT;
    Peach__Range range = PEACH__RANGE__INIT, *ranges = &range;
    envelope.body_case = PEACH__ENVELOPE__BODY_SUBMIT;
    envelope.submit = &submit;
    submit.jobs = &jobs;
    submit.n_jobs = 1;
    submit.tasks = &tasks;
    submit.n_tasks = 1;
    job.function = "f";
    task.items = 2;
    task.payload = &payload;
    assert_int_equal(decode(&envelope, 0), 0);
    task.job = 1;
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL);
    task.job = 0;
    task.items = 0;
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL);
    task.items = WIRE_MAX_ITEMS + 1;
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL);
    task.items = 2;
    payload.frame = 1;
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL);
    assert_int_equal(decode(&envelope, 1), 0);
    payload.frame = 0;
    task.todo = &ranges;
    task.n_todo = 1;
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL); /* an empty range */
    range.first = 1;
    range.count = 2;
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL);
    task.n_todo = 0;
    job.priority = 8;
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL);
    job.priority = 0;
    job.weight = WIRE_MAX_WEIGHT + 1;
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL);
    job.weight = WIRE_MAX_WEIGHT;
    assert_int_equal(decode(&envelope, 0), 0);
    job.function = "";
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL);
    job.function = long_name;
    assert_int_equal(decode(&envelope, 0), PEACH_E_LIMIT);
    job.function = "\xFF";
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL);
    job.function = "f";
    Peach__Task **many = calloc(WIRE_MAX_BATCH + 1, sizeof *many);
    for (size_t i = 0; i <= WIRE_MAX_BATCH; i++) many[i] = &task;
    submit.tasks = many;
    submit.n_tasks = WIRE_MAX_BATCH;
    assert_int_equal(decode(&envelope, 0), 0);
    submit.n_tasks = WIRE_MAX_BATCH + 1;
    assert_int_equal(decode(&envelope, 0), PEACH_E_LIMIT);
    free(many);
}

static void a_hello_says_who_speaks(void **state)
{
    (void)state;
    uint8_t session[WIRE_SESSION_BYTES] = {1};
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    Peach__Hello hello = PEACH__HELLO__INIT;
    Peach__Registration registration = PEACH__REGISTRATION__INIT;
    envelope.body_case = PEACH__ENVELOPE__BODY_HELLO;
    envelope.hello = &hello;
    hello.version = WIRE_VERSION;
    hello.role = PEACH__ROLE__ROLE_CLIENT;
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL); /* no session */
    hello.session = (ProtobufCBinaryData){sizeof session, session};
    assert_int_equal(decode(&envelope, 0), 0);
    hello.role = PEACH__ROLE__ROLE_WORKER;
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL); /* no registration */
    hello.registration = &registration;
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL); /* no slots */
    registration.slots = 2;
    registration.window = 1;
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL); /* window below slots */
    registration.window = 4;
    assert_int_equal(decode(&envelope, 0), 0);
    hello.token = (ProtobufCBinaryData){3, session}; /* of no Welcome */
    assert_int_equal(decode(&envelope, 0), PEACH_E_PROTOCOL);
    hello.token.len = sizeof session;
    assert_int_equal(decode(&envelope, 0), 0);
    /* Of another version only the version is looked at. */
    hello.version = WIRE_VERSION + 1;
    hello.session.len = 0;
    assert_int_equal(decode(&envelope, 0), 0);
}

static void garbage_and_bombs_are_refused(void **state)
{
    (void)state;
    wire_message_t *message;
    const char *why;
    assert_int_equal(wire_decode("GET / HTTP/1.1\r\n", 16, NULL, 0, &message, &why),
                     PEACH_E_PROTOCOL);
    static uint8_t big[WIRE_MAX_ENVELOPE + 1];
    assert_int_equal(wire_decode(big, sizeof big, NULL, 0, &message, &why), PEACH_E_LIMIT);
    /* Millions of empty tasks: each is two bytes here and a struct there. */
    uint8_t *bomb = malloc(WIRE_MAX_ENVELOPE);
    size_t body = WIRE_MAX_ENVELOPE - 5;
    bomb[0] = PEACH__ENVELOPE__BODY_SUBMIT << 3 | 2;
    bomb[1] = (uint8_t)(body | 0x80);
    bomb[2] = (uint8_t)(body >> 7 | 0x80);
    bomb[3] = (uint8_t)(body >> 14 | 0x80);
    bomb[4] = (uint8_t)(body >> 21);
    for (size_t i = 0; i < body; i += 2) {
        bomb[5 + i] = 2 << 3 | 2;
        if (i + 1 < body) bomb[6 + i] = 0;
    }
    assert_true(wire_decode(bomb, WIRE_MAX_ENVELOPE, NULL, 0, &message, &why) < 0);
    free(bomb);
    uint32_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        uint8_t noise[64];
        for (size_t i = 0; i < sizeof noise; i++) {
            seed = seed * 1664525 + 1013904223;
            noise[i] = (uint8_t)(seed >> 24);
        }
        size_t size = noise[0] % sizeof noise;
        if (wire_decode(noise + 1, size, NULL, 0, &message, &why) == 0)
            wire_message_destroy(&message);
    }
}

static void text_of_any_origin_becomes_utf8(void **state)
{
    (void)state;
    char *text = wire_text("caf\xE9");
    assert_string_equal(text, "caf?");
    free(text);
    text = wire_text("caf\xC3\xA9");
    assert_string_equal(text, "caf\xC3\xA9");
    free(text);
    char *large = malloc(WIRE_MAX_TEXT + 32);
    memset(large, 'a', WIRE_MAX_TEXT - 1);
    strcpy(large + WIRE_MAX_TEXT - 1, "\xC3\xA9 and more");
    text = wire_text(large);
    assert_int_equal(strlen(text), WIRE_MAX_TEXT - 1); /* not half a character */
    free(text);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_batch_with_small_and_large_payloads_arrives_whole,
                                        open_pair, close_pair),
        cmocka_unit_test_setup_teardown(a_payload_outlives_its_message_and_is_sent_again, open_pair,
                                        close_pair),
        cmocka_unit_test_setup_teardown(nothing_there_and_nobody_there_are_told_apart, open_pair,
                                        close_pair),
        cmocka_unit_test(every_bound_of_the_protocol_is_checked),
        cmocka_unit_test(a_hello_says_who_speaks),
        cmocka_unit_test(garbage_and_bombs_are_refused),
        cmocka_unit_test(text_of_any_origin_becomes_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
