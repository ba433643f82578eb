"""Judgements on `host`."""

from __future__ import annotations

from ..check import Check

CHECKS: tuple[Check, ...] = ()
