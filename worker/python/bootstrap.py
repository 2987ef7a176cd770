# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""What an executor does in Python: loading preloads, seeding, telling errors.

It is compiled into peach_python.so and run once, in a namespace of its own. What takes
time to import is imported where it is used: every executor starts with this.
"""
import _signal
import importlib
import importlib.machinery
import os
import sys
import types
import warnings


def follow_client():
    """Find what the client finds that started this fleet, if it is of this version."""
    version, _, path = os.environ.get("PEACH_CLIENT_PATH", "").partition(":")
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        sys.path += [p for p in path.split(os.pathsep) if p not in sys.path]


follow_client()


def interrupt(number, frame):
    """Stop the item, but not inside an import, which would leave half a module behind for all
    items after it: the supervisor interrupts again soon."""
    while frame:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            postpone()  # the extension's
            return
        frame = frame.f_back
    raise KeyboardInterrupt


_signal.signal(_signal.SIGINT, interrupt)


def format_warning(message, category, filename, lineno, line=None):
    """On one line, so that a client can tell which it has shown."""
    return f"{category.__name__}: {message} ({filename}, line {lineno})\n"


warnings.formatwarning = format_warning


class PreloadLoader(importlib.machinery.SourceFileLoader):
    """Compiles what the worker registered: all executors of a worker run the same, whatever
    becomes of the file, and no cached .pyc."""

    def __init__(self, name, path, source):
        super().__init__(name, path)
        self.source = source

    def get_data(self, path):
        return self.source if path == self.path else super().get_data(path)

    def get_code(self, fullname):
        return self.source_to_code(self.get_data(self.path), self.path)


loaded = {}  # path: source, of the preloads whose lines no traceback has shown yet


def remember_lines():
    """Tracebacks show what was loaded, not what is in the file by now."""
    import importlib.util
    import linecache

    while loaded:
        path, source = loaded.popitem()
        try:
            lines = importlib.util.decode_source(source).splitlines(True)
        except (SyntaxError, UnicodeError):
            continue
        linecache.cache[path] = len(source), None, lines, path


# Neighbours: what preloads import from their own folders, as a script does.
neighbours = {}  # name in sys.modules: (file, folder, what stat said of it)


def stat_of(file):
    """What changes with the file; None when it is gone."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def forget_neighbour(name):
    """It is imported anew by who asks next; so are packages around it that have no file."""
    neighbours.pop(name, None)
    sys.modules.pop(name, None)
    package = name.rpartition(".")[0]
    if package and getattr(sys.modules.get(package), "__file__", None) is None:
        forget_neighbour(package)


def enter_folder(folder):
    """Let a preload of that folder find its own neighbours, as they are now."""
    importlib.invalidate_caches()
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
    edited = any(stat_of(file) != known for file, home, known in neighbours.values()
                 if home == folder)
    for name, (_, home, _) in list(neighbours.items()):
        if home == folder:
            if edited:  # any of them may have taken names from that one
                forget_neighbour(name)
        elif importlib.machinery.PathFinder.find_spec(name.partition(".")[0], [folder]):
            forget_neighbour(name)


def note_neighbours(folder):
    """The files of that folder that were imported, in lines."""
    for name, module in list(sys.modules.items()):
        about = getattr(module, "__dict__", {})
        file = about.get("__file__")
        place = os.path.join(folder, *name.split("."))
        if name not in neighbours and not isinstance(about.get("__loader__"), PreloadLoader) and \
                file in (f"{place}.py", os.path.join(place, "__init__.py")):
            neighbours[name] = file, folder, stat_of(file)
    return in_lines(file for file, home, _ in neighbours.values() if home == folder)


def in_lines(files):
    return "\n".join(sorted(file for file in files if file.isprintable()))


def load_file(name, path, source):
    """Import the file, which has source in it, as a module; {function name: callable}, in order,
    and the files that it imported from its folder, in lines.

    Bare names and qualified ones (multip.fnc) both. A preload that was loaded
    under this name before is replaced.
    """
    stem = name[:-3]
    folder = os.path.dirname(path)
    enter_folder(folder)
    loaded[path] = source
    loader = PreloadLoader(stem, path, source)
    module = types.ModuleType(stem)
    module.__spec__ = importlib.machinery.ModuleSpec(stem, loader, origin=path)
    module.__loader__, module.__file__, module.__package__ = loader, path, ""
    before = sys.modules.get(stem)
    sys.modules[stem] = module
    try:
        loader.exec_module(module)
    except BaseException:
        note_neighbours(folder)
        if before is None:
            del sys.modules[stem]
        else:
            sys.modules[stem] = before
        raise
    names = getattr(module, "__all__", None)
    if names is None:
        names = [
            key
            for key, value in vars(module).items()
            if not key.startswith("_")
            and callable(value)
            and getattr(value, "__module__", stem) == stem
        ]
    found = {key: getattr(module, key) for key in names}
    found.update({f"{stem}.{key}": value for key, value in found.items()})
    return found, note_neighbours(folder)


