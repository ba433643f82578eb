"""Settings of a target: wrong ones are named, with what is allowed."""

from __future__ import annotations

import pytest

from kvkit.checks.target import Target, TargetError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"protocol": "ib"}, "protocol: found 'ib'; allowed are rdma, tcp"),
        ({"conector": "none"}, "conector: unknown setting; known are"),
        ({"workers": "many"}, "workers: found 'many'; allowed is a value like 1"),
        ({"peers": "10.0.0.2"}, "peers: found '10.0.0.2'; allowed is a list"),
        ({"canary": "yes"}, "canary: found 'yes'; allowed are true and false"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(TargetError) as raised:
        Target.from_dict(settings)
    assert str(raised.value).startswith(message)


def test_numbers_may_come_as_text() -> None:
    assert Target.from_dict({"vllm_port": "8000"}).vllm_port == 8000
