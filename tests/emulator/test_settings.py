"""Settings that cannot work are refused with the value, the bound and what to do."""

import pytest

from kvkit.emulator import EmulatorError, EmulatorSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block_size": 0}, "block_size=0 is not allowed: it must be above 0."),
        ({"port": -1}, "port=-1 is not allowed: it must be 0 or above."),
        ({"store_address": "localhost"}, "store_address='localhost' is not an address: give host:port"),
        (
            {"device_blocks": 10, "max_model_len": 161},
            "max_model_len=161 does not fit the device cache of device_blocks=10 x block_size=16 = 160 tokens",
        ),
        ({"connector": "lmcache-mp", "block_size": 48}, "block_size=48 does not divide LMCache's chunk of 256"),
    ],
)
def test_an_impossible_setting_is_named_with_its_bound(settings: dict[str, object], message: str) -> None:
    with pytest.raises(EmulatorError) as refused:
        EmulatorSettings(**settings)  # type: ignore[arg-type]
    assert message in str(refused.value)


def test_the_defaults_are_today_s_ports_of_vllm_and_mooncake() -> None:
    settings = EmulatorSettings()
    assert (settings.port, settings.store_address) == (8000, "127.0.0.1:50051")
    assert (settings.metrics_port, settings.metadata_port) == (9003, 8080)
