"""The command line: what is parsed, what is refused, and with which exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from kvkit import cli
from kvkit.config_file import load_config
from tests.results.making import write_pair_of_runs

MODES = {"with-cache": "with_cache", "baseline": "baseline"}


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    return int(ended.value.code or 0)


def test_help_names_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    told = capsys.readouterr().out
    assert "Exit codes" in told
    assert all(
        command in told for command in ("run", "cycle", "watch", "prove", "compare", "export", "init", "emulate")
    )


@pytest.mark.parametrize(
    "module",
    [
        *("aiohttp", "altair", "ansible_runner", "asyncio", "httpx", "jinja2", "multiprocessing", "numpy"),
        *("prometheus_client", "pydantic", "rich.markdown", "scipy", "starlette", "uvicorn", "uvloop", "yaml"),
    ],
)
def test_help_does_not_import(module: str, imported_by_help: frozenset[str]) -> None:
    assert find_spec(module), "is not installed, so that nothing can import it"
    assert module not in imported_by_help


@pytest.fixture(scope="module")
def imported_by_help() -> frozenset[str]:
    ask = "import sys; from kvkit.cli import app; app(['--help'], result_action='return_value'); print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True).stdout
    return frozenset(printed.splitlines()[-1].split())


def test_init_writes_a_configuration_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    assert call("init", "--output", str(path)) == 0
    assert load_config(path, environment={}).test.rounds == 2


def test_init_documents_every_key_with_its_default(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    call("init", "--output", str(path))
    # Uncommenting a line that begins with a key must give a file that is still accepted.
    commented = [line for line in path.read_text().splitlines() if line.lstrip().startswith("# ")]
    told = "\n".join(commented) + path.read_text()
    config = load_config(path, environment={})
    for section in ("test", "workload", "load", "openai_api", "mooncake", "service", "model"):
        for key in type(getattr(config, section)).model_fields:
            assert f"{key}:" in told, f"{section}.{key} is not in the file that kvkit init writes"


def test_init_leaves_an_existing_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("mine")
    assert call("init", "--output", str(path)) == 1
    assert path.read_text() == "mine"
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--mode", "with-cache"),
        ("run", "--config", "none.yaml", "--mode", "with-cache"),
        ("run", "--config", "none.yaml", "--mode", "warm"),
        ("compare", "--with-cache-stats", "none*.json", "--baseline-stats", "none*.json"),
        ("export", "--stats", "none*.json", "--format", "csv", "--output", "none.csv"),
        ("emulate", "--block-size", "0"),
        ("prove", "--config", "none.yaml"),
        ("watch",),
        ("watch", "--config", "none.yaml"),
        ("watch", "--metrics", "http://127.0.0.1:9/metrics", "--interval", "0"),
        ("cycle", "--inventory", "none"),
        ("nonsense",),
    ],
)
def test_wrong_input_ends_with_1_and_says_why_without_a_traceback(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 1
    captured = capsys.readouterr()
    told = captured.out + captured.err
    assert told
    assert "Traceback" not in told


def test_several_scenarios_follow_one_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("openai_api: {base_url: 'http://127.0.0.1:9/v1'}\nmodel: {name: m}\n")
    assert call("run", "--config", str(path), "--mode", "baseline", "--scenarios", "cold_start", "wrong") == 1
    assert "flag --scenarios: scenarios.1: found 'wrong'" in capsys.readouterr().err


def test_a_sweep_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("openai_api: {base_url: 'http://127.0.0.1:9/v1'}\nmodel: {name: m}\n")
    assert call("run", "--config", str(path), "--mode", "baseline", "--sweep", "concurrency=4,2") == 1
    assert "found 'concurrency=4,2', allowed is concurrency=1,2,4" in capsys.readouterr().err


def test_flags_of_the_load_are_checked_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("openai_api: {base_url: 'http://127.0.0.1:9/v1'}\nmodel: {name: m}\n")
    assert call("run", "--config", str(path), "--mode", "baseline", "--arrival", "gamma", "--rate", "2") == 1
    assert "load: burstiness: is missing; arrival gamma needs it" in capsys.readouterr().err


def test_the_shipped_trace_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("trace") == 0
    assert "Ideal hit ratio: 62.3 % of the blocks, 69.7 % of the prompt tokens" in capsys.readouterr().out


def test_a_trace_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("trace", "--file", str(tmp_path / "gone.jsonl")) == 1
    assert "gone.jsonl: cannot be read" in capsys.readouterr().err


def test_compare_writes_each_form_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pair_of_runs(tmp_path)
    stats = [f"--{mode}-stats={tmp_path}/{name}_*_stats_*.json" for mode, name in MODES.items()]
    outputs = [str(tmp_path / name) for name in ("a.md", "b.html")]
    assert call("compare", *stats, "--output", *outputs) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [f"Report: {output}" for output in outputs]
    assert call("compare", *stats, "--output", str(tmp_path / "c.pdf")) == 1
    assert "expected .md (Markdown) or .html" in capsys.readouterr().err


def test_ctrl_c_while_modules_are_read_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "cyclopts.py").write_text("import time\nprint('reading', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "kvkit", "history"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as kvkit:
        assert kvkit.stdout is not None
        assert kvkit.stdout.readline() == "reading\n"
        kvkit.send_signal(signal.SIGINT)
        _, told = kvkit.communicate(timeout=60)
    assert (kvkit.returncode, told) == (3, "Interrupted.\n")
