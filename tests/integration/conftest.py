"""Fixtures: fleets of the real programs (programs.py), stopped when their test ends."""
import subprocess

import pytest
from programs import (BIN, EXAMPLES, FULL, HERE, ROOT, SANITIZED, SLOW, Fleet, Process,  # noqa: F401
                      Proxy, cpu_seconds, driver, executors, free_port, is_program, lines, memory,
                      open_for, peach, python, state, until)


@pytest.fixture
def fleet():
    fleet = Fleet()
    yield fleet
    fleet.stop()


@pytest.fixture
def make_fleet():
    made = []

    def make(*options):
        made.append(Fleet(*options))
        return made[-1]

    yield make
    for fleet in made:
        fleet.stop()


@pytest.fixture
def proxies():
    made = []

    def make(endpoint):
        made.append(Proxy(endpoint))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def script(tmp_path):
    """Write a preload and return its path."""

    def write(text, name="script.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def plugin(tmp_path):
    """Build a plugin and return its path: C text before its functions, each of which has the
    value of a C expression."""

    def build(text="", name="native", **functions):
        made = "".join(f"static peach_value_t *{f}(peach_call_t *call, const peach_value_t *const "
                       f"*args, size_t count)\n{{ (void)call; (void)args; (void)count; "
                       f"return {value}; }}\n" for f, value in functions.items())
        added = "".join(f'    if (rc == 0) rc = peach_plugin_function(plugin, "{f}", {f});\n'
                        for f in functions)
        source, path = tmp_path / f"{name}.c", tmp_path / f"{name}.so"
        source.write_text(f"#include <peach/plugin.h>\n{text}\n{made}"
                          f"int peach_plugin_init(peach_plugin_t *plugin)\n{{\n    int rc = 0;\n"
                          f"{added}    return rc;\n}}\n")
        made = tmp_path / f"{name}.so.new"
        subprocess.run(["cc", "-shared", "-fPIC", "-I", ROOT / "client" / "include", source, "-o",
                        made], check=True, timeout=60)
        made.replace(path)
        return path

    return build
