"""The command line: parses, calls, prints. No logic, and heavy imports only in the command that needs them."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import cyclopts
from cyclopts import Parameter

from kvkit import __version__
from kvkit.emulator.errors import EmulatorError
from kvkit.emulator.settings import EmulatorSettings
from kvkit.ending import Ending

EXIT_CODES = "Exit codes: 0 done and valid, 1 wrong input, 2 INVALID or too many failures, 3 could not finish."

Many = Parameter(consume_multiple=True, negative=())

app = cyclopts.App(
    name="kvkit",
    help="Deploy, check and measure shared KV caches (LMCache + Mooncake) behind vLLM.",
    help_epilogue=EXIT_CODES,
    version=__version__,
)


@app.command
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
    resume: Annotated[bool, Parameter(negative=())] = False,
) -> Ending:
    """Send the scenarios to the service in one mode and keep what was seen.

    Flags win over environment variables (KVKIT_TEST__ROUNDS=3), which win over the file.

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
        if resume:
            return _refuse("--resume: finishes one run, and --sweep makes several: give one of them")
        return _sweep(sweep, config, flags, mode, results_dir)
    try:
        loaded = load_config(config, flags=flags)
    except ConfigError as error:
        return _refuse(str(error))

    from kvkit import bench
    from kvkit.report.terminal import reporter

    return bench.run(loaded, mode=mode, results_dir=results_dir, reporter=reporter(), resume=resume)


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
        return _refuse(str(error))
    swept = sweep.run(levels, mode=mode, results_dir=results_dir, reporter=reporter())
    print_sweep([(one.level.label, one.summary) for one in swept.levels], swept.stopped, Console(highlight=False))
    return swept.ending


@app.command
def trace(*, file: Path | None = None) -> Ending:
    """Say what a trace in Mooncake's format holds, and how much of it an infinite cache would serve.

    Exit codes: 0 done, 1 wrong input.

    Parameters
    ----------
    file
        The trace. Without it: the sample that comes with kvkit.
    """
    from kvkit.report.trace import trace_lines
    from kvkit.workload.errors import WorkloadError
    from kvkit.workload.trace_file import SAMPLE, describe, read_trace

    try:
        facts = describe(read_trace(file or SAMPLE))
    except WorkloadError as error:
        return _refuse(str(error))
    print("\n".join(trace_lines(facts)))
    return Ending.DONE


@app.command
def prove(*, config: Path, json: Annotated[bool, Parameter(negative=())] = False) -> Ending:
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
        return _refuse(str(error))

    from kvkit import prove as proving
    from kvkit.report.proof import proof_reporter

    return proving.run(loaded, reporter=proof_reporter(json=json))


@app.command
def compare(
    *,
    with_cache_stats: Annotated[list[str], Many],
    baseline_stats: Annotated[list[str], Many],
    output: Path = Path("comparison_report.md"),
    generate_charts: Annotated[bool, Parameter(negative=())] = False,
) -> Ending:
    """Compare the two modes, paired by request, and write the report.

    Parameters
    ----------
    with_cache_stats
        Stats files of the with-cache runs, or globs of them; result files of `vllm bench serve` and exports too.
    baseline_stats
        Stats files of the baseline runs, or globs of them, likewise.
    output
        The Markdown report; charts go beside it.
    generate_charts
        Also draw charts (PNG and SVG); needs `pip install 'kvkit[charts]'`.
    """
    from kvkit.report.errors import ReportError
    from kvkit.report.markdown import write_report
    from kvkit.report.terminal import print_comparison
    from kvkit.results.comparison import compare as compare_runs
    from kvkit.results.errors import ResultsError

    try:
        comparison = compare_runs(with_cache_stats, baseline_stats)
        written = write_report(comparison, output, charts=generate_charts)
    except (ResultsError, ReportError) as error:
        return _refuse(str(error))
    print_comparison(comparison, written)
    return Ending.INVALID if comparison.verdict.effect == "invalid" else Ending.DONE


