"""Results that `kvkit run` did not write, read as runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from kvkit.results import table, vllm_bench, vllm_bench_runs
from kvkit.results.errors import ResultsError
from kvkit.results.foreign import NOT_TOLD, ImportedRun
from kvkit.results.reader import problems, read_stats, read_text
from kvkit.results.record import Record
from kvkit.results.stats import Mode, RunStats


def read_runs(path: Path, mode: Mode) -> tuple[ImportedRun, ...]:
    """The runs that a file holds: one in a stats file of kvkit, several in an export.

    Args:
        path: a stats file, a result file of `vllm bench serve`, or what `kvkit export` wrote.
        mode: the mode of what does not tell its own.

    Raises:
        ResultsError: the file is none of these, or something in it is wrong.
    """
    text = read_text(path)
    try:
        if table.is_table(text):
            return table.runs_in_table(path, text)
        if documents := vllm_bench.documents_in(text):
            return vllm_bench_runs.runs_of(path, documents, mode)
    except ValidationError as error:
        raise ResultsError(f"{path}: {problems(error)}") from error
    return (ImportedRun(read_stats(path), None),)


def check_same_lengths(
    with_cache: tuple[RunStats, Sequence[Record]], baseline: tuple[RunStats, Sequence[Record]]
) -> None:
    """Refuse runs that tell no fingerprint and did not send prompts of the same lengths.

    Failed requests are passed over: whether their length was counted by client or server is not told.

    Raises:
        ResultsError: naming the first request that differs.
    """
    ours, theirs = _by_place(with_cache), _by_place(baseline)
    shared_rounds = {number for number, _ in ours} & {number for number, _ in theirs}
    for place in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(place), theirs.get(place)
        both_told = mine is None or other is None or (mine.ok and other.ok)
        if place[0] in shared_rounds and both_told and _length(mine) != _length(other):
            raise ResultsError(
                f"the two runs did not send the same prompts: round {place[0]}, request {place[1]}: "
                f"{_length(mine)} prompt tokens with cache, {_length(other)} in the baseline. "
                "Run both modes with the same dataset, --seed and --num-prompts."
            )


def _by_place(run: tuple[RunStats, Sequence[Record]]) -> dict[tuple[int, str], Record]:
    """The records of a run without a fingerprint, by round and request."""
    stats, records = run
    unproven = records if stats.workload.fingerprint == NOT_TOLD else ()
    return {(record.round, record.request_id): record for record in unproven}


def _length(record: Record | None) -> int | None:
    return record.prompt_tokens if record is not None else None
