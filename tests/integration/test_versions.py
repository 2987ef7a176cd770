"""What runs is what was last defined or pushed, or the call fails in words."""
import collections
import os
import signal
import time

import pytest
from conftest import HERE, executors, lines, peach, until

TASKS = HERE / "tasks.py"


def push(fleet, path, **more):
    return fleet("preload", path, **more)


def values(fleet, function, count=20):
    """What one map of so many items gave, by value."""
    done = fleet("map", "--quiet", "--chunk", 1, function, f"1..{count}")
    return collections.Counter(str(x) for x in lines(done))


def only(value, count=20):
    return collections.Counter({str(value): count})


def python(folder, value, name="v.py"):
    path = folder / name
    path.write_text(f"def v(x):\n    return {value}\n")
    return path


@pytest.fixture
def version(request, tmp_path, plugin):
    """Make a version of a preload of some kind: its path, always the same."""
    kind = request.param

    def make(value):
        if kind == "python":
            return python(tmp_path, value)
        path = plugin(v=f"peach_value_int({value})", name="v")
        if kind == "plugin that is written over":  # and not replaced by another file
            data = path.read_bytes()
            kept = tmp_path / "kept.so"
            with open(kept, "r+b" if kept.exists() else "wb") as file:
                file.truncate()
                file.write(data)
            target = tmp_path / "sub"
            target.mkdir(exist_ok=True)
            link = target / "v.so"
            if not link.exists():
                os.link(kept, link)
            return link
        return path

    return make


KINDS = pytest.mark.parametrize("version", ["python", "plugin", "plugin that is written over"],
                                indirect=True)


@KINDS
@pytest.mark.parametrize("how", ["spawn", "fork"])
def test_an_edited_preload_is_what_runs(fleet, version, how):
    """operations.O1: a plugin that was built anew ran as before, at some executors."""
    worker = fleet.worker(2, args=("--start", how))
    for value in (1, 2, 3):
        push(fleet, version(value), check=0)
        assert values(fleet, "v") == only(value)
    os.kill(executors(worker)[-1], signal.SIGKILL)
    until(lambda: fleet.count_ready() == 1, 10)
    assert values(fleet, "v") == only(3)


@KINDS
def test_a_preload_that_goes_back_is_what_runs(fleet, version):
    """operations.O2: "known" was not the last one; who came later had another."""
    fleet.worker(2)
    for value in (1, 2, 1):
        push(fleet, version(value), check=0)
        assert values(fleet, "v") == only(value)
    fleet.worker(2)
    assert values(fleet, "v", 40) == only(1, 40)
    push(fleet, version(2), check=0)
    assert values(fleet, "v", 40) == only(2, 40)


def test_modules_take_turns(fleet):
    """operations.O2: math:sqrt, cmath:sqrt and math:sqrt again went on with cmath's."""
    fleet.worker(2)
    for module, value in (("math", "2.0"), ("cmath", None), ("math", "2.0"), ("cmath", None)):
        push(fleet, f"{module}:sqrt", check=0)
        got = lines(fleet("map", "--quiet", "sqrt", *["4"] * 10))
        assert all((x == 2.0) == (value is not None) for x in got), got


def test_a_module_whose_file_changed_is_what_runs(fleet, tmp_path):
    """Principle 3, of imported modules: all executors run the file as it is now."""
    module = tmp_path / "changes.py"
    fleet.env["PYTHONPATH"] = str(tmp_path)
    module.write_text("def v(x):\n    return 1\n")
    fleet.worker(2)
    push(fleet, "changes:v", check=0)
    assert values(fleet, "v") == only(1)
    module.write_text("def v(x):\n    return 22\n")
    push(fleet, "changes:v", check=0)
    assert values(fleet, "v") == only(22)


def test_two_files_of_one_name_are_one_preload(fleet, tmp_path):
    """operations.O2: two people who push a models.py of their own by turns."""
    fleet.worker(2)
    for turn, value in enumerate(["'mine'", "'yours'", "'mine'", "'yours'"]):
        folder = tmp_path / str(turn % 2)
        folder.mkdir(exist_ok=True)
        push(fleet, python(folder, value, "models.py"), check=0)
        assert values(fleet, "v") == only(eval(value))


