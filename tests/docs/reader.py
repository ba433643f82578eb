"""Somebody who follows a page from its top to its end, in a folder like a clone of the sources.

An emulated service runs beside.
"""

from __future__ import annotations

import functools
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cyclopts import CycloptsError

from kvkit import cli, watch
from kvkit.config_file import load_config
from kvkit.emulator import Connector, EmulatorSettings, running
from kvkit.observe import quiet
from tests.benching import in_thread
from tests.docs.commands import Command
from tests.docs.pages import DOCS
from tests.ports import free_ports
from tests.test_cli import call
from tests.test_resume import cut_off

MODEL = "Qwen/Qwen2.5-72B-Instruct"
LEFT_ALONE = {
    "pip wheel": "asks a package index",
    "python3.11 -m venv": "is only there for the next one",
    ".venv/bin/python -m pip install": "wants the wheels",
    "source .venv/bin/activate": "changes the terminal",
    "ansible-vault encrypt_string": "asks for passwords at a terminal",
    "vllm bench serve": "vLLM is gigabytes; what it writes is here as it was recorded",
}
"""Commands of other programs that are neither run nor checked, and why."""

JUDGES = {
    "compare": {0, 2},
    "doctor": {0, 2},
    "gate": {0, 2, 3},
    "power": {0, 3},
    "preflight": {0, 2, 3},
    "prove": {0, 2},
    "run": {0, 2},  # INVALID where this machine is too busy for a client's clock
}
"""Exit codes of commands that judge a host, a service or a run. Any other command ends with 0."""

SMALL = {
    "KVKIT_TEST__REQUESTS_PER_SCENARIO": "4",
    "KVKIT_WORKLOAD__PREFIX_TOKENS": "512",
    "KVKIT_MODEL__MAX_TOKENS": "4",
}
"""The test configuration's settings for a run in a moment."""
ONE_SCENARIO = "cold_start"

CONNECTORS: dict[str, Connector] = {"with-cache": "mooncake-store", "baseline": "none"}
"""How the service is started before a mode is measured."""

ENGINES = {"http://127.0.0.1:8000/metrics", "http://10.0.0.1:8000/metrics"}
STORES = {"http://10.0.0.9:9003/metrics"}

LISTENING = "127.0.0.1:27100"

VARIABLES = DOCS / "reference" / "variables.md"


