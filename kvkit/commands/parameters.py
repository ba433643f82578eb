"""How flags are written, the same in every command."""

from __future__ import annotations

from cyclopts import Parameter

Many = Parameter(consume_multiple=True, negative=())
"""Several values after one flag: --scenarios A B."""

Flag = Parameter(negative=())
"""A flag that is there or not: no --no-json beside --json."""
