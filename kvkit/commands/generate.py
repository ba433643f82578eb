"""`kvkit generate`: send a share of the rounds that a run on another host leads."""

from __future__ import annotations

from pathlib import Path

from kvkit.ending import Ending, refuse


def generate(*, config: Path, connect: str, name: str, workers: int | None = None) -> Ending:
    """Send a share of each round of a `kvkit run --generators` on another host, until that run ends.

    Exit codes: 0 the run has ended, 1 wrong input, 3 no such run, or it was lost.

    Parameters
    ----------
    config
        The test configuration. Address, model and API key are taken from it; what is sent comes from the other host.
    connect
        HOST:PORT, what the run listens on. KVKIT_GENERATORS_KEY holds the key that it knows.
    name
        What the run calls this host in --generators.
    workers
        Processes that send; without it one for each core.
    """
    from kvkit.commands.parameters import PlaceError, generators_key, place
    from kvkit.config import ConfigError
    from kvkit.config_file import load_config
    from kvkit.load.client import ChatSettings
    from kvkit.load.generators import generate_with

    try:
        settings = ChatSettings.of(load_config(config))
        address, key = place(connect, "--connect"), generators_key()
    except (ConfigError, PlaceError) as error:
        return refuse(str(error))
    return generate_with(settings, address, key, name=name, processes=workers)
