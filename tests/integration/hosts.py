"""Several hosts on one machine: a network namespace each, joined by a bridge."""
import os
import subprocess

from programs import BIN, Process

TAG = f"peach{os.getpid() % 100000}"


class NoNamespaces(Exception):
    pass


def ip(*args, check=True):
    return subprocess.run(["ip", *args], check=check, capture_output=True, text=True)


class Network:
    """Hosts 10.99.0.1, .2, ... in namespaces of their own; made and removed here."""

    def __init__(self, hosts):
        self.hosts = [f"{TAG}-{name}" for name in hosts]
        self.processes = []
        try:
            ip("netns", "add", f"{TAG}-net")
            ip("-n", f"{TAG}-net", "link", "add", "bridge", "type", "bridge")
            ip("-n", f"{TAG}-net", "link", "set", "bridge", "up")
            for i, host in enumerate(self.hosts):
                ip("netns", "add", host)
                ip("-n", host, "link", "set", "lo", "up")
                ip("-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", f"port{i}",
                   "netns", f"{TAG}-net")
                ip("-n", host, "addr", "add", f"10.99.0.{i + 1}/24", "dev", "eth0")
                ip("-n", host, "link", "set", "eth0", "up")
                ip("-n", f"{TAG}-net", "link", "set", f"port{i}", "master", "bridge", "up")
        except (OSError, subprocess.CalledProcessError) as error:
            self.close()
            raise NoNamespaces(f"network namespaces cannot be made here: {error}") from error

    def prefix(self, host):
        # A host name of its own too, as another machine would have; nobody else is between them.
        name = self.hosts[host].split("-")[1]
        return ("ip", "netns", "exec", self.hosts[host], "unshare", "-u", "sh", "-c",
                f'hostname {name}; export PEACH_INSECURE=1; exec "$@"', name)

    def start(self, host, program, *args):
        process = Process(BIN / program, *args, prefix=self.prefix(host))
        self.processes.append(process)
        return process

    def run(self, host, *args, program=BIN / "peach"):
        return subprocess.run([*self.prefix(host), str(program), *map(str, args)],
                              capture_output=True, text=True, timeout=120,
                              stdin=subprocess.DEVNULL)

    def link(self, host, up):
        """Cut the host off, or join it again."""
        ip("-n", f"{TAG}-net", "link", "set", f"port{host}", "up" if up else "down")

    def lose(self, host, which, lost=True):
        """All that goes "to" the host, or comes "from" it, is lost on its way, without a word."""
        others = [i for i in range(len(self.hosts)) if i != host]
        for at, far in ((i, host) if which == "to" else (host, i) for i in others):
            entry = (f"10.99.0.{far + 1}", "dev", "eth0")
            if lost:  # to a card that nobody has
                ip("-n", self.hosts[at], "neigh", "replace", *entry, "lladdr", "02:00:00:00:00:01",
                   "nud", "permanent")
            else:
                ip("-n", self.hosts[at], "neigh", "del", *entry)

    def close(self):
        for process in reversed(self.processes):
            process.stop()
        for name in [f"{TAG}-net", *self.hosts]:
            ip("netns", "del", name, check=False)
