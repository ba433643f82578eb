"""Each fuzzer for a while, one after the other, with inputs that no earlier run has had.

    python -m tests.fuzz [--minutes 10] [--only NAME ...]

Prints how many inputs each took. Ends with 1 where one broke or did not end; pytest shows the smallest such input: it
becomes an `@example` of the fuzzer.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of each fuzzer")
    parser.add_argument("--only", nargs="*", default=[], help="names, or parts of them")
    arguments = parser.parse_args()
    broken = 0
    for name, fuzzer in fuzzers():
        if not arguments.only or any(part in name for part in arguments.only):
            broken += not ran(name, fuzzer, arguments.minutes * 60)
    return 1 if broken else 0


def fuzzers() -> Iterator[tuple[str, Callable[..., None]]]:
    """The tests that hypothesis gives its inputs."""
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(f"tests.fuzz.{path.stem}")
        for name, test in vars(module).items():
            if hasattr(test, "hypothesis"):
                yield f"{path.stem.removeprefix('test_')}: {name.removeprefix('test_')}", test


def ran(name: str, fuzzer: Any, limit_s: float) -> bool:
    """Give a fuzzer inputs until the time is up. Returns whether it took them all."""
    inputs = 0
    test = fuzzer.hypothesis.inner_test

    def counted(*args: Any, **kwargs: Any) -> None:
        nonlocal inputs
        inputs += 1
        test(*args, **kwargs)

    fuzzer.hypothesis.inner_test = counted
    endless = settings(
        fuzzer._hypothesis_internal_use_settings,
        derandomize=False,
        max_examples=200,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    fuzzer._hypothesis_internal_use_settings = endless
    end = time.monotonic() + limit_s
    with tempfile.TemporaryDirectory() as folder:
        given = {"folder": Path(folder)} if "folder" in signature(test).parameters else {}
        while time.monotonic() < end:
            try:
                fuzzer(**given)
            except BaseException:
                traceback.print_exc()
                print(f"BROKEN {name}, after {inputs:,} inputs", flush=True)
                return False
    print(f"{inputs:>9,} inputs  {name}", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
