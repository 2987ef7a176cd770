# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""Builds the extension and the programs with CMake, out of the checkout that this is in, or
out of the copy of it that a source distribution carries.

What CMake needs (deploy/packages build) are libraries of the system. The Python that builds
is the one that executors embed, so it needs its shared library.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import ExecError

HERE = pathlib.Path(__file__).resolve().parent
COPY = HERE / "source"
ROOT = COPY if COPY.is_dir() else HERE.parents[1]
CARRIED = ["CMakeLists.txt", "LICENSE", "broker", "client", "deploy", "proto", "worker"]
KEPT = ["bin", "libexec", "lib/libpeach.so*", "lib/*/libpeach.so*"]  # of the installation


# What has to be there before CMake can tell what is missing, and the packages that bring it;
# one of the programs will do.
TOOLS = {"cmake": ["cmake"], "ninja-build": ["ninja", "make"],
         "gcc libc6-dev": [os.environ.get("CC", "cc"), "gcc", "clang"]}


def fail(why):
    done = subprocess.run(["bash", ROOT / "deploy" / "packages", "--list", "build"], check=True,
                          capture_output=True, text=True)
    raise ExecError(f"{why}\npip builds peach here. On Debian, all that this needs: "
                    f"apt-get install {' '.join(done.stdout.split())}")


def check_tools():
    missing = [packages for packages, programs in TOOLS.items()
               if not any(map(shutil.which, programs))]
    if missing:
        fail(f"no {', no '.join(missing)} here")


def configured(build_temp):
    """CMake's folder below build_temp. One of an earlier attempt is used again if it can be:
    not after a failure, with another generator or for a checkout elsewhere."""
    work = pathlib.Path(build_temp).resolve() / "cmake"
    command = ["cmake", "-S", ROOT, "-B", work, "-DCMAKE_BUILD_TYPE=Release",
               "-DPEACH_TESTS=OFF", f"-DPEACH_PYTHON={sys.executable}"]
    if "CMAKE_GENERATOR" not in os.environ:
        command += ["-G", "Ninja" if shutil.which("ninja") else "Unix Makefiles"]
    check_tools()
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return work
        shutil.rmtree(work, ignore_errors=True)
    fail(done.stderr[max(done.stderr.find("CMake Error"), 0):].strip())


class Check(build):
    """What is missing is told before a page of files that are copied."""

    def run(self):
        configured(self.build_temp)
        super().run()


class Build(build_ext):
    def run(self):
        work = configured(self.build_temp)
        staged = work / "staged"
        if subprocess.run(["cmake", "--build", work, "--parallel"]).returncode != 0:
            raise ExecError("peach does not build: the compiler says above why")
        subprocess.run(["cmake", "--install", work, "--prefix", staged, "--strip"], check=True,
                       stdout=subprocess.DEVNULL)
        # In an editable installation the package is where it is.
        package = HERE / "peach" if self.inplace else pathlib.Path(self.build_lib) / "peach"
        package.mkdir(parents=True, exist_ok=True)
        extension, = staged.glob("lib/python*/*/peach/_peach.so")
        shutil.copy2(extension, package / "_peach.so")
        programs = package / "programs"
        shutil.rmtree(programs, ignore_errors=True)
        for pattern in KEPT:
            for path in staged.glob(pattern):
                target = programs / path.relative_to(staged)
                target.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    shutil.copytree(path, target, symlinks=True)
                else:
                    shutil.copy2(path, target)

    def get_outputs(self):
        return []


class Carry(sdist):
    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        for name in CARRIED:
            target = pathlib.Path(base_dir) / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns(
                    "__pycache__", "build", "dist", "*.egg-info", "source", "programs", "*.so"))
            else:
                shutil.copy2(ROOT / name, target)


version = re.search(r"project\(peach VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())[1]
setup(version=version, license="MPL-2.0", ext_modules=[Extension("peach._peach", [])],
      cmdclass={"build": Check, "build_ext": Build, "sdist": Carry})
