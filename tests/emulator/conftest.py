from collections.abc import AsyncIterator

import pytest

from tests.emulator.driving import Deployment, deployed, engine_alone, quick


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def emulator(anyio_backend: str) -> AsyncIterator[Deployment]:
    """A whole deployment that does its work at once; tests that share it use prompts of their own."""
    async with deployed(quick()) as deployment:
        yield deployment


@pytest.fixture(scope="session")
async def without_store(anyio_backend: str) -> AsyncIterator[Deployment]:
    """The same without a connector: the baseline."""
    async with deployed(engine_alone()) as deployment:
        yield deployment