def test_the_last_of_two_that_define_one_name_is_called(fleet, script):
    """Both are there; a, b and a again: a's."""
    a = script("def v(x):\n    return 'a'\ndef of_a(x):\n    return 1\n", "a.py")
    b = script("def v(x):\n    return 'b'\n", "b.py")
    worker = fleet.worker(2)
    for path, value in ((a, "a"), (b, "b"), (a, "a"), (b, "b"), (a, "a")):
        push(fleet, path, check=0)
        assert values(fleet, "v") == only(value)
        assert values(fleet, "a.v", 2) == only("a", 2)
    for pid in executors(worker):
        os.kill(pid, signal.SIGKILL)
    until(lambda: fleet.count_ready() == 1, 10)
    assert values(fleet, "v") == only("a")
    fleet.worker(2)
    assert values(fleet, "v", 40) == only("a", 40)


def test_a_function_that_an_edit_removed_is_gone(fleet, script):
    fleet.worker(1)
    push(fleet, script("def old(x):\n    return 1\ndef v(x):\n    return 1\n"), check=0)
    push(fleet, script("def v(x):\n    return 2\n"), check=0)
    done = fleet("map", "--quiet", "old", 1)
    assert done.returncode == 1 and "no worker has this function" in done.stderr
    assert values(fleet, "v") == only(2)


def test_edits_leave_one_preload(fleet, tmp_path):
    """operations.N20, O15: each edit left its version in both tables, for ever."""
    fleet.worker(1)
    for value in range(1, 6):
        push(fleet, python(tmp_path, value), check=0)
    broken = tmp_path / "v.py"
    broken.write_text("def v(x:\n")
    assert push(fleet, broken).returncode != 0
    push(fleet, python(tmp_path, 7), check=0)
    view = fleet.view()
    assert [(p["name"], p["state"]) for p in view["workers"][0]["preloads"]] == [("v.py", "ready")]
    assert sorted(f["name"] for f in view["functions"]) == ["v", "v.v"]
    text = fleet("functions", check=0).stdout + fleet("workers", check=0).stdout
    assert "several versions" not in text and "failed" not in text


def test_later_executors_load_one_version(fleet, script):
    """worker.C3: 15 pushes of a file that takes 0.2 s: 3 s for each that started later."""
    worker = fleet.worker(1)
    for i in range(12):
        push(fleet, script(f"import time\ntime.sleep(0.3)\ndef v(x):\n    return {i}\n"), check=0)
    os.kill(executors(worker)[0], signal.SIGKILL)
    begin = time.monotonic()
    until(lambda: executors(worker), 10)
    assert values(fleet, "v", 5) == only(11, 5)
    assert time.monotonic() - begin < 2.5  # one load of 0.3 s, not 3.6 s of them


def test_a_failed_preload_is_tried_again(fleet, tmp_path):
    """worker.B7: with the old error, until it was edited or the worker restarted."""
    fleet.env["PYTHONPATH"] = str(tmp_path)
    fleet.worker(1)
    needs = tmp_path / "needs.py"
    needs.write_text("import dependency\ndef v(x):\n    return dependency.value\n")
    done = push(fleet, needs)
    assert done.returncode != 0 and "dependency" in done.stderr
    (tmp_path / "dependency.py").write_text("value = 5\n")
    push(fleet, needs, check=0)
    assert values(fleet, "v", 3) == only(5, 3)


@pytest.mark.held
def test_an_edit_that_fails_everywhere_changes_nothing(fleet, tmp_path):
    """The version before runs on, on all workers, and on those that come."""
    fleet.worker(1)
    push(fleet, python(tmp_path, 1), check=0)
    (tmp_path / "v.py").write_text("def v(x):\n    return 2\nraise RuntimeError('not today')\n")
    done = push(fleet, tmp_path / "v.py")
    assert done.returncode != 0 and "not today" in done.stderr
    assert values(fleet, "v") == only(1)
    fleet.worker(1)
    assert values(fleet, "v") == only(1)


def test_versions_never_mix(fleet, script):
    """It fails on one worker only: there the name is gone, and no item runs the old one."""
    text = ("import os\ndef v(x):\n    return {0}\n"
            "if {0} == 2 and os.environ.get('FAILS'): raise RuntimeError('not here')\n")
    fleet.worker(1)
    fleet.env["FAILS"] = "1"
    fleet.worker(1)
    push(fleet, script(text.format(1)), check=0)
    assert values(fleet, "v") == only(1)
    done = push(fleet, script(text.format(2)))
    assert "not here" in done.stderr
    for _ in range(3):
        assert values(fleet, "v") == only(2)


# ---- brokers that are restarted ----

def restart(fleet):
    fleet.broker.stop()
    fleet.processes.remove(fleet.broker)
    fleet.start_broker()


