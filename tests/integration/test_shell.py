"""peach in a pipe: what goes in, what comes out, and what cannot."""
import json
import os
import select
import subprocess
import time

import pytest
from conftest import BIN, HERE, SLOW, lines, peach

TASKS = HERE / "tasks.py"
ECHO = ("run", "-n", 1, "--source", "lambda x: x")


def shell(command, env=None, **more):
    """A line for the shell, with peach on PATH."""
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60,
                          env={**os.environ, **(env or {}), "PATH": f"{BIN}:{os.environ['PATH']}"},
                          **more)


# ---- items ----


def test_lines_of_text_are_items(tmp_path):
    """operations, what users of xargs would miss"""
    text = 'a b\n\nü "q"\tx\nlast'
    done = peach(*ECHO, "--lines", "-", stdin=text, check=0)
    assert lines(done) == ["a b", "", 'ü "q"\tx', "last"]
    assert peach(*ECHO, "--lines", stdin=text, check=0).stdout == done.stdout
    path = tmp_path / "lines"
    path.write_text(text)
    assert lines(peach(*ECHO, "--lines", f"@{path}", 7, check=0)) == lines(done) + [7]


def test_a_line_that_is_no_text_is_told():
    done = subprocess.run([str(BIN / "peach"), *map(str, ECHO), "--lines"], input=b"a\n\xff\n",
                          capture_output=True, timeout=60)
    assert done.returncode == 2 and b"line 2 is not UTF-8" in done.stderr


