"""Read the test configuration: one file, then environment variables, then flags; checked before anything is sent.

Every error names where the value came from (file and line, environment variable or flag), the key, what was found and
what is allowed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from kvkit.config import Config, ConfigError

ENVIRONMENT_PREFIX = "KVKIT_"
"""`KVKIT_TEST__ROUNDS=3` overrides `test.rounds`: two underscores stand for the dot."""

_Path = tuple[str | int, ...]


class _PlainLoader(yaml.SafeLoader):
    """Without aliases: a test configuration needs none, and ten lines of them hold a thousand million values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "an alias (*name): write the value itself", mark)
        return super().compose_node(parent, index)


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
        root = yaml.compose(text, Loader=_PlainLoader)
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply; see kvkit init for the form that is expected") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = " ".join((getattr(error, "problem", None) or str(error)).split())
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
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError):
            kind = node.tag.rpartition(":")[2]
            raise ConfigError(
                f"{place}: {_dotted(at)}: is no value of YAML's type {kind!r}; quote it if it is text"
            ) from None

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
        return yaml.load(text, Loader=_PlainLoader)  # noqa: S506  a safe loader
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
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
    return ".".join(part if (part := str(name)).isprintable() else repr(part) for name in path)


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
