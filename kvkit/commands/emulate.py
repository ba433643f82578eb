"""`kvkit emulate`: an engine and a store to try kvkit with."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Annotated

from cyclopts import Parameter

from kvkit.emulator.settings import EmulatorSettings
from kvkit.ending import Ending


def emulate(*, settings: Annotated[EmulatorSettings | None, Parameter(name="*")] = None) -> Ending:
    """Serve the emulated engine and Mooncake store, until it is stopped.

    An OpenAI-compatible engine with a tiered KV cache, for trying kvkit without vLLM, Mooncake or a GPU.

    Exit codes: 0 stopped, 1 wrong input.
    """
    from kvkit.emulator import serve

    asked = settings or EmulatorSettings()
    serve(asked if asked.api_key else replace(asked, api_key=os.environ.get("VLLM_API_KEY") or None))
    return Ending.DONE
