#!/usr/bin/python3
"""Writes the fuzzers' seeds, made of real messages: tests/fuzz/seeds.py FOLDER"""
import hashlib
import pathlib
import re
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def varint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def field(number, value):
    """A field of protobuf: a number, bytes, or text."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def message(fields):
    return b"".join(field(n, v) for n, v in fields)


def envelope(body, fields):
    return field(body, message(fields))


def zigzag(n):
    return n << 1 if n >= 0 else (-n << 1) - 1


def fields(data):
    """What a message has: pairs of a field's number and its value, as they come."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(data):
        tag = number()
        size = {0: 0, 1: 8, 5: 4}.get(tag & 7)
        if size == 0:
            yield tag >> 3, number()
            continue
        size = number() if size is None else size
        yield tag >> 3, data[at:at + size]
        at += size


VERSION = 4
FUNCTION = message([(1, "f"), (2, 0)])
REPORT = message([(1, "f.py"), (2, bytes(32)), (3, 1)])
LABEL = message([(1, "gpu"), (2, "1")])
REGISTRATION = message([(1, 2), (2, 64), (3, LABEL), (4, REPORT), (5, FUNCTION), (6, 1 << 20)])
HELLO_WORKER = envelope(1, [(1, VERSION), (2, 2), (3, b"w" * 16), (4, "h"), (5, 7), (7, REGISTRATION),
                            (10, 1)])
HELLO_AGAIN = envelope(1, [(1, VERSION), (2, 2), (3, b"w" * 16), (4, "h"), (7, REGISTRATION),
                           (8, bytes(16)), (10, 2)])
HELLO_CLIENT = envelope(1, [(1, VERSION), (2, 1), (3, b"c" * 16), (4, "h"), (10, 1)])
BACK_CLIENT = envelope(1, [(1, VERSION), (2, 1), (3, b"c" * 16), (4, "h"), (8, bytes(16)), (9, 0),
                           (10, 2)])


def job(number, **more):
    known = {"priority": 5, "retries": 6, "require": 9, "item_ms": 10, "deadline_ms": 11,
             "queue_ms": 12, "weight": 13, "retry_errors": 14, "refs": 15, "depth": 18,
             "logs": 19, "origin": 20, "known": 21}
    return message([(1, number), (2, "f")] + [(known[k], v) for k, v in more.items()])


def task(number, items, todo=()):
    return message([(1, number), (4, items), (5, message([(1, b"xyz")]))] +
                   [(6, message([(1, a), (2, n)])) for a, n in todo])


def submit(serial, *tasks, **more):
    return envelope(3, [(1, job(1, **more))] + [(2, t) for t in tasks] + [(3, serial)])


def results(serial, *parts):
    return envelope(5, [(1, p) for p in parts] + [(2, serial)])


def result(lease, first, count, ended=1):
    segment = message([(1, first), (2, count), (3, message([(1, b"r")]))])
    return message([(1, lease), (2, segment), (4, ended), (5, 10)])


def failed(lease, item, status, ended=1):
    failure = message([(1, item), (2, 1), (3, zigzag(status)), (5, "why"), (7, "h"), (8, 9)])
    return message([(1, lease), (3, failure), (4, ended), (5, 10)])


def column(form, *numbers):
    return struct.pack(f"<{len(numbers)}{form}", *numbers)


def singles(*ids, elapsed=None, job=0):
    """Tasks of one item each; or, with elapsed, results."""
    fields = [(1, job), (2, column("Q", *ids))]
    fields.append((3, column("Q", *ids)) if elapsed is None else
                  (4, column("I", *[elapsed] * len(ids))))
    return message(fields + [(5, column("I", *[3] * len(ids))), (6, b"xyz" * len(ids))])


