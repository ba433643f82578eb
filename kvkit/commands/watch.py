from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from kvkit.commands.parameters import Many
from kvkit.ending import Ending, refuse


def watch(
    *,
    config: Path | None = None,
    metrics: Annotated[list[str] | None, Many] = None,
    interval: Annotated[float, Parameter(validator=Number(gt=0))] = 2.0,
) -> Ending:
    """Show the servers' counters while they change, until Ctrl-C: keys, bytes, puts, gets, hit shares, evictions.

    In a terminal a table with curves, elsewhere a line per interval. What a server does not tell is unknown.

    Exit codes: 0 stopped, 1 wrong input.

    Parameters
    ----------
    config
        A test configuration: the servers that it names are watched.
    metrics
        Addresses of /metrics of vLLM, an LMCache server or a Mooncake master.
    interval
        Seconds from one look to the next.
    """
    from kvkit import watch as watching
    from kvkit.config import ConfigError
    from kvkit.config_file import load_config
    from kvkit.report.watch import watch_screen

    try:
        addresses = watching.addresses_of(load_config(config) if config else None, metrics or [])
    except (ConfigError, watching.WatchError) as error:
        return refuse(str(error))
    with watch_screen(interval) as show:
        watching.run(addresses, interval_s=interval, show=show)
    return Ending.DONE
