#!/usr/bin/python3
"""Breaks the code on purpose, one place at a time, and expects the simulation to find it.

    tests/sim/mutants.py [--seconds S] [NAME...]

Each bug is built in a copy of the sources; the simulation must fail within S seconds
(default 60). Exit status 0: every bug was found.
"""
import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]

# name: file, what stands there, what is put in its place
BUGS = {
    "at most once runs again": (
        "broker/lease.c", "if (left > 0 && (job->retries == 0 || (ran && left == 1))) {",
        "if (left > 0 && ran && left == 1) {"),
    "an order that got lost is forgotten": (
        "broker/sched.c", "            lease_undelivered(s, part);\n    }", "            ;\n    }"),
    "a result more than was acknowledged is dropped": (
        "proto/outbox.c", "if (letter_of(n)->serial > received) break;",
        "if (letter_of(n)->serial > received + 1) break;"),
    "what was not acknowledged is not sent again": (
        "proto/outbox.c", "if (letter_of(n)->serial <= received) letter_destroy",
        "if (letter_of(n)->serial <= self->serial) letter_destroy"),
    "the mates of an item that kills are charged": (
        "broker/lease.c", "part_t *alone = part ? isolate(part, item) : NULL;",
        "part_t *alone = part ? isolate(part, item) : NULL;\n"
        "    while (alone && !ranges_empty(&part->todo)) {\n"
        "        size_t n;\n"
        "        part_t *mate = isolate(part, ranges_all(&part->todo, &n)->first);\n"
        "        if (!mate) break;\n"
        "        charge(s, mate, w, attempt, PEACH_E_DIED);\n"
        "    }"),
    "a worker is given more than its window": (
        "broker/lane.c", "return w->lease_count < w->spec.window && w", "return w"),
    "a client that reads again stays held": (
        "broker/sched.c", "if (flow_hold(flow, hold) != 0)", "if (hold && flow_hold(flow, hold) != 0)"),
    "a drained worker is told once only": (
        "broker/sched.c", "if (connected) w->drained = false;", ""),
    "what is left of a part given out in pieces is lost": (
        "broker/lane.c", "    if (piece) return piece;\n    lane_unqueue(s, part);\n    return part;",
        "    lane_unqueue(s, part);\n    return piece ? piece : part;"),
}


def build(folder):
    subprocess.run(["cmake", "--build", folder / "build", "--target", "peach-sim"], check=True,
                   stdout=subprocess.DEVNULL)
    return folder / "build" / "tests" / "peach-sim"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("names", nargs="*", help="default: all")
    args = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for path in subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, text=True,
                                   capture_output=True).stdout.splitlines():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, folder / path)
        subprocess.run(["cmake", "-G", "Ninja", "-S", folder, "-B", folder / "build",
                        "-DCMAKE_BUILD_TYPE=RelWithDebInfo"], check=True, stdout=subprocess.DEVNULL)
        for name, (path, right, wrong) in BUGS.items():
            if args.names and name not in args.names:
                continue
            file = folder / path
            text = file.read_text()
            assert text.count(right) == 1, f"{path} has changed: {name}"
            file.write_text(text.replace(right, wrong))
            sim = build(folder)
            begin = time.monotonic()
            done = subprocess.run([sim, "--seed", "1", "--seconds", str(args.seconds)], text=True,
                                  capture_output=True, errors="replace")
            took = time.monotonic() - begin
            file.write_text(text)
            why = next((line for line in done.stdout.splitlines() if line.startswith("seed ")),
                       f"signal {-done.returncode}" if done.returncode < 0 else "")
            missed += done.returncode == 0
            print(f"{'MISSED' if done.returncode == 0 else 'found'} in {took:.1f} s: {name}: {why}",
                  flush=True)
    return missed > 0


if __name__ == "__main__":
    sys.exit(main())
