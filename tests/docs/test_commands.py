"""Every command of the documentation can be followed: no stale flag, playbook, variable, target or file."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from kvkit.workload.trace_file import SAMPLE
from tests.docs.commands import commands
from tests.docs.pages import PAGES, name
from tests.docs.reader import Reader
from tests.history.runs import write_past_run
from tests.playbooks import PROJECT
from tests.report.test_ranking import STORE, write_sweep
from tests.results.making import write_pair_of_runs
from tests.test_cli import call

PAGES_WITH_COMMANDS = [page for page in PAGES if any(commands(page))]
SOURCES = (
    "Makefile",
    "ansible.cfg",
    "benchmarks",
    "playbooks",
    "roles",
    "templates",
    "tests",
    "pyproject.toml",
    "constraints.txt",
)
RECORDED = PROJECT / "tests" / "results"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The sources, beside an inventory and the files that somebody has who reads further pages than the first."""
    for source in SOURCES:
        (tmp_path / source).symlink_to(PROJECT / source)
    shutil.copytree(PROJECT / "inventory", tmp_path / "inventory")
    (tmp_path / "vllm.log").write_text("INFO: Started server process\n", encoding="utf-8")
    return tmp_path


def lay_out(clone: Path) -> None:
    """What pages other than the first ones take for granted: an inventory, a test configuration, results."""
    shutil.copytree(clone / "inventory" / "example", clone / "inventory" / "mine")
    call("init", "--output", str(clone / "test_config_simple.yaml"))
    results = clone / "test_results"
    write_pair_of_runs(results)
    for seed in (8, 9):
        write_pair_of_runs(results / f"cycle{seed}", seed=seed)
    for day in range(1, 12):
        write_past_run(results / "20261125_064024" if day == 11 else results / str(day), day)
    write_past_run(results / "new", 12)
    write_sweep(results / "tune_5c36a79b", STORE)
    shutil.copy(SAMPLE, clone / "conversation_trace.jsonl")
    for mode in ("with_cache", "baseline"):
        shutil.copy(RECORDED / f"vllm_bench_0_32_{mode}.json", clone / f"{mode}.json")
    (clone / "lmcache_config.yaml").write_text("chunk_size: 256\n", encoding="utf-8")


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=name)
def test_the_commands_of_a_page_can_be_followed(page: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as session:
        reader = Reader(clone, session, monkeypatch)
        if not any(["kvkit", "init"] in command.steps for command in commands(page)):
            lay_out(clone)
        wrong = [f"{each.at}: {each.text}: {told}" for each in commands(page) if (told := reader.follow(each))]
    assert not wrong, "\n".join(wrong)
