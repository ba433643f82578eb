"""The outcome of a gate as JUnit XML, which CI systems show beside their tests."""

from __future__ import annotations

import re
from pathlib import Path

from kvkit.history.gate import Case, Gate
from kvkit.report.errors import ReportError
from kvkit.report.history import line
from kvkit.report.regression import OUTCOMES, case_words

try:
    from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite
except ImportError as error:
    raise ReportError(
        f"JUnit XML needs the libraries of an extra ({error.name} is missing): pip install 'kvkit[compare]'"
    ) from error

_NOT_IN_XML = re.compile("[\ufffe\uffff]")
"""Characters that XML 1.0 has no way to write, and that a terminal takes."""


def write_junit(gate: Gate, file: Path) -> None:
    """One test case a round: a regression and an INVALID run are failures, what cannot be told is an error.

    Raises:
        ReportError: the file cannot be written.
    """
    suite = TestSuite("kvkit gate")
    for case in gate.cases:
        suite.add_testcase(_test_case(case))
    document = JUnitXml("kvkit")
    document.add_testsuite(suite)
    try:
        document.write(str(file), pretty=True)
    except OSError as error:
        raise ReportError(f"{file}: cannot be written: {error.strerror}") from error


def _test_case(case: Case) -> TestCase:
    words = _text(case_words(case))
    scope = f"kvkit.{case.regression.scenario}.{case.regression.mode}"
    test = TestCase(_text(case.name), classname=_text(scope))
    if case.judged.outcome in {"regression", "invalid"}:
        test.result = Failure(words, OUTCOMES[case.judged.outcome])
    elif case.judged.outcome == "cannot_tell":
        test.result = Error(words, OUTCOMES[case.judged.outcome])
    test.system_out = words
    return test


def _text(words: str) -> str:
    return _NOT_IN_XML.sub(" ", line(words))
