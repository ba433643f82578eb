"""The test configuration: one file, then environment variables, then flags; checked before anything is sent.

The guide's `test_config_simple.yaml` is read as it is. Every error names where the value came from (file and line,
environment variable or flag), the key, what was found and what is allowed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

Isolation = Literal["none", "device", "restart"]
ScenarioName = Literal["long_context_high_reuse", "multi_turn_conversation", "cold_start", "trace", "sharegpt"]

Arrival = Literal["closed", "constant", "poisson", "gamma", "ramp", "trace"]

ARRIVAL_KEYS: Mapping[Arrival, tuple[str, ...]] = {
    "closed": (),
    "constant": ("rate",),
    "poisson": ("rate",),
    "gamma": ("rate", "burstiness"),
    "ramp": ("ramp_from", "ramp_to"),
    "trace": (),
}
"""What each arrival process needs of the section `load`; it takes nothing else."""

KVCacheDtype = Literal["auto", "float32", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc"]

ENVIRONMENT_PREFIX = "KVKIT_"
"""`KVKIT_TEST__ROUNDS=3` overrides `test.rounds`: two underscores stand for the dot."""

Port = Annotated[int, Field(ge=1, le=65535)]
Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+")]


class ConfigError(Exception):
    """The configuration can't be used. The message is complete: print it as it is."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OpenAIApi(Section):
    """Where requests go. `base_url` ends with `/v1`, as OpenAI clients expect it."""

    base_url: Url
    api_key: SecretStr = SecretStr("dummy")
    model_name: str = Field(min_length=1)
    instances: tuple[Url, ...] = ()
    """Root addresses (`http://10.0.0.1:8000`) of every vLLM behind `base_url`, where there is more than one: their
    counters are summed, and resets go to each."""

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, value: SecretStr) -> SecretStr:
        key = value.get_secret_value()
        if not (key.isascii() and key.isprintable()):
            raise ValueError("holds a character that no HTTP header can carry (a newline?); allowed is printable ASCII")
        return value

    @field_validator("base_url")
    @classmethod
    def _without_trailing_slash(cls, value: str) -> str:
        return value.rstrip("/")


class Mooncake(Section):
    """The master whose counters are read. Ports: today's defaults are 50051 and 9003, the guide's 50052 and 9004."""

    master_ip: str = Field(min_length=1)
    master_port: Port = 50051
    metadata_port: Port | None = 8080
    metrics_port: Port = 9003
    bandwidth_gb_s: float | None = Field(default=None, gt=0)
    """Of loads from the store, in 10⁹ bytes per second; counters of the run go before it."""


class LMCache(Section):
    """The HTTP address of `lmcache server`: its counters are read there, and its first tier is cleared there."""

    url: Url


class Service(Section):
    """How the service is deployed, as far as counters don't tell it."""

    restart_command: tuple[str, ...] = ()
    """Argument list, run on the load generator without a shell. It restarts every vLLM behind `base_url`, and returns
    when the old processes have ended: kvkit then waits until the new ones answer. It is kept with the results, so no
    secret belongs into it."""
    ready_timeout_s: float = Field(default=900.0, gt=0)
    """How long a restarted engine may take until it answers; 671B parameters take minutes to load."""
    second_url: Url | None = None
    """Root address of a further vLLM with the same store, which does not stand behind `base_url`."""
    chunk_tokens: int | None = Field(default=None, ge=1)
    """Tokens under one key of the store, where the servers don't tell: `chunk_size` of LMCache inside vLLM."""


class Model(Section):
    name: str = Field(min_length=1)
    max_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    config_json: FilePath | None = None
    """The model's Hugging Face `config.json`, from which the bytes of its KV are known."""
    kv_cache_dtype: KVCacheDtype = "auto"
    """As vLLM's `--kv-cache-dtype`; `auto`: what the engine tells, else the checkpoint's."""


