"""`kvkit prove`: the proof that the store is in use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kvkit.commands.parameters import Flag
from kvkit.ending import Ending, refuse


def prove(*, config: Path, json: Annotated[bool, Flag] = False) -> Ending:
    """Send a few prompts cold, again, and after clearing, and prove by counters that the store serves them.

    Exit codes: 0 PROVEN, 1 wrong input, 2 NOT ENGAGED, BROKEN or UNKNOWN, 3 could not finish.

    Parameters
    ----------
    config
        The test configuration; `kvkit init` writes one. Nobody else may use the engine meanwhile.
    json
        Print the proof as JSON; the table and the progress then go to standard error.
    """
    from kvkit.config import ConfigError
    from kvkit.config_file import load_config

    try:
        loaded = load_config(config)
    except ConfigError as error:
        return refuse(str(error))

    from kvkit import prove as proving
    from kvkit.report.proof import proof_reporter

    return proving.run(loaded, reporter=proof_reporter(json=json))
