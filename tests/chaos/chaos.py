#!/usr/bin/python3
"""A seeded program that kills, stops, cuts off and restarts while clients map, and checks
every result.

    tests/chaos/chaos.py [--seed N] [--seconds S] [--clients N] [--valgrind]

A broker and three workers of two slots, each on a host of its own (a network namespace)
where that is possible, else all on loopback. Clients, on a fourth host, map a function
that sometimes raises and sometimes kills its process, again and again. Meanwhile workers,
executors, clients and the broker are killed or stopped, and links are cut. At the end
all is mended, and each client must have had what it asked for: every item, in order, the
right value or the right error. Exit status 0: so it was, and no program complained of
memory. PEACH_BIN names the folder of the programs.
"""
import argparse
import collections
import json
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
from programs import BIN, SLOW, free_port  # noqa: E402
from hosts import Network, NoNamespaces  # noqa: E402

JOB = """
import os, time
def job(x):
    time.sleep(0.0005)
    if x % 3001 == 3000:
        os.kill(os.getpid(), 9)
    if x % 701 == 700:
        raise ValueError(x)
    return x * 7 + 1
"""
# Complaints of sanitizers and valgrind, in the programs' logs.
COMPLAINTS = ("ERROR: AddressSanitizer", "runtime error:", "ERROR: LeakSanitizer",
              "Invalid read", "Invalid write", "uninitialised value", "definitely lost: 1",
              "WARNING: ThreadSanitizer", "Assertion")
WEIGHTS = {"kill_worker": 20, "kill_executor": 25, "stop_worker": 15, "stop_broker": 5,
           "stop_client": 5, "kill_broker": 8, "kill_client": 4, "cut_link": 18}


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
        self.preload = folder / "job.py"
        self.preload.write_text(JOB)
        self.cut, self.stopped = {}, {}  # host -> when it is joined again; process -> when it goes on
        self.done = collections.Counter()
        self.all = []
        self.broker = self.start_broker()
        self.workers = [self.start_worker(i) for i in (1, 2, 3)]
        self.clients = [self.start_client() for _ in range(args.clients)]

    def start(self, host, *command, stdout=subprocess.DEVNULL):
        command = [str(x) for x in command]
        if self.args.valgrind:
            command = ["valgrind", "-q", "--leak-check=full", "--show-leak-kinds=definite",
                       "--errors-for-leak-kinds=definite", *command]
        log = open(self.folder / f"log{len(self.all)}-{pathlib.Path(command[-1]).name[:8]}", "w")
        process = subprocess.Popen([*self.net.prefix(host), *command], stdin=subprocess.DEVNULL,
                                   stdout=stdout, stderr=log)
        self.all.append(process)
        return process

    def start_broker(self):
        return self.start(0, BIN / "peach-broker", "--bind", self.net.bind,
                          "--session-timeout", 2)

    def start_worker(self, host):
        return self.start(host, BIN / "peach-worker", "--connect", self.net.endpoint,
                          "--slots", 2, "-l", self.preload)

    def start_client(self):
        results = open(self.folder / f"results{len(self.all)}", "w+")
        count = self.dice.randrange(1000, 20000)
        process = self.start(4, BIN / "peach", "map", "--quiet", "--connect", self.net.endpoint,
                             "job", f"0..{count - 1}", stdout=results)
        return process, results, count

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
        self.end(self.clients[i][0])
        self.clients[i] = self.start_client()

    def stop(self, process):
        process.send_signal(signal.SIGSTOP)
        self.stopped[process] = time.monotonic() + self.dice.choice((0.3, 1, 3))

    def stop_worker(self):
        self.stop(self.dice.choice(self.workers))

    def stop_broker(self):
        self.stop(self.broker)

    def stop_client(self):
        self.stop(self.dice.choice(self.clients)[0])

    def cut_link(self):
        if isinstance(self.net, Loopback):
            return
        host = self.dice.randrange(5)
        self.net.link(host, up=False)
        self.cut[host] = time.monotonic() + self.dice.choice((0.3, 1, 4))

    # ---- and its end ----

    def mend(self, all_of_it=False):
        now = time.monotonic()
        for host, until in list(self.cut.items()):
            if all_of_it or now >= until:
                self.net.link(host, up=True)
                del self.cut[host]
        for process, until in list(self.stopped.items()):
            if all_of_it or now >= until:
                process.send_signal(signal.SIGCONT)
                del self.stopped[process]

    def end(self, process):
        self.stopped.pop(process, None)
        process.kill()
        process.wait()

    def check_client(self, client):
        """Whether a client that has ended had everything; what is wrong, or None."""
        process, results, count = client
        results.seek(0)
        lines = results.read().split("\n")[:-1]
        results.close()
        if not lines and process.returncode == 3:
            self.done["found no broker"] += 1  # it said so, and that is right
            return None
        if len(lines) != count:
            return f"{len(lines)} results of {count}, exit status {process.returncode}"
        for i, line in enumerate(lines):
            status = ("PEACH_E_DIED" if i % 3001 == 3000 else
                      "PEACH_E_RAISED" if i % 701 == 700 else None)
            if status is None:
                if line != str(i * 7 + 1):
                    return f"item {i} is {line}"
            elif json.loads(line).get("error", {}).get("status") not in (status, "PEACH_E_LOST"):
                return f"item {i} is {line}"
        return None

    def turn(self):
        """Clients that have ended begin again. What is wrong, or None."""
        for i, client in enumerate(self.clients):
            if client[0].poll() is None:
                continue
            wrong = self.check_client(client)
            if wrong:
                return wrong
            self.done["maps"] += 1
            self.done["items"] += client[2]
            self.clients[i] = self.start_client()
        return None

    def run(self):
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
        for client in self.clients:
            try:
                client[0].wait(120 * SLOW)
            except subprocess.TimeoutExpired:
                return f"a client is stuck; it has {sum(1 for _ in open(client[1].name))} results"
            wrong = self.check_client(client)
            if wrong:
                return wrong
            self.done["maps"] += 1
            self.done["items"] += client[2]
        return self.leave()

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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1000000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--valgrind", action="store_true")
    args = parser.parse_args()
    print(f"chaos, seed {args.seed}", flush=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="peach-chaos-"))
    chaos = Chaos(folder, args, random.Random(args.seed))
    try:
        wrong = chaos.run()
    finally:
        chaos.close()
    where = "namespaces" if isinstance(chaos.net, Network) else "loopback"
    print(f"seed {args.seed}, {where}: {'exact' if not wrong else 'WRONG: ' + wrong}, "
          f"{dict(chaos.done)}")
    if wrong:
        print(f"logs: {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