# Shared memory of a process that is not there.
SHARED = message([(3, message([(1, 4194304), (2, 9), (3, 1 << 20), (4, b"t" * 16)]))])
HEARTBEAT = envelope(13, [(1, 1)])
CANCEL = envelope(7, [(1, 1)])
GOODBYE = envelope(14, [])
SOURCE = b"def g(x): return x"
DIGEST = hashlib.sha256(SOURCE).digest()
G = [(1, 1), (2, "g.py"), (3, DIGEST), (4, "/g.py"), (5, message([(1, SOURCE)]))]
PRELOAD = envelope(8, [(1, 5), (2, message(G))])
STATUS = envelope(11, [(1, 6)])
DRAIN = envelope(16, [(1, 7), (4, 1)])
LEASES = envelope(18, [(1, 1)])

ORIGIN = b"o" * 16
HELLO_DOUBTS = envelope(1, [(1, VERSION), (2, 1), (3, b"c" * 16), (4, "h"), (10, 1), (12, ORIGIN)])
UNBEGUN = envelope(26, [(1, ORIGIN), (2, message([(1, 1), (2, message([(1, 1), (2, 2)]))]))])
LINES = envelope(22, [(1, message([(1, 1), (2, n), (3, "h"), (4, 9), (6, "printed"), (7, n % 2)]))
                      for n in range(3)])
PUT = envelope(19, [(1, 4), (2, 3), (3, message([(1, b"value")]))])
PUSHED = message([(1, "g.py"), (2, DIGEST), (3, 1), (5, 7)])
HELLO_PUSHED = envelope(1, [(1, VERSION), (2, 2), (3, b"w" * 16), (4, "h"),
                            (7, message([(1, 2), (2, 64), (4, PUSHED)])), (10, 1)])
RESTORED = envelope(8, [(2, message(G + [(6, 7)]))])

C, W, T = 0, 1, 9
TALKS = [
    [(C, HELLO_CLIENT), (W, HELLO_WORKER), (C, submit(1, task(1, 3))),
     (W, results(1, result(1, 0, 3))), (C, HEARTBEAT), (C, GOODBYE)],
    [(W, HELLO_WORKER), (C, HELLO_CLIENT), (C, submit(1, task(1, 4), task(2, 2), retries=2)),
     (W, results(1, failed(1, 1, -13))), (W, results(2, result(3, 1, 1))), (T, 1200),
     (W, results(3, failed(2, 0, -12), result(4, 0, 1))), (C, CANCEL), (W, GOODBYE)],
    [(W, HELLO_WORKER), (C, HELLO_CLIENT), (C, submit(1, task(1, 4, [(0, 1), (2, 2)]), retries=1)),
     (T, 900), (2, HELLO_AGAIN), (2, results(1, result(1, 0, 1, 0))), (2, LEASES),
     (3, BACK_CLIENT), (3, submit(2, task(2, 1), deadline_ms=50, queue_ms=20)), (T, 3000), (T, 60000)],
    [(C, HELLO_CLIENT), (C, PRELOAD), (W, HELLO_WORKER), (C, STATUS), (C, DRAIN),
     (W, envelope(10, [(1, 2), (2, 8)])), (W, envelope(16, [(1, 0)])), (C, STATUS)],
    [(C, HELLO_CLIENT), (C, submit(1, task(1, 1), require=LABEL, weight=7, priority=3)),
     (W, HELLO_WORKER), (T, 500), (W, results(1, failed(1, 0, -12))), (C, STATUS)],
    [(W, HELLO_WORKER), (C, HELLO_CLIENT),
     (C, envelope(3, [(1, job(1)), (4, singles(1, 2, 3)), (3, 1)])),
     (W, envelope(5, [(4, singles(1, 2, elapsed=5)), (2, 1)])), (C, CANCEL), (C, STATUS)],
    # A run of single tasks, whose first ones go out, end, are lost and are cancelled.
    [(C, HELLO_CLIENT), (C, envelope(3, [(1, job(1)), (4, singles(*range(1, 41))), (3, 1)])),
     (W, HELLO_WORKER), (W, envelope(5, [(4, singles(1, 2, 3, elapsed=5)), (2, 1)])),
     (W, results(2, failed(4, 0, -13))), (C, STATUS), (C, CANCEL)],
    [(C, HELLO_CLIENT), (C, envelope(3, [(1, job(1)), (4, singles(*range(1, 41))), (3, 1)])),
     (C, GOODBYE)],
    [(C, HELLO_CLIENT), (W, HELLO_WORKER), (C, PUT), (C, submit(1, task(1, 2), refs=message([(1, 3)]))),
     (W, results(1, result(1, 0, 2))), (W, envelope(21, [(1, 1)])), (C, envelope(21, [(1, 3)]))],
    [(W, HELLO_WORKER), (C, HELLO_CLIENT), (C, submit(1, task(1, 3), logs=1, depth=2)), (W, LINES),
     (W, LINES), (W, results(1, result(1, 0, 3)))],
    # Tasks that run once, at a broker that was lost.
    [(W, HELLO_WORKER), (C, HELLO_DOUBTS), (W, UNBEGUN), (C, submit(1, task(1, 3), origin=ORIGIN)),
     (W, results(1, result(1, 0, 1, 0))), (W, UNBEGUN), (T, 60000)],
    # Versions of preloads: pushed, known from before, failed, unloaded, cancelled jobs.
    [(W, HELLO_PUSHED), (C, HELLO_CLIENT), (W, RESTORED), (C, PRELOAD), (W, envelope(10, [(1, 2), (2, 8),
      (4, message([(1, "g.py"), (2, DIGEST), (3, 2), (4, "Traceback"), (5, 9)]))])),
     (C, envelope(8, [(1, 9), (4, "g.py")])), (C, STATUS)],
    [(W, HELLO_WORKER), (C, HELLO_CLIENT), (C, submit(1, task(1, 3), known=9)), (C, STATUS),
     (C, envelope(23, [(1, 8), (2, 1)])), (C, envelope(23, [(1, 9), (3, 1)])), (C, STATUS)],
    [(W, HELLO_WORKER), (C, HELLO_CLIENT),
     (C, envelope(3, [(1, job(1)), (2, message([(1, 1), (4, 1), (5, SHARED)])), (3, 1)])),
     (C, submit(2, task(2, 1))),
     (W, results(1, message([(1, 1), (2, message([(2, 1), (3, SHARED)])), (4, 1)]))), (C, STATUS)],
]


