"""Few long documents, many questions about each: the work that a shared KV cache is made for.

Every prompt is one user message: the document, then the question. Questions go round the documents in turn, so that a
device cache smaller than the documents together has lost a document by the time that it is asked about again.
"""

from __future__ import annotations

from kvkit.config import Config
from kvkit.workload.request import Message, Request, Workload, common_parameters
from kvkit.workload.text import TokenScale, words


def build(config: Config, scale: TokenScale) -> Workload:
    """`prefix_tokens` are the document with the template's tokens, the question's tokens come on top."""
    settings, name, seed = config.workload, "long_context_high_reuse", config.test.seed
    document_words = scale.words_for(settings.prefix_tokens - scale.template_tokens)
    question_words = scale.words_for(settings.question_tokens)
    prompt_tokens = round(scale.template_tokens + scale.tokens_of(document_words + question_words))
    count = config.test.requests_per_scenario
    if settings.questions is not None:
        count = settings.documents * settings.questions
    documents = [words(f"{seed}/{name}/document/{d}", document_words) for d in range(settings.documents)]
    requests = tuple(
        Request(
            request_id=f"{name}-{i:05d}",
            group=f"document-{i % settings.documents}",
            messages=(
                Message(
                    "user",
                    documents[i % settings.documents] + "\n\n" + words(f"{seed}/{name}/question/{i}", question_words),
                ),
            ),
            prompt_tokens=prompt_tokens,
            max_tokens=config.model.max_tokens,
        )
        for i in range(count)
    )
    return Workload(
        scenario=name,
        requests=requests,
        parameters=common_parameters(config, name, count)
        | {
            "prefix_tokens": settings.prefix_tokens,
            "suffix_tokens": settings.question_tokens,
            "documents": settings.documents,
            "reuse_ratio": round(settings.prefix_tokens / prompt_tokens, 4),
        },
    )