@pytest.mark.parametrize("options", [[], ["--lines"], ["--unordered"], ["--joblog", "log"]])
def test_results_are_shown_while_input_comes(tmp_path, options):
    """operations.O11: all at the end; tail -f log | peach map f - never printed."""
    job = subprocess.Popen([BIN / "peach", "run", "-q", "-n", "1", *options, "--source",
                            "lambda x: x", "-"], text=True, cwd=tmp_path,
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        for x in range(5):
            job.stdin.write(f"{x}\n")
            job.stdin.flush()
            assert select.select([job.stdout], [], [], 20 * SLOW)[0]
            assert json.loads(job.stdout.readline()) in (x, str(x))
        job.stdin.close()
        assert job.wait(20 * SLOW) == 0
    finally:
        job.kill()
        job.wait()


def test_items_come_from_files(tmp_path):
    path = tmp_path / "items"
    path.write_text('1\n\n"b"\n')
    done = peach(*ECHO, f"@{path}", "5..6", f"@{path}", check=0)
    assert lines(done) == [1, "b", 5, 6, 1, "b"]
    assert "No such file" in peach(*ECHO, "@/no/such/file", check=2).stderr
    path.write_text("1\n{\n")
    assert f"{path}, line 2 is not JSON" in peach(*ECHO, f"@{path}", check=2).stderr


def test_an_item_can_be_the_list_of_the_arguments():
    done = peach("run", "-n", 1, "-l", TASKS, "add", "--spread", "[1,2]", '["x","y"]', check=0)
    assert lines(done) == [3, "xy"]
    done = peach("run", "-n", 1, "-l", TASKS, "add", "--spread", 3, check=1)
    assert "must be a list" in done.stderr


@pytest.mark.parametrize("item", ["12345678901234567890", "-9223372036854775809",
                                  "[1,18446744073709551616]"])
def test_an_integer_that_does_not_fit_is_an_error_that_names_it(item):
    """operations.N6"""
    done = peach(*ECHO, item, check=2)
    assert item.strip("[]").split(",")[-1] in done.stderr and done.stdout == ""
    done = peach(*ECHO, "-", stdin=f"1\n{item}\n", check=2)
    assert "line 2: the integer" in done.stderr


def test_unsigned_results_keep_their_digits():
    """operations.N6, in the other direction"""
    source = "lambda x: __import__('numpy').array([1, 2**64 - 1], dtype='uint64')"
    done = peach("run", "-n", 1, "--source", source, 0, check=0)
    assert done.stdout == '[1,{"$uint":"18446744073709551615"}]\n'


def test_unsigned_items_keep_their_digits():
    """operations.N6: as an item, and as an element of an array that is mapped over"""
    done = peach("run", "-n", 1, "--source", "lambda x: str(x + 1)",
                 '{"$uint":"9223372036854775808"}', 1, check=0)
    assert lines(done) == ["9223372036854775809", "2"]


@pytest.mark.parametrize("item", ["0..99999999999999999999", "-99999999999999999999..0"])
def test_a_range_beyond_64_bits_is_an_error(item):
    """worker.A4: its end was taken for 2^63-1"""
    done = peach(*ECHO, item, check=2)
    assert item in done.stderr and "64 bits" in done.stderr


# ---- functions ----


def test_a_misspelled_function_is_told_once_and_soon(fleet):
    """operations.N3: an error line an item, and hours for a million"""
    fleet.worker(2, TASKS)
    begin = time.monotonic()
    done = fleet("map", "fcn", "0..99999", check=1)
    assert time.monotonic() - begin < 20
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1 and "fcn" in done.stderr


def test_a_run_says_where_its_function_would_come_from():
    """operations.N15"""
    done = peach("run", "-n", 1, "-l", TASKS, "fcn", "0..3", check=1)
    assert "-l FILE of the same command" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("source, words", [
    ("lambda x", ("SyntaxError", "line 1", "lambda x")),
    ("def f(x:\n  pass", ("SyntaxError", "never closed")),
    ("x*x", ("lambda x: x*x", "meant")),
    ("3", ("no function",)),
])
def test_what_is_wrong_with_source_is_one_message_for_the_job(source, words):
    """operations.N18"""
    done = peach("run", "-n", 2, "--source", source, "0..99", check=1)
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr
    for internal in ("load_code", "<peach>", "Traceback", "another exception"):
        assert internal not in done.stderr
    assert done.stderr.count("peach:") == 1


@pytest.mark.held
def test_what_source_raises_is_of_the_item():
    done = peach("run", "-n", 1, "--source", "lambda x: 1/x", 0, 1, check=1)
    assert "error" in lines(done)[0] and lines(done)[1] == 1


def test_a_module_of_the_current_folder_can_be_preloaded(tmp_path):
    """operations.N17"""
    (tmp_path / "pk").mkdir()
    (tmp_path / "pk" / "__init__.py").write_text("def g(x):\n    return x + 1\n")
    done = peach("run", "-n", 1, "-l", "pk:g", "g", 1, cwd=tmp_path, check=0)
    assert lines(done) == [2]


# ---- output ----


def test_raw_output_is_strings_without_quotes():
    done = peach(*ECHO, "--raw", '"a \\"b\\""', '"ü"', 3, '["x"]', "null", check=0)
    assert done.stdout == 'a "b"\nü\n3\n["x"]\nnull\n'


def test_errors_can_go_to_a_file(tmp_path):
    path = tmp_path / "errors"
    done = peach("run", "-n", 2, "-l", TASKS, "raises", "0..5", "--errors", path, check=1)
    assert lines(done) == [0, 1, 2, 4, 5]
    failed = [json.loads(line) for line in path.read_text().splitlines()]
    assert [e["item"] for e in failed] == [3] and failed[0]["error"]["type"] == "ValueError"
    done = peach(*ECHO, 1, "--errors", "/no/such/folder/x", check=2)
    assert "/no/such/folder/x" in done.stderr
    done = peach("run", "-n", 1, "-l", TASKS, "raises", 3, "--errors", "/dev/full", check=1)
    assert "/dev/full cannot be written: No space left" in done.stderr


@pytest.mark.parametrize("command", ["map fnc 0..3", "call fnc 1", "status", "workers --json",
                                     "functions", "run -n 1 --source 'lambda x: x' 0..9",
                                     "--help", "map --help", "init -n 1 --json"])
def test_output_that_cannot_be_written_is_an_error(fleet, command):
    """operations.O7, worker.A3"""
    fleet.worker(1, TASKS)
    done = shell(f"peach {command} >/dev/full", fleet.env)
    assert done.returncode == 1
    assert "standard output cannot be written: No space left on device" in done.stderr


def test_a_map_stops_when_its_output_cannot_be_written(fleet):
    """operations.O7: "early stop": this would be a million naps"""
    fleet.worker(1, TASKS)
    done = shell("peach map late 0..999999 >/dev/full", fleet.env)
    assert done.returncode == 1 and "No space left" in done.stderr


def test_a_closed_output_is_an_error(fleet):
    """operations.O6: results were written into a socket that took the number"""
    fleet.worker(1, TASKS)
    for _ in range(4):
        done = shell("peach map fnc 0..3 >&-", fleet.env)
        assert done.returncode == 1
        assert "standard output cannot be written: Bad file descriptor" in done.stderr


@pytest.mark.parametrize("source, why", [("<&-", "Bad file descriptor"), ("</", "Is a directory")])
def test_input_that_cannot_be_read_is_an_error(fleet, source, why):
    """operations.O8"""
    fleet.worker(1, TASKS)
    done = shell(f"peach map fnc - {source}", fleet.env)
    assert done.returncode == 2 and f"standard input cannot be read: {why}" in done.stderr
    assert done.stdout == ""


def test_the_number_of_a_failed_item_is_told():
    done = peach("run", "-n", 1, "-l", TASKS, "raises", "0..5", "--unordered", check=1)
    assert "1 of 6 items failed; the first: item 3: ValueError: no threes" in done.stderr
