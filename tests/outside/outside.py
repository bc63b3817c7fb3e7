#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does what docs/write-a-backend.md says, with an installation alone: its commands, in a copy of the example.

Usage: outside.py BUILD-FOLDER PREFIX LIBDIR GUIDE EXAMPLE
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SKIPS_AT_MOST = 0.5  # of all tests: the example is to be worth its name


class Test:
    """TAP, a line for each step."""

    def __init__(self):
        self.number = self.failed = 0

    def told(self, good, name, text=""):
        self.number += 1
        self.failed += not good
        print(f"{'ok' if good else 'not ok'} {self.number} - {name}", flush=True)
        if not good:
            lines = [line for line in text.splitlines() if not line.startswith("ok ")]
            for line in lines[-60:]:
                print(f"# {line}")
        return good


def run(words, env, cwd, shell=False):
    done = subprocess.run(words, env=env, cwd=cwd, shell=shell, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode(errors="replace")


def install(build, stage):
    """Installs BUILD below STAGE. The log of what was installed before, for ninja uninstall, stays as it was."""
    log = build / "meson-logs" / "install-log.txt"
    before = log.read_bytes() if log.exists() else None
    status, text = run(["meson", "install", "--no-rebuild", "--quiet", "-C", str(build), "--destdir", str(stage)],
                       dict(os.environ), build)
    if before is not None:
        log.write_bytes(before)
    elif log.exists():
        log.unlink()
    return status == 0, text


def strangers_environment(stage, prefix, libdir):
    """What a system with Impost installed has, at a place of its own."""
    env = {name: value for name, value in os.environ.items()
           if not name.startswith(("IMPOST_", "PKG_CONFIG", "MESON")) and name != "DESTDIR"}
    root = f"{stage}{prefix}"
    env["PATH"] = f"{root}/bin:{env['PATH']}"
    env["LD_LIBRARY_PATH"] = f"{root}/{libdir}"
    env["PKG_CONFIG_PATH"] = f"{root}/{libdir}/pkgconfig"
    env["PKG_CONFIG_SYSROOT_DIR"] = str(stage)
    env["DESTDIR"] = str(stage)  # of the example's own installation
    return env


def commands(guide):
    """The lines of its blocks of commands."""
    blocks = re.findall(r"^```sh\n(.*?)^```", guide.read_text(encoding="utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


def judge(command, text, folder, plugin):
    """What a command must have said or done besides ending well."""
    if command.startswith("impost conform"):
        found = re.search(r"^# toy: (\d+) passed, (\d+) failed, (\d+) skipped", text, re.M)
        if not found or int(found[2]) or not int(found[1]):
            return False
        whole = not command.endswith("'")
        return not whole or int(found[3]) <= SKIPS_AT_MOST * (int(found[1]) + int(found[3]))
    if command.startswith("impost run"):
        return text == "Hi\n"
    if command.startswith("impost list"):
        return re.search(r"^backend +toy 1\.0", text, re.M) is not None
    if command.startswith("impost doctor"):
        return text.startswith("toy ") and "can run here, and executes guests" in text
    if command.startswith("ninja") and command.endswith(" install"):
        return plugin.exists()
    if command.startswith("ninja") and command.endswith(" uninstall"):
        return not plugin.exists()
    if command.startswith("ninja"):
        return (folder / "build" / "toy.so").exists()
    return text.strip() != "" or command.startswith("printf")


def sources_unseen(folder, trees):
    """Whether no file was compiled with anything of TREES."""
    text = (folder / "build" / "compile_commands.json").read_text(encoding="utf-8")
    dependencies = run(["ninja", "-C", "build", "-t", "deps"], dict(os.environ), folder)[1]
    return [tree for tree in trees if tree in text or tree in dependencies], text + dependencies


def main():
    build, prefix, libdir, guide, example = (Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]),
                                             Path(sys.argv[5]))
    test = Test()
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="impost-outside-") as top:
        stage, folder = Path(top) / "stage", Path(top) / "toy"
        shutil.copytree(example, folder, ignore=shutil.ignore_patterns("build"))
        good, text = install(build, stage)
        if test.told(good, "an installation", text):
            env = strangers_environment(stage, prefix, libdir)
            plugin = Path(f"{stage}{prefix}/{libdir}/impost/toy.so")
            for command in commands(guide):
                status, text = run(command, env, folder, shell=True)
                if not test.told(status == 0 and judge(command, text, folder, plugin), command,
                                 f"status {status}\n{text}"):
                    break
            seen, text = sources_unseen(folder, [str(build), str(example.parent.parent)])
            test.told(not seen, "nothing of the sources is seen", f"{seen}\n{text}")
    print(f"1..{test.number}")
    return test.failed != 0


sys.exit(main())