class Test(Section):
    """How much is sent, and what is cleared between rounds."""

    __test__ = False  # not a pytest class

    rounds: int = Field(default=2, ge=1)
    requests_per_scenario: int = Field(default=30, ge=1)
    concurrency: int | None = Field(default=None, ge=1)
    """Requests in flight at once; `null` is no limit."""
    isolation: Isolation | None = None
    """What is cleared before each round; `null`: the device cache where the engine offers it, else nothing.
    `restart`: the engine is restarted before each round after the first."""
    warm_up_requests: int = Field(default=1, ge=0)
    """Sent before the measured ones of each scenario, never recorded; each shares no prefix with any other."""
    seed: int = Field(default=0, ge=0)
    request_timeout_s: float = Field(default=600.0, gt=0)
    workers: int | Literal["auto"] = "auto"
    """Processes that send the requests; `auto` takes as many as the streams in flight want, most often one."""
    max_failed_ratio: float = Field(default=0.05, ge=0, le=1)
    """A run with a larger share of failed requests ends with exit code 2."""

    @field_validator("workers", mode="before")
    @classmethod
    def _auto_or_a_number(cls, value: Any) -> Any:
        """One fault, where a union would tell one for each of its types."""
        if value != "auto" and not (type(value) is int and value >= 1):
            raise ValueError(f"found {value!r}, allowed is auto or a number of processes from 1")
        return value


class WorkloadSettings(Section):
    """The shape of the prompts, in tokens. The defaults suit a 72B model; a CPU wants them smaller."""

    prefix_tokens: int = Field(default=8192, ge=1)
    """The shared document, or what a session starts with."""
    suffix_tokens: int | None = Field(default=None, ge=1)
    """A question, or a turn's new text. 128 unless `reuse_ratio` says otherwise."""
    reuse_ratio: float | None = Field(default=None, gt=0, lt=1)
    """Instead of `suffix_tokens`: shared tokens over all prompt tokens of `long_context_high_reuse`."""
    documents: int = Field(default=3, ge=1)
    questions: int | None = Field(default=None, ge=1)
    """About each document. With a number, documents × questions requests are sent instead."""
    turns: int = Field(default=5, ge=1)
    """Turns of a session."""
    sessions: int | None = Field(default=None, ge=1)
    """`null`: as many as `requests_per_scenario` needs. With a number, sessions × turns requests are sent instead."""
    answer_tokens: int = Field(default=64, ge=1)
    """A scripted answer in a session's history."""
    think_time_s: float = Field(default=0.0, ge=0)
    """Between the end of a turn and the next one of its session."""
    trace_file: Path | None = None
    """Of `trace`, in Mooncake's format; `null`: the sample that comes with kvkit."""
    trace_length_scale: float = Field(default=1.0, gt=0)
    """Times the trace's lengths, of prompts and of answers."""
    trace_time_scale: float = Field(default=1.0, gt=0)
    """Times the trace's times: 2 lets requests arrive half as fast."""
    conversations_file: Path | None = None
    """Of `sharegpt`, which needs it."""

    @model_validator(mode="after")
    def _one_way_to_say_the_suffix(self) -> Self:
        if self.suffix_tokens is not None and self.reuse_ratio is not None:
            raise ValueError("suffix_tokens and reuse_ratio say the same thing: keep one of them")
        return self

    @property
    def question_tokens(self) -> int:
        """Length of a question or turn: given, or what makes prefix / (prefix + question) the reuse ratio."""
        if self.suffix_tokens is not None:
            return self.suffix_tokens
        if self.reuse_ratio is not None:
            return max(1, round(self.prefix_tokens * (1 - self.reuse_ratio) / self.reuse_ratio))
        return 128


