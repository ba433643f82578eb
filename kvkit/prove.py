"""A proof that the shared KV cache is in use, told as a story: look, make prompts, run the arms, judge.

The arms are judged elsewhere (`kvkit.observe.proof`); here they are only run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import httpx

from kvkit.config import Config
from kvkit.ending import Ending
from kvkit.load.answer import Answer, Exchange, quote, read_answer
from kvkit.load.calibration import CalibrationError, by_tokenize, measure_scale
from kvkit.load.client import ChatClient, ChatSettings, open_http
from kvkit.load.fitting import fitted_prompt, fresh_prompt
from kvkit.observe import lmcache, vllm
from kvkit.observe.chunk import LMCACHE_DEFAULT, ask_chunk
from kvkit.observe.engine import (
    EngineFacts,
    EngineRefusedError,
    EngineUnreachableError,
    ModelNotServedError,
    look_at_engine,
)
from kvkit.observe.prometheus import Reading
from kvkit.observe.proof import ArmFacts, ArmName, Proof, Setup, judge
from kvkit.observe.reset import ResetError, ResetNotOfferedError
from kvkit.observe.restart import RestartError, restart
from kvkit.observe.servers import Changes, Servers, Snapshot, servers_of
from kvkit.observe.traffic import store_traffic
from kvkit.report.proving import ProofReporter
from kvkit.workload import Request
from kvkit.workload.text import TokenScale

PROMPTS = 3
LONGEST_PROMPT = 4096
"""Tokens: enough for whole chunks of any size in use, and quick on every machine."""
ANSWER_TOKENS = 16
SPARE_TOKENS = 128
"""Left free in the model's context: the answer, and how far a prompt may miss its length."""


class TooLongError(Exception):
    """The engine takes no prompt that is long enough. The message is complete: print it as it is."""


def run(config: Config, *, reporter: ProofReporter) -> Ending:
    """Run the arms and come to a verdict; the reporter is told all of it.

    Nothing is raised for what a server or the user does.

    Returns:
        `DONE` for PROVEN alone, `INVALID` for any other verdict.
    """
    try:
        proof = asyncio.run(_run(config, reporter))
    except (EngineRefusedError, ModelNotServedError, TooLongError) as error:
        reporter.failed(str(error))
        return Ending.WRONG_INPUT
    except (EngineUnreachableError, CalibrationError, RestartError) as error:
        reporter.failed(str(error))
        return Ending.NOT_FINISHED
    except httpx.TransportError as error:
        reporter.failed(f"{config.openai_api.base_url}: the engine stopped answering ({error or type(error).__name__})")
        return Ending.NOT_FINISHED
    except KeyboardInterrupt:
        reporter.failed("interrupted")
        return Ending.NOT_FINISHED
    reporter.proved(proof)
    return Ending.DONE if proof.verdict == "PROVEN" else Ending.INVALID


@dataclass(frozen=True, slots=True)
class _Side:
    """An address to send prompts to, and the servers behind it."""

    client: ChatClient
    servers: Servers

    async def ask(self, request: Request) -> Exchange:
        return await self.client.exchange(self.client.encode(request))

    @property
    def secret(self) -> str:
        return self.client.settings.api_key


@dataclass(frozen=True, slots=True)
class _Prover:
    """What stays the same from the first arm to the last."""

    config: Config
    reporter: ProofReporter
    engine_http: httpx.AsyncClient
    http: httpx.AsyncClient
    side: _Side
    scale: TokenScale
    tokens: int
    """Length of the prompts."""


async def _run(config: Config, reporter: ProofReporter) -> Proof:
    api = config.openai_api
    async with (
        open_http(api.api_key.get_secret_value()) as engine_http,
        open_http() as http,
        ChatClient(_chat_settings(config, api.base_url)) as client,
    ):
        facts = await look_at_engine(engine_http, api.base_url)
        facts.require(api.model_name, api.base_url)
        reporter.started(facts)
        side = _Side(client, servers_of(config, engine_http, http))
        seen = await side.servers.snapshot()
        prover = _Prover(
            config=config,
            reporter=reporter,
            engine_http=engine_http,
            http=http,
            side=side,
            scale=await measure_scale(engine_http, base_url=api.base_url, model=api.model_name),
            tokens=_length(config, facts, seen),
        )
        await _warm_up(prover, side)
        setup, prompts = await _prepare(prover, facts, (await side.servers.snapshot()).vllm[0])
        arms = [
            await _arm(prover, side, "cold", prompts),
            await _arm(prover, side, "device hit", prompts),
            await _external_hit(prover, prompts),
        ]
        if config.service.restart_command:
            arms.append(await _restart_hit(prover, prompts))
        if config.service.second_url is not None:
            arms.append(await _cross_instance_hit(prover, prompts, config.service.second_url))
    return judge(setup, arms)


def _chat_settings(config: Config, base_url: str) -> ChatSettings:
    """Greedy, so that equal KV gives equal text."""
    return replace(ChatSettings.of(config), base_url=base_url, temperature=0.0)


