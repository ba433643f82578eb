"""`kvkit run`: the scenarios in one mode, or a sweep of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kvkit.commands.parameters import Flag, Many, PlaceError, generators_key, place
from kvkit.ending import Ending, refuse

if TYPE_CHECKING:
    from kvkit.load.generators import Lead


def run(
    *,
    config: Path,
    mode: Literal["with-cache", "baseline"],
    scenarios: Annotated[list[str] | None, Many] = None,
    requests: int | None = None,
    rounds: int | None = None,
    concurrency: int | None = None,
    isolation: Literal["none", "device", "restart"] | None = None,
    results_dir: Path = Path("test_results"),
    seed: int | None = None,
    workers: int | Literal["auto"] | None = None,
    arrival: Literal["closed", "constant", "poisson", "gamma", "ramp", "trace"] | None = None,
    rate: float | None = None,
    burstiness: float | None = None,
    sweep: str | None = None,
    resume: Annotated[bool, Flag] = False,
    generators: Annotated[list[str] | None, Many] = None,
    listen: str | None = None,
) -> Ending:
    """Send the scenarios to the service in one mode and keep what was seen.

    Flags win over environment variables (KVKIT_TEST__ROUNDS=3), which win over the file.

    Exit codes: 0 done and valid, 1 wrong input, 2 INVALID or more failures than allowed, 3 could not finish.

    Parameters
    ----------
    config
        The test configuration; `kvkit init` writes one.
    mode
        What the service was started with.
    scenarios
        long_context_high_reuse, multi_turn_conversation, cold_start, trace, sharegpt.
    requests
        Requests of each scenario.
    rounds
        Round 1 is the cold start, later rounds repeat its prompts.
    concurrency
        Requests in flight at once. Without it: no limit, or what the file says.
    isolation
        What is cleared before each round: vLLM's prefix cache (device), everything by a restart, or nothing.
    results_dir
        Where the stats and request files go; nothing in it is overwritten.
    seed
        Of the prompts. Another seed sends prompts that no cache has seen.
    workers
        Processes that send the requests; auto takes as many as the streams in flight want.
    arrival
        When requests start: each as a place becomes free (closed), or at times of their own, whatever the server does.
    rate
        Requests per second of constant, poisson and gamma arrivals; alone it means poisson.
    burstiness
        Of gamma arrivals: 1 is Poisson, below 1 burstier.
    sweep
        concurrency=1,2,4 or rate=0.5,1,2: one run a level, until the service is saturated.
    resume
        Finish the newest run of this mode that was cut off in the results folder.
    generators
        Names of other load generators, which send a share of each round; `kvkit generate` runs on them.
    listen
        HOST:PORT to which they connect. KVKIT_GENERATORS_KEY holds the key that they have to know.
    """
    from kvkit.config import ConfigError
    from kvkit.config_file import load_config

    given = {
        "scenarios": ("--scenarios", scenarios),
        "test.requests_per_scenario": ("--requests", requests),
        "test.rounds": ("--rounds", rounds),
        "test.concurrency": ("--concurrency", concurrency),
        "test.isolation": ("--isolation", isolation),
        "test.seed": ("--seed", seed),
        "test.workers": ("--workers", workers),
        "load.arrival": ("--arrival", arrival),
        "load.rate": ("--rate", rate),
        "load.burstiness": ("--burstiness", burstiness),
    }
    flags = {key: flag for key, flag in given.items() if flag[1] is not None}
    if sweep is not None:
        if resume or generators or listen:
            return refuse(
                "--sweep: makes several runs, each from its beginning and by one load generator: leave out --resume, "
                "--generators and --listen"
            )
        return _sweep(sweep, config, flags, mode, results_dir)
    try:
        loaded = load_config(config, flags=flags)
        lead = _lead(generators or [], listen)
    except (ConfigError, PlaceError) as error:
        return refuse(str(error))

    from kvkit import bench
    from kvkit.report.terminal import reporter

    return bench.run(loaded, mode=mode, results_dir=results_dir, reporter=reporter(), resume=resume, lead=lead)


def _lead(generators: list[str], listen: str | None) -> Lead | None:
    """Raises PlaceError: one of the two is missing, or wrong."""
    from kvkit.load.generators import Lead

    if not generators and not listen:
        return None
    if not generators or not listen:
        raise PlaceError("--generators and --listen: each wants the other")
    return Lead(*place(listen, "--listen"), names=tuple(generators), key=generators_key())


def _sweep(
    asked: str,
    config: Path,
    flags: dict[str, tuple[str, Any]],
    mode: Literal["with-cache", "baseline"],
    results_dir: Path,
) -> Ending:
    from rich.console import Console

    from kvkit import sweep
    from kvkit.config import ConfigError
    from kvkit.config_file import load_config
    from kvkit.report.sweep import print_sweep
    from kvkit.report.terminal import reporter

    try:
        levels = sweep.plan(asked, lambda level: load_config(config, flags={**flags, **level}))
    except (ConfigError, sweep.SweepError) as error:
        return refuse(str(error))
    swept = sweep.run(levels, mode=mode, results_dir=results_dir, reporter=reporter())
    print_sweep([(one.level.label, one.summary) for one in swept.levels], swept.stopped, Console(highlight=False))
    return swept.ending
