"""These tests run only where they are asked for: `pytest -m rdma`."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if "rdma" not in config.option.markexpr else None
