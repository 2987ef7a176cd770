#!/usr/bin/python3
"""A seeded program that kills, stops, cuts off and restarts while clients map, and checks
every result.

    tests/chaos/chaos.py [--seed N] [--seeds N] [--seconds S] [--clients N] [--valgrind]

A broker and three workers of two slots, each on a host of its own (a network namespace)
where that is possible, else all on loopback. Clients, on a fourth host, map a function
that sometimes raises and sometimes kills its process, again and again: the command and
Python, with arrays, values that are put, logs and futures, half of them with retries 0.
Meanwhile workers, executors, clients and the broker are killed or stopped, links are cut,
and packets of one direction are lost. At the end all is mended, and each client must have
had what it asked for within 30 s: every item, in order, the right value or the right error;
and nothing that was to run at most once ran twice. Exit status 0: so it was, and no
program complained of memory. PEACH_BIN names the folder of the programs; with PEACH_FULL it
is done for 20 seeds.
"""
import argparse
import collections
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from clients import HERE, KINDS, PRELOAD, Client, count_runs, doubled  # noqa: E402
from hosts import Network, NoNamespaces  # noqa: E402
from programs import BIN, FULL, SLOW, free_port  # noqa: E402

# Complaints of sanitizers and valgrind, in the programs' logs.
COMPLAINTS = ("ERROR: AddressSanitizer", "runtime error:", "ERROR: LeakSanitizer",
              "Invalid read", "Invalid write", "uninitialised value", "definitely lost: 1",
              "WARNING: ThreadSanitizer", "Assertion")
WEIGHTS = {"kill_worker": 20, "kill_executor": 25, "stop_worker": 15, "stop_broker": 5,
           "stop_client": 5, "kill_broker": 8, "kill_client": 4, "cut_link": 12,
           "lose_packets": 8}
AFTER = 30  # seconds from the last fault until each client has to have ended
BROKER, CLIENT, WORKERS = 0, 4, (1, 2, 3)  # hosts


class Loopback:
    """One host instead of many."""

    def __init__(self):
        self.endpoint = self.bind = f"tcp://127.0.0.1:{free_port()}"

    def prefix(self, _):
        return ()

    def close(self):
        pass


