"""The command line: which commands there are, and how they end."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import cyclopts

from kvkit import __version__
from kvkit.commands.compare import compare
from kvkit.commands.cycle import cycle
from kvkit.commands.doctor import doctor
from kvkit.commands.emulate import emulate
from kvkit.commands.export import export
from kvkit.commands.gate import gate
from kvkit.commands.generate import generate
from kvkit.commands.history import history
from kvkit.commands.init import init
from kvkit.commands.power import power
from kvkit.commands.preflight import preflight
from kvkit.commands.prove import prove
from kvkit.commands.rank import rank
from kvkit.commands.run import run
from kvkit.commands.trace import trace
from kvkit.commands.watch import watch
from kvkit.emulator.errors import EmulatorError
from kvkit.ending import Ending, refuse

EXIT_CODES = "Exit codes: 0 done, 1 wrong input, 2 a fail or INVALID, 3 could not finish. Each command tells its own."

app = cyclopts.App(
    name="kvkit",
    help="Deploy, check and measure shared KV caches (LMCache + Mooncake) behind vLLM.",
    help_epilogue=EXIT_CODES,
    help_format="plaintext",  # a Markdown renderer takes longer to import than all commands
    version=__version__,
)
for command in (
    run,
    generate,
    prove,
    compare,
    power,
    history,
    gate,
    rank,
    cycle,
    watch,
    preflight,
    doctor,
    export,
    trace,
    init,
    emulate,
):
    app.command(command, help_format="markdown", help_epilogue="")
app.register_install_completion_command()


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    try:
        result: Any = app(arguments, result_action="return_value", exit_on_error=False)
    except cyclopts.CycloptsError:
        sys.exit(Ending.WRONG_INPUT)  # cyclopts has printed what is wrong
    except EmulatorError as error:
        sys.exit(refuse(str(error)))
    sys.exit(result if isinstance(result, int) else Ending.DONE)