class Load(Section):
    """When requests start: each when a place is free (closed loop), or at times of their own (open loop)."""

    arrival: Arrival | None = None
    """`null`: gamma with a burstiness, poisson with a rate, else closed."""
    rate: float | None = Field(default=None, gt=0)
    """Requests per second."""
    burstiness: float | None = Field(default=None, ge=0.05)
    """Shape of the gamma distribution, as in `vllm bench serve`: 1 is Poisson, below 1 burstier. Below 0.05 nearly all
    of the time is a single gap, and a sample's smallest gaps are no longer told from 0."""
    ramp_from: float | None = Field(default=None, gt=0)
    """Requests per second at the first request; rises or falls linearly over the requests."""
    ramp_to: float | None = Field(default=None, gt=0)

    @property
    def process(self) -> Arrival:
        if self.arrival is not None:
            return self.arrival
        if self.burstiness is not None:
            return "gamma"
        return "closed" if self.rate is None else "poisson"

    @property
    def parameters(self) -> dict[str, Any]:
        """What two runs must have in common to be compared."""
        return {"arrival": self.process} | {key: getattr(self, key) for key in ARRIVAL_KEYS[self.process]}

    @model_validator(mode="after")
    def _has_what_its_process_needs(self) -> Self:
        needed = ARRIVAL_KEYS[self.process]
        for key in ("rate", "burstiness", "ramp_from", "ramp_to"):
            value = getattr(self, key)
            if value is None and key in needed:
                raise ValueError(f"{key}: is missing; arrival {self.process} needs it, a number above 0")
            if value is not None and key not in needed:
                users = ", ".join(name for name, keys in ARRIVAL_KEYS.items() if key in keys)
                raise ValueError(f"{key}: found {value:g}, allowed is it only with arrival {users}")
        return self


class Config(Section):
    openai_api: OpenAIApi
    mooncake: Mooncake | None = None
    lmcache: LMCache | None = None
    service: Service = Service()
    model: Model
    scenarios: tuple[ScenarioName, ...] = Field(
        default=("long_context_high_reuse", "multi_turn_conversation", "cold_start"), min_length=1
    )
    test: Test = Test()
    workload: WorkloadSettings = WorkloadSettings()
    load: Load = Load()

    @model_validator(mode="before")
    @classmethod
    def _model_name_stands_in_either_place(cls, data: Any) -> Any:
        """The guide writes the name twice; once is enough."""
        if not isinstance(data, dict):
            return data
        api, model = data.get("openai_api"), data.get("model")
        if isinstance(api, dict) and "model_name" not in api and isinstance(model, dict) and "name" in model:
            data = {**data, "openai_api": {**api, "model_name": model["name"]}}
        elif isinstance(api, dict) and "model_name" in api and (model is None or isinstance(model, dict)):
            data = {**data, "model": {"name": api["model_name"], **(model or {})}}
        return data

    @model_validator(mode="after")
    def _conversations_are_there(self) -> Self:
        if "sharegpt" in self.scenarios and self.workload.conversations_file is None:
            raise ValueError(
                "workload.conversations_file: is missing; scenario sharegpt needs it, a JSON file in ShareGPT's form"
            )
        return self

    @model_validator(mode="after")
    def _can_be_restarted(self) -> Self:
        if self.test.isolation == "restart" and not self.service.restart_command:
            raise ValueError(
                "test.isolation is restart, which needs service.restart_command: the command that restarts the engine"
            )
        return self

    def redacted(self) -> dict[str, Any]:
        """As plain data, with secrets as stars."""
        return self.model_dump(mode="json")


_Path = tuple[str | int, ...]


class _Sources:
    """Where each value came from, so that an error can say it."""

    def __init__(self) -> None:
        self._places: dict[_Path, str] = {}

    def add(self, path: _Path, place: str) -> None:
        self._places[path] = place

    def replace(self, path: _Path, place: str) -> None:
        """`place` gives `path` and all that is in it."""
        self._places = {p: at for p, at in self._places.items() if p[: len(path)] != path}
        self.add(path, place)

    def of(self, path: _Path) -> str:
        """The place of `path`, or of the nearest section around it."""
        for length in range(len(path), -1, -1):
            if place := self._places.get(path[:length]):
                return place
        return "configuration"


def load_config(
    path: Path, *, flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] = os.environ
) -> Config:
    """Read, override and check the configuration.

    Args:
        path: a YAML file with the guide's keys; `${VAR}` in a value is taken from the environment.
        flags: values by dotted key (`test.rounds`), each with its flag's name: `{"test.rounds": ("--rounds", 3)}`.
        environment: where `KVKIT_SECTION__KEY` and `${VAR}` are looked up.

    Raises:
        ConfigError: with every fault found, each on a line of its own.
    """
    sources = _Sources()
    data = _read_file(path, sources, environment)
    for name, raw in sorted(environment.items()):
        if name.startswith(ENVIRONMENT_PREFIX) and "__" in name:
            key = tuple(name[len(ENVIRONMENT_PREFIX) :].lower().split("__"))
            _put(data, key, _parse_override(name, raw), f"environment variable {name}", sources)
    for dotted, (flag, value) in (flags or {}).items():
        _put(data, tuple(dotted.split(".")), value, f"flag {flag}", sources)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(item, sources) for item in error.errors())) from None


