"""Configuration files, environment variables and flags: read, or refused by the one error, which names its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvkit.config import Config, ConfigError
from kvkit.config_file import load_config
from tests.fuzz.bounds import bounded
from tests.fuzz.mutation import NASTY, mutated

SHIPPED = (Path(__file__).parents[2] / "kvkit" / "test_config_simple.yaml").read_bytes()
SMALL = b"""\
openai_api: {base_url: "http://h:8000/v1", api_key: "${KEY}", model_name: m}
mooncake: {master_ip: 127.0.0.1, master_port: 50051, metadata_port: null}
test: {rounds: 2, concurrency: 8, isolation: restart, workers: auto}
service: {restart_command: [ssh, gpu1], ready_timeout_s: 1.5}
workload: {prefix_tokens: 8, reuse_ratio: 0.5, think_time_s: 0}
load: {arrival: gamma, rate: 2.0, burstiness: 0.5}
scenarios: [cold_start, trace]
"""
YAML = (
    b"&a [*a]",
    b"&a {b: *a}",
    b"*b",
    b"<<: *a",
    b"!!binary AA==",
    b"!!python/object/apply:os.system [true]",
    b"!!set {a}",
    b"!x y",
    b"2026-99-99",
    b"2026-01-01",
    b"0o7",
    b"0x_",
    b"1:99:1",
    b".inf",
    b".nan",
    b"? [a]\n: b",
    b"---\n",
    b"%YAML 9.9\n---\n",
    b"${KEY}",
    b"${NO_SUCH}",
    b"|\n  text",
)
BOMB = b"a: &a [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b", ".join([b"*%c" % (name - 1)] * 10)) for name in range(ord("b"), ord("k"))
)
"""Ten thousand million values in 400 bytes."""

documents = mutated((SHIPPED, SMALL, SMALL), (*NASTY, *YAML, *YAML))
values = st.one_of(st.sampled_from([each.decode("latin-1") for each in (*NASTY, *YAML)]), st.text(max_size=10))
names = st.sampled_from(
    ["TEST__ROUNDS", "OPENAI_API__API_KEY", "SCENARIOS__0", "TEST__ROUNDS__X", "MODEL__NAME", "__", "LOAD__", "A__B"]
)
environments = st.dictionaries(names.map("KVKIT_".__add__), values.filter(lambda text: "\0" not in text), max_size=3)


def read(folder: Path, document: bytes, environment: dict[str, str] | None = None, flags: Any = None) -> Config | None:
    path = folder / "test_config.yaml"
    path.write_bytes(document)
    try:
        return load_config(path, environment={"KEY": "sk-secret", **(environment or {})}, flags=flags)
    except ConfigError as error:
        for line in str(error).split("\n"):
            assert line.startswith((str(path), "environment variable KVKIT_", "flag --", "configuration")), line
        assert "sk-secret" not in str(error)
        return None


@given(document=documents)
@example(document=b"openai_api: " + b"[" * 20_000)
@example(document=BOMB)
def test_any_file_is_read_or_refused(folder: Path, document: bytes) -> None:
    with bounded():
        config = read(folder, document)
        assert config is None or "sk-secret" not in str(config.redacted())


@given(environment=environments, flag=st.one_of(st.none(), values))
def test_any_override_is_taken_or_refused(folder: Path, environment: dict[str, str], flag: str | None) -> None:
    with bounded():
        read(folder, SMALL, environment, None if flag is None else {"test.isolation": ("--isolation", flag)})


@given(document=mutated((SMALL,)))
def test_a_configuration_that_is_read_can_be_read_back_from_what_is_kept(folder: Path, document: bytes) -> None:
    with bounded():
        config = read(folder, document)
        if config is not None:
            assert Config.model_validate(config.redacted()).redacted() == config.redacted()


def test_the_good_ones_are_read(folder: Path) -> None:
    """Else every refusal above would prove nothing."""
    assert read(folder, SHIPPED)
    assert read(folder, SMALL)


@pytest.mark.parametrize("document", [b"openai_api: &a [*a]\n", BOMB], ids=["a list that holds itself", "a bomb"])
def test_aliases_are_refused_with_their_line(folder: Path, document: bytes) -> None:
    path = folder / "aliases.yaml"
    path.write_bytes(document)
    with pytest.raises(ConfigError, match=r"aliases\.yaml:\d+: .*alias"):
        load_config(path, environment={})
