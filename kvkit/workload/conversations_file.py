"""Recorded conversations in ShareGPT's form: a list of `{"conversations": [{"from": "human", "value": text}, ...]}`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvkit.workload.errors import WorkloadError

_FORM = '[{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}]'


@dataclass(frozen=True, slots=True)
class Conversation:
    """Texts in turn: the human's, the answer, the human's, ... It begins with the human."""

    texts: tuple[str, ...]

    @property
    def turns(self) -> int:
        return (len(self.texts) + 1) // 2


def read_conversations(path: Path) -> tuple[list[Conversation], int]:
    """The conversations that can be replayed, and how many can not.

    Those in which human and gpt do not take turns, or which have no turn, are left out: recordings hold many. A leading
    answer, whose question is lost, is dropped.

    Raises:
        WorkloadError: it can't be read, or is not of this form; naming the line or the entry.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkloadError(f"{path}: cannot be read ({error.strerror}); expected is {_FORM}") from None
    except UnicodeDecodeError:
        raise WorkloadError(f"{path}: is not UTF-8 text; expected is {_FORM}") from None
    except json.JSONDecodeError as error:
        raise WorkloadError(f"{path}:{error.lineno}: is not JSON ({error.msg}); expected is {_FORM}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets in brackets
        raise WorkloadError(f"{path}: is JSON that nobody recorded; expected is {_FORM}") from None
    if not isinstance(data, list):
        raise WorkloadError(f"{path}: found {_shorten(data)}, expected is {_FORM}")
    read = [_conversation(f"{path}: entry {number}", entry) for number, entry in enumerate(data, start=1)]
    usable = [conversation for conversation in read if conversation is not None]
    if not usable:
        raise WorkloadError(
            f"{path}: none of its {len(read)} conversations has human and gpt in turn; expected is {_FORM}"
        )
    return usable, len(read) - len(usable)


def _conversation(place: str, entry: Any) -> Conversation | None:
    spoken = entry.get("conversations") if isinstance(entry, dict) else None
    if not isinstance(spoken, list):
        raise WorkloadError(f"{place}: found {_shorten(entry)}, expected is a list under conversations: {_FORM}")
    for number, one in enumerate(spoken, start=1):
        if not isinstance(one, dict) or not isinstance(one.get("from"), str) or not isinstance(one.get("value"), str):
            raise WorkloadError(f"{place}, text {number}: found {_shorten(one)}, expected is text under from and value")
    if spoken and spoken[0]["from"] == "gpt":
        spoken = spoken[1:]
    in_turn = all(one["from"] == ("gpt" if number % 2 else "human") for number, one in enumerate(spoken))
    return Conversation(tuple(one["value"] for one in spoken)) if spoken and in_turn else None


def _shorten(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
