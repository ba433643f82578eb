"""`kvkit preflight`: the checks of this host."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kvkit.commands.parameters import Flag
from kvkit.ending import Ending, refuse


def preflight(
    *,
    config: Path | None = None,
    lmcache_config: Path | None = None,
    connector: Literal["lmcache-inprocess", "lmcache-mp", "mooncake-store", "none"] | None = None,
    device: Literal["cuda", "cpu"] | None = None,
    stack_python: Path | None = None,
    json: Annotated[bool, Flag] = False,
    list_checks: Annotated[bool, Parameter(name="--list", negative=())] = False,
) -> Ending:
    """Look at this host and name what breaks KV sharing, with its mend. Changes nothing.

    Exit codes: 0 no fail, 1 wrong input, 2 at least one fail, 3 no fail, but something could not be looked at.

    Parameters
    ----------
    config
        A test configuration: the endpoint and the store that it names are checked from here.
    lmcache_config
        The file that LMCache reads on this host.
    connector
        How vLLM reaches the store. Without it: lmcache-inprocess where a file or a store is named, else none.
    device
        What vLLM runs on. Without it: cuda where the NVIDIA driver is loaded.
    stack_python
        The interpreter that has vLLM, LMCache and Mooncake. Without it, their versions are not looked at.
    json
        Print the findings as JSON.
    list_checks
        Print every check, what it looks at and why, and look at nothing.
    """
    from rich.console import Console

    from kvkit import preflight as by_hand
    from kvkit.checks.registry import CHECKS
    from kvkit.config import ConfigError
    from kvkit.config_file import load_config
    from kvkit.report.preflight import findings_as_json, print_checks, print_findings

    console = Console(highlight=False)
    if list_checks:
        print_checks(CHECKS, console)
        return Ending.DONE
    try:
        target = by_hand.target_of(
            load_config(config) if config else None,
            lmcache_config,
            by_hand.Described(connector, device, stack_python),
        )
    except (ConfigError, by_hand.PreflightError) as error:
        return refuse(str(error))
    findings = by_hand.check_this_host(target)
    if json:
        print(findings_as_json(findings, platform.node()))
    else:
        print_findings(findings, console)
    return by_hand.ending(findings)