def _read_file(path: Path, sources: _Sources, environment: Mapping[str, str]) -> dict[str, Any]:
    sources.add((), str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); write one with: kvkit init --output {path}"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text; a YAML file is expected") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        hint = '; inside {...} write "${VAR}" with its quotes' if "${" in text else ""
        raise ConfigError(f"{path}{line}: is not YAML: {problem}{hint}") from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}: a mapping with the key openai_api is expected; see kvkit init")
    reader = _NodeReader(path, sources, environment)
    data = reader.value(root, ())
    assert isinstance(data, dict)
    return data


class _NodeReader:
    """Turns YAML nodes into plain data, noting the line of each value and expanding `${VAR}`."""

    _variable = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

    def __init__(self, path: Path, sources: _Sources, environment: Mapping[str, str]) -> None:
        self._path = path
        self._sources = sources
        self._environment = environment
        self._scalars = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, at: _Path) -> Any:
        place = f"{self._path}:{node.start_mark.line + 1}"
        self._sources.add(at, place)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*at, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        if "${" in node.value:
            expanded = self._expand(node.value, place, at)
            # An unquoted ${VAR} stands for whatever type its text has, as if it had been written there.
            return expanded if node.style in ("'", '"') else _as_yaml(expanded)
        return self._scalars.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, at: _Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in result:
                raise ConfigError(
                    f"{self._path}:{key_node.start_mark.line + 1}: {_dotted((*at, key))}: is given twice; keep one"
                )
            result[key] = self.value(value_node, (*at, key))
        return result

    def _expand(self, text: str, place: str, at: _Path) -> str:
        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name not in self._environment:
                raise ConfigError(
                    f"{place}: {_dotted(at)}: ${{{name}}} is not set; set it (export {name}=...) or write the value"
                )
            return self._environment[name]

        return self._variable.sub(replace, text)


def _as_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _parse_override(name: str, raw: str) -> Any:
    value = _as_yaml(raw)
    # An API key of digits is still text: the model's type decides, and it takes text for numbers too.
    return raw if name.endswith("__API_KEY") else value


def _put(data: dict[str, Any], path: tuple[str, ...], value: Any, place: str, sources: _Sources) -> None:
    section = data
    for depth, key in enumerate(path[:-1], start=1):
        inner = section.setdefault(key, {})
        if inner is None:
            inner = section[key] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"{place}: {'.'.join(path[:depth])} is not a section of the configuration")
        section = inner
    section[path[-1]] = value
    sources.replace(path, place)


def _dotted(path: _Path) -> str:
    return ".".join(str(part) for part in path)


def _explain(item: Any, sources: _Sources) -> str:
    """One fault as `place: key: found ..., allowed ...`."""
    path: _Path = item["loc"]
    place, key = sources.of(path), _dotted(path)
    kind = item["type"]
    if kind == "missing":
        return f"{place}: {key}: is missing; it must be given"
    if kind == "extra_forbidden":
        return f"{place}: {key}: is not a known key; allowed here: {', '.join(_allowed_keys(path[:-1]))}"
    found = "a hidden value" if str(path[-1] if path else "") == "api_key" else repr(item["input"])
    if kind == "value_error":
        return f"{place}: {key or 'configuration'}: {item['ctx']['error']}"
    allowed = item["msg"].replace("Input should be", "allowed is").replace("String should", "it should")
    allowed = allowed.replace("Path does not point to a file", "allowed is the path of a file that exists")
    return f"{place}: {key}: found {found}, {allowed}"


def _allowed_keys(path: _Path) -> list[str]:
    model: type[BaseModel] = Config
    for part in path:
        annotation = model.model_fields[str(part)].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)
