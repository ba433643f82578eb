"""One run, told as a story: look at the engine, make the requests, send rounds, observe, keep, summarise."""

from __future__ import annotations

import asyncio
import platform
import secrets
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import uvloop

from kvkit import __version__
from kvkit.config import Config, ConfigError, Isolation, ScenarioName
from kvkit.ending import Ending
from kvkit.load.answer import Answer, quote, read_answer
from kvkit.load.arrivals import ArrivalError, start_offsets
from kvkit.load.calibration import CalibrationError, measure_lengths, measure_scale
from kvkit.load.client import ChatClient, ChatSettings, open_http
from kvkit.load.lag import summarise_lag
from kvkit.load.share import Share
from kvkit.load.workers import WorkerError, choose_workers, send_round
from kvkit.observe import lmcache, vllm
from kvkit.observe.engine import (
    EngineFacts,
    EngineRefusedError,
    EngineUnreachableError,
    ModelNotServedError,
    look_at_engine,
)
from kvkit.observe.reset import ResetError, ResetNotOfferedError
from kvkit.observe.restart import RestartError, restart
from kvkit.observe.servers import Changes, Servers, servers_of
from kvkit.observe.traffic import store_traffic
from kvkit.observe.validity import RoundFacts, Verdict, judge
from kvkit.report.progress import RunReporter
from kvkit.results.deployment import describe
from kvkit.results.errors import ResultsError
from kvkit.results.limit import Deployment, physical_limit
from kvkit.results.record import Record
from kvkit.results.stats import (
    ClientLag,
    Counters,
    Engine,
    Mode,
    Provenance,
    RoundSummary,
    RunStats,
    TokensBySource,
    Traffic,
    WorkloadFacts,
)
from kvkit.results.store import RunFiles, open_run
from kvkit.results.summary import run_validity, sum_if_told, summarise_round
from kvkit.workload import SCENARIOS, Message, TokenScale, Workload, WorkloadError


class WrongInputError(Exception):
    """What was asked for can't be measured on this engine. The message is complete: print it as it is."""


def run(config: Config, *, mode: Mode, results_dir: Path, reporter: RunReporter) -> Ending:
    """Run the configured scenarios once, in the mode that the service was started with.

    Records are on disk as soon as their requests end, so a run that is stopped keeps them. Nothing is raised for what
    a server, the disk or the user does: the reporter is told.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(config, mode, results_dir, reporter))
    except (
        WrongInputError,
        ConfigError,
        EngineRefusedError,
        ModelNotServedError,
        WorkloadError,
        ArrivalError,
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
        reporter.run_failed(f"{results_dir}: results can't be kept ({error.strerror})")
    except KeyboardInterrupt:
        reporter.run_failed(f"interrupted; what had ended by then is in {results_dir}, in the requests file")
    return Ending.NOT_FINISHED


@dataclass(frozen=True, slots=True)
class _Bench:
    """What stays the same from the first scenario to the last."""

    config: Config
    mode: Mode
    results_dir: Path
    reporter: RunReporter
    run_id: str
    engine_http: httpx.AsyncClient
    client: ChatClient
    servers: Servers
    engine: Engine
    deployment: Deployment
    isolation: Isolation


async def _run(config: Config, mode: Mode, results_dir: Path, reporter: RunReporter) -> Ending:
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
        bench = _Bench(
            config=config,
            mode=mode,
            results_dir=results_dir,
            reporter=reporter,
            run_id=secrets.token_hex(8),
            engine_http=engine_http,
            client=client,
            servers=servers,
            engine=Engine(version=facts.version, model=api.model_name, connector=facts.connector, flags=facts.flags),
            deployment=deployment,
            isolation=await _choose_isolation(config, servers),
        )
        reporter.run_started(mode, bench.engine, bench.isolation)
        for problem in (await servers.snapshot()).problems():
            reporter.notice(f"counters are not known: {problem}")
        valid = [await _run_scenario(bench, workload) for workload in workloads]
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
    """All rounds of one scenario, kept and reported. Returns the run's validity."""
    bench.reporter.scenario_started(workload.scenario, len(workload.requests), bench.config.test.rounds)
    fingerprint = await _warm_up(bench, workload)
    started = datetime.now(UTC)
    with open_run(bench.results_dir, bench.mode, workload.scenario, started) as files:
        summaries = await _run_rounds(bench, workload, files)
        valid, reasons = run_validity(summaries)
        stats = RunStats(
            run_id=bench.run_id,
            mode=bench.mode,
            scenario=workload.scenario,
            valid=valid,
            invalid_reasons=reasons,
            config=bench.config.redacted(),
            provenance=_provenance(bench, started, fingerprint),
            workload=_workload_facts(workload),
            records=files.requests_path.name,
            rounds=tuple(summaries),
        )
        bench.reporter.scenario_ended(stats, files.write_stats(stats))
    return valid


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


