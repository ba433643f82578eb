"""A file with wrong keys: what a real LMCache makes of it, and what the lint says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kvkit.checks.gather import stack
from kvkit.checks.host import Host
from kvkit.checks.lmcache_schema import KEYS, NEWEST
from kvkit.checks.target import Target
from tests.checks.judging import findings
from tests.real_stack import RealStack

pytestmark = pytest.mark.real

WRONG: dict[str, Any] = {
    "chunk_size": 256,
    "local_cpu": "yes",
    "max_local_cpu_size": "20 GB",
    "chunk_sise": 128,
    "pre_caching_hash_algorithm": "sha256_cbor",
    "extra_config": {"mooncacke_prefer_local_alloc": True, "master_server_address": "10.0.0.1:50052"},
}

READ = """
import json, sys
from lmcache.v1.config import LMCacheEngineConfig
config = LMCacheEngineConfig.from_file(sys.argv[1])
print("READ", json.dumps({"chunk_size": config.chunk_size, "local_cpu": config.local_cpu,
                          "max_local_cpu_size": config.max_local_cpu_size}))
"""

KNOWN = """
import json
from lmcache.v1 import config
print("READ", json.dumps(sorted(config._CONFIG_DEFINITIONS)))
"""


def asked(real_stack: RealStack, program: str, *arguments: str) -> tuple[Any, str]:
    """What a program prints after READ, and everything that it says."""
    done = subprocess.run(
        [real_stack.python, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=real_stack.environment,
        timeout=120,
    )
    said = done.stdout + done.stderr
    (line,) = (line for line in said.splitlines() if line.startswith("READ "))
    return json.loads(line[5:]), said


@pytest.fixture(scope="module")
def wrong_file(real_stack: RealStack) -> Path:
    path = real_stack.directory / "wrong.yaml"
    path.write_text(yaml.safe_dump(WRONG))
    return path


@pytest.fixture(scope="module")
def named(real_stack: RealStack, wrong_file: Path) -> set[str]:
    target = Target.from_dict(
        {"parts": ["vllm"], "stack_python": real_stack.python, "lmcache_config": str(wrong_file), "device": "cuda"}
    )
    facts = {"stack": stack.gather(Host(), target)}
    return {found.id for found in findings(facts, target) if found.status in ("fail", "warn")}


def test_lmcache_goes_on_with_other_values(real_stack: RealStack, wrong_file: Path) -> None:
    """The reason for the lint: a dropped key, a false boolean and no size, and no error."""
    read, said = asked(real_stack, READ, str(wrong_file))
    assert (read["local_cpu"], read["max_local_cpu_size"]) == (False, None)
    assert "Unknown configuration key: chunk_sise" in said
    assert "mooncacke_prefer_local_alloc" not in said


@pytest.mark.parametrize(
    "id",
    [
        pytest.param(id, marks=pytest.mark.planted(id))
        for id in ("lmcache.key.misspelt", "lmcache.key.ignored", "lmcache.value.unit", "lmcache.value.boolean")
    ],
)
def test_the_lint_names_what_lmcache_drops(named: set[str], id: str) -> None:
    assert id in named


def test_the_schema_is_the_installed_releases(real_stack: RealStack) -> None:
    read, _said = asked(real_stack, KNOWN)
    assert set(read) == {key for key, known in KEYS.items() if known.read_by(NEWEST)}