def test_what_was_pushed_outlives_its_broker(fleet, tmp_path, plugin):
    """operations.O13: a worker that joined then had nothing, and the function went with the
    last old one."""
    old = fleet.worker(1)
    push(fleet, python(tmp_path, 4), check=0)
    push(fleet, plugin(native="peach_value_int(6)"), check=0)
    push(fleet, "math:sqrt", check=0)
    restart(fleet)
    until(lambda: len(fleet.workers()) == 1, 10)
    fleet.worker(1)
    until(lambda: fleet.count_ready() == 2, 10)
    old.signal(signal.SIGTERM)
    old.wait(10)
    until(lambda: len(fleet.workers()) == 1, 10)
    assert values(fleet, "v", 5) == only(4, 5)
    assert values(fleet, "native", 5) == only(6, 5)
    assert lines(fleet("map", "--quiet", "sqrt", 4, check=0)) == [2.0]


def test_the_last_version_counts_after_a_restart(fleet, tmp_path):
    """operations.O13: workers that were away have an older one."""
    away = fleet.worker(1)
    push(fleet, python(tmp_path, 1), check=0)
    away.signal(signal.SIGSTOP)
    until(lambda: not fleet.workers(), 30)
    fleet.worker(1)
    for value in (2, 1, 3):
        push(fleet, python(tmp_path, value), check=0)
    fleet.broker.stop()
    fleet.processes.remove(fleet.broker)
    away.signal(signal.SIGCONT)
    fleet.start_broker()
    until(lambda: len(fleet.workers()) == 2, 20)
    fleet.worker(1)
    until(lambda: fleet.count_ready() == 3, 10)
    assert values(fleet, "v", 60) == only(3, 60)


def test_the_next_broker_of_the_list_knows_what_was_pushed(fleet, make_fleet, tmp_path):
    """operations.O13"""
    other = make_fleet()
    both = f"{fleet.endpoint},{other.endpoint}"
    old = fleet.start("peach-worker", "--connect", both, "--slots", 1)
    until(lambda: fleet.count_ready() == 1 and other.count_ready() == 1, 10)
    push(fleet, python(tmp_path, 8), check=0)
    assert lines(peach("map", "--quiet", "-c", both, "v", 1, check=0)) == [8]
    fleet.broker.signal(signal.SIGKILL)
    fleet.broker.wait()
    other.worker(1)
    until(lambda: other.count_ready() == 2, 10)
    assert values(other, "v", 40) == only(8, 40)
    old.signal(signal.SIGTERM)
    old.wait(10)
    until(lambda: other.count_ready() == 1, 10)
    assert values(other, "v", 5) == only(8, 5)


@pytest.mark.parametrize("how", ["killed", "drained"])
def test_a_worker_that_goes_holds_nobody_up(fleet, script, how):
    """Who waited for it waited for its timeout: only a worker's word was looked at."""
    free, busy = fleet.worker(1), fleet.worker(1, TASKS)
    fleet.start("peach", "map", "nap", 600)
    until(lambda: fleet.view()["running_tasks"] == 1, 20)
    path = script("def there(x):\n    return 1\n", "there.py")
    waiter = fleet.start("peach", "preload", path)
    until(lambda: next(w for w in fleet.workers() if w["pid"] == free.pid)["preloads"], 20)
    time.sleep(0.5)
    assert waiter.process.poll() is None
    if how == "killed":
        busy.signal(signal.SIGKILL)
    else:
        fleet("drain", next(w["id"] for w in fleet.workers() if w["pid"] == busy.pid), check=0)
    assert waiter.wait(20) == 0


# ---- what a preload imports from its folder ----

HELPED = "import helper, os, time\ndef helped(x):\n    time.sleep(0.02)\n    return helper.V\n"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_an_edited_neighbour_counts_when_its_preload_is_pushed_again(fleet, tmp_path, start):
    """operations.O2, of the same kind: no push brought it, and executors that came later had it,
    beside those that had not."""
    worker = fleet.worker(2, args=("--start", start))
    main, helper = tmp_path / "helped.py", tmp_path / "helper.py"
    for turn, version in enumerate((1, 22, 1, 333)):
        write(helper, f"V = {version}\n")
        if turn == 3:
            write(main, HELPED + "# edited, too\n")
        else:
            write(main, HELPED)
        push(fleet, main, check=0)
        assert values(fleet, "helped") == only(version)
    write(helper, "V = 4444\n")
    os.kill(executors(worker)[-1], signal.SIGKILL)
    if start == "spawn":  # who takes its place finds that; a copy of the template has what that has
        until(lambda: values(fleet, "helped") == only(4444), 20)
    assert len(values(fleet, "helped")) == 1
    helper.unlink()
    done = push(fleet, main, check=1)
    assert "No module named 'helper'" in done.stderr


