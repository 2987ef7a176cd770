"""The manual page and the completion say what the programs take: neither can go stale."""
import re
import shutil
import subprocess

import pytest
from conftest import BIN, HERE, ROOT, peach

PAGE = ROOT / "client" / "cli" / "peach.1.in"
COMPLETION = ROOT / "client" / "cli" / "completion.bash"
TASKS = HERE / "tasks.py"


def commands():
    return re.findall(r"^  ([a-z]+) ", peach("--help", check=0).stdout, re.M)


def options_of(command):
    """{long option: its short one} of the command's --help."""
    found = re.findall(r"^ +(?:-(\w), )?--([a-z-]+)", peach(command, "--help", check=0).stdout, re.M)
    return {long: short for short, long in found if long not in ("help", "usage", "version")}


def documented():
    """{command: {long option: its short one}} of the manual page."""
    found = {}
    for section in PAGE.read_text().split("\n.SS ")[1:]:
        title, _, text = section.partition("\n")
        if not title.startswith("Options of "):
            continue
        entries = re.findall(r"^\.TP\n\.(?:BR|BI|B) (?:\\-(\w) \", \" )?\\-\\-([a-z\\-]+)",
                             text.split("\n.SH ")[0], re.M)
        options = {long.replace("\\", ""): short for short, long in entries}
        for command in re.findall(r"[a-z]+", title.removeprefix("Options of ")):
            if command != "and":
                assert not found.get(command, {}).keys() & options.keys(), (command, title)
                found.setdefault(command, {}).update(options)
    return found


def test_the_manual_has_the_options_of_every_command_and_no_others():
    pages = documented()
    assert sorted(pages) == sorted(commands())
    for command in commands():
        assert pages[command] == options_of(command), command


def test_the_manual_has_every_command_and_exit_status():
    """operations.N22: --help left out 130, which README has"""
    page, readme = PAGE.read_text(), (ROOT / "README.md").read_text()
    for command in commands():
        assert f".B peach {command}\n" in page or f".B {command}\n" in page, command
    table = peach("--help", check=0).stdout.split("Exit status\n")[1]
    statuses = re.findall(r"^ +(\d+)  (.+)$", table, re.M)
    assert [int(number) for number, _ in statuses] == [0, 1, 2, 3, 4, 130]
    plain = re.sub(r"[\n ]+", " ", re.sub(r"^\.BR ", "", page, flags=re.M).replace("\\-", "-"))
    for number, text in statuses:
        said = text[0].upper() + text[1:]
        assert f".TP {number} {said}" in plain.replace(" .", "."), number
        assert f"| {number} | {text} |" in readme, number


@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not there")
def test_mandoc_has_nothing_to_say_about_the_manual():
    done = subprocess.run(["mandoc", "-T", "lint", str(PAGE)], capture_output=True, text=True)
    assert done.stdout == "" and done.returncode == 0


def complete(line, env=None):
    """What bash offers for the last word of the line."""
    words = line.split(" ")
    script = (f'PATH="{BIN}:$PATH"; source "{COMPLETION}"; COMP_WORDS=({" ".join(words)} ""); '
              f"COMP_CWORD={len(words) - 1}; _peach peach '{words[-1]}' '{words[-2]}'; "
              'printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, env=env)
    assert done.stderr == ""
    return done.stdout.split()


def test_completion_has_commands_and_options():
    assert sorted(complete("peach ")) == sorted([*commands(), "help"])
    assert complete("peach wo") == ["worker", "workers"]
    assert sorted(complete("peach help st")) == ["status"]
    for command in commands():
        offered = {option.removeprefix("--") for option in complete(f"peach {command} --")}
        assert offered == {*options_of(command), "help", "usage", "version"}, command
    assert complete("peach run --start ") == ["spawn", "fork"]
    assert complete("peach map --halt n") == ["now"]


def test_completion_has_functions_and_workers_of_the_fleet(fleet):
    import os
    fleet.worker(1, TASKS)
    env = {**os.environ, **fleet.env}
    assert complete("peach map ech", env) == ["echo_types"]
    assert complete("peach drain ", env) == [fleet.workers()[0]["id"][:8]]
    assert complete(f"peach call -c {fleet.endpoint} suic") == ["suicide"]
    assert complete("peach map fn", {**env, "PEACH_BROKER": "tcp://127.0.0.1:9"}) == []