class Chaos:
    def __init__(self, folder, args, dice):
        self.folder, self.args, self.dice = folder, args, dice
        try:
            self.net = Network(["broker", "one", "two", "three", "client"])
            self.net.endpoint, self.net.bind = "tcp://10.99.0.1:5001", "tcp://0.0.0.0:5001"
        except NoNamespaces:
            self.net = Loopback()
        self.runs = folder / "runs"
        self.runs.touch()
        self.preload = folder / "job.py"
        self.preload.write_text(PRELOAD.format(folder=str(HERE), runs=str(self.runs)))
        self.broken, self.stopped = {}, {}  # what mends it -> when; process -> when it goes on
        self.done = collections.Counter()
        self.all, self.made = [], []
        self.took = 0  # seconds that clients needed after the last fault

    def begin(self):
        self.broker = self.start_broker()
        self.workers = [self.start_worker(i) for i in WORKERS]
        self.clients = [self.start_client() for _ in range(self.args.clients)]

    def start(self, host, *command, stdout=subprocess.DEVNULL, watched=True):
        """watched: by valgrind, if there is to be one."""
        command = [str(x) for x in command]
        if self.args.valgrind and watched:
            command = ["valgrind", "-q", "--leak-check=full", "--show-leak-kinds=definite",
                       "--errors-for-leak-kinds=definite", *command]
        log = open(self.folder / f"log{len(self.all)}", "w")
        process = subprocess.Popen([*self.net.prefix(host), *command], stdin=subprocess.DEVNULL,
                                   stdout=stdout, stderr=log)
        self.all.append(process)
        return process

    def start_broker(self):
        return self.start(BROKER, BIN / "peach-broker", "--insecure", "--bind", self.net.bind,
                          "--session-timeout", 2)

    def start_worker(self, host):
        return self.start(host, BIN / "peach-worker", "--insecure", "--connect",
                          self.net.endpoint, "--slots", 2, "-l", self.preload)

    def start_client(self):
        # Of each way one with retries and one without, before the first comes again.
        number = len(self.made)
        kind, retries = KINDS[number // 2 % len(KINDS)], 0 if number % 2 else 2
        self.made.append(Client(self, number, CLIENT, kind, retries))
        return self.made[-1]

    # ---- what happens ----

    def kill_worker(self):
        i = self.dice.randrange(3)
        self.end(self.workers[i])
        self.workers[i] = self.start_worker(i + 1)

    def kill_executor(self):
        pid = self.dice.choice(self.workers).pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            os.kill(int(self.dice.choice(children)), signal.SIGKILL)

    def kill_broker(self):
        self.end(self.broker)
        time.sleep(self.dice.uniform(0, 0.5))
        self.broker = self.start_broker()

    def kill_client(self):
        i = self.dice.randrange(len(self.clients))
        self.end(self.clients[i].process)
        self.clients[i] = self.start_client()

    def stop(self, process):
        process.send_signal(signal.SIGSTOP)
        self.stopped[process] = time.monotonic() + self.dice.choice((0.3, 1, 3))

    def stop_worker(self):
        self.stop(self.dice.choice(self.workers))

    def stop_broker(self):
        self.stop(self.broker)

    def stop_client(self):
        self.stop(self.dice.choice(self.clients).process)

    def breaks(self, key, mend):
        """mend() is called once the time has come; when it breaks again, a later one."""
        self.broken[key] = time.monotonic() + self.dice.choice((0.3, 1, 4)), mend

    def cut_link(self):
        host = self.dice.randrange(5)
        if isinstance(self.net, Network):
            self.net.link(host, up=False)
            self.breaks(host, lambda: self.net.link(host, up=True))

    def lose_packets(self):
        host, which = self.dice.randrange(5), self.dice.choice(("to", "from"))
        if isinstance(self.net, Network) and not any("to" in k or "from" in k for k in self.broken
                                                     if isinstance(k, tuple)):
            self.net.lose(host, which)
            self.breaks((host, which), lambda: self.net.lose(host, which, lost=False))

    # ---- and its end ----

    def mend(self, all_of_it=False):
        now = time.monotonic()
        for key, (until, mend) in list(self.broken.items()):
            if all_of_it or now >= until:
                mend()
                del self.broken[key]
        for process, until in list(self.stopped.items()):
            if all_of_it or now >= until:
                process.send_signal(signal.SIGCONT)
                del self.stopped[process]

    def end(self, process):
        self.stopped.pop(process, None)
        process.kill()
        process.wait()

    def check(self, client):
        """What is wrong with a client that has ended, or None."""
        self.done[client.kind + (", once" if client.once else "")] += 1
        wrong = client.check(count_runs(self.runs))
        for what, count in (("items", client.count), ("lost", client.lost)):
            self.done[what + (", once" if client.once else "")] += count
        return wrong

    def turn(self):
        """Clients that have ended begin again. What is wrong, or None."""
        for i, client in enumerate(self.clients):
            if client.process.poll() is None:
                continue
            wrong = self.check(client)
            if wrong:
                return wrong
            self.clients[i] = self.start_client()
        return None

    def run(self):
        self.begin()
        end = time.monotonic() + self.args.seconds
        while time.monotonic() < end:
            time.sleep(self.dice.uniform(0.05, 0.6) * SLOW)
            self.mend()
            wrong = self.turn()
            if wrong:
                return wrong
            act = self.dice.choices(list(WEIGHTS), WEIGHTS.values())[0]
            try:
                getattr(self, act)()
                self.done[act] += 1
            except (ProcessLookupError, FileNotFoundError):
                pass  # it was just dying
        self.mend(all_of_it=True)
        return self.wait() or doubled(self.made, count_runs(self.runs)) or self.leave()

    def wait(self):
        """Until all clients have ended; what is wrong, or None."""
        mended = time.monotonic()
        for client in self.clients:
            try:
                client.process.wait(max(0, mended + AFTER * SLOW - time.monotonic()))
            except subprocess.TimeoutExpired:
                return (f"{client} has {len(client.lines())} results of {client.count}, {AFTER} s "
                        "after the last fault")
            wrong = self.check(client)
            if wrong:
                return wrong
        self.took = time.monotonic() - mended
        return None

    def leave(self):
        """The rest goes in peace; what the logs complain of, or None."""
        for process in (*self.workers, self.broker):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10 * SLOW)
            except subprocess.TimeoutExpired:
                return f"{process.args[-1]} does not go"
        for log in self.folder.glob("log*"):
            for line in log.read_text(errors="replace").splitlines():
                if any(word in line for word in COMPLAINTS):
                    return f"{log.name}: {line}"
        return None

    def close(self):
        for process in self.all:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.net.close()


def run(args, seed):
    """Whether all was right with that seed."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="peach-chaos-"))
    chaos = Chaos(folder, args, random.Random(seed))
    try:
        wrong = chaos.run()
    finally:
        chaos.close()
    where = "namespaces" if isinstance(chaos.net, Network) else "loopback"
    print(f"seed {seed}, {where}: {'exact' if not wrong else 'WRONG: ' + wrong}, ended after "
          f"{chaos.took:.1f} s, {dict(chaos.done)}", flush=True)
    if wrong:
        print(f"logs: {folder}", flush=True)
    else:
        shutil.rmtree(folder)
    return not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1000000)
    parser.add_argument("--seeds", type=int, default=20 if FULL else 1,
                        help="so many, from the first on")
    parser.add_argument("--seconds", type=float, default=30, help="of faults, for each seed")
    parser.add_argument("--clients", type=int, default=4, help="at a time")
    parser.add_argument("--valgrind", action="store_true")
    args = parser.parse_args()
    print(f"chaos, seed {args.seed}", flush=True)
    wrong = [seed for seed in range(args.seed, args.seed + args.seeds) if not run(args, seed)]
    if wrong:
        print(f"wrong with seeds {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