async def _run_rounds(bench: _Bench, workload: Workload, files: RunFiles) -> list[RoundSummary]:
    """Rounds with the servers at rest before, between and after them: what is on its way can't hit."""
    summaries: list[RoundSummary] = []
    restless = await bench.servers.wait_quiet()
    for number in range(1, bench.config.test.rounds + 1):
        incidents = [restless, await _clear(bench, workload, number)]
        before = await bench.servers.snapshot()
        bench.reporter.round_started(number, bench.config.test.rounds, len(workload.requests))
        records, client, traffic = await _send(bench, workload, number, files)
        restless = await bench.servers.wait_quiet()
        changes = Changes.between(before, await bench.servers.snapshot())
        verdict = judge(_facts(bench, workload, records, changes, [*incidents, restless]))
        summary = _summarise(bench, workload, records, changes, verdict, client=client, traffic=traffic)
        summaries.append(_limited(bench, summaries, summary))
        bench.reporter.round_ended(summaries[-1])
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


async def _send(
    bench: _Bench, workload: Workload, number: int, files: RunFiles
) -> tuple[list[Record], ClientLag, Traffic | None]:
    records: list[Record] = []
    test = bench.config.test

    def keep(record: Record) -> None:
        files.add(record)
        records.append(record)
        bench.reporter.request_ended(record)

    share = Share(
        round_number=number,
        requests=workload.requests,
        concurrency=test.concurrency,
        starts=start_offsets(bench.config.load, workload.requests, test.seed),
    )
    async with bench.servers.sample_store() as store:
        lags = await send_round(bench.client, share, workers=choose_workers(test.workers, share), on_record=keep)
    samples = store.since(min(lag.began_s for lag in lags))
    client = summarise_lag(lags, records, held_to_schedule=share.held_to_schedule)
    return records, client, Traffic(**asdict(samples)) if samples else None


def _facts(
    bench: _Bench,
    workload: Workload,
    records: Sequence[Record],
    changes: Changes,
    incidents: Sequence[str | None],
) -> RoundFacts:
    succeeded = [record for record in records if record.ok]
    told_cached = [record.cached_tokens for record in succeeded if record.cached_tokens is not None]
    return RoundFacts(
        with_cache=bench.mode == "with-cache",
        number=records[0].round,
        device_cleared=bench.isolation != "none",
        requests=len(records),
        failed=len(records) - len(succeeded),
        ideal_hit_ratio=workload.ideal_hit_ratio,
        stated_prompt_tokens=sum_if_told(record.expected_prompt_tokens for record in succeeded),
        usage_prompt_tokens=sum(record.prompt_tokens or 0 for record in succeeded),
        cached_tokens=sum(told_cached) if told_cached else None,
        sources=vllm.attribute(changes.vllm),
        preemptions=vllm.preemptions(changes.vllm),
        failed_by_engine=vllm.failed_requests(changes.vllm),
        failed_loads=vllm.failed_loads(changes.vllm) + lmcache.failed_loads(changes.lmcache),
        store_read=store_traffic(changes).read_something,
        incidents=tuple(dict.fromkeys(incident for incident in incidents if incident is not None)),
        unknown=changes.vllm.problem,
    )


def _summarise(
    bench: _Bench,
    workload: Workload,
    records: Sequence[Record],
    changes: Changes,
    verdict: Verdict,
    *,
    client: ClientLag,
    traffic: Traffic | None,
) -> RoundSummary:
    return summarise_round(
        records,
        number=records[0].round,
        isolation=bench.isolation,
        by_source=TokensBySource(**asdict(vllm.attribute(changes.vllm))),
        counters=Counters(
            vllm=dict(changes.vllm.values),
            lmcache=dict(changes.lmcache.values),
            mooncake=dict(changes.mooncake.values),
        ),
        valid=verdict.valid,
        invalid_reasons=verdict.reasons,
        max_failed_ratio=bench.config.test.max_failed_ratio,
        client=client,
        traffic=traffic,
        ideal_hit_ratio=workload.ideal_hit_ratio_of(records[0].round),
        open_loop=bench.config.load.process != "closed",
    )


def _limited(bench: _Bench, before: Sequence[RoundSummary], summary: RoundSummary) -> RoundSummary:
    """With its physical limit, where the round is a hit round of a run with the cache."""
    if bench.mode == "baseline" or not before:
        return summary
    return summary.model_copy(update={"limit": physical_limit(before[0], summary, bench.deployment)})


def _provenance(bench: _Bench, started: datetime, system_fingerprint: str | None) -> Provenance:
    return Provenance(
        kvkit_version=__version__,
        python=platform.python_version(),
        host=socket.gethostname(),
        started=started,
        seed=bench.config.test.seed,
        engine=bench.engine.model_copy(update={"system_fingerprint": system_fingerprint}),
    )


def _workload_facts(workload: Workload) -> WorkloadFacts:
    return WorkloadFacts(
        fingerprint=workload.fingerprint,
        scenario=workload.scenario,
        parameters=workload.parameters,
        ideal_hit_ratio=workload.ideal_hit_ratio,
        requests=len(workload.requests),
    )