def _length(config: Config, facts: EngineFacts, seen: Snapshot) -> int:
    """As long as the workload's prefixes, but longer than two chunks, quick, and all prompts fit the device cache.

    Raises:
        TooLongError: the engine takes no prompt longer than two chunks.
    """
    chunk = config.service.chunk_tokens or LMCACHE_DEFAULT
    shortest = 2 * chunk + chunk // 2
    model = facts.model(config.openai_api.model_name)
    most = model.max_model_len if model is not None else None
    longest = most and most - SPARE_TOKENS
    if longest is not None and shortest > longest:
        raise TooLongError(
            f"prompts of {shortest} tokens are needed (longer than two chunks of {chunk}), and the engine takes {most} "
            f"(max_model_len), less {SPARE_TOKENS} for the answer: start it with a larger --max-model-len"
        )
    room = vllm.device_tokens(seen.vllm[0])
    limits = (config.workload.prefix_tokens, LONGEST_PROMPT, longest, room and room // (PROMPTS + 1) - SPARE_TOKENS)
    return max(shortest, min(limit for limit in limits if limit is not None))


async def _warm_up(prover: _Prover, side: _Side) -> None:
    """One unrelated request of the same length: compilation and memory registration are no part of an arm."""
    request = fresh_prompt("warm-up", prover.scale, prover.tokens, ANSWER_TOKENS)
    answer = read_answer(await side.ask(request))
    if answer.failure is not None:
        prover.reporter.notice(f"the warm-up request failed: {_words(answer, side.secret)}")
    await side.servers.wait_quiet()


async def _prepare(prover: _Prover, facts: EngineFacts, engine: Reading) -> tuple[Setup, list[Request]]:
    config, api = prover.config, prover.config.openai_api
    chunk = await ask_chunk(
        prover.http,
        configured=config.service.chunk_tokens,
        lmcache_url=config.lmcache.url if config.lmcache else None,
        connector=facts.connector,
        engine=engine,
    )
    block = vllm.block_tokens(engine)
    prompts = [
        await fitted_prompt(
            f"prove-{number}",
            by_tokenize(prover.engine_http, base_url=api.base_url, model=api.model_name),
            prover.scale,
            tokens=prover.tokens,
            chunk=chunk.tokens,
            block=block,
            max_tokens=ANSWER_TOKENS,
        )
        if chunk.tokens is not None and block is not None
        else fresh_prompt(f"prove-{number}", prover.scale, prover.tokens, ANSWER_TOKENS)
        for number in range(1, PROMPTS + 1)
    ]
    return Setup(facts.connector, chunk.tokens, chunk.told_by), prompts


async def _external_hit(prover: _Prover, prompts: Sequence[Request]) -> ArmFacts:
    try:
        await prover.side.servers.clear_device_cache()
    except ResetNotOfferedError as error:
        return _skipped(prover, "external hit", str(error))
    except ResetError as error:
        return _skipped(prover, "external hit", f"the device cache was not cleared: {error}")
    return await _arm(prover, prover.side, "external hit", prompts)


async def _restart_hit(prover: _Prover, prompts: Sequence[Request]) -> ArmFacts:
    config, servers = prover.config, prover.side.servers
    prover.reporter.notice("the engine is being restarted")
    await restart(
        config.service.restart_command, prover.engine_http, servers.engines, timeout_s=config.service.ready_timeout_s
    )
    await _warm_up(prover, prover.side)
    try:
        await servers.clear_first_tier()
    except ResetError as error:
        return _skipped(prover, "restart hit", f"LMCache's first tier was not cleared: {error}")
    return await _arm(prover, prover.side, "restart hit", prompts)


async def _cross_instance_hit(prover: _Prover, prompts: Sequence[Request], url: str) -> ArmFacts:
    """The other may share LMCache's server, whose first tier is cleared, or have its own, which is not looked at."""
    try:
        await prover.side.servers.clear_first_tier()
    except ResetError as error:
        return _skipped(prover, "cross-instance hit", f"LMCache's first tier was not cleared: {error}")
    root = vllm.root_of(url)
    second = prover.side.servers.beside(root)
    async with ChatClient(_chat_settings(prover.config, f"{root}/v1")) as client:
        side = _Side(client, second)
        await _warm_up(prover, side)
        return await _arm(prover, side, "cross-instance hit", prompts)


def _skipped(prover: _Prover, name: ArmName, why: str) -> ArmFacts:
    facts = ArmFacts(name, skipped=why)
    prover.reporter.arm_ended(facts)
    return facts


async def _arm(prover: _Prover, side: _Side, name: ArmName, prompts: Sequence[Request]) -> ArmFacts:
    """Send every prompt once, one at a time, between two looks at the idle servers.

    The first is looked at by itself: what the device cache served of it tells whether that was empty.
    """
    prover.reporter.arm_started(name)
    incidents: list[str | None] = []
    parts: list[Changes] = []
    exchanges: list[Exchange] = []
    latest = await side.servers.snapshot()
    for part in (prompts[:1], prompts[1:]):
        exchanges += [await side.ask(prompt) for prompt in part]
        incidents.append(await side.servers.wait_quiet())
        earlier, latest = latest, await side.servers.snapshot()
        parts.append(Changes.between(earlier, latest))
    changes = Changes.together(parts)
    answers = [read_answer(exchange) for exchange in exchanges]
    succeeded = [(e, a) for e, a in zip(exchanges, answers, strict=True) if a.failure is None]
    facts = ArmFacts(
        name,
        requests=len(answers),
        failures=tuple(_words(answer, side.secret) for answer in answers if answer.failure is not None),
        prompt_tokens=tuple(answer.prompt_tokens or 0 for _, answer in succeeded),
        ttft_s=tuple(answer.token_stamps_s[0] - exchange.start_s for exchange, answer in succeeded),
        texts=tuple("".join(answer.text) if answer.failure is None else None for answer in answers),
        sources=vllm.attribute(changes.vllm),
        first_device=vllm.attribute(parts[0].vllm).device,
        traffic=store_traffic(changes),
        failed_loads=vllm.failed_loads(changes.vllm) + lmcache.failed_loads(changes.lmcache),
        incidents=tuple(incident for incident in incidents if incident is not None),
        unknown=changes.vllm.problem,
        store_problem=latest.store_problem,
    )
    prover.reporter.arm_ended(facts)
    return facts


def _words(answer: Answer, secret: str) -> str:
    assert answer.failure is not None
    return f"{answer.failure.kind}: {quote(answer.failure.words, secret)}"
