"""Restart the engine by the operator's own command, and wait until it answers again."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from typing import IO

import httpx

_POLL_S = 0.5
_WORDS_KEPT = 300
"""Characters of what the command printed last."""


class RestartError(Exception):
    """The engine was not restarted, or does not answer since. The message is complete: print it as it is."""


async def restart(
    command: Sequence[str],
    http: httpx.AsyncClient,
    engines: Sequence[str],
    *,
    timeout_s: float,
    poll_s: float = _POLL_S,
) -> None:
    """Run the command, then wait until every engine lists its models.

    Args:
        command: argument list, run without a shell; it returns when the old processes have ended.
        http: sends the API key itself.
        engines: root addresses.
        timeout_s: for the command and for the wait after it, together.
        poll_s: the pause between two tries.

    Raises:
        RestartError: the command failed, or no answer came in time.
    """
    deadline = time.monotonic() + timeout_s
    await _run(command, timeout_s)
    for root in engines:
        while not await _answers(http, f"{root}/v1/models"):
            if time.monotonic() >= deadline:
                raise RestartError(
                    f"{root}/v1/models: no answer {timeout_s:g} s after service.restart_command "
                    "(limit service.ready_timeout_s); look at the engine's log"
                )
            await asyncio.sleep(poll_s)


async def _run(command: Sequence[str], timeout_s: float) -> None:
    # A file and no pipe: a daemon that the command starts may hold its output open for ever.
    with tempfile.TemporaryFile() as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
            )
        except OSError as error:
            raise RestartError(f"service.restart_command: {command[0]}: cannot be started ({error.strerror})") from None
        try:
            code = await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise RestartError(
                f"service.restart_command: {command[0]}: no end within {timeout_s:g} s (service.ready_timeout_s)"
            ) from None
        if code != 0:
            raise RestartError(f"service.restart_command: {command[0]}: ended with {code}: {_last_words(output)}")


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).status_code == 200
    except httpx.HTTPError:
        return False


def _last_words(output: IO[bytes]) -> str:
    output.seek(0)
    words = " ".join(output.read().decode(errors="replace").split())
    return words[-_WORDS_KEPT:] or "it printed nothing"
