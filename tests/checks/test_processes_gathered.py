"""What is told of the stack's processes, and what never is."""

from __future__ import annotations

import pytest

from kvkit.checks.gather.processes import environment_of, without_secrets


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            ["vllm", "--api-key", "sk-1", "sk-2", "--port", "8000"],
            ["vllm", "--api-key", "***", "***", "--port", "8000"],
        ),
        (["vllm", "--api-key=sk-1", "model"], ["vllm", "--api-key=***", "model"]),
        (["vllm", "--hf-token", "x"], ["vllm", "--hf-token", "***"]),
    ],
)
def test_an_option_that_takes_a_secret_keeps_it(given: list[str], told: list[str]) -> None:
    assert without_secrets(given) == told


def test_the_environment_is_told_without_secrets() -> None:
    text = "PYTHONHASHSEED=0\0VLLM_API_KEY=sk-1\0HOME=/root\0http_proxy=http://me:pass@proxy:1"
    assert environment_of(text) == {"PYTHONHASHSEED": "0", "http_proxy": "http://***@proxy:1"}