def record(who, what):
    if who == T:
        return bytes([T, 0]) + struct.pack("<H", min(what, 65535))
    return bytes([who, 0]) + struct.pack("<H", len(what)) + what


def seeds():
    text = (ROOT / "proto" / "PROTOCOL.md").read_text().split("A worked example")[1]
    blocks = [bytes.fromhex("".join(b.split()))
              for b in re.findall(r"\n\n((?:    [0-9a-f ]+\n)+)", text)]
    messages = [m for talk in TALKS for who, m in talk if who != T]
    yield from (("wire", bytes([n]) + b) for b in blocks + messages for n in (0, 2))
    yield "value", blocks[2]
    buffer = message([(9, message([(1, 3), (2, b"\x02"), (3, b"ab")]))])
    yield "value", message([(11, message([(1, message([(6, b"pickle")])), (1, buffer)]))])
    for text in ('[1,2.5,"a",null,true,{"x":{}}]', '{"$bytes":"AAEC"}', '{"$float":"nan"}'):
        yield "json", text.encode()
    yield "config", b'{"worker": {"slots": [1, "2"], "insecure": true}, "broker": {}}'
    for text in ("tcp://127.0.0.1:5001,tcp://[::1]:5002", "tcp://*:1", "tcp://host.name:65535"):
        yield "endpoint", text.encode()
    for m in messages:
        yield "channel", b"mrkpeach" + struct.pack("<QQ", 1, len(m)) + m
        yield "channel", struct.pack("<QQQ", 2, len(m), 5) + m + b"bytes"
    for talk in TALKS:
        for cut in range(1, len(talk) + 1):
            yield "broker", b"".join(record(*step) for step in talk[:cut])


def main():
    counts = {}
    for name, data in seeds():
        folder = pathlib.Path(sys.argv[1]) / f"corpus-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        counts[name] = counts.get(name, -1) + 1
        (folder / f"seed{counts[name]}").write_bytes(data)


if __name__ == "__main__":
    main()
