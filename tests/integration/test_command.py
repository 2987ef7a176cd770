"""The command line itself: where options stand, what is wrong with one, help, exit statuses."""
import subprocess

import pytest
from conftest import BIN, HERE, free_port, lines, peach, until

TASKS = HERE / "tasks.py"
COMMANDS = ["run", "broker", "worker", "map", "call", "init", "preload", "status", "workers",
            "functions", "bench", "drain"]
NOWHERE = ("-c", "tcp://127.0.0.1:9")


def program(name, *args):
    return subprocess.run([str(BIN / name), *args], capture_output=True, text=True, timeout=20)


def test_options_may_stand_behind_arguments(fleet):
    """operations.N19"""
    fleet.worker(1, TASKS)
    assert lines(fleet("map", "fnc", "0..3", "--chunk", 3, check=0)) == [0, 1, 2, 3]
    done = fleet("map", "fnc", "-q", "0..1", "--unordered", 7, check=0)
    assert sorted(lines(done)) == [0, 1, 7]
    assert lines(fleet("call", "add", 1, "--retries", 0, 2, check=0)) == [3]


def test_negative_numbers_and_ranges_are_items():
    """operations.N19"""
    done = peach("run", "-n", 1, "--source", "lambda x: x", "-3..-1", "-5", "-q", "-1.5", check=0)
    assert lines(done) == [-3, -2, -1, -5, -1.5]
    done = peach("run", "-n", 1, "--source", "lambda x: x", "--", "-2", "-1..0", check=0)
    assert lines(done) == [-2, -1, 0]


@pytest.mark.parametrize("args, words", [
    (("map", "fnc", "0..9", "--chnuk", "3"), ("--chnuk", "--chunk")),
    (("map", "--unorderd", "fnc", "1"), ("--unorderd", "--unordered")),
    (("broker", "--sesion-timeout", "3"), ("--sesion-timeout", "--session-timeout")),
    (("worker", "--slot5", "3"), ("--slot5", "--slots")),
    (("status", "--chunk", "3"), ("--chunk", "an option of", "map", "run")),
    (("map", "-x", "fnc", "1"), ("-x", "--help")),
    (("--chunk", "3", "map", "fnc", "1"), ("--chunk", "behind the command")),
    (("mpa", "fnc", "1"), ("mpa", "did you mean map")),
    (("statsu",), ("did you mean status",)),
    (("help", "wrokers"), ("did you mean workers",)),
])
def test_what_was_mistyped_is_named_with_what_was_meant(args, words):
    """operations.N19, and what users of git would miss"""
    done = peach(*args, check=2)
    for word in words:
        assert word in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_in_every_way(command):
    """operations.N23"""
    long = peach(command, "--help", check=0).stdout
    assert "Usage: peach" in long and "-h, --help" in long
    assert peach(command, "-h", check=0).stdout == long
    assert peach("help", command, check=0).stdout == long
    assert peach(command, "--usage", check=0).stdout.startswith("Usage: peach")
    assert f"  {command} " in peach("--help", check=0).stdout


def test_peach_itself_has_them_too():
    """operations.N22, operations.N23"""
    text = peach("--help", check=0).stdout
    assert peach("-h", check=0).stdout == peach("help", check=0).stdout == text
    assert peach("--usage", check=0).stdout.startswith("Usage: peach COMMAND")
    assert peach("--version", check=0).stdout == peach("-V", check=0).stdout
    for status in ("0", "1", "2", "3", "4", "130"):
        assert any(line.split()[0] == status for line in text.splitlines() if line.strip())


@pytest.mark.parametrize("name", ["peach-broker", "peach-worker"])
def test_the_programs_have_a_version_and_short_help(name):
    """operations.N23"""
    for option in ("--version", "-V"):
        done = program(name, option)
        assert done.returncode == 0 and done.stdout.startswith(name + " ")
    assert program(name, "-h").stdout == program(name, "--help").stdout != ""
    assert program(name, "--usage").returncode == 0


def test_options_that_make_no_sense_are_not_offered():
    """operations.N24"""
    call = peach("call", "--help", check=0).stdout
    for option in ("--chunk", "--unordered", "--quiet", "--weight", "--json", "--joblog"):
        assert option not in call
    assert "--json" not in peach("map", "--help", check=0).stdout
    assert "--json" not in peach("preload", "--help", check=0).stdout


