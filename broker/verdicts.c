/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* What workers say of tasks that are to run at most once and were at a broker that was lost:
   kept until the client that is in doubt has found its way here, too. */
#include "shell.h"

#include <stdlib.h>
#include <string.h>

static const size_t most_bytes = 16 << 20;

typedef struct {
    node_t node;
    uint64_t at_ms;
    size_t bytes;
    Peach__Unbegun *message;
} verdict_t;

static void forget(broker_t *b, verdict_t *verdict)
{
    list_remove(&verdict->node);
    b->verdict_bytes -= verdict->bytes;
    peach__unbegun__free_unpacked(verdict->message, NULL);
    free(verdict);
}

/* The oldest go: as long as a client may need to come, and no more than there is room for. */
static void trim(broker_t *b)
{
    for (node_t *n; (n = list_first(&b->verdicts)) != NULL;) {
        verdict_t *verdict = LIST_ITEM(n, verdict_t, node);
        if (b->verdict_bytes <= most_bytes &&
            b->now_ms - verdict->at_ms <= 3 * b->options.session_ms)
            break;
        forget(b, verdict);
    }
}

static void tell(broker_t *b, peer_t *client, Peach__Unbegun *message)
{
    Peach__Envelope envelope = PEACH__ENVELOPE__INIT;
    envelope.body_case = PEACH__ENVELOPE__BODY_UNBEGUN;
    envelope.unbegun = message;
    shell_send(b, client, &envelope, NULL);
}

static bool is_in_doubt(const peer_t *client, const Peach__Unbegun *message)
{
    for (size_t i = 0; i < client->doubt_count; i++)
        if (memcmp(client->doubts[i], message->origin.data, WIRE_SESSION_BYTES) == 0) return true;
    return false;
}

void verdicts_take(broker_t *b, const Peach__Unbegun *message)
{
    verdict_t *verdict = calloc(1, sizeof *verdict);
    Peach__Unbegun *copy = verdict ? wire_copy(&message->base) : NULL;
    if (!copy) {
        free(verdict); /* the client's patience ends the doubt */
        return;
    }
    *verdict = (verdict_t){
        .at_ms = b->now_ms, .bytes = 2 * peach__unbegun__get_packed_size(message), .message = copy};
    list_append(&b->verdicts, &verdict->node);
    b->verdict_bytes += verdict->bytes;
    for (node_t *n = list_first(&b->peers); n; n = list_next(&b->peers, n)) {
        peer_t *peer = LIST_ITEM(n, peer_t, node);
        if (peer->client && is_in_doubt(peer, copy)) tell(b, peer, copy);
    }
    trim(b);
}

void verdicts_send(broker_t *b, peer_t *client)
{
    trim(b);
    for (node_t *n = list_first(&b->verdicts); n; n = list_next(&b->verdicts, n)) {
        verdict_t *verdict = LIST_ITEM(n, verdict_t, node);
        if (is_in_doubt(client, verdict->message)) tell(b, client, verdict->message);
    }
}

void verdicts_clear(broker_t *b)
{
    while (!list_empty(&b->verdicts))
        forget(b, LIST_ITEM(list_first(&b->verdicts), verdict_t, node));
}
