"""Waiting for a moment of the event loop's clock."""

from __future__ import annotations

import asyncio


async def sleep_until(moment: float) -> None:
    """Return at once, but not before others had their turn, when it has passed."""
    await asyncio.sleep(max(0.0, moment - asyncio.get_running_loop().time()))
