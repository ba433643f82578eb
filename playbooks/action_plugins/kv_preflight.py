"""Stamps each call of the module with the control node's clock, against which fleet.clock holds the hosts' clocks.

Only the process that makes the call knows when it began and ended: a task's arguments are made before the wait for a
connection, and the next task runs when the slowest host has answered.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        sent = time.time()
        result.update(self._execute_module(task_vars=task_vars))
        if "facts" in result:
            result["facts"]["call"].update(sent=sent, returned=time.time())
        return result
