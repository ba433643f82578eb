"""Prompts that nobody ever sent, with their last tokens just behind a whole chunk of the store.

Then the device cache and the store serve the very same tokens of a prompt, and what is computed behind them is the same
computation: equal KV must give equal text, bit for bit.
"""

from __future__ import annotations

import secrets

from kvkit.load.calibration import CalibrationError, Count
from kvkit.workload.request import Message, Request
from kvkit.workload.text import TokenScale, words

_TRIES = 6


def fresh_prompt(name: str, scale: TokenScale, tokens: int, max_tokens: int) -> Request:
    """A prompt of about `tokens` tokens whose first token is already its own."""
    return _request(name, secrets.token_hex(8), scale.words_for(tokens - scale.template_tokens), tokens, max_tokens)


async def fitted_prompt(
    name: str, count: Count, scale: TokenScale, *, tokens: int, chunk: int, block: int, max_tokens: int
) -> Request:
    """A fresh prompt with one to `block` tokens behind its last whole chunk.

    It has at most `tokens` tokens, unless these are less than a chunk. Where the engine does not count tokens without
    computing them, or the tokenizer hits no such length, the prompt has about `tokens` tokens.

    Args:
        name: names the request.
        count: must not compute anything: the prompt would be cached.
        scale: how the tokenizer counts our words.
        tokens: the length wanted.
        chunk: tokens under one key of the store.
        block: tokens of vLLM's KV block.
        max_tokens: of the answer.
    """
    nonce = secrets.token_hex(8)
    wanted = max(chunk, (tokens - block) // chunk * chunk) + block // 2 + 1
    number = scale.words_for(wanted - scale.template_tokens)
    for _ in range(_TRIES):
        request = _request(name, nonce, number, wanted, max_tokens)
        try:
            counted = await count(request.messages)
        except CalibrationError:
            break
        if (counted - 1) % chunk < block:
            return request
        number = max(1, number + round((wanted - counted) / scale.tokens_per_word))
    return fresh_prompt(name, scale, tokens, max_tokens)


def _request(name: str, nonce: str, number: int, tokens: int, max_tokens: int) -> Request:
    text = f"{nonce} {words(nonce, number)}"
    return Request(name, name, (Message("user", text),), prompt_tokens=tokens, max_tokens=max_tokens)
