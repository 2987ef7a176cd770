"""peach run: a fleet for one job."""
import time

import pytest
from conftest import BIN, EXAMPLES, HERE, lines, peach

TASKS = HERE / "tasks.py"


def test_the_toolkits_example_gives_its_numbers():
    done = peach("run", "-n", 4, "-l", EXAMPLES / "multip.py", "func", "1..3", check=0)
    assert lines(done) == [
        [0.0, 0.25, 0.5, 0.75, 1.0],
        [0.0, 0.5, 1.0, 1.5, 2.0],
        [0.0, 0.75, 1.5, 2.25, 3.0],
    ]
    done = peach("run", "-n", 4, "-l", EXAMPLES / "multip.py", "fnc", "0..9", check=0)
    assert lines(done) == list(range(10))


def test_cross_validation_is_the_same_on_one_and_on_four_slots():
    results = [
        lines(peach("run", "-n", n, "-l", EXAMPLES / "digits.py", "score", "0..9", check=0))
        for n in (1, 4)
    ]
    assert results[0] == results[1]
    assert len(results[0]) == 10 and all(score > 0.9 for score in results[0])


def test_a_hundred_thousand_items_come_back_in_order():
    done = peach("run", "-n", 4, "-l", TASKS, "fnc", "0..99999", check=0)
    assert done.stdout == "".join(f"{i}\n" for i in range(100000))


@pytest.mark.parametrize("function, cause", [
    ("kills", "killed by signal 9"),
    ("exits", "exited with code 3"),
    ("segfaults", "killed by signal 11"),
    ("forks", "killed by signal 9"),
])
@pytest.mark.parametrize("slots", [1, 4])
def test_an_item_that_kills_its_executor_fails_alone(function, cause, slots):
    done = peach("run", "-n", slots, "-l", TASKS, function, "0..99", check=1)
    results = lines(done)
    assert [x for i, x in enumerate(results) if i != 3] == [i for i in range(100) if i != 3]
    error = results[3]["error"]
    assert cause in error["message"] and error["status"] == "PEACH_E_DIED"
    assert len(error["attempts"]) == 3 and all(cause in a["cause"] for a in error["attempts"])
    assert error["host"] and error["pid"]
    assert cause in done.stderr


def test_an_item_that_raises_has_type_message_and_traceback():
    done = peach("run", "-n", 4, "-l", TASKS, "raises", "0..9", check=1)
    results = lines(done)
    assert [x for i, x in enumerate(results) if i != 3] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    error = results[3]["error"]
    assert error["type"] == "ValueError" and error["message"] == "no threes"
    assert 'raise ValueError("no threes")' in error["traceback"]
    assert "bootstrap" not in error["traceback"] and error["host"]
    assert "1 of 10 items failed" in done.stderr


def test_system_exit_is_an_error_like_any_other():
    done = peach("run", "-n", 1, "-l", TASKS, "exit_silently", 0, 1, check=1)
    assert [x["error"]["type"] for x in lines(done)] == ["SystemExit", "SystemExit"]


def test_numerical_libraries_get_one_thread():
    env = {"OMP_NUM_THREADS": "16"}
    done = peach("run", "-n", 1, "-l", TASKS, "threads", 0, env=env, check=0)
    assert lines(done) == [["1", "1", "1"]]


def test_a_seed_gives_the_same_numbers_however_it_is_run():
    runs = [
        peach("run", "-n", n, "-l", TASKS, "--seed", 7, *more, "draw", "0..19", check=0).stdout
        for n, more in ((1, ()), (2, ()), (4, ()), (4, ("--chunk", 3)), (2, ("--chunk", 20)))
    ]
    assert len(set(runs)) == 1
    drawn = lines(peach("run", "-n", 4, "-l", TASKS, "draw", "0..19", check=0))
    assert len({tuple(x) for x in drawn}) == 20  # without a seed no two executors draw alike
    other = peach("run", "-n", 2, "-l", TASKS, "--seed", 8, "draw", "0..19", check=0).stdout
    assert other != runs[0]


def test_values_keep_their_types():
    items = ["null", "true", "3", "2.5", '"a"', "[1,[2]]", '{"x":{"y":1}}', '{"$bytes":"AAEC"}']
    done = peach("run", "-n", 1, "-l", TASKS, "echo_types", *items, check=0)
    assert [x[0] for x in lines(done)] == [
        "NoneType", "bool", "int", "float", "str", "list", "dict", "bytes"]
    assert [x[1] for x in lines(done)][5:7] == [[1, [2]], {"x": {"y": 1}}]


