"""The bench role around a stand-in for kvkit that ends as it is told to and keeps what it was handed."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playbooks import Played, play

pytestmark = pytest.mark.playbook

SECRET = "sk-never-to-be-seen"

STAND_IN = """
import json, os, pathlib, re, sys

def main():
    options = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[2:])
    config = pathlib.Path(options["config"]).read_text()
    told = re.search("ends-with-([0-9])", config)
    seen = {"command": sys.argv[1], "options": options, "config": config, "key": os.environ["KVKIT_API_KEY"]}
    name = options["mode"].replace("-", "_") + "_cold_start_stats_20260101_000000.json"
    (pathlib.Path(options["results-dir"]) / name).write_text(json.dumps(seen))
    print("the last line of kvkit")
    sys.exit(int(told[1]))
"""


def write_wheelhouse(folder: Path) -> Path:
    """A folder with a wheel named kvkit whose command is the stand-in."""
    folder.mkdir()
    info = "kvkit-9.0.dist-info"
    with zipfile.ZipFile(folder / "kvkit-9.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("kvkit_stand_in.py", STAND_IN)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: kvkit\nVersion: 9.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\nkvkit = kvkit_stand_in:main\n")
        wheel.writestr(f"{info}/RECORD", "")
    return folder


@dataclass(frozen=True)
class Bench:
    """A load generator on this machine, with everything of it under one folder."""

    folder: Path

    def play(self, *options: str, ends_with: int = 0, mode: str = "with-cache", **variables: Any) -> Played:
        return play(
            "bench",
            self.folder / "hosts.json",
            *options,
            variables={"kv_mode": mode, "kv_cycle": "one", "bench_model_name": f"ends-with-{ends_with}", **variables},
        )

    def seen(self, mode: str = "with_cache", cycle: str = "one") -> dict[str, Any]:
        """What the stand-in was handed, as it stands in the fetched results."""
        fetched = self.folder / "results" / cycle / f"{mode}_cold_start_stats_20260101_000000.json"
        loaded: dict[str, Any] = json.loads(fetched.read_text())
        return loaded


def make_bench(folder: Path, **variables: Any) -> Bench:
    hosts: dict[str, Any] = {"here": {}}
    inventory = {
        "all": {
            "vars": {
                "ansible_async_dir": str(folder / "async"),  # Ansible asks the user database for HOME
                "ansible_connection": "local",
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                "bench_api_key": SECRET,
                "bench_python": sys.executable,
                "bench_load": {"rate": 2.5},
                "bench_warm_up_requests": 3,
                "bench_wheelhouse": str(write_wheelhouse(folder / "wheels")),
                "kv_connector": "none",
                "kv_engine": "vllm",
                "kv_results_dir": str(folder / "results"),
                "kv_state_dir": str(folder / "state"),
                "vllm_host": "127.0.0.1",
                "vllm_port": 8000,
                **variables,
            },
            "children": {"vllm": {"hosts": hosts}, "loadgen": {"hosts": hosts}},
        }
    }
    (folder / "hosts.json").write_text(json.dumps(inventory))
    return Bench(folder)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def valid(bench: Bench) -> Played:
    """A run that is done and valid, printed with every detail that an operator can ask for."""
    played = bench.play("-vvv")
    assert played.exit_code == 0, played.output
    return played


def test_the_results_are_on_the_control_node(valid: Played, bench: Bench) -> None:
    assert bench.seen()["command"] == "run"


def test_what_kvkit_prints_is_shown_with_its_host(valid: Played) -> None:
    assert "here | the last line of kvkit" in valid.output.splitlines()


def test_the_key_reaches_kvkit(valid: Played, bench: Bench) -> None:
    assert bench.seen()["key"] == SECRET


def test_the_key_is_not_in_the_test_configuration(valid: Played, bench: Bench) -> None:
    assert SECRET not in bench.seen()["config"]


def test_the_key_is_never_printed(valid: Played) -> None:
    assert SECRET not in valid.output


def test_when_requests_start_is_written_into_the_test_configuration(valid: Played, bench: Bench) -> None:
    config = yaml.safe_load(bench.seen()["config"])
    assert config["load"] == {"rate": 2.5}
    assert config["test"]["warm_up_requests"] == 3


def test_only_its_user_reads_the_configuration_and_the_key(valid: Played, bench: Bench) -> None:
    files = [bench.folder / "state" / "bench" / name for name in ("test_config_simple.yaml", "api_key")]
    assert [oct(file.stat().st_mode & 0o777) for file in files] == ["0o600", "0o600"]


def test_both_modes_of_a_cycle_have_one_seed_and_the_next_cycle_another(valid: Played, bench: Bench) -> None:
    assert bench.play(mode="baseline").exit_code == 0
    assert bench.play(kv_cycle="two").exit_code == 0
    first, second = bench.seen("with_cache"), bench.seen("baseline")
    assert first["options"]["seed"] == second["options"]["seed"]
    assert bench.seen(cycle="two")["options"]["seed"] != first["options"]["seed"]


def test_the_canary_of_a_preflight_tells_the_bandwidth(valid: Played, bench: Bench) -> None:
    canary = {"size": 4_194_304, "get_s": 0.002, "same": True}
    checked = {"facts": {"mooncake": {"canary": canary}}}
    played = bench.play(
        kv_cycle="canary",
        kv_connector="mooncake-store",
        kv_device="cpu",
        kv_profile="72b",
        mooncake_host="127.0.0.1",
        preflight_checked=checked,
    )
    assert played.exit_code == 0, played.output
    assert yaml.safe_load(bench.seen(cycle="canary")["config"])["mooncake"]["bandwidth_gb_s"] == 2.097152


def test_an_unchanged_kit_is_not_installed_again(valid: Played, bench: Bench) -> None:
    python = bench.folder / "state" / "kvkit" / "bin" / "python"
    before = python.lstat().st_ino
    assert bench.play().exit_code == 0
    assert python.lstat().st_ino == before


def test_check_mode_sends_nothing(valid: Played, bench: Bench) -> None:
    played = bench.play("--check", kv_cycle="checked")
    assert played.exit_code == 0, played.output
    assert not (bench.folder / "results" / "checked").exists()


@pytest.mark.parametrize(
    ("code", "explained"),
    [(1, "wrong input, nothing was sent"), (2, "the result is INVALID"), (3, "could not finish")],
)
def test_a_failure_is_explained_after_its_results_are_fetched(bench: Bench, code: int, explained: str) -> None:
    played = bench.play(ends_with=code, kv_cycle=f"fails{code}")
    assert played.exit_code == 2
    assert explained in played.text
    assert "the last line of kvkit" in played.text
    assert bench.seen(cycle=f"fails{code}")["command"] == "run"


def test_a_load_generator_from_which_an_earlier_run_still_sends_is_not_used(valid: Played, bench: Bench) -> None:
    still = "import time; time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", still, "kvkit", "run", "--config=elsewhere"]) as running:
        try:
            (bench.folder / "state/bench/kvkit.pid").write_text(f"{running.pid}\n")
            played = bench.play(kv_cycle="second")
        finally:
            running.kill()
    assert played.exit_code == 2
    assert f"here: a kvkit of an earlier cycle still sends from here, process {running.pid}." in played.text
    assert not (bench.folder / "results" / "second").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("bench_python=/nonexistent/python3", "set bench_python to its path"),
        ("bench_wheelhouse=/nonexistent", "no kvkit-*.whl in /nonexistent"),
    ],
)
def test_a_wrong_setting_is_named(bench: Bench, setting: str, message: str) -> None:
    played = bench.play("--extra-vars", setting)
    assert played.exit_code == 2
    assert message in played.text
