"""Waits for an asynchronous task to end, and shows each line that its program writes meanwhile.

Whoever runs the playbook sees them, `ansible-playbook` and `kvkit cycle` alike:

    - kv_follow:
        job: "{{ started.ansible_job_id }}"   # of a task with `poll: 0`
        output: /path/on/the/host             # where the program writes its lines
        offset: 0                             # where those of this run begin
        pid_file: /path/on/the/host           # holds the program's process id
        poll_s: 3
        limit_s: 7200                         # the task's `async`

The result is the task's own. Where the environment variable KVKIT_STOP_FILE names a file that comes to be on the
control node, the program is interrupted (SIGINT) and followed to its end. A lost connection is tried again until the
limit. On a full disk Ansible cannot note how a job ended, and tells for ever that it runs: a program that is gone is
not waited for.
"""

from __future__ import annotations

import os
import shlex
import time
from contextlib import suppress
from typing import Any

from ansible.module_utils.common.text.converters import to_bytes
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

GRACE_S = 60
"""Beyond the limit, at which Ansible kills the program on the host and notes that as its result."""

GONE_S = 30
"""How long a program may be gone before Ansible has noted its end; as long it may take to start."""

LITTLE_KIB = 64
"""Ansible's note of a job does not fit into less; a note of kvkit hardly."""

MOST_AT_ONCE = 65536
"""Bytes of output that are read with one look."""

SPECIFICATION = {
    "job": {"type": "str", "required": True},
    "output": {"type": "str", "required": True},
    "offset": {"type": "int", "default": 0},
    "pid_file": {"type": "str", "required": True},
    "poll_s": {"type": "int", "default": 3},
    "limit_s": {"type": "int", "required": True},
}


class ActionModule(ActionBase):
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _, asked = self.validate_argument_spec(argument_spec=SPECIFICATION)
        self._host = (task_vars or {})["inventory_hostname"]
        self._output, self._offset = asked["output"], asked["offset"]
        self._stop_file, self._stopped = os.environ.get("KVKIT_STOP_FILE", ""), False
        last_s, self._seen_s = time.monotonic() + asked["limit_s"] + GRACE_S, time.monotonic()
        while True:
            gone_s = 0.0
            try:
                gone_s = self._gone_for_s(asked["pid_file"])
                result = self._status(asked["job"], "status", task_vars)
                self._show_new_lines()
                if result["finished"]:
                    self._status(asked["job"], "cleanup", task_vars)
                    return result
                self._interrupt_if_asked(asked["pid_file"])
            except Exception as error:  # whatever a connection plugin raises; the program runs on without it
                display.vv(f"{self._host}: {error}; trying again")
                with suppress(Exception):
                    self._connection.reset()
            if gone_s > GONE_S:
                return {"failed": True, "msg": f"the program is gone without a note of its end; {self._room()}"}
            if time.monotonic() > last_s:
                return {"failed": True, "msg": f"no end within {asked['limit_s']} s, and no contact since"}
            time.sleep(asked["poll_s"])

    def _gone_for_s(self, pid_file: str) -> float:
        """Zero while nothing is known of it; needs no room on the host's disk, as a module does."""
        runs = True
        try:
            looked = self._low_level_execute_command(f"kill -0 $(cat {shlex.quote(pid_file)})", sudoable=True)
            runs = looked["rc"] == 0
        finally:
            if runs:
                self._seen_s = time.monotonic()
        return time.monotonic() - self._seen_s

    def _room(self) -> str:
        """Whether the disk was the reason."""
        asked = f"df -Pk {shlex.quote(os.path.dirname(self._output))} | tail -n 1"
        with suppress(Exception):  # unreachable just now, or no df
            *_, free_kib, _, mounted = self._low_level_execute_command(asked, sudoable=True)["stdout"].split(maxsplit=5)
            said = "no space left" if int(free_kib) < LITTLE_KIB else f"{free_kib} KiB left"
            return f"{said} on {mounted.strip()}"
        return "how much space is left is not known"

    def _status(self, job: str, mode: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        task = self._task.copy()
        task.args = {"jid": job, "mode": mode}
        action = self._shared_loader_obj.action_loader.get(
            "ansible.builtin.async_status",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        result: dict[str, Any] = action.run(task_vars=task_vars)
        return result

    def _show_new_lines(self) -> None:
        """Whole lines only: the rest of one comes with the next look."""
        while True:
            read = f"tail -c +{self._offset + 1} {shlex.quote(self._output)} | head -c {MOST_AT_ONCE}"
            text = self._low_level_execute_command(read, sudoable=True)["stdout"]
            whole = text[: text.rfind("\n") + 1]
            if not whole:
                return
            self._offset += len(to_bytes(whole, errors="surrogate_or_strict"))
            for line in whole.splitlines():
                if printable := "".join(char if char.isprintable() else " " for char in line).rstrip():
                    display.display(f"{self._host} | {printable}")

    def _interrupt_if_asked(self, pid_file: str) -> None:
        if self._stop_file and not self._stopped and os.path.exists(self._stop_file):
            self._low_level_execute_command(f"kill -INT $(cat {shlex.quote(pid_file)})", sudoable=True)
            self._stopped = True
