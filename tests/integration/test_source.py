"""Functions that the command line brings, and what tasks print."""
from conftest import lines, peach


def test_source_is_an_expression_or_statements():
    done = peach("run", "-n", 2, "--source", "lambda x: x*x", "0..4", check=0)
    assert lines(done) == [0, 1, 4, 9, 16]
    text = "import math\ndef helper(x): return math.sqrt(x)\ndef f(x): return helper(x) + 1"
    assert lines(peach("run", "-n", 1, "--source", text, 1, 4, check=0)) == [2.0, 3.0]


def test_source_takes_the_place_of_func():
    done = peach("run", "-n", 1, "--source", "lambda x: x", check=2)
    assert "no items" in done.stderr and "FUNC" not in done.stderr
    assert "FUNC is missing" in peach("run", "-n", 1, check=2).stderr


def test_source_on_a_fleet(fleet):
    fleet.worker(1)
    assert lines(fleet("map", "--source", "lambda x: -x", "1..3", check=0)) == [-1, -2, -3]
    assert lines(fleet("call", "--source", "lambda a, b: a + b", 1, 2, check=0)) == [3]


def test_what_is_wrong_with_source_is_said():
    done = peach("run", "-n", 1, "--source", "lambda x", 0, check=1)
    assert "SyntaxError" in done.stderr
    done = peach("run", "-n", 1, "--source", "3", 0, check=1)
    assert "the source is no function" in done.stderr
    done = peach("run", "-n", 1, "--item-timeout", 0.3, "--source", "while True: pass", 0, check=1)
    assert "longer than its limit" in done.stderr


def test_a_worker_may_refuse_source(fleet):
    fleet.worker(1, args=("--no-push",))
    done = fleet("map", "--source", "lambda x: x", 1, check=1)
    assert "no-push" in done.stderr


def test_logs_are_shown_with_host_slot_and_item(script):
    path = script("import os\ndef f(x):\n    print('said', x)\n    os.write(2, b'raw\\n')\n")
    done = peach("run", "-n", 1, "-l", path, "--logs", "f", 5, 6, check=0)
    said = [line.split(maxsplit=1)[1] for line in done.stderr.splitlines()]
    assert said == ["0: said 5", "0: raw", "1: said 6", "1: raw"]
    assert lines(done) == [None, None]


def test_a_copied_executor_has_logs_too(script):
    path = script("def f(x): print('said', x)\n")
    done = peach("run", "-n", 2, "--start", "fork", "-l", path, "--logs", "f", "0..3", check=0)
    assert sorted(line.split()[-1] for line in done.stderr.splitlines()) == list("0123")
