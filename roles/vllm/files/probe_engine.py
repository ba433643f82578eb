"""Ask a started engine whether it serves the model, and whether its KV connector is what it was started with.

HTTP 200 on /health says neither: a degraded connector answers it too, and LMCache logs success after a failed set-up.
So one completion is asked for, then a prompt longer than a chunk, and the servers' own counters must have moved:
the engine asked its connector, and the connector's store got the prompt. Without a connector they must not move.

    probe_engine.py --url http://HOST:PORT --model NAME --mode with-cache --tokens N --stored URL COUNTER [...]
    probe_engine.py --url http://HOST:PORT --model NAME --mode baseline --tokens N

The API key, if any, comes on standard input. Runs on the hosts: standard library only, Python 3.9 and newer. Prints
what was seen as JSON; exit code 1 with the reason.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

ASKED = "vllm:external_prefix_cache_queries_total"
"""Prompt tokens that the device cache lacked and the connector was asked for (vLLM, v1/metrics/loggers.py)."""
DEGRADED = re.compile(r"operate in degraded mode|entering degraded mode|LMCache is unhealthy")
COMPLETION_S = 300.0
"""A first request may compile kernels."""
POLL_S = 0.5
# A proxy named in the environment is not for addresses of the deployment.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NotServing(Exception):
    """The engine does not do what it was started for; the message says what was seen."""


class Engine:
    """The OpenAI side of an engine."""

    def __init__(self, url: str, model: str, key: str) -> None:
        self.url = url
        self._model = model
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def models(self) -> list[str]:
        return [entry["id"] for entry in self._json("/v1/models")["data"]]

    def complete(self, prompt: str) -> dict[str, int]:
        """One token for a prompt; returns `usage`.

        Raises:
            NotServing: no token came.
        """
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 1,
            "temperature": 0.0,
        }
        answer = self._json("/v1/chat/completions", body)
        usage: dict[str, int] = answer.get("usage") or {}
        if not usage.get("completion_tokens"):
            raise NotServing(f"{self.url} answered a completion without a token: {json.dumps(answer)[:300]}")
        return usage

    def _json(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        return json.loads(fetch(self.url + path, data, self._headers, COMPLETION_S))


def fetch(url: str, data: bytes | None = None, headers: dict[str, str] | None = None, timeout_s: float = 10.0) -> str:
    """The body of a 200.

    Raises:
        NotServing: another status, or no answer.
    """
    try:
        request = urllib.request.Request(url, data, headers or {})  # noqa: S310 (the role passes http)
        with DIRECT.open(request, timeout=timeout_s) as response:
            return str(response.read().decode(errors="replace"))
    except urllib.error.HTTPError as error:
        raise NotServing(f"{url} answered HTTP {error.code}: {error.read(300).decode(errors='replace')}") from None
    except OSError as error:
        raise NotServing(f"{url} does not answer: {error}") from None


def counter(url: str, name: str) -> float | None:
    """Sum of a metric over its label sets; None when the page lacks it. `name{a="b"}` asks for one of them."""
    metric, _, labels = name.partition("{")
    wanted = [label for label in labels.rstrip("}").split(",") if label]
    values = [
        float(line.rpartition(" ")[2])
        for line in fetch(f"{url}/metrics").splitlines()
        if re.match(rf"{re.escape(metric)}[ {{]", line) and all(label in line for label in wanted)
    ]
    return sum(values) if values else None


def long_prompt(engine: Engine, tokens: int) -> int:
    """Send a prompt that nobody has sent before, of more than `tokens` tokens; returns its length."""
    words = tokens // 4  # enough where a word is one token of several bytes; doubled where it is not
    while True:
        prompt = f"{uuid.uuid4()} " + " ".join(f"word{i}" for i in range(words))
        length = engine.complete(prompt)["prompt_tokens"]
        if length > tokens:
            return length
        words *= 2


def connector_engaged(engine: Engine, tokens: int, stored: tuple[str, str], within_s: float) -> dict[str, Any]:
    """Counters before and after a prompt of its own; the store has `within_s` seconds, as engines store asynchronously.

    Raises:
        NotServing: the engine did not ask its connector, or the store did not get the prompt.
    """
    url, name = stored
    asked = counter(engine.url, ASKED)
    if asked is None:
        raise NotServing(f"{engine.url}/metrics has no {ASKED}: the engine runs without a KV connector")
    kept = counter(url, name) or 0.0
    length = long_prompt(engine, tokens)
    asked_now = counter(engine.url, ASKED) or 0.0
    if asked_now <= asked:
        raise NotServing(
            f"the engine did not ask its connector for a new prompt of {length} tokens ({ASKED} stays at {asked:.0f})"
        )
    end = time.monotonic() + within_s
    while (kept_now := counter(url, name) or 0.0) <= kept:
        if time.monotonic() > end:
            raise NotServing(
                f"a prompt of {length} tokens did not reach the store within {within_s:.0f} s "
                f"({name} at {url} stays at {kept:.0f})"
            )
        time.sleep(POLL_S)
    return {"prompt_tokens": length, "asked_tokens": asked_now - asked, "stored": kept_now - kept, "counter": name}


def connector_absent(engine: Engine, tokens: int) -> dict[str, Any]:
    """Raises NotServing when the engine asked a connector although it was started without."""
    asked = counter(engine.url, ASKED) or 0.0
    length = long_prompt(engine, tokens)
    asked_now = counter(engine.url, ASKED) or 0.0
    if asked_now > asked:
        raise NotServing(f"baseline, but the engine asked a KV connector for {asked_now - asked:.0f} tokens ({ASKED})")
    return {"prompt_tokens": length, "asked_tokens": 0}


def degraded_lines(log: Path, offset: int) -> list[str]:
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode(errors="replace").splitlines()
    return [line for line in lines if DEGRADED.search(line)]


def probe(arguments: argparse.Namespace, key: str) -> dict[str, Any]:
    """All questions in their order.

    Raises:
        NotServing: an answer was not the one expected.
    """
    engine = Engine(arguments.url, arguments.model, key)
    models = engine.models()
    if arguments.model not in models:
        raise NotServing(f"{arguments.url} does not serve {arguments.model!r}, but: {', '.join(models) or 'nothing'}")
    engine.complete("Hello")
    if arguments.mode == "with-cache":
        seen = connector_engaged(engine, arguments.tokens, tuple(arguments.stored), arguments.stored_within)
    else:
        seen = connector_absent(engine, arguments.tokens)
    if lines := degraded_lines(arguments.log, arguments.offset):
        raise NotServing("its log says that the cache does not work:\n" + "\n".join(lines[:10]))
    return {"models": models, **seen}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--mode", choices=["with-cache", "baseline"], required=True)
    parser.add_argument("--tokens", type=int, required=True, help="longer than a chunk of the cache")
    parser.add_argument("--stored", nargs=2, metavar=("URL", "COUNTER"), help="rises when the store got something")
    parser.add_argument("--stored-within", type=float, default=30.0, help="seconds")
    parser.add_argument("--log", type=Path, default=Path(), help="file; empty where the kit knows of none")
    parser.add_argument("--offset", type=int, default=0, help="bytes of the log that were there before this start")
    arguments = parser.parse_args()
    if arguments.mode == "with-cache" and not arguments.stored:
        parser.error("--stored is needed with --mode with-cache")
    try:
        print(json.dumps(probe(arguments, sys.stdin.read().strip())))
    except NotServing as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
