"""Judgements on `vllm`."""

from __future__ import annotations

from ..check import Check

CHECKS: tuple[Check, ...] = ()
