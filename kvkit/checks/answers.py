"""Judgements on hosts that did not answer: what Ansible says of a call that brought no facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .finding import ERROR, FAIL, Finding


@dataclass(frozen=True)
class Answer:
    """A way in which a host can fail to answer; the attributes are those of `Check`."""

    id: str
    looks_at: str
    why: str
    mend: str

    def finding(self, status: str, seen: str) -> Finding:
        return Finding(self.id, status, seen, self.looks_at, self.mend, f"docs/checks/{self.id}.md")


REACHABLE = Answer(
    "host.reachable",
    "A connection from the control node to the host, within Ansible's limit.",
    "Nothing is known of a host that cannot be reached, and a cycle that loses it on the way cannot put it back.",
    "Check ansible_host, the network, the SSH server and the key: `ansible HOST -m ansible.builtin.ping`.",
)
ANSWERS = Answer(
    "host.answers",
    "An answer of the checks, within preflight_time_limit_s.",
    "A host that hangs (a dead disk, a GPU off the bus) hangs every later step as well.",
    "Log in and see what hangs: `uptime`, `dmesg`, `ps -eo stat,pid,cmd | grep ^D`.",
)
PYTHON = Answer(
    "host.python",
    "A Python of 3.9 or newer on the host.",
    "Ansible and the kit's tools on the host run in it.",
    "Install python3, or set ansible_python_interpreter to one that is there.",
)

ANSWER_CHECKS: tuple[Answer, ...] = (REACHABLE, ANSWERS, PYTHON)


def judge_silence(result: Mapping[str, Any]) -> Finding:
    """From a failed or unreachable result of the module."""
    said = " ".join(f"{result.get('msg', '')} {result.get('module_stderr', '')}".split())
    lower = said.lower()
    if result.get("unreachable"):
        return REACHABLE.finding(FAIL, said)
    if "timed out" in lower or result.get("timedout"):
        return ANSWERS.finding(FAIL, said)
    # 126 and 127 are the shell's: the interpreter cannot be run, or is not there.
    if result.get("rc") in (126, 127) or "interpreter" in lower or "requires a minimum of python" in lower:
        return PYTHON.finding(FAIL, said)
    return ANSWERS.finding(ERROR, said)
