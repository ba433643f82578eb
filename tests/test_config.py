"""The test configuration: the guide's file as it is, overrides in their order, errors that can be acted on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvkit.config import Config, ConfigError
from kvkit.config_file import load_config

GUIDE = """\
openai_api: {base_url: "http://HOST:8000/v1", api_key: "dummy", model_name: "Qwen/Qwen2.5-72B-Instruct"}
mooncake: {master_ip: HOST, master_port: 50052, metadata_port: 8080, metrics_port: 9004}
model: {name: "Qwen/Qwen2.5-72B-Instruct", max_tokens: 128, temperature: 0.0}
scenarios: [long_context_high_reuse, multi_turn_conversation, cold_start]
test: {rounds: 2, requests_per_scenario: 30, concurrency: null}   # null = no limit
"""


def read(tmp_path: Path, text: str, **arguments: Any) -> Config:
    path = tmp_path / "test_config_simple.yaml"
    path.write_text(text)
    return load_config(path, environment=arguments.pop("environment", {}), **arguments)


def message(tmp_path: Path, text: str, **arguments: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, **arguments)
    return str(caught.value).replace(str(tmp_path) + "/", "")


def test_the_guides_file_is_read_unchanged(tmp_path: Path) -> None:
    config = read(tmp_path, GUIDE)
    assert config.openai_api.base_url == "http://HOST:8000/v1"
    assert config.mooncake is not None
    assert config.mooncake.metrics_port == 9004
    assert (config.test.rounds, config.test.requests_per_scenario, config.test.concurrency) == (2, 30, None)


def test_a_flag_wins_over_the_environment_which_wins_over_the_file(tmp_path: Path) -> None:
    environment = {"KVKIT_TEST__ROUNDS": "3", "KVKIT_TEST__REQUESTS_PER_SCENARIO": "5"}
    config = read(tmp_path, GUIDE, environment=environment, flags={"test.rounds": ("--rounds", 4)})
    assert (config.test.rounds, config.test.requests_per_scenario) == (4, 5)


def test_variables_in_values_are_expanded(tmp_path: Path) -> None:
    text = GUIDE.replace("HOST:8000", "${VLLM_HOST}:8000").replace("rounds: 2", 'rounds: "${ROUNDS}"')
    config = read(tmp_path, text, environment={"VLLM_HOST": "10.0.0.7", "ROUNDS": "3"})
    assert config.openai_api.base_url == "http://10.0.0.7:8000/v1"
    assert config.test.rounds == 3


def test_the_api_key_is_hidden_in_what_is_kept(tmp_path: Path) -> None:
    config = read(tmp_path, GUIDE.replace('"dummy"', '"planted-secret"'))
    assert "planted-secret" not in str(config.redacted())
    assert "planted-secret" not in repr(config)


def test_the_model_name_may_be_written_once(tmp_path: Path) -> None:
    text = 'openai_api: {base_url: "http://h/v1"}\nmodel: {name: m}\n'
    assert read(tmp_path, text).openai_api.model_name == "m"


def test_the_reuse_ratio_decides_the_question_length(tmp_path: Path) -> None:
    # 900 shared of 1000: a question of 100 tokens.
    config = read(tmp_path, GUIDE + "workload: {prefix_tokens: 900, reuse_ratio: 0.9}\n")
    assert config.workload.question_tokens == 100


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("rounds: 2", "rounds: two"),
            "test_config_simple.yaml:5: test.rounds: found 'two', allowed is a valid integer",
        ),
        (("rounds: 2", "rounds: 0"), "test_config_simple.yaml:5: test.rounds: found 0, allowed is greater than"),
        (("rounds: 2", "ronds: 2"), "test_config_simple.yaml:5: test.ronds: is not a known key; allowed here: rounds,"),
        (("cold_start]", "warm_start]"), "test_config_simple.yaml:4: scenarios.2: found 'warm_start', allowed is"),
        (('"http://HOST:8000/v1"', "HOST:8000"), "test_config_simple.yaml:1: openai_api.base_url: found 'HOST:8000'"),
        (("9004", "900400"), "test_config_simple.yaml:2: mooncake.metrics_port: found 900400, allowed is less than"),
        (
            ("max_tokens: 128", "config_json: /none"),
            "test_config_simple.yaml:3: model.config_json: found '/none', allowed is the path of a file that exists",
        ),
        (
            ("HOST, master", '"${NOT_SET}", master'),
            "test_config_simple.yaml:2: mooncake.master_ip: ${NOT_SET} is not set",
        ),
        (("rounds: 2,", "rounds: 2, rounds: 3,"), "test_config_simple.yaml:5: test.rounds: is given twice"),
        (("test: {", "test: [{"), "test_config_simple.yaml:"),
        (("HOST, master", "${HOST}, master"), 'inside {...} write "${VAR}" with its quotes'),
    ],
)
def test_a_fault_names_file_line_key_found_and_allowed(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    assert expected in message(tmp_path, GUIDE.replace(*change))


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    text = GUIDE.replace("rounds: 2", "rounds: two").replace("max_tokens: 128", "max_tokens: -1")
    assert len(message(tmp_path, text).splitlines()) == 2


def test_a_fault_in_the_environment_names_the_variable(tmp_path: Path) -> None:
    told = message(tmp_path, GUIDE, environment={"KVKIT_TEST__SEED": "-1"})
    assert told.startswith("environment variable KVKIT_TEST__SEED: test.seed: found -1")


def test_a_fault_in_a_flag_names_the_flag(tmp_path: Path) -> None:
    told = message(tmp_path, GUIDE, flags={"test.concurrency": ("--concurrency", 0)})
    assert told.startswith("flag --concurrency: test.concurrency: found 0")


def test_a_wrong_api_key_is_not_shown(tmp_path: Path) -> None:
    assert "planted" not in message(tmp_path, GUIDE.replace('"dummy"', "[planted]"))


@pytest.mark.parametrize("key", ["planted-secret\\n", "planted-\u0441ecret"])
def test_an_api_key_that_no_header_can_carry_is_refused_and_not_shown(tmp_path: Path, key: str) -> None:
    text = message(tmp_path, GUIDE.replace("dummy", key))
    assert text.startswith("test_config_simple.yaml:1: openai_api.api_key: holds a character")
    assert "planted" not in text


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kvkit init"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"- a\n- b\n", b"", b"a: [\n"])
def test_a_file_that_is_no_mapping_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load_config(path)


@pytest.mark.parametrize(
    ("load", "process"),
    [
        ("{}", "closed"),
        ("{rate: 2}", "poisson"),
        ("{rate: 2, burstiness: 0.5}", "gamma"),
        ("{arrival: constant, rate: 2}", "constant"),
        ("{arrival: ramp, ramp_from: 1, ramp_to: 9}", "ramp"),
        ("{arrival: trace}", "trace"),
    ],
)
def test_what_is_said_of_the_load_decides_how_requests_arrive(tmp_path: Path, load: str, process: str) -> None:
    assert read(tmp_path, GUIDE + f"load: {load}\n").load.process == process


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        ("{arrival: constant}", "load: rate: is missing; arrival constant needs it, a number above 0"),
        ("{burstiness: 2}", "load: rate: is missing; arrival gamma needs it, a number above 0"),
        ("{arrival: ramp, ramp_from: 1}", "load: ramp_to: is missing; arrival ramp needs it, a number above 0"),
        (
            "{arrival: closed, rate: 2}",
            "load: rate: found 2, allowed is it only with arrival constant, poisson, gamma",
        ),
        ("{arrival: uniform}", "load.arrival: found 'uniform', allowed is 'closed', 'constant', 'poisson', 'gamma',"),
        ("{rate: 0}", "load.rate: found 0, allowed is greater than 0"),
        ("{rate: 1, burstiness: 0.01}", "load.burstiness: found 0.01, allowed is greater than or equal to 0.05"),
    ],
)
def test_a_load_that_can_not_be_is_told_with_the_key(tmp_path: Path, load: str, expected: str) -> None:
    assert message(tmp_path, GUIDE + f"load: {load}\n").startswith(f"test_config_simple.yaml:6: {expected}")


def test_sharegpt_needs_its_conversations(tmp_path: Path) -> None:
    told = message(tmp_path, GUIDE.replace("cold_start]", "sharegpt]"))
    assert "workload.conversations_file: is missing; scenario sharegpt needs it" in told