def load_module(name):
    """module:NAME; ({NAME: callable, module.NAME: callable, module:NAME: callable}, file).

    file is where the function's module was imported from; "" when it is built in.
    Modules of the folder that the worker was started in count, too, as with python -m.
    """
    module_name, _, attribute = name.partition(":")
    try:
        folder = os.getcwd()
    except OSError:  # it was removed
        folder = None
    if folder and folder not in sys.path:
        sys.path.insert(0, folder)
    value = importlib.import_module(module_name)
    for part in attribute.split("."):
        value = getattr(value, part)
    if not callable(value):
        raise TypeError(f"{name} is not callable")
    home = sys.modules.get(getattr(value, "__module__", None) or module_name)
    file = getattr(home, "__file__", None) or ""
    return {attribute: value, f"{module_name}.{attribute}": value, name: value}, in_lines([file])


def check_environment(needs):
    """Compare what a pickle needs with what is here: before, and after it was loaded."""
    import json
    import platform

    needs = json.loads(needs)
    here = platform.python_version()
    if needs["python"].split(".")[:2] != here.split(".")[:2]:
        raise RuntimeError(
            f"the function was sent by Python {needs['python']}, and {platform.node()} runs "
            f"{here}: code of one version does not run in another. Use the same Python, or "
            "load the function with a preload")

    def after(function):
        for name, version in needs["packages"].items():
            found = getattr(sys.modules.get(name), "__version__", version)
            if found != version:
                notice(f"{name} is {version} at the client and {found} on {platform.node()}")

    return after


class SourceError(Exception):
    """The source of a function makes none: no item of its job can run."""


def compile_source(text):
    """The source as code: of an expression, or else of statements."""
    import traceback

    try:
        return compile(text.strip(), "<source>", "eval"), True
    except SyntaxError:
        pass
    try:
        return compile(text, "<source>", "exec"), False
    except SyntaxError as error:
        shown = "".join(traceback.format_exception_only(SyntaxError, error)[1:-1]).rstrip()
        raise SourceError(
            f"SyntaxError: {error.msg} (the source, line {error.lineno})\n{shown}") from None


def load_code(code):
    """The function that a job brought: itself, or its source.

    Source is an expression (lambda x: x * x), or statements; then the function is the last
    one that they define.
    """
    if not isinstance(code, str):
        if not callable(code):
            raise TypeError(f"a {type(code).__name__} came where a function should be")
        return code
    space = {"__name__": "peach_source"}
    compiled, is_expression = compile_source(code)
    try:
        function = eval(compiled, space)
    except NameError as error:
        name = getattr(error, "name", None)  # since Python 3.10
        if not is_expression or name not in compiled.co_names:
            raise
        raise SourceError(f"the source is no function: {error}; "
                          f"is 'lambda {name}: {code.strip()}' meant?") from None
    if not is_expression:
        functions = [f for f in space.values() if isinstance(f, types.FunctionType)
                     and f.__module__ == "peach_source"]
        function = functions[-1] if functions else None
    if not callable(function):
        raise SourceError("the source is no function: lambda x: ..., or def f(x): ...")
    return function


def current_task():
    """(function, item, host, slot, pid, depth) of the task that runs; None between tasks."""
    import socket

    told = told_current()  # the runtime's
    slot = int(os.environ.get("PEACH_SLOT", "0"))
    return told and (told[0], told[1], socket.gethostname(), slot, os.getpid(), told[2])


def seed(number):
    """Give the item a random state of its own."""
    import random

    random.seed(number)
    try:
        # Also when the function is the first to import it.
        import numpy.random
    except ImportError:
        return
    numpy.random.seed([number & 0xFFFFFFFF, number >> 32])


def after_fork():
    """Unlike its siblings: Python's own generator sees to itself."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def tellable(text):
    """As it can be sent: what is no UTF-8, and NUL, escaped."""
    return str.encode(text, "utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def name_of(kind):
    """module.name of a class, whatever it or its metaclass says of that."""
    name = vars(type)["__qualname__"].__get__(kind)
    try:
        module = vars(type)["__module__"].__get__(kind)
    except AttributeError:
        return name
    return f"{module}.{name}" if isinstance(module, str) and module != "builtins" else name


def describe(error):
    """(type, message, traceback) of an exception, without the executor's own frames."""
    import traceback

    kind = type(error)
    if kind is SourceError:
        return "peach.SourceError", tellable(str(error)), ""
    remember_lines()
    name = name_of(kind)
    frames = BaseException.__traceback__.__get__(error)
    while frames is not None and frames.tb_frame.f_globals.get("__name__") in (
        "peach_bootstrap",
        "peach_pickling",
        "importlib._bootstrap",
        "importlib._bootstrap_external",
        "importlib",
    ):
        frames = frames.tb_next
    try:
        message = str(error)
    except BaseException as broken:
        message = f"<str() of the exception raised {type(broken).__name__}>"
    try:
        lines = traceback.format_exception(kind, error, frames)
    except BaseException:  # it is too odd for the library
        lines = ["Traceback (most recent call last):\n", *traceback.format_tb(frames),
                 f"{name}: {message}\n"]
    return tellable(name), tellable(message), tellable("".join(lines))
