"""How many tokens the server makes of our words: asked once, so that prompts have the stated length.

`/tokenize` (vLLM) counts without computing anything; where it is missing, the `usage` of requests with one output
token tells the same. No tokenizer is downloaded, and the chat template is counted as the server applies it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import httpx

from kvkit.workload.request import Message
from kvkit.workload.text import WORDS, TokenScale, words

Count = Callable[[Sequence[Message]], Awaitable[int]]


class CalibrationError(Exception):
    """The server told no token count. The message says what it answered and what to do."""


async def measure_scale(client: httpx.AsyncClient, *, base_url: str, model: str) -> TokenScale:
    """Count three texts and solve for tokens a word, the template's tokens and a turn's tokens.

    Args:
        client: sends the API key itself.
        base_url: ends with `/v1`.
        model: the served name.

    Raises:
        CalibrationError: neither `/tokenize` nor `usage` gave a count.
        httpx.TransportError: the server is not reachable.
    """
    try:
        count = by_tokenize(client, base_url=base_url, model=model)
        await count([Message("user", WORDS[0])])
    except CalibrationError:
        count = _by_usage(client, base_url, model)
    cycle = len(WORDS)
    short = Message("user", words("calibration/short", cycle))
    long = Message("user", words("calibration/long", 2 * cycle))
    word = WORDS[0]
    short_tokens = await count([short])
    long_tokens = await count([long])
    conversation_tokens = await count([short, Message("assistant", word), Message("user", word)])
    per_word = (long_tokens - short_tokens) / cycle
    if per_word <= 0:
        raise CalibrationError(
            f"{base_url}: {cycle} words counted {short_tokens} tokens and {2 * cycle} words {long_tokens}: "
            "these counts can't be right; check what stands between kvkit and the engine"
        )
    return TokenScale(
        tokens_per_word=per_word,
        template_tokens=max(0, round(short_tokens - cycle * per_word)),
        turn_tokens=max(0, round(conversation_tokens - short_tokens - 2 * per_word)),
    )


def by_tokenize(client: httpx.AsyncClient, *, base_url: str, model: str) -> Count:
    """Counts without computing anything, so that nothing is cached by it.

    The count raises CalibrationError where there is no `/tokenize`.
    """
    url = f"{base_url.removesuffix('/v1')}/tokenize"

    async def count(messages: Sequence[Message]) -> int:
        body = {"model": model, "messages": _plain(messages), "add_generation_prompt": True}
        return _integer(await client.post(url, json=body), "count")

    return count


def _by_usage(client: httpx.AsyncClient, base_url: str, model: str) -> Count:
    async def count(messages: Sequence[Message]) -> int:
        body = {"model": model, "messages": _plain(messages), "max_tokens": 1}
        return _integer(await client.post(f"{base_url}/chat/completions", json=body), "usage", "prompt_tokens")

    return count


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]


def _integer(response: httpx.Response, *path: str) -> int:
    problem = f"{response.request.url}: HTTP {response.status_code}, no {'.'.join(path)} in the answer"
    try:
        value = response.json()
    except ValueError:
        raise CalibrationError(f"{problem}: it is not JSON") from None
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if response.status_code != 200 or not isinstance(value, int):
        raise CalibrationError(f"{problem}: {response.text[:200]}; the engine must count tokens (OpenAI `usage`)")
    return value
