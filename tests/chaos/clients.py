"""The clients of chaos: what they ask for, and whether they got it.

Each has numbers of its own, and each run of a number is a line of the file RUNS: so it is
known how often it ran, whatever its client was told.
"""
import collections
import json
import pathlib
import subprocess

from programs import BIN, python

HERE = pathlib.Path(__file__).resolve().parent
PRELOAD = """
import sys
sys.path.insert(0, {folder!r})
def job(x):
    import task
    return task.job(x, {runs!r})
"""
APART = 1_000_000  # between the first numbers of two clients
LEAST, MOST = 500, 8000  # items
SLOWER = {"arrays": 40, "puts": 4, "logs": 4, "futures": 10}  # what a client's items cost more
KINDS = ("command", *SLOWER)


class Client:
    """A process that maps; its results are lines of a file."""

    def __init__(self, chaos, number, host, kind, retries):
        self.kind, self.once = kind, retries == 0
        self.lost = 0  # items that failed with who had them
        self.first = number * APART
        self.count = chaos.dice.randrange(LEAST, MOST) // SLOWER.get(kind, 1)
        self.results = open(chaos.folder / f"results{number}", "w+")
        if kind == "command":
            command = [BIN / "peach", "map", "--quiet", "--connect", chaos.net.endpoint,
                       "--retries", retries, "job", f"{self.first}..{self.first + self.count - 1}"]
        else:
            command = [*python(), HERE / "mapper.py", kind, chaos.net.endpoint, retries, chaos.runs,
                       self.first, self.count]
        self.process = chaos.start(host, *command, stdout=self.results,
                                   watched=kind == "command")

    def __str__(self):
        return f"client {self.first // APART} ({self.kind}{', retries 0' if self.once else ''})"

    def lines(self):
        self.results.seek(0)
        return self.results.read().split("\n")[:-1]

    def check(self, runs):
        """What is wrong with what it has got, now that it has ended; or None."""
        lines = self.lines()
        self.results.close()
        if not lines and self.process.returncode == 3:
            return None  # it found no broker and said so
        if len(lines) != self.count:
            return (f"{self}: {len(lines)} results of {self.count}, exit status "
                    f"{self.process.returncode}")
        for x, line in enumerate(lines, self.first):
            wrong = self.check_item(x, json.loads(line), runs[x])
            if wrong:
                return f"{self}: item {x} {wrong}"
        return None

    def check_item(self, x, result, runs):
        status = result["error"]["status"] if isinstance(result, dict) else None
        dies, raises = x % 3001 == 3000, x % 701 == 700
        # What may run once is lost with who has it; the rest only by bad luck, again and again.
        lost = ("PEACH_E_DIED", "PEACH_E_LOST") if self.once or dies else ("PEACH_E_LOST",)
        if status in lost:
            self.lost += 1
            return None
        if status is None and result != x * 7 + 1 or status is None and (dies or raises):
            return f"is {str(result)[:200]}"
        if status is not None and not (raises and status == "PEACH_E_RAISED"):
            return f"failed: {result}"
        return None if runs > 0 else "never ran, and has a result"


def count_runs(path):
    """How often each number ran."""
    runs = collections.Counter()
    with open(path) as file:
        for line in file:
            runs[int(line)] += 1
    return runs


def doubled(clients, runs):
    """What ran twice though it was to run at most once; or None."""
    once = {client.first // APART: client for client in clients if client.once}
    for x, count in runs.items():
        if count > 1 and x // APART in once:
            return f"{once[x // APART]}: item {x} ran {count} times"
    return None
