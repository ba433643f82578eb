"""An OpenAI-compatible engine with a tiered KV cache, and a Mooncake store, emulated: for tests and the quick start.

The interfaces are those of vLLM 0.32 and of a Mooncake master 0.3.13; the time that work takes is made up from the
settings, and no KV is computed, kept or sent.
"""

from kvkit.emulator.errors import EmulatorError
from kvkit.emulator.serving import Addresses, running, serve
from kvkit.emulator.settings import Connector, EmulatorSettings, FaultKind, Role

__all__ = [
    "Addresses",
    "Connector",
    "EmulatorError",
    "EmulatorSettings",
    "FaultKind",
    "Role",
    "running",
    "serve",
]
