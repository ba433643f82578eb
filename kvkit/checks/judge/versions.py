"""Judgements on `versions`."""

from __future__ import annotations

from ..check import Check

CHECKS: tuple[Check, ...] = ()
