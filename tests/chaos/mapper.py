"""A Python client of chaos: mapper.py HOW ENDPOINT RETRIES RUNS FIRST COUNT

It runs job(x) for COUNT numbers from FIRST on, in one of the ways below, and prints what
peach map prints: a line of JSON an item, in order. What goes there and back is checked here, and
a wrong value is printed as such. Exit status 3: there was no broker.
"""
import json
import sys

import cloudpickle
import numpy

import peach
import task
from task import job

cloudpickle.register_pickle_by_value(task)
ARRAY = 1 << 17  # numbers: 1 MiB


def arrays(client, retries, runs, numbers):
    """1 MiB there and 1 MiB back."""
    def double(item):
        x, array = item
        return job(x, runs), array * 2

    items = ((x, numpy.full(ARRAY, x, "i8")) for x in numbers)
    results = client.imap(double, items, return_exceptions=True, retries=retries)
    for x, result in zip(numbers, results):
        if isinstance(result, tuple):
            value, array = result
            right = len(array) == ARRAY and (array == 2 * x).all()
            result = value if right else f"the array has {array[:3]} and more, {len(array)} numbers"
        yield result


def puts(client, retries, runs, numbers):
    """Every item refers to 1 MiB that was put."""
    value = numpy.arange(ARRAY) + numbers[0]
    put = client.put(value)

    def look(x, value):
        return job(x, runs), int(value[x % len(value)])

    results = client.map(look, numbers, [put] * len(numbers), return_exceptions=True,
                         retries=retries)
    for x, result in zip(numbers, results):
        if isinstance(result, tuple):
            result, seen = result
            if seen != value[x % ARRAY]:
                result = f"the value that was put has {seen} in place {x % ARRAY}"
        yield result


def logs(client, retries, runs, numbers):
    """Items print. Lines may be lost with who had them, but are under the right item."""
    wrong = []

    def note(item, host, pid, slot, text):
        if text != f"this is {numbers[item]}" and not text.startswith("("):
            wrong.append((item, text))

    def speak(x):
        print("this is", x)
        return job(x, runs)

    yield from client.imap(speak, numbers, return_exceptions=True, retries=retries, logs=note)
    if wrong:
        yield f"lines of other items: {wrong[:3]}"


def futures(client, retries, runs, numbers):
    """Each item is a job of its own."""
    for future in [client.options(retries=retries).submit(job, x, runs) for x in numbers]:
        yield future.exception() or future.result()


def shown(result):
    if not isinstance(result, BaseException):
        return result
    status = "PEACH_E_RAISED" if isinstance(result, ValueError) else getattr(result, "status", "")
    return {"error": {"status": status, "message": repr(result)}}


def main():
    how, endpoint, retries, runs, first, count = sys.argv[1:]
    numbers = range(int(first), int(first) + int(count))
    try:
        client = peach.connect(endpoint)
    except peach.NoBroker:
        return 3
    with client:
        for result in globals()[how](client, int(retries), runs, numbers):
            print(json.dumps(shown(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
