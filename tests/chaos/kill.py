#!/usr/bin/env python3
"""A seeded program that kills while a map runs, and checks every result.

    tests/chaos/kill.py [--seed N] [--items N] [--seconds S]

It starts a broker and three workers of two slots, maps a function over the items, and
meanwhile kills workers (35 %), executors (45 %) and the broker (10 %), and stops workers
for 0.3 s (10 %), starting again what it killed. Exit status 0: every result was there,
once, in order. PEACH_BIN names the folder of the programs.
"""
import argparse
import collections
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from conftest import BIN, free_port  # noqa: E402

JOB = "import time\ndef job(x):\n    time.sleep(0.0005)\n    return x * 7 + 1\n"


class Victims:
    """The programs, and what may happen to them."""

    def __init__(self, folder):
        self.env = {**os.environ, "PEACH_BROKER": f"tcp://127.0.0.1:{free_port()}"}
        self.preload = folder / "job.py"
        self.preload.write_text(JOB)
        self.log = open(folder / "log", "w")
        self.broker = self.start_broker()
        self.workers = [self.start_worker() for _ in range(3)]

    def start(self, *args, **more):
        return subprocess.Popen([str(BIN / args[0]), *map(str, args[1:])], env=self.env,
                                stdin=subprocess.DEVNULL, stderr=self.log, **more)

    def start_broker(self):
        return self.start("peach-broker", "--bind", self.env["PEACH_BROKER"])

    def start_worker(self):
        return self.start("peach-worker", "--slots", 2, "-l", self.preload)

    def kill_worker(self, dice):
        i = dice.randrange(len(self.workers))
        self.workers[i].kill()
        self.workers[i].wait()
        self.workers[i] = self.start_worker()

    def kill_executor(self, dice):
        pid = dice.choice(self.workers).pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            os.kill(int(dice.choice(children)), signal.SIGKILL)

    def kill_broker(self, dice):
        self.broker.kill()
        self.broker.wait()
        time.sleep(dice.uniform(0, 0.5))
        self.broker = self.start_broker()

    def stop_worker(self, dice):
        worker = dice.choice(self.workers)
        worker.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        worker.send_signal(signal.SIGCONT)

    def end(self):
        for process in (*self.workers, self.broker):
            process.kill()
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--items", type=int, default=100000)
    parser.add_argument("--seconds", type=float, default=120, help="give up after this time")
    args = parser.parse_args()
    dice = random.Random(args.seed)
    done = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        victims = Victims(folder)
        results = open(folder / "results", "w+")
        job = victims.start("peach", "map", "--retries", 50, "job", f"0..{args.items - 1}",
                            stdout=results)
        begin = time.monotonic()
        try:
            while job.poll() is None and time.monotonic() - begin < args.seconds:
                time.sleep(dice.uniform(0.05, 0.5))
                act = dice.choices(("kill_worker", "kill_executor", "kill_broker", "stop_worker"),
                                   (35, 45, 10, 10))[0]
                try:
                    getattr(victims, act)(dice)
                    done[act] += 1
                except (ProcessLookupError, FileNotFoundError):
                    pass  # it was just dying
            status = job.poll()
        finally:
            job.kill()
            job.wait()
            victims.end()
        results.seek(0)
        lines = results.read().split("\n")[:-1]
    good = lines == [str(i * 7 + 1) for i in range(args.items)]
    print(f"seed {args.seed}: exit status {status}, {len(lines)} of {args.items} results, "
          f"{'exact' if good else 'WRONG'}, {dict(done)}, {time.monotonic() - begin:.1f} s")
    return 0 if good and status == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
