"""Wait until a service answers; end at once when it has died, hangs or says nothing any more.

    await_ready.py --url URL --timeout S [--pattern REGEX] [--log FILE --offset BYTES --no-progress S]
                   (--pid PID | --alive ARGV_AS_JSON) [--record FILE]

Runs on the hosts: standard library only, Python 3.9 and newer. Prints the seconds waited; on failure the reason and
the log's tail, exit code 1.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

POLL_S = 0.5
ANSWER_S = 5.0
STATUS_S = 30.0
TAIL_LINES = 40
# A proxy named in the environment is not for addresses of the deployment.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class NotReady(Exception):
    """The service will not become ready; the message says why."""


class Log:
    """What the service has written since this start."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset

    def size(self) -> int | None:
        """Bytes; None when there is no such file."""
        return self._path.stat().st_size if self._path.is_file() else None

    def tail(self) -> str:
        if not self._path.is_file():
            return "(no log)"
        with self._path.open("rb") as file:
            file.seek(self._offset)
            lines = file.read().decode(errors="replace").splitlines()
        return COLOURS.sub("", "\n".join(lines[-TAIL_LINES:])) or "(nothing in the log since this start)"


def is_alive(pid: int | None, command: list[str] | None) -> bool:
    """Ask the kernel, or the user's own command.

    Raises:
        NotReady: the command hangs.
    """
    if pid is not None:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state != "Z"
    if command is None:
        return True
    try:  # the command is the inventory's own
        return subprocess.run(command, capture_output=True, check=False, timeout=STATUS_S).returncode == 0  # noqa: S603 - see above
    except subprocess.TimeoutExpired:
        raise NotReady(f"its status command {' '.join(command)} did not end within {STATUS_S:.0f} s") from None


def answers(url: str, pattern: str) -> str:
    """Ask once. Empty when the answer is the one waited for, else what came instead."""
    try:
        with DIRECT.open(url, timeout=ANSWER_S) as response:
            body = response.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except (OSError, http.client.HTTPException) as error:
        return str(error)
    return "" if re.search(pattern, body, re.MULTILINE) else f"HTTP 200, without {pattern!r}"


def wait(arguments: argparse.Namespace, log: Log) -> float:
    """Seconds until the service was ready.

    Raises:
        NotReady: the process ended, the time limit passed, or the log stood still.
    """
    begun = time.monotonic()
    size, grown = log.size(), begun
    while True:
        alive = is_alive(arguments.pid, arguments.alive)
        last = answers(arguments.url, arguments.pattern)
        now = time.monotonic()
        # Asked in this order, an answer of somebody else on the same port is never taken for the dead one's.
        if not alive:
            raise NotReady(f"it ended {now - begun:.0f} s after its start")
        if not last:
            return now - begun
        if now - begun > arguments.timeout:
            raise NotReady(f"not ready after {arguments.timeout:.0f} s; {arguments.url} last said: {last}")
        if log.size() != size:
            size, grown = log.size(), now
        elif size is not None and arguments.no_progress and now - grown > arguments.no_progress:
            raise NotReady(
                f"nothing new in its log for {arguments.no_progress:.0f} s; {arguments.url} last said: {last}"
            )
        time.sleep(POLL_S)


def record(path: Path, asked: list[Any]) -> None:
    """All of it or nothing."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(json.dumps(asked))
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--pattern", default="", help="regular expression that the answer must hold")
    parser.add_argument("--timeout", type=float, required=True, help="seconds")
    parser.add_argument("--log", type=Path, default=Path(), help="file; empty where the kit knows of none")
    parser.add_argument("--offset", type=int, default=0, help="bytes of the log that were there before")
    parser.add_argument("--no-progress", type=float, default=0, help="seconds without a new line; 0: no limit")
    parser.add_argument("--record", type=Path, help="file for what was asked, so that the host can ask it by itself")
    living = parser.add_mutually_exclusive_group(required=True)
    living.add_argument("--pid", type=int)
    living.add_argument("--alive", type=json.loads, help="command that ends with 0 while the service is alive")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    log = Log(arguments.log, arguments.offset)
    try:
        seconds = wait(arguments, log)
    except NotReady as reason:
        print(f"{reason}\n\n{log.tail()}", file=sys.stderr)
        return 1
    if arguments.record is not None:
        try:
            record(arguments.record, [arguments.url, arguments.pattern, arguments.timeout])
        except OSError as error:
            print(f"it is ready, and {arguments.record} cannot be written: {error.strerror}", file=sys.stderr)
            return 1
    print(json.dumps({"seconds": round(seconds, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
