"""WHAT is sent: scenarios, each a deterministic list of requests. A new scenario is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kvkit.config import Config
from kvkit.workload import cold_start, long_context_high_reuse, multi_turn_conversation, sharegpt, trace
from kvkit.workload.errors import WorkloadError
from kvkit.workload.request import Message, Request, Workload
from kvkit.workload.text import TokenScale

ScenarioBuilder = Callable[[Config, TokenScale], Workload]
"""Raises WorkloadError where a file that it needs can't be used."""

SCENARIOS: Mapping[str, ScenarioBuilder] = {
    "long_context_high_reuse": long_context_high_reuse.build,
    "multi_turn_conversation": multi_turn_conversation.build,
    "cold_start": cold_start.build,
    "trace": trace.build,
    "sharegpt": sharegpt.build,
}

__all__ = ["SCENARIOS", "Message", "Request", "ScenarioBuilder", "TokenScale", "Workload", "WorkloadError"]
