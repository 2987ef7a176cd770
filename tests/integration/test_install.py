"""cmake --install, then a C program and a plugin built outside the tree."""
import os
import pathlib
import shutil
import subprocess
import textwrap

import pytest
from conftest import BIN, EXAMPLES, HERE, SANITIZED, Fleet, free_port, lines


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("prefix")
    subprocess.run(["cmake", "--install", str(BIN.parent), "--prefix", str(prefix)], check=True,
                   capture_output=True)
    return prefix


def find(prefix, name):
    return next(prefix.rglob(name))


def flags(prefix, *what):
    env = {**os.environ, "PKG_CONFIG_PATH": str(find(prefix, "peach.pc").parent)}
    return subprocess.run(["pkg-config", *what, "peach"], env=env, check=True,
                          capture_output=True, text=True).stdout.split()


@pytest.mark.skipif(SANITIZED, reason="a program without the sanitizer cannot link the library")
def test_a_c_program_calls_python_and_native_functions(prefix, tmp_path):
    program, plugin = tmp_path / "client", tmp_path / "mathx.so"
    library = find(prefix, "libpeach.so").parent
    subprocess.run(["cc", str(EXAMPLES / "client.c"), *flags(prefix, "--cflags", "--libs"), "-o",
                    str(program)], check=True, cwd=tmp_path)
    subprocess.run(["cc", "-shared", "-fPIC", *flags(prefix, "--cflags"),
                    str(EXAMPLES / "mathx.c"), "-o", str(plugin)], check=True, cwd=tmp_path)
    fleet = Fleet()
    try:
        worker = fleet.start(prefix / "bin" / "peach-worker", "--slots", "2", "-l",
                             EXAMPLES / "multip.py", "-l", plugin)
        for function, expected in (("fnc", list(range(10))),
                                   ("square", [i * i for i in range(10)])):
            done = subprocess.run([str(program), function], capture_output=True, text=True,
                                  timeout=30, env={**os.environ, **fleet.env,
                                                   "LD_LIBRARY_PATH": str(library)})
            assert done.returncode == 0, done.stderr
            assert lines(done) == expected
        assert worker.process.poll() is None
    finally:
        fleet.stop()


def test_pkg_config_knows_where_it_lies_also_after_a_move(prefix, tmp_path):
    """operations.N7: the prefix of cmake --install is not the one of the configuration."""
    moved = tmp_path / "moved"
    shutil.copytree(prefix, moved, symlinks=True)
    for tree in prefix, moved:
        include, folder, library = flags(tree, "--cflags", "--libs")
        include, folder = pathlib.Path(include[2:]).resolve(), pathlib.Path(folder[2:]).resolve()
        assert (include / "peach" / "peach.h").exists() and include.is_relative_to(tree)
        assert (folder / "libpeach.so").exists() and folder.is_relative_to(tree)
        assert library == "-lpeach"


def test_the_c_program_in_readme_is_the_example():
    """operations.N5: README's own copy said nothing, and exited with 0, without a broker."""
    text = (EXAMPLES.parents[1] / "README.md").read_text()
    block = text.split("**From C**")[1].split("\n\n", 1)[1].split("    $ cc client.c")[0]
    program = (EXAMPLES / "client.c").read_text()
    assert textwrap.dedent(block).strip() == program[program.index("#include"):].strip()


@pytest.mark.held
def test_the_c_program_says_what_failed():
    """operations.N5"""
    done = subprocess.run([str(BIN / "example-client")], capture_output=True, text=True, timeout=30,
                          env={**os.environ, "PEACH_BROKER": f"tcp://127.0.0.1:{free_port()}"})
    assert done.returncode == 3 and "no broker answered" in done.stderr


def test_the_installed_command_runs(prefix):
    done = subprocess.run([str(prefix / "bin" / "peach"), "run", "-n", "2", "-l",
                           str(HERE / "tasks.py"), "fnc", "0..9"], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    assert lines(done) == list(range(10))


def test_only_public_names_are_exported(prefix):
    library = find(prefix, "libpeach.so")
    out = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True,
                         text=True, check=True).stdout
    names = [line.split()[-1] for line in out.splitlines()]
    assert "peach_map" in names and "peach_value_to_json" in names
    assert all(n.startswith("peach_") and "__" not in n for n in names), names


def test_a_cmake_project_finds_the_package(prefix, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(user C)\nfind_package(peach REQUIRED)\n"
        f"add_executable(client {EXAMPLES}/client.c)\n"
        "target_link_libraries(client peach::peach)\n")
    subprocess.run(["cmake", "-B", "build", "-S", ".", "-G", "Ninja",
                    f"-DCMAKE_PREFIX_PATH={prefix}"], check=True, cwd=tmp_path,
                   capture_output=True)
    if not SANITIZED:
        subprocess.run(["cmake", "--build", "build"], check=True, cwd=tmp_path,
                       capture_output=True)


def test_the_manual_page_and_the_completion_are_there(prefix):
    version = subprocess.run([str(prefix / "bin" / "peach"), "--version"], capture_output=True,
                             text=True, check=True).stdout.strip()
    assert f'"{version}" "User Commands"' in find(prefix, "peach.1").read_text()
    for program in ("peach-broker", "peach-worker"):
        assert find(prefix, f"{program}.1").read_text() == ".so man1/peach.1\n"
    script = find(prefix, "share/bash-completion/completions/peach")
    subprocess.run(["bash", "-n", str(script)], check=True)
