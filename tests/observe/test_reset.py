"""Clearing the device cache: only the body says whether it is cleared."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from kvkit.observe.reset import ResetError, ResetNotOfferedError, reset_device_cache


def reset(*answers: httpx.Response, limit_s: float = 60.0) -> int:
    """Reset on a server that gives these answers in turn; returns how often it was asked."""
    left = list(answers)

    def server(request: httpx.Request) -> httpx.Response:
        assert (request.method, str(request.url)) == ("POST", "http://host:8000/reset_prefix_cache")
        return left.pop(0)

    async def story() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
            await reset_device_cache(http, "http://host:8000", limit_s=limit_s, poll_s=0)

    asyncio.run(story())
    return len(answers) - len(left)


def body(success: bool) -> httpx.Response:
    return httpx.Response(200, json={"success": success})


def test_it_asks_until_the_body_says_success() -> None:
    assert reset(body(False), body(False), body(True), body(True)) == 3


def test_an_empty_body_is_the_success_of_releases_before_0_26() -> None:
    assert reset(httpx.Response(200)) == 1


@pytest.mark.parametrize("answer", [body(False), httpx.Response(200, text="<html>"), httpx.Response(200, json=[])])
def test_http_200_alone_is_no_success(answer: httpx.Response) -> None:
    with pytest.raises(ResetError, match="still held after 0 s"):
        reset(answer, limit_s=0)


@pytest.mark.parametrize("status", [404, 405])
def test_an_engine_without_the_route_does_not_offer_it(status: int) -> None:
    with pytest.raises(ResetNotOfferedError, match=f"HTTP {status} .*VLLM_SERVER_DEV_MODE=1"):
        reset(httpx.Response(status))


def test_any_other_answer_is_an_error_with_its_words() -> None:
    with pytest.raises(ResetError, match="reset_prefix_cache: HTTP 500: engine is dead"):
        reset(httpx.Response(500, text="engine is dead"))
