"""Results written in forms that other tools read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kvkit.results.errors import ResultsError
from kvkit.results.reader import expand, read_records, read_stats
from kvkit.results.table import as_table
from kvkit.results.vllm_bench import as_document

Format = Literal["vllm-bench", "csv"]


def export(patterns: Sequence[str], form: Format, output: Path) -> int:
    """Write the runs of all stats files that match into one new file; return how many rounds those are.

    `vllm-bench` is one JSON object a line for each stats file and round, as `vllm bench serve --append-result` writes
    them; `csv` is one row a record.

    Raises:
        ResultsError: nothing matches, a file cannot be read, or `output` exists or cannot be written.
    """
    found = [(path, read_stats(path)) for path in expand(patterns)]
    runs = [(stats, read_records(path, stats)) for path, stats in found]
    if form == "vllm-bench":
        documents = (as_document(stats, summary, records) for stats, records in runs for summary in stats.rounds)
        text = "".join(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n" for document in documents)
    else:
        text = as_table(runs)
    try:
        with output.open("x", encoding="utf-8", errors="replace", newline="") as stream:
            stream.write(text)
    except FileExistsError:
        raise ResultsError(f"{output}: exists already and is left as it is; choose another --output") from None
    except OSError as error:
        raise ResultsError(f"{output}: cannot be written: {error.strerror}") from error
    return sum(len(stats.rounds) for stats, _ in runs)