def test_each_preload_has_the_neighbours_of_its_folder(fleet, tmp_path):
    """Of the same kind: the first one's were taken."""
    fleet.worker(2)
    for name in ("a", "b"):
        write(tmp_path / name / "helper.py", f"V = '{name}'\n")
        write(tmp_path / name / "package" / "part.py", f"V = '{name}'\n")
        write(tmp_path / name / f"of_{name}.py",
              f"import helper\nfrom package import part\n"
              f"def of_{name}(x):\n    return helper.V + part.V\n")
        push(fleet, tmp_path / name / f"of_{name}.py", check=0)
    assert values(fleet, "of_a") == only("aa")
    assert values(fleet, "of_b") == only("bb")


@pytest.mark.held
def test_neighbours_that_stay_the_same_are_shared(fleet, tmp_path):
    """What two preloads of a folder import is one module, as in a program."""
    fleet.worker(1)
    write(tmp_path / "shared.py", "seen = []\n")
    for name in ("first", "second"):
        write(tmp_path / f"{name}.py", f"import shared\ndef {name}(x):\n"
              "    shared.seen.append(x)\n    return len(shared.seen)\n")
        push(fleet, tmp_path / f"{name}.py", check=0)
    assert lines(fleet("map", "--quiet", "first", 1, check=0)) == [1]
    assert lines(fleet("map", "--quiet", "second", 1, check=0)) == [2]


# ---- unloading ----

def test_what_is_unloaded_is_gone(fleet, tmp_path, plugin, script):
    """operations.N20: nothing forgot a preload, not even a failed one."""
    fleet.worker(2)
    native = plugin(native="peach_value_int(6)")
    other = script("def other(x):\n    return 1\n", "other.py")
    for what in (python(tmp_path, 1), native, "math:sqrt", other):
        push(fleet, what, check=0)
    fleet("unload", "v.py", "native.so", "math:sqrt", check=0)
    for function in ("v", "native", "sqrt", "v.v"):
        done = fleet("map", "--quiet", function, 1)
        assert done.returncode == 1 and "no worker has this function" in done.stderr, done
    fleet.worker(2)
    view = fleet.view()
    assert [[p["name"] for p in w["preloads"]] for w in view["workers"]] == [["other.py"]] * 2
    push(fleet, native, check=0)
    assert values(fleet, "native", 5) == only(6, 5)
    assert values(fleet, "other", 5) == only(1, 5)


def test_unloading_what_nobody_has_names_what_there_is(fleet, tmp_path):
    fleet.worker(1)
    push(fleet, python(tmp_path, 1), check=0)
    done = fleet("unload", "w.py")
    assert done.returncode == 2 and "w.py" in done.stderr and "v.py" in done.stderr, done
    assert values(fleet, "v", 2) == only(1, 2)


def test_a_worker_that_was_away_unloads_when_it_is_back(fleet, tmp_path):
    away = fleet.worker(1)
    fleet.worker(1)
    push(fleet, python(tmp_path, 1), check=0)
    away.signal(signal.SIGSTOP)
    until(lambda: len(fleet.workers()) == 1, 30)
    fleet("unload", "v.py", check=0)
    away.signal(signal.SIGCONT)
    until(lambda: len(fleet.workers()) == 2, 30)
    until(lambda: not any(w["preloads"] for w in fleet.workers()), 10)


# ---- names ----

@pytest.mark.parametrize("name", ["math:sqrt", "sqrt", "math.sqrt"])
def test_a_module_function_has_the_name_that_it_was_pushed_by(fleet, name):
    """operations.N16"""
    fleet.worker(1)
    push(fleet, "math:sqrt", check=0)
    assert lines(fleet("map", "--quiet", name, 4, 9, check=0)) == [2.0, 3.0]


def test_two_preloads_of_one_name_are_an_error(fleet, tmp_path):
    """Which of them would it be?"""
    folders = [tmp_path / "a", tmp_path / "b"]
    for i, folder in enumerate(folders):
        folder.mkdir()
        python(folder, i)
    worker = fleet.start("peach-worker", "-l", folders[0] / "v.py", "-l", folders[1] / "v.py")
    assert worker.wait(10) == 2
    assert "two preloads are called v.py" in worker.said()
