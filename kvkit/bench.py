"""One run, told as a story: look at the engine, make the requests, send rounds, observe, keep, summarise."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import uvloop

from kvkit.config import Config, ConfigError, Isolation, ScenarioName
from kvkit.ending import Ending
from kvkit.load.answer import Answer, quote, read_answer
from kvkit.load.arrivals import ArrivalError, start_offsets
from kvkit.load.calibration import CalibrationError, measure_lengths, measure_scale
from kvkit.load.client import ChatClient, ChatSettings, open_http
from kvkit.load.generators import Generator, Lead, gathered
from kvkit.load.lag import LoopLag
from kvkit.load.share import Share
from kvkit.load.workers import WorkerError, choose_workers, send_round, split
from kvkit.observe.engine import (
    EngineFacts,
    EngineRefusedError,
    EngineUnreachableError,
    ModelNotServedError,
    look_at_engine,
)
from kvkit.observe.reset import ResetError, ResetNotOfferedError
from kvkit.observe.restart import RestartError, restart
from kvkit.observe.servers import Changes, Servers, lost_meanwhile, servers_of
from kvkit.report.progress import RunReporter
from kvkit.results.deployment import describe
from kvkit.results.errors import ResultsError
from kvkit.results.limit import Deployment, physical_limit
from kvkit.results.record import Record
from kvkit.results.stats import (
    Engine,
    Mode,
    RoundSummary,
    RunStats,
    Traffic,
    WorkloadFacts,
)
from kvkit.results.store import RunFiles, open_run, reopen_run
from kvkit.results.summary import run_validity
from kvkit.results.tally import Tally
from kvkit.results.unfinished import Journal, ScenarioState, unfinished_runs
from kvkit.resume import Kept, NewRun, ResumeError, begin, go_on, look_at_records
from kvkit.rounds import RoundSeen, summarise
from kvkit.workload import SCENARIOS, Message, TokenScale, Workload, WorkloadError


class WrongInputError(Exception):
    """What was asked for can't be measured on this engine. The message is complete: print it as it is."""


RESUME = "`kvkit run --resume` with the same flags finishes the rest"


def run(
    config: Config,
    *,
    mode: Mode,
    results_dir: Path,
    reporter: RunReporter,
    resume: bool = False,
    lead: Lead | None = None,
) -> Ending:
    """Run the configured scenarios once, in the mode that the service was started with.

    Records are on disk as soon as their requests end, so a run that is stopped keeps them, and `resume` goes on with
    it (docs/crash-safety.md). Nothing is raised for what a server, the disk or the user does: the reporter is told.
    """
    try:
        with gathered(lead) as others, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(config, mode, results_dir, reporter, resume=resume, others=others))
    except (
        WrongInputError,
        ConfigError,
        EngineRefusedError,
        ModelNotServedError,
        WorkloadError,
        ArrivalError,
        ResumeError,
    ) as error:
        reporter.run_failed(str(error))
        return Ending.WRONG_INPUT
    except (EngineUnreachableError, CalibrationError, RestartError, ResultsError, WorkerError) as error:
        reporter.run_failed(str(error))
    except httpx.TransportError as error:
        reporter.run_failed(
            f"{config.openai_api.base_url}: the engine stopped answering ({error or type(error).__name__})"
        )
    except OSError as error:
        reporter.run_failed(
            f"{results_dir}: results can't be kept ({error.strerror}); those that were stay, and {RESUME}"
        )
    except KeyboardInterrupt:
        reporter.run_failed(f"interrupted; what had ended by then is in {results_dir}, and {RESUME}")
    return Ending.NOT_FINISHED


@dataclass(frozen=True, slots=True)
class _Bench:
    """What stays the same from the first scenario to the last."""

    config: Config
    mode: Mode
    results_dir: Path
    reporter: RunReporter
    engine_http: httpx.AsyncClient
    client: ChatClient
    servers: Servers
    deployment: Deployment
    isolation: Isolation
    journal: Journal
    others: Sequence[Generator]
    """Processes of other load generators."""


async def _run(
    config: Config, mode: Mode, results_dir: Path, reporter: RunReporter, *, resume: bool, others: list[Generator]
) -> Ending:
    api = config.openai_api
    async with (
        open_http(api.api_key.get_secret_value()) as engine_http,
        open_http() as http,
        ChatClient(ChatSettings.of(config)) as client,
    ):
        facts = await look_at_engine(engine_http, api.base_url)
        facts.require(api.model_name, api.base_url)
        deployment = describe(config, facts.flags)
        scale = await measure_scale(engine_http, base_url=api.base_url, model=api.model_name)
        planned = [_plan(config, scale, name) for name in config.scenarios]
        workloads = [
            await measure_lengths(engine_http, workload, base_url=api.base_url, model=api.model_name)
            for workload in planned
        ]
        _check_lengths(config, facts, workloads)
        servers = servers_of(config, engine_http, http, with_cache=mode == "with-cache")
        isolation = await _choose_isolation(config, servers)
        engine = Engine(version=facts.version, model=api.model_name, connector=facts.connector, flags=facts.flags)
        reporter.run_started(mode, engine, isolation)
        if not resume:
            for path in unfinished_runs(results_dir, mode):
                reporter.notice(f"{path} tells of a run that was cut off or goes on; --resume would finish it")
        run = NewRun(config, mode, isolation, engine, workloads)
        journal = go_on(run, results_dir) if resume else begin(run, results_dir)
        bench = _Bench(
            config=config,
            mode=mode,
            results_dir=results_dir,
            reporter=reporter,
            engine_http=engine_http,
            client=client,
            servers=servers,
            deployment=deployment,
            isolation=isolation,
            journal=journal,
            others=others,
        )
        finished = False
        try:
            for problem in (await servers.snapshot()).problems():
                reporter.notice(f"counters are not known: {problem}")
            valid = [await _run_scenario(bench, workload) for workload in workloads]
            finished = True
        finally:
            journal.close(finished=finished)
    return Ending.INVALID if False in valid else Ending.DONE