def test_results_of_all_forms_arrive():
    kinds = ["tuple", "bytes", "scalar", "int64", "bool", "matrix", "nan", "nested"]
    done = peach("run", "-n", 1, "-l", TASKS, "forms", *[f'"{k}"' for k in kinds], check=0)
    assert lines(done) == [
        [1, 2], {"$bytes": "AAEC"}, 0.5, 7, True, [[0, 3], [1, 4], [2, 5]], {"$float": "nan"},
        {"a": [1, {"b": None}], "ü": "é"}]


def test_results_without_a_form_are_errors_that_say_so():
    kinds = ["set", "big", "loop", "complex", "keys", "surrogate"]
    done = peach("run", "-n", 1, "-l", TASKS, "strange", *[f'"{k}"' for k in kinds], check=1)
    errors = [x["error"] for x in lines(done)]
    assert [e["type"] for e in errors] == [
        "TypeError", "OverflowError", "ValueError", "TypeError", "TypeError",
        "UnicodeEncodeError"]


def test_items_come_from_standard_input():
    stdin = "".join(f"{i}\n" for i in range(20000))
    done = peach("run", "-n", 2, "-l", TASKS, "fnc", "-", stdin=stdin, check=0)
    assert done.stdout == stdin
    done = peach("run", "-n", 2, "-l", TASKS, "fnc", '"a"', "1..3", "-", stdin="7\n\n8\n", check=0)
    assert lines(done) == ["a", 1, 2, 3, 7, 8]


def test_unordered_results_come_as_they_finish():
    done = peach("run", "-n", 4, "-l", TASKS, "--unordered", "nap", 0.6, 0, 0, 0, check=0)
    assert lines(done)[-1] == 0.6 and sorted(lines(done)) == [0, 0, 0, 0.6]


def test_large_values_go_there_and_back():
    done = peach("run", "-n", 2, "-l", TASKS, "--chunk", 1, "length", '"' + "x" * 100000 + '"',
                 check=0)
    assert lines(done) == [100000]
    done = peach("run", "-n", 1, "-l", TASKS, "large", 20000000, check=0)
    assert len(done.stdout) > 26000000


def test_a_module_function_can_be_preloaded():
    done = peach("run", "-n", 1, "-l", "math:sqrt", "sqrt", 4, 9, check=0)
    assert lines(done) == [2, 3]
    done = peach("run", "-n", 1, "-l", "math:sqrt", "math.sqrt", 16, check=0)
    assert lines(done) == [4]


def test_bare_and_qualified_names_both_work():
    assert lines(peach("run", "-n", 1, "-l", TASKS, "tasks.fnc", 5, check=0)) == [5]


def test_a_plugin_runs_without_python():
    plugin = BIN.parent / "examples" / "mathx.so"
    done = peach("run", "-n", 2, "-l", plugin, "square", "1..4", "2.5", '"x"', check=1)
    assert lines(done)[:5] == [1, 4, 9, 16, 6.25]
    assert lines(done)[5]["error"]["message"] == "square takes one number"
    done = peach("run", "-n", 2, "-l", plugin, "mathx.prime", "1..12", check=0)
    assert [i + 1 for i, p in enumerate(lines(done)) if p] == [2, 3, 5, 7, 11]


def test_python_and_plugins_live_in_one_executor():
    plugin = BIN.parent / "examples" / "mathx.so"
    for function, result in (("square", 9), ("fnc", 3)):
        done = peach("run", "-n", 1, "-l", plugin, "-l", TASKS, function, 3, check=0)
        assert lines(done) == [result]


def test_what_tasks_print_does_not_mix_with_results(script):
    path = script("def loud(x):\n    print('noise', x)\n    return x\n")
    done = peach("run", "-n", 1, "-l", path, "loud", "0..2", check=0)
    assert lines(done) == [0, 1, 2] and "noise 1" in done.stderr


@pytest.mark.alone
def test_uneven_items_are_balanced():
    begin = time.monotonic()
    peach("run", "-n", 4, "-l", TASKS, "nap", *(["0.4"] + ["0.01"] * 90), check=0)
    assert time.monotonic() - begin < 3  # one after another it is 1.3, badly balanced more


def test_nothing_is_left_behind():
    import subprocess
    marker = f"peach-{time.monotonic_ns()}"
    peach("run", "-n", 2, "-l", TASKS, "fnc", "0..3", env={"PEACH_MARK": marker}, check=0)
    left = subprocess.run(["grep", "-la", marker, "-r", "/proc", "--include=environ"],
                          capture_output=True, text=True).stdout
    assert left == ""


def test_a_worker_that_dies_ends_the_run_instead_of_hanging_it():
    done = peach("run", "-n", 2, "-l", TASKS, "kill_parent", "0..5", check=1)
    assert "died" in done.stderr
