"""What a newcomer is told when something is missing: packages, libraries, a network."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest
from conftest import HERE

ROOT = HERE.parents[1]
PACKAGES = ROOT / "deploy" / "packages"


def run(*args, env=None, path=None):
    env = {**os.environ, **(env or {}), **({"PATH": str(path)} if path else {})}
    return subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=120,
                          env=env)


def names(*sets):
    return run(PACKAGES, "--list", *sets).stdout.split()


# ---- deploy/packages ----

@pytest.fixture
def programs(tmp_path):
    """A PATH with what deploy/packages itself needs, a dpkg-query that knows no package, and
    programs of the test's own."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("bash", "cat", "env", "grep", "mktemp", "rm", "sort", "tail"):
        (folder / name).symlink_to(shutil.which(name))

    def write(name, text):
        (folder / name).write_text("#!/bin/sh\n" + text)
        (folder / name).chmod(0o755)
        return folder

    write("dpkg-query", "exit 1\n")
    return write


def test_who_is_not_root_is_told_what_root_has_to_run(programs):
    """operations.N26: it was "sudo: command not found"."""
    done = run(PACKAGES, "build", "examples", path=programs("id", "echo 1000\n"))
    assert done.returncode == 1
    command = done.stderr.splitlines()[-1].strip()
    assert command.startswith("apt-get update && apt-get install -y --no-install-recommends ")
    assert set(names("build", "examples")) <= set(command.split())


def test_without_a_network_that_is_said_first_and_briefly(programs):
    """operations.N26: it was 150 lines of apt's."""
    programs("id", "echo 0\n")
    words = "E: Failed to fetch http://mirror/a.deb  Temporary failure resolving 'mirror'\n" * 40
    path = programs("apt-get", f'echo "{words}E: Unable to fetch some archives"\nexit 100\n')
    done = run(PACKAGES, "build", path=path)
    assert done.returncode == 1
    installing, first, *rest = done.stderr.splitlines()
    assert installing.startswith("installing ") and "mirror cannot be reached" in first
    assert 1 <= len(rest) <= 3 and all(line.startswith("E: ") for line in rest)


@pytest.mark.held
def test_another_failure_of_apt_is_told_in_its_words(programs):
    programs("id", "echo 0\n")
    path = programs("apt-get", 'echo "E: Unable to locate package gcc"; exit 100\n')
    done = run(PACKAGES, "build", path=path)
    assert done.returncode == 1 and "Unable to locate package gcc" in done.stderr
    assert "mirror" not in done.stderr


def test_a_set_that_there_is_not_is_told():
    done = run(PACKAGES, "bulid")
    assert done.returncode == 2 and "bulid" in done.stderr and "build" in done.stderr


def test_the_packages_are_of_no_single_release():
    """libclang-rt-14-dev is not in Debian 13: such names need a neutral one."""
    every = names("build", "examples", "test", "python", "fuzz", "check", "fresh")
    assert "clang" in every
    assert not [name for name in every if re.search(r"-\d|\d\.\d", name)]


def test_the_images_install_what_deploy_packages_says():
    text = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    assert "packages build" in text and "libzmq3-dev" not in text


def test_every_service_of_the_compose_file_has_an_init():
    """operations.O15: as process 1 the worker left a zombie of each orphan of a task."""
    text = (ROOT / "deploy" / "docker" / "docker-compose.yml").read_text()
    services = re.split(r"(?m)^  (?=\w+:$)", text.split("services:\n")[1])[1:]
    assert len(services) == 3 and all("\n    init: true\n" in service for service in services)


# ---- CMake ----

@pytest.fixture
def configure(tmp_path):
    """CMake's configuration, as if these libraries were not installed."""

    def configure(*options, without=()):
        known = tmp_path / "known"
        known.mkdir()
        folders = run("pkg-config", "--variable", "pc_path", "pkg-config").stdout.strip()
        for folder in folders.split(":"):
            for file in pathlib.Path(folder).glob("*.pc"):
                if file.stem not in without and not (known / file.name).exists():
                    (known / file.name).symlink_to(file)
        return run("cmake", "-S", ROOT, "-B", tmp_path / "build", "-G", "Ninja", *options,
                   env={"PKG_CONFIG_LIBDIR": str(known), "PKG_CONFIG_PATH": ""})

    return configure


def test_without_cmocka_all_but_the_tests_is_built(configure, tmp_path):
    """operations.N8"""
    done = configure(without=["cmocka"])
    assert done.returncode == 0, done.stderr
    told, = [line for line in done.stdout.splitlines() if "libcmocka-dev" in line]
    assert "deploy/packages test" in told
    rules = (tmp_path / "build" / "build.ninja").read_text()
    assert "peach-broker" in rules and "peach-sim" not in rules


@pytest.mark.held
def test_with_cmocka_the_tests_are_built_unasked(configure, tmp_path):
    assert configure().returncode == 0
    assert "peach-sim" in (tmp_path / "build" / "build.ninja").read_text()


def test_what_is_missing_is_told_all_at_once_with_its_packages(configure):
    """operations.N8: "A required package was not found"."""
    done = configure("-DPEACH_TESTS=ON", without=["libzmq", "jansson", "cmocka"])
    assert done.returncode != 0 and done.stderr.count("CMake Error") == 1
    for library, package in (("libzmq", "libzmq3-dev"), ("jansson", "libjansson-dev"),
                             ("cmocka", "libcmocka-dev")):
        line, = [line for line in done.stderr.splitlines() if package in line]
        assert library in line
    assert "deploy/packages build test" in done.stderr


def test_without_pythons_headers_the_way_without_python_is_told(configure):
    """operations.N8"""
    done = configure("-DPython3_INCLUDE_DIR=/nonexistent")
    assert done.returncode != 0 and done.stderr.count("CMake Error") == 1
    for word in ("libpython3-dev", "-DPEACH_WITH_PYTHON=OFF", "deploy/packages build"):
        assert word in done.stderr


# ---- what runs on a new machine ----

def test_a_program_that_no_package_brings_is_not_found(tmp_path):
    """operations.N1: .ci/run passed on machines that happened to have make."""
    extra = tmp_path / "make-coffee"
    extra.write_text("#!/bin/sh\n")
    extra.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    found = run("bash", "-c", "command -v make-coffee", env=env)
    assert found.returncode == 0
    toolbox = HERE.parent / "toolbox"
    hidden = run(toolbox, "build", "--", "bash", "-c", "command -v make-coffee", env=env)
    assert hidden.returncode != 0 and not hidden.stderr
    there = run(toolbox, "build", "--", "bash", "-c", "command -v ninja cc python3 protoc-c awk")
    assert there.returncode == 0 and len(there.stdout.split()) == 5