def _plan(config: Config, scale: TokenScale, name: ScenarioName) -> Workload:
    """A scenario's workload, whose requests can arrive as configured.

    Raises:
        WorkloadError: a file that it needs can't be used.
        ArrivalError: it has no times of its own.
    """
    workload = SCENARIOS[name](config, scale)
    start_offsets(config.load, workload.requests, config.test.seed)
    return workload


def _check_lengths(config: Config, facts: EngineFacts, workloads: Sequence[Workload]) -> None:
    model = facts.model(config.openai_api.model_name)
    if model is None or model.max_model_len is None:
        return
    for workload in workloads:
        longest = max((request.prompt_tokens or 0) + request.max_tokens for request in workload.requests)
        if longest > model.max_model_len:
            raise WrongInputError(
                f"scenario {workload.scenario}: its longest request has {longest} tokens with its answer, "
                f"the engine takes {model.max_model_len} (max_model_len): lower workload.prefix_tokens, "
                "workload.turns, workload.trace_length_scale or model.max_tokens, "
                "or start the engine with a larger --max-model-len"
            )


async def _choose_isolation(config: Config, servers: Servers) -> Isolation:
    """What is configured; else the device cache where the engine offers to clear it."""
    if config.test.isolation in ("none", "restart"):
        return config.test.isolation
    try:
        await servers.clear_device_cache()
    except ResetNotOfferedError as error:
        if config.test.isolation == "device":
            raise WrongInputError(f"isolation device: the engine does not offer it: {error}") from None
        return "none"
    except ResetError:
        return "device"  # offered, so each round tries again and says what it met
    return "device"


async def _run_scenario(bench: _Bench, workload: Workload) -> bool | None:
    """All rounds of one scenario that are left to send, kept and reported. Returns the scenario's validity."""
    journal = bench.journal
    if (state := journal.state.of(workload.scenario)).state == "done":
        return state.valid
    bench.reporter.scenario_started(workload.scenario, len(workload.requests), bench.config.test.rounds)
    fingerprint = await _warm_up(bench, workload)
    started = state.started or datetime.now(UTC)
    with _files(bench, state, started) as (files, kept):
        journal.scenario_begun(workload.scenario, files.requests_path.name, started)
        summaries = await _run_rounds(bench, workload, files, kept)
        valid, reasons = run_validity(summaries)
        engine = journal.state.provenance.engine.model_copy(update={"system_fingerprint": fingerprint})
        stats = RunStats(
            run_id=journal.state.run_id,
            mode=bench.mode,
            scenario=workload.scenario,
            valid=valid,
            invalid_reasons=reasons,
            config=bench.config.redacted(),
            provenance=journal.state.provenance.model_copy(update={"started": started, "engine": engine}),
            workload=_workload_facts(workload),
            records=files.requests_path.name,
            rounds=tuple(summaries),
        )
        bench.reporter.scenario_ended(stats, files.write_stats(stats))
        journal.scenario_done(workload.scenario, valid)
    return valid


@contextmanager
def _files(bench: _Bench, state: ScenarioState, started: datetime) -> Iterator[tuple[RunFiles, Kept]]:
    """The files of a scenario, and what they hold of the round that comes next."""
    if state.records is None:
        with open_run(bench.results_dir, bench.mode, state.scenario, started) as files:
            yield files, Kept()
        return
    path = bench.results_dir / state.records
    kept = look_at_records(path, state)
    with reopen_run(path) as files:
        yield files, kept


async def _warm_up(bench: _Bench, workload: Workload) -> str | None:
    """Send unrecorded requests as long as the longest, each of which shares no prefix with any other, in any run.

    Returns the engine's `system_fingerprint`, if it tells one.
    """
    longest = max(workload.requests, key=lambda request: request.characters)
    first, *rest = longest.messages
    answer = Answer()
    for _ in range(bench.config.test.warm_up_requests):
        nonce = secrets.token_hex(16)
        unrelated = Message(first.role, nonce + first.content[len(nonce) :])
        request = bench.client.encode(replace(longest, messages=(unrelated, *rest)))
        answer = read_answer(await bench.client.exchange(request))
        if answer.failure is not None:
            words = quote(answer.failure.words, bench.config.openai_api.api_key.get_secret_value())
            bench.reporter.notice(f"the warm-up request failed ({answer.failure.kind}): {words}")
            break
    return answer.system_fingerprint


