"""What a number in a file may be: beyond these bounds it is damage, and sums of such numbers overflow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

_LONGEST_S = 1e10
"""About 300 years: more than any clock has run, `time.time()` included."""

Seconds = Annotated[float, Field(ge=-_LONGEST_S, le=_LONGEST_S, allow_inf_nan=False)]
"""A duration, or a moment by some clock. Never infinite: `1e999` is JSON that reads as infinity."""

MOST = 10**15
"""What is bigger is no exact float either."""

Count = Annotated[int, Field(ge=0, le=MOST)]
"""Tokens or requests."""
