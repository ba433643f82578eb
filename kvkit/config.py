"""What a test configuration holds: every key with its type, its bounds and its default.

The guide's `test_config_simple.yaml` has this form. `kvkit.config_file` reads one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
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

Port = Annotated[int, Field(ge=1, le=65535)]
Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+")]


class ConfigError(Exception):
    """The configuration can't be used. The message is complete: print it as it is."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OpenAIApi(Section):
    """Where requests go."""

    base_url: Url
    """Address of the service, ending with `/v1`."""
    api_key: SecretStr = SecretStr("dummy")
    """Sent with each request; in no result. `"${MY_API_KEY}"` takes it from the environment."""
    model_name: str = Field(min_length=1)
    """As `GET /v1/models` lists it. Without it: `model.name`."""
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
    """Address of the master, as the load generator reaches it."""
    master_port: Port = 50051
    """Its RPC port."""
    metadata_port: Port | None = 8080
    """Port of its HTTP metadata server; `null` with P2PHANDSHAKE."""
    metrics_port: Port = 9003
    """Port of its `/metrics`."""
    bandwidth_gb_s: float | None = Field(default=None, gt=0)
    """Of loads from the store, in 10⁹ bytes per second; counters of the run go before it."""


class LMCache(Section):
    """Only with `lmcache server`: its counters are read there, and its first tier is cleared there."""

    url: Url
    """Its HTTP address."""


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
    """What is asked for, and what is known of its KV."""

    name: str = Field(min_length=1)
    """Without it: `openai_api.model_name`. The guide writes the name in both places; requests carry the other one."""
    max_tokens: int = Field(default=128, ge=1)
    """Most tokens of an answer."""
    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature."""
    config_json: FilePath | None = None
    """The model's Hugging Face `config.json`, from which the bytes of its KV are known."""
    kv_cache_dtype: KVCacheDtype = "auto"
    """As vLLM's `--kv-cache-dtype`; `auto`: what the engine tells, else the checkpoint's."""


class Test(Section):
    """How much is sent, and what is cleared between rounds."""

    __test__ = False  # not a pytest class

    rounds: int = Field(default=2, ge=1)
    """Round 1 is the cold start, later rounds repeat its prompts."""
    requests_per_scenario: int = Field(default=30, ge=1)
    """Requests of one round."""
    concurrency: int | None = Field(default=None, ge=1)
    """Requests in flight at once; `null` is no limit."""
    isolation: Isolation | None = None
    """What is cleared before each round; `null`: the device cache where the engine offers it, else nothing.
    `restart`: the engine is restarted before each round after the first."""
    warm_up_requests: int = Field(default=1, ge=0)
    """Sent before the measured ones of each scenario, never recorded; each shares no prefix with any other."""
    seed: int = Field(default=0, ge=0)
    """Seed of the prompts: another one sends prompts that no cache has seen."""
    request_timeout_s: float = Field(default=600.0, gt=0)
    """Seconds after which a request has failed."""
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
    """Documents of `long_context_high_reuse`."""
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
    """Requests per second at the last request."""

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


class Objectives(Section):
    """What the times of a good request must not exceed, in milliseconds; without any, no goodput is told."""

    ttft_ms: float | None = Field(default=None, gt=0)
    """Time to first token."""
    tpot_ms: float | None = Field(default=None, gt=0)
    """Mean time per output token after the first; an answer of one token has none to miss."""
    e2e_ms: float | None = Field(default=None, gt=0)
    """Until the last token."""

    @property
    def stated(self) -> dict[str, float]:
        return {name: value for name, value in self if value is not None}


class Config(Section):
    openai_api: OpenAIApi
    mooncake: Mooncake | None = None
    lmcache: LMCache | None = None
    service: Service = Service()
    model: Model
    scenarios: tuple[ScenarioName, ...] = Field(
        default=("long_context_high_reuse", "multi_turn_conversation", "cold_start"), min_length=1
    )
    """What is sent, in this order."""
    test: Test = Test()
    workload: WorkloadSettings = WorkloadSettings()
    load: Load = Load()
    objectives: Objectives = Objectives()

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