class Reader:
    """Follows the commands of one page.

    All of kvkit is done. `make` and `ansible-playbook` say what they would do: the tests of cycles and roles do it.
    """

    def __init__(self, folder: Path, session: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._session = session
        self._service = session.enter_context(ExitStack())
        self._port, self._rpc, self._metadata, self._metrics = free_ports(4)
        (self._listening,) = free_ports(1)
        addresses = {
            "KVKIT_OPENAI_API__BASE_URL": f"http://127.0.0.1:{self._port}/v1",
            "KVKIT_MOONCAKE__MASTER_PORT": str(self._rpc),
            "KVKIT_MOONCAKE__METADATA_PORT": str(self._metadata),
            "KVKIT_MOONCAKE__METRICS_PORT": str(self._metrics),
        }
        for variable, value in (
            SMALL | addresses | {"HOME": str(folder), "SHELL": "/bin/bash", "KVKIT_GENERATORS_KEY": "sesame"}
        ).items():
            monkeypatch.setenv(variable, value)
        monkeypatch.chdir(folder)
        monkeypatch.setattr("kvkit.emulator.serve", self._serve, raising=False)
        monkeypatch.setattr("kvkit.watch.watch", functools.partial(watch.watch, looks=1))
        monkeypatch.setattr("kvkit.observe.servers.wait_quiet", functools.partial(quiet.wait_quiet, poll_s=0.02))
        self._serve(EmulatorSettings(model=MODEL))

    def follow(self, command: Command) -> str:
        """Do what a command says, or what of it can be done in a moment.

        Returns:
            What is wrong with it; nothing, when it is right.
        """
        return "; ".join(filter(None, map(self._follow, command.steps)))

    def _follow(self, words: list[str]) -> str:
        if any(" ".join(words).startswith(start) for start in LEFT_ALONE):
            return ""
        match words:
            case ["kvkit", *arguments]:
                return self._kvkit(arguments)
            case ["cd", folder]:
                self._monkeypatch.chdir(folder)
                return ""
        return _other_program(words)

    def _kvkit(self, words: list[str]) -> str:
        arguments = [self._here(word) for word in _without_redirection(words)]
        if arguments[0] == "cycle":
            return _parsed(arguments)
        if arguments[0] == "generate":
            return self._beside(arguments)
        if arguments[0] == "run":
            arguments += [] if "--scenarios" in arguments else ["--scenarios", ONE_SCENARIO]
            self._serve(replace(self._settings, connector=CONNECTORS[arguments[arguments.index("--mode") + 1]]))
        if "--resume" in arguments:
            config = load_config(Path("test_config_simple.yaml"), flags={"scenarios": ("--scenarios", [ONE_SCENARIO])})
            cut_off(config, Path("test_results"), after=2)
        ended = call(*arguments)
        allowed = JUDGES.get(arguments[0], {0})
        return "" if ended in allowed else f"exit code {ended}, wanted {' or '.join(map(str, sorted(allowed)))}"

    def _beside(self, arguments: list[str]) -> str:
        """Another load generator: it waits for the run that comes next."""
        command = [str(Path(sys.executable).with_name("kvkit")), *arguments, "--workers", "1"]
        other = subprocess.Popen(command, start_new_session=True)
        self._session.callback(other.wait)
        self._session.callback(os.killpg, other.pid, signal.SIGKILL)
        return ""

    def _here(self, word: str) -> str:
        """With the servers of this machine in the place of the page's."""
        if word == LISTENING:
            return f"127.0.0.1:{self._listening}"
        if word in ENGINES:
            return f"http://127.0.0.1:{self._port}/metrics"
        if word in STORES:
            return f"http://127.0.0.1:{self._metrics}/metrics"
        return word

    def _serve(self, settings: EmulatorSettings) -> None:
        """What `kvkit emulate` does, instead of the service before, until the page ends."""
        self._service.close()
        self._settings = replace(
            settings,
            port=self._port,
            store_address=f"127.0.0.1:{self._rpc}",
            metadata_port=self._metadata,
            metrics_port=self._metrics,
            prefill_tokens_per_s=1e6,
            decode_ms_per_token=0,
        )
        self._service.enter_context(in_thread(running(self._settings)))


def _without_redirection(words: list[str]) -> list[str]:
    return words[: words.index(">")] if ">" in words else words


def _parsed(arguments: list[str]) -> str:
    try:
        cli.app.parse_args(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return str(error)
    return ""


def _other_program(words: list[str]) -> str:
    match words:
        case ["make", *arguments]:
            return _run(["make", "--dry-run", *arguments])
        case ["ansible-playbook", *arguments]:
            return _play(tuple(arguments))
        case ["python", script, *arguments] if script.startswith("benchmarks/"):
            return _run([sys.executable, script, *arguments, "--help"])
        case ["cp" | "mkdir", *_]:
            return _run(words)
    return "fits no rule of tests/docs/reader.py"


def _run(command: list[str]) -> str:
    ended = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return "" if ended.returncode == 0 else f"exit code {ended.returncode}: {ended.stderr[-300:]}"


@functools.cache
def _play(arguments: tuple[str, ...]) -> str:
    """Whether Ansible understands it, and whether each variable is one of the reference's."""
    unknown = [name for name in _variables(arguments) if f"`{name}`" not in VARIABLES.read_text(encoding="utf-8")]
    if unknown:
        return f"no such variable: {', '.join(unknown)}"
    return _run([str(Path(sys.executable).with_name("ansible-playbook")), "--syntax-check", *arguments])


def _variables(arguments: tuple[str, ...]) -> Iterator[str]:
    for flag, value in itertools.pairwise(arguments):
        if flag == "-e":
            yield from yaml.safe_load(value) if value.startswith("{") else [value.partition("=")[0]]