async def _run_rounds(bench: _Bench, workload: Workload, files: RunFiles, kept: Kept) -> list[RoundSummary]:
    """Rounds with the servers at rest before, between and after them: what is on its way can't hit."""
    summaries = list(bench.journal.state.of(workload.scenario).rounds)
    restless = await bench.servers.wait_quiet()
    for number in range(len(summaries) + 1, bench.config.test.rounds + 1):
        incidents = [restless, await _clear(bench, workload, number)]
        before = await bench.servers.snapshot()
        begins, part_begins = kept.begins, files.size
        share = kept.rest_of(_share(bench, workload, number))
        bench.journal.round_begun(workload.scenario, number)
        bench.reporter.round_started(number, bench.config.test.rounds, len(share.requests))
        lags, traffic = await _send(bench, share, kept.parts + 1, files)
        restless = await bench.servers.wait_quiet()
        after = await bench.servers.snapshot()
        lost = lost_meanwhile(before, after) if bench.mode == "with-cache" else ()
        seen = RoundSeen(
            number=number,
            with_cache=bench.mode == "with-cache",
            isolation=bench.isolation,
            changes=Changes.between(before, after),
            incidents=(*incidents, restless, *lost),
            lags=lags,
            generators=[other.facts for other in bench.others if other.clock is not None],
            traffic=traffic,
            held_to_schedule=share.held_to_schedule,
            requests_before=len(kept.requests),
        )
        part = await _count(bench, files, part_begins)
        whole = await _count(bench, files, begins) if kept.requests else part
        summary = summarise(seen, bench.config, workload, part=part, whole=whole)
        summaries.append(_limited(bench, summaries, summary))
        files.sync()
        bench.journal.round_ended(workload.scenario, summaries[-1])
        bench.reporter.round_ended(summaries[-1])
        kept = Kept(begins=files.size)
    return summaries


async def _clear(bench: _Bench, workload: Workload, number: int) -> str | None:
    """Clear what the isolation says. Returns why that failed, if it did.

    Raises:
        RestartError: the engine did not come back.
    """
    try:
        if bench.isolation == "device":
            await bench.servers.clear_device_cache()
        elif bench.isolation == "restart" and number > 1:
            await _restart(bench, workload)
    except ResetError as error:
        return f"isolation {bench.isolation}: not cleared: {error}"
    return None


async def _restart(bench: _Bench, workload: Workload) -> None:
    service = bench.config.service
    bench.reporter.notice("the engine is being restarted")
    await restart(service.restart_command, bench.engine_http, bench.servers.engines, timeout_s=service.ready_timeout_s)
    await _warm_up(bench, workload)
    await bench.servers.wait_quiet()
    await bench.servers.clear_first_tier()


def _share(bench: _Bench, workload: Workload, number: int) -> Share:
    test = bench.config.test
    return Share(
        round_number=number,
        requests=workload.requests,
        concurrency=test.concurrency,
        starts=start_offsets(bench.config.load, workload.requests, test.seed),
    )


async def _send(bench: _Bench, share: Share, part: int, files: RunFiles) -> tuple[Sequence[LoopLag], Traffic | None]:
    """Send a round, or the rest of one that was cut off; no record is kept in memory."""
    if not share.requests:
        return (), None

    def keep(seen: Record) -> None:
        record = seen if part == 1 else replace(seen, part=part)
        files.add(record)
        bench.reporter.request_ended(record)

    hosts = {other.host for other in bench.others}
    workers = choose_workers(bench.config.test.workers, split(share, 1 + len(hosts))[0])
    async with bench.servers.sample_store() as store:
        lags = await send_round(bench.client, share, workers=workers, on_record=keep, others=bench.others)
    samples = store.since(min(lag.began_s for lag in lags))
    return lags, Traffic(**asdict(samples)) if samples else None


async def _count(bench: _Bench, files: RunFiles, size: int) -> Tally:
    """Count the records that were added after the file had this size. Ctrl-C is heard meanwhile."""
    tally = Tally(bench.results_dir, bench.config.objectives.stated)
    for number, record in enumerate(files.since(size)):
        tally.add(record)
        if number % 1000 == 0:
            await asyncio.sleep(0)
    return tally


def _limited(bench: _Bench, before: Sequence[RoundSummary], summary: RoundSummary) -> RoundSummary:
    """With its physical limit, where the round is a hit round of a run with the cache."""
    if bench.mode == "baseline" or not before:
        return summary
    return summary.model_copy(update={"limit": physical_limit(before[0], summary, bench.deployment)})


def _workload_facts(workload: Workload) -> WorkloadFacts:
    return WorkloadFacts(
        fingerprint=workload.fingerprint,
        scenario=workload.scenario,
        parameters=workload.parameters,
        ideal_hit_ratio=workload.ideal_hit_ratio,
        requests=len(workload.requests),
    )
