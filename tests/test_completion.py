"""Completion, in the shells themselves: it is installed into an empty home, and TAB is pressed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
PROMPT = "READY> "
PATIENCE_S = 30

needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
needs_fish = pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")


class Home:
    """A home directory in which nothing but the completion of one shell is."""

    def __init__(self, folder: Path, shell: str, settings: dict[str, str]) -> None:
        self.environment = {"HOME": str(folder), "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb"}
        for name, text in settings.items():
            (folder / name).write_text(text)
        subprocess.run(
            [BIN / "kvkit", "--install-completion", "--shell", shell],
            check=True,
            env=self.environment,
            stdout=subprocess.DEVNULL,
        )

    @contextmanager
    def terminal(self, *shell: str) -> Iterator[Terminal]:
        ours, its = pty.openpty()
        process = subprocess.Popen(
            shell, stdin=its, stdout=its, stderr=its, env=self.environment, start_new_session=True
        )
        os.close(its)
        try:
            yield Terminal(ours)
        finally:
            process.kill()
            process.wait()
            os.close(ours)


class Terminal:
    def __init__(self, end: int) -> None:
        self._end = end

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until this was printed."""
        seen = ""
        until = time.monotonic() + PATIENCE_S
        while text not in seen:
            ready, _, _ = select.select([self._end], [], [], max(0, until - time.monotonic()))
            assert ready, f"{text!r} did not come, but {seen!r}"
            seen += os.read(self._end, 4096).decode(errors="replace")


def press_tab(terminal: Terminal) -> None:
    terminal.wait_for(PROMPT)
    terminal.type("kvkit pre\t")
    terminal.wait_for("kvkit preflight")
    terminal.type("\x15kvkit run --mode b\t")
    terminal.wait_for("--mode baseline")


def test_bash_completes_commands_and_choices(tmp_path: Path) -> None:
    home = Home(tmp_path, "bash", {".bashrc": f"PS1='{PROMPT}'\n"})
    with home.terminal("bash", "--noprofile", "-i") as terminal:
        press_tab(terminal)


@needs_zsh
def test_zsh_completes_commands_and_choices(tmp_path: Path) -> None:
    settings = f"autoload -Uz compinit; compinit -D; PS1='{PROMPT}'\n"
    home = Home(tmp_path, "zsh", {".zshrc": settings})
    with home.terminal("zsh", "-d", "-i") as terminal:
        press_tab(terminal)


@needs_fish
def test_fish_completes_commands_and_choices(tmp_path: Path) -> None:
    home = Home(tmp_path, "fish", {})
    for typed, whole in (("kvkit pre", "preflight"), ("kvkit run --mode b", "baseline")):
        ask = subprocess.run(
            ["fish", "-c", f"complete -C '{typed}'"], env=home.environment, capture_output=True, text=True, check=True
        )
        assert ask.stdout.split("\t")[0] == whole
