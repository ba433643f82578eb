"""No two prompts share a chunk: round 1 is all prefill and KV writes, round 2 repeats every prompt whole."""

from __future__ import annotations

from kvkit.config import Config
from kvkit.workload.request import Message, Request, Workload, common_parameters
from kvkit.workload.text import TokenScale, words


def build(config: Config, scale: TokenScale) -> Workload:
    """Each prompt has `prefix_tokens` plus a question's tokens, so it is as long as those of the other scenarios."""
    settings, name = config.workload, "cold_start"
    target = settings.prefix_tokens + settings.question_tokens
    count = scale.words_for(target - scale.template_tokens)
    prompt_tokens = round(scale.template_tokens + scale.tokens_of(count))
    requests = tuple(
        Request(
            request_id=f"{name}-{i:05d}",
            group=f"{name}-{i:05d}",
            messages=(Message("user", words(f"{config.test.seed}/{name}/{i}", count)),),
            prompt_tokens=prompt_tokens,
            max_tokens=config.model.max_tokens,
        )
        for i in range(config.test.requests_per_scenario)
    )
    return Workload(
        scenario=name,
        requests=requests,
        parameters=common_parameters(config, name, len(requests)) | {"prompt_tokens": target},
    )
