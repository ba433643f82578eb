"""The fuzzers of each subject for a while, one after the other, with inputs that no earlier run has had.

    python -m tests.fuzz [--minutes 10] [--only SUBJECT ...]

Prints how many inputs each took. Ends with 1 where one broke or did not end, and shows the smallest such input: it
becomes an `@example` of the fuzzer.
"""

from __future__ import annotations

import argparse
import importlib
import io
import sys
import tempfile
import time
import traceback
from contextlib import redirect_stdout
from inspect import signature
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings

SUBJECTS = [path.stem.removeprefix("test_") for path in sorted(Path(__file__).parent.glob("test_*.py"))]
FRESH = settings(
    max_examples=200,
    derandomize=False,
    database=None,
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of each subject")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    arguments = parser.parse_args()
    subjects = {subject: fuzzers(subject) for subject in arguments.only}
    ended_well = [
        took_all(f"{subject}: {name}", fuzzer, arguments.minutes * 60 / len(its))
        for subject, its in subjects.items()
        for name, fuzzer in its.items()
    ]
    return 0 if all(ended_well) else 1


def fuzzers(subject: str) -> dict[str, Any]:
    """The tests that hypothesis gives its inputs, by what they say."""
    tests = vars(importlib.import_module(f"tests.fuzz.test_{subject}"))
    return {
        name.removeprefix("test_").replace("_", " "): test
        for name, test in tests.items()
        if hasattr(test, "hypothesis")
    }


def took_all(name: str, fuzzer: Any, limit_s: float) -> bool:
    """Give a fuzzer inputs until the time is up."""
    inputs = 0
    test = fuzzer.hypothesis.inner_test

    def counted(*args: Any, **kwargs: Any) -> None:
        nonlocal inputs
        inputs += 1
        test(*args, **kwargs)

    fuzzer.hypothesis.inner_test = counted
    fuzz = FRESH(fuzzer)
    end = time.monotonic() + limit_s
    with tempfile.TemporaryDirectory() as folder:
        given = {"folder": Path(folder)} if "folder" in signature(test).parameters else {}
        while time.monotonic() < end:
            try:
                with redirect_stdout(io.StringIO()):
                    fuzz(**given)
            except BaseException as error:
                traceback.print_exc()
                print(f"BROKEN after {inputs:,} inputs: {name}", flush=True)
                if isinstance(error, KeyboardInterrupt):
                    raise
                return False
    print(f"{inputs:>9,} inputs  {name}", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