@app.command
def export(*, stats: Annotated[list[str], Many], format: Literal["vllm-bench", "csv"], output: Path) -> Ending:
    """Write results in a form that other tools read.

    Parameters
    ----------
    stats
        Stats files, or globs of them.
    format
        vllm-bench: one line for each stats file and round, with the keys of `vllm bench serve`. csv: a row a request.
    output
        The new file; an existing one is left alone.
    """
    from kvkit.results.errors import ResultsError
    from kvkit.results.export import export as export_runs

    try:
        rounds = export_runs(stats, format, output)
    except ResultsError as error:
        return _refuse(str(error))
    print(f"{output}: {rounds} rounds")
    return Ending.DONE


@app.command
def preflight(
    *,
    config: Path | None = None,
    lmcache_config: Path | None = None,
    connector: Literal["lmcache-inprocess", "lmcache-mp", "mooncake-store", "none"] | None = None,
    device: Literal["cuda", "cpu"] | None = None,
    stack_python: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
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
        return _refuse(str(error))
    findings = by_hand.check_this_host(target)
    if json:
        print(findings_as_json(findings, platform.node()))
    else:
        print_findings(findings, console)
    return by_hand.ending(findings)


@app.command
def doctor(
    *,
    log: Annotated[list[Path] | None, Many] = None,
    metrics: Annotated[list[str] | None, Many] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Ending:
    """Read logs and live counters, and say which known failure they tell.

    Exit codes: 0 no fail, 1 wrong input, 2 at least one fail.

    Parameters
    ----------
    log
        Logs of vLLM, LMCache or Mooncake, of any size; .gz is unpacked, - is standard input.
    metrics
        Addresses of /metrics of vLLM, an LMCache server or a Mooncake master.
    json
        Print the findings as JSON.
    """
    from rich.console import Console

    from kvkit.checks.finding import FAIL
    from kvkit.doctor.counters import CountersError, look
    from kvkit.doctor.logs import Diagnosis, LogError, read
    from kvkit.report.doctor import diagnoses_as_json, print_diagnoses

    if not log and not metrics:
        return _refuse("Nothing to read: give --log FILE, --metrics URL, or both")
    try:
        diagnoses = [one for path in log or [] for one in read(path)]
        diagnoses += [Diagnosis(finding) for url in metrics or [] for finding in look(url)]
    except (LogError, CountersError) as error:
        return _refuse(str(error))
    if json:
        print(diagnoses_as_json(diagnoses))
    else:
        print_diagnoses(diagnoses, Console(highlight=False))
    return Ending.INVALID if any(one.finding.status == FAIL for one in diagnoses) else Ending.DONE


@app.command
def init(*, output: Path = Path("test_config_simple.yaml")) -> Ending:
    """Write a commented test configuration, ready for the addresses.

    Parameters
    ----------
    output
        Where to write it; an existing file is left alone.
    """
    from importlib.resources import files

    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(files("kvkit").joinpath("test_config_simple.yaml").read_text(encoding="utf-8"))
    except FileExistsError:
        return _refuse(f"{output}: exists already and is left as it is; choose another --output")
    except OSError as error:
        return _refuse(f"{output}: cannot be written ({error.strerror})")
    print(f"{output} written. Put in your addresses, then: kvkit run --config {output} --mode with-cache")
    return Ending.DONE


@app.command
def emulate(*, settings: Annotated[EmulatorSettings | None, Parameter(name="*")] = None) -> Ending:
    """Serve the emulated engine and Mooncake store, until it is stopped.

    An OpenAI-compatible engine with a tiered KV cache, for trying kvkit without vLLM, Mooncake or a GPU.
    """
    from kvkit.emulator import serve

    serve(settings or EmulatorSettings())
    return Ending.DONE


def _refuse(message: str) -> Ending:
    print(message, file=sys.stderr)
    return Ending.WRONG_INPUT


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    try:
        result: Any = app(arguments, result_action="return_value", exit_on_error=False)
    except cyclopts.CycloptsError:
        sys.exit(Ending.WRONG_INPUT)  # cyclopts has printed what is wrong
    except EmulatorError as error:
        sys.exit(_refuse(str(error)))
    sys.exit(result if isinstance(result, int) else Ending.DONE)
