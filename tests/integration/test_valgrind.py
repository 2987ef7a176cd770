"""Broker, supervisor and libpeach lose no memory: a short run under valgrind."""
import shutil
import signal

import pytest
from conftest import BIN, HERE, SANITIZED, Process, free_port, lines, peach, until

VALGRIND = ("valgrind", "-q", "--leak-check=full", "--show-leak-kinds=definite,indirect",
            "--errors-for-leak-kinds=definite,indirect", "--error-exitcode=99")


@pytest.mark.skipif(SANITIZED or not shutil.which("valgrind"), reason="needs valgrind alone")
def test_nothing_is_lost_in_a_short_run():
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    env = {"PEACH_BROKER": endpoint}
    broker = Process(BIN / "peach-broker", "--bind", endpoint, prefix=VALGRIND)
    worker = Process(BIN / "peach-worker", "--slots", 2, "-l", HERE / "tasks.py", env=env,
                     prefix=VALGRIND)
    programs = [worker, broker]
    try:
        until(lambda: "listening" in broker.said(), 30)
        until(lambda: '"ready"' in peach("workers", "--json", "-t", 3, env=env).stdout, 60)
        client = Process(BIN / "peach", "map", "kills", "0..999", env=env, prefix=VALGRIND)
        assert client.wait(60) == 1, client.said()
        client.stop()
        for args, status in ((("raises", "0..9"), 1), (("nobody_has_this", "1"), 1),
                             (("large", "100000"), 0)):
            client = Process(BIN / "peach", "map", *args, env=env, prefix=VALGRIND)
            assert client.wait(60) == status, client.said()
            client.stop()
        init = Process(BIN / "peach", "init", "-n", 2, "math:sqrt", env=env, prefix=VALGRIND)
        assert init.wait(60) == 0, init.said()
        init.stop()
        assert lines(peach("map", "sqrt", 4, env=env, check=0)) == [2]
        for program in programs:
            program.signal(signal.SIGTERM)
            assert program.wait(60) == 0, program.said()
    finally:
        for program in programs:
            program.stop()
