"""In the suite: few inputs, the same in every run. `make fuzz` takes others for as long as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite",
    derandomize=True,
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all inputs: hypothesis makes them faster than pytest would make folders."""
    return tmp_path_factory.mktemp("fuzz")
