"""`kvkit cycle` through ansible-runner, on a clone of a few lines that has the real cycle's names."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kvkit import cycle
from kvkit.cycle import Asked, CycleError
from kvkit.report.cycle import JsonLines
from tests.playbooks import PROJECT

SECRET = "sk-never-to-be-kept"

PROGRAM = """
import sys, time
print("Round 1/2", flush=True)
if "--unnoted" in sys.argv:
    import psutil
    module, watcher = psutil.Process().parents()[:2]
    watcher.kill()  # which would note how the module ended
    module.kill()
    sys.exit()
try:
    while "--long" in sys.argv:
        time.sleep(0.05)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(3)
"""

SITE = """
- name: Each mode has been measured, and the service is as it was found
  hosts: loadgen
  gather_facts: false
  tasks:
    - name: Measure each mode, and put the service back
      block:
        - name: Serve in mode baseline
          ansible.builtin.command: {argv: ["true"]}
        - name: Measure in mode baseline
          ansible.builtin.shell: |
            exec > {{ folder }}/output && echo $$ > {{ folder }}/pid && exec {{ program }}
          async: 60
          poll: 0
          environment: {SECRET: "{{ secret }}"}
          register: started
        - name: Follow it
          kv_follow:
            job: "{{ started.ansible_job_id }}"
            output: "{{ folder }}/output"
            pid_file: "{{ folder }}/pid"
            poll_s: 1
            limit_s: 60
          register: followed
          failed_when: false
        - name: It reached its end
          ansible.builtin.assert: {quiet: true, that: code == 0, fail_msg: "it ended with {{ code }}"}
          vars: {code: "{{ followed.rc | default('no code: ' ~ followed.msg | default('')) }}"}
      rescue:
        - name: Note what broke the cycle off
          ansible.builtin.set_fact: {site_failure: it}
      always:
        - name: Restore the mode that was found
          ansible.builtin.command: {argv: [touch, "{{ folder }}/restored"]}

- name: The cycle went through, and its result is valid
  hosts: loadgen
  gather_facts: false
  tasks:
    - name: The service is as it was found
      ansible.builtin.assert: {quiet: true, that: true}
    - name: Nothing broke the cycle off
      ansible.builtin.assert: {quiet: true, that: site_failure is not defined, fail_msg: the cycle was broken off}
"""


@dataclass(frozen=True)
class Clone:
    folder: Path

    def start(self, *, program: str = "", variables: Mapping[str, Any] | None = None) -> subprocess.Popen[str]:
        """`kvkit cycle --json` in the clone; the package is the one under test, and its own playbooks are hidden."""
        script = f"import kvkit.cycle; kvkit.cycle.__file__ = {str(self.folder / 'kvkit/cycle.py')!r}; "
        script += "from kvkit.cli import main; main()"
        given = {
            "folder": str(self.folder),
            "program": f"{sys.executable} {self.folder / 'program.py'} {program}",
            "secret": SECRET,
            **(variables or {}),
        }
        return subprocess.Popen(
            [sys.executable, "-c", script, "cycle", "--json", "-i", "hosts.ini", "-e", json.dumps(given)],
            cwd=self.folder,
            env={**os.environ, "TMPDIR": str(self.folder / "tmp"), "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self, process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]]]:
        try:
            out, _ = process.communicate(timeout=120)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return process.returncode, [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    for name in ("playbooks", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "playbooks" / "site.yml").write_text(SITE)
    (tmp_path / "playbooks" / "action_plugins").symlink_to(PROJECT / "playbooks" / "action_plugins")
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "ansible.cfg").write_text(f"[defaults]\naction_plugins = {PROJECT}/playbooks/action_plugins\n")
    (tmp_path / "hosts.ini").write_text(
        f"[loadgen]\nhere ansible_connection=local ansible_python_interpreter={sys.executable} "
        f"ansible_async_dir={tmp_path}/async\n"
    )
    return Clone(tmp_path)


@pytest.mark.playbook
def test_a_cycle_that_goes_through_tells_what_is_measured_and_leaves_no_artifact(clone: Clone) -> None:
    code, told = clone.end(clone.start())
    assert code == 0
    assert [each["stage"] for each in told if each["event"] == "stage"] == [
        "serve baseline",
        "measure baseline",
        "restore",
        "verdict",
    ]
    assert {"host": "here", "line": "Round 1/2"} in [
        {key: each[key] for key in ("host", "line")} for each in told if each["event"] == "said"
    ]
    assert told[-1]["words"] == "Done and valid. The service is back in the mode in which it was found."
    assert list((clone.folder / "tmp").iterdir()) == []
    assert SECRET not in json.dumps(told)


@pytest.mark.playbook
def test_an_interruption_ends_the_measurement_and_lets_the_playbook_restore(clone: Clone) -> None:
    process = clone.start(program="--long")
    deadline = time.monotonic() + 60
    while not (clone.folder / "output").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    code, told = clone.end(process)
    assert code == 3
    assert "interrupted" in [each["line"] for each in told if each["event"] == "said"]
    assert "it ended with 3" in [each["message"] for each in told if each["event"] == "failed"]
    assert told[-1]["words"] == "Interrupted. The service is back in the mode in which it was found."
    assert (clone.folder / "restored").exists()
    assert list((clone.folder / "tmp").iterdir()) == []


@pytest.mark.playbook
def test_a_program_whose_end_ansible_could_not_note_is_not_waited_for(clone: Clone) -> None:
    code, told = clone.end(clone.start(program="--unnoted"))
    assert code == 3
    (message,) = [each["message"] for each in told if each["event"] == "failed" and "ended" in each["message"]]
    assert re.fullmatch(
        r"it ended with no code: the program is gone without a note of its end; \d+ KiB left on /.*", message
    )
    assert (clone.folder / "restored").exists()


def test_without_playbooks_it_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle, "__file__", str(tmp_path / "site-packages/kvkit/cycle.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CycleError, match=f"{tmp_path}/site-packages or in {tmp_path}: kvkit cycle needs a clone"):
        cycle.find_clone()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(inventories=["inventory/none"]), "--inventory: found 'inventory/none', which is not there"),
        (Asked(extra_vars=["@none.yml"]), "--extra-vars: found '@none.yml', which is no file"),
    ],
)
def test_files_that_are_not_there_are_refused(asked: Asked, words: str) -> None:
    with pytest.raises(CycleError, match=words):
        cycle.run(asked, JsonLines())