@pytest.mark.held
def test_the_configuration_is_for_the_commands_that_have_its_options(fleet, tmp_path):
    """operations.N24: json is of some commands only"""
    fleet.worker(1, TASKS)
    config = tmp_path / "peach.json"
    config.write_text('{"client": {"json": true, "timeout": 20}}')
    env = {**fleet.env, "PEACH_CONFIG": str(config)}
    assert lines(peach("map", "fnc", 1, env=env, check=0)) == [1]
    assert lines(peach("status", env=env, check=0))[0]["slots"] == 1


@pytest.mark.parametrize("args, word", [
    (("map", "fnc"), "no items"),
    (("map", "0..9"), "FUNC is missing"),
    (("map", "3", "4"), "FUNC is missing"),
    (("run", "-l", TASKS, "fnc"), "no items"),
    (("run", "-l", TASKS, "1..3"), "FUNC is missing"),
    (("map", "fnc", "9..0"), "is empty"),
    (("map", "--source", "lambda x: x"), "no items"),
    (("call",), "FUNC is missing"),
    (("init",), "nothing to do"),
    (("preload",), "nothing to preload"),
    (("drain",), "what to drain"),
    (("map", "fnc", "1", "--resume"), "--joblog"),
])
def test_a_command_that_is_given_nothing_to_do_says_so(args, word):
    """operations.N4"""
    assert word in peach(*args, *(NOWHERE if args[0] not in ("run",) else ()), check=2).stderr


@pytest.mark.held
def test_an_empty_list_can_be_said(fleet):
    """operations.N4: "- is there for an empty list" """
    fleet.worker(1, TASKS)
    done = fleet("map", "fnc", "-", stdin="", check=0)
    assert done.stdout == done.stderr == ""


@pytest.mark.parametrize("args", [
    ("map", "-c", "tcp://localhost", "fnc", "1"), ("status", "-c", "tcp://h:99999"),
    ("broker", "--bind", "tcp://h:99999"), ("worker", "-c", "tcp://h:99999"),
    ("worker", "--no-such-option"), ("broker", "--no-such-option"), ("run", "-n", "0", "f", "1"),
])
def test_the_same_mistake_has_the_same_status(args):
    """operations.N22"""
    peach(*args, check=2)


def test_a_number_that_does_not_fit_is_not_cut():
    """worker.A4, of options: a seed beyond 64 bits was taken for 2^64-1"""
    done = peach("run", "--seed", "99999999999999999999", "fnc", "1", check=2)
    assert "--seed" in done.stderr and "99999999999999999999" in done.stderr


def test_the_timeout_is_the_time_to_wait_for_a_broker_too(fleet):
    """operations.N11"""
    fleet.broker.stop()
    waiting = fleet.start("peach", "map", "-t", "40", "fnc", "0..3")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.process.wait(4)  # the fault: 3 s were all it waited
    fleet.start_broker()
    fleet.worker(1, TASKS)
    assert waiting.wait(40) == 0


def test_the_users_time_is_named(fleet):
    """worker.C11: "no result of f within 82 ms" """
    fleet.worker(1, TASKS)
    done = fleet("map", "-t", "0.5", "nap", 20, check=3)
    assert "within 0.5 s" in done.stderr and "ms" not in done.stderr


def test_drain_says_one_thing(fleet):
    """operations.N21"""
    done = fleet("drain", "zzz", check=1)
    assert "no such worker" in done.stderr and done.stdout == ""


def test_a_worker_whose_standard_descriptors_are_closed_runs_tasks_that_print(fleet):
    """operations.O6"""
    worker = fleet.start("peach-worker", "--slots", 1, "-l", TASKS,
                         prefix=("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"))
    until(lambda: fleet.count_ready() == 1, 10)
    done = fleet("map", "--source", "lambda x: print('x' * 9000) or x", "0..2", check=0)
    assert lines(done) == [0, 1, 2] and worker.process.poll() is None


@pytest.mark.held
@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- 2>&-"])
def test_the_command_works_with_closed_descriptors(fleet, closed):
    """operations.O6: a socket took the number, and results or complaints went into it"""
    fleet.worker(1, TASKS)
    for _ in range(3):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", str(BIN / "peach"), "map", "fnc", "0..3"],
            capture_output=True, text=True, timeout=30, env={**fleet.env})
        assert done.returncode == 0 and lines(done) == [0, 1, 2, 3]


def test_a_client_on_another_address_needs_a_word(fleet):
    """operations.N12"""
    done = peach("map", "-c", f"tcp://192.0.2.1:{free_port()}", "fnc", 1, check=4)
    assert "--insecure" in done.stderr
    done = peach("map", "--insecure", "-t", "0.3", "-c", "tcp://192.0.2.1:5001", "fnc", 1, check=3)
    assert "no broker answered" in done.stderr
