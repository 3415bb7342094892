"""Asking an endpoint that is well, busy, slow, down, or talks nonsense."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from sparsight.core.errors import UserError
from sparsight.llm import endpoint
from sparsight.llm.endpoint import Endpoint, UnreachableError
from tests.llm.endpoint_server import Handler, Server, completion, serving

MESSAGES = [{"role": "user", "content": "What happens?"}]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between the tries; nothing is waited here."""
    found: list[float] = []
    monkeypatch.setattr(endpoint.time, "sleep", found.append)
    return found


# ---- what is asked and answered ----------------------------------------------------------------


def test_a_chat_is_asked_and_read(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    server.answer(completion())
    reply = Endpoint(server.url + "/", "small", "SOME_KEY").chat(
        MESSAGES, max_tokens=7, temperature=0.5, top_p=0.9
    )
    [(path, headers, body)] = server.asked
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert body == {
        "model": "small",
        "messages": MESSAGES,
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
    }
    assert (reply.text, reply.finish) == ("A dog.", "stop")
    assert (reply.usage.prompt, reply.usage.answer, reply.usage.visual_seen) == (11, 3, 0)
    assert reply.timing.total == reply.timing.stages["endpoint"] > 0
    assert reply.flops.total == reply.kv_bytes == 0


def test_without_a_key_none_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    server.answer(completion(finish_reason="length"))
    reply = Endpoint(server.url, "small", "SOME_KEY").chat(MESSAGES, max_tokens=7)
    assert "Authorization" not in server.asked[0][1]
    assert reply.finish == "length"


def test_an_answer_of_nothing_is_empty(server: Server) -> None:
    server.answer(completion(None))
    assert Endpoint(server.url, "small").chat(MESSAGES, max_tokens=7).text == ""


# ---- what is tried again -----------------------------------------------------------------------

GARBAGE = {
    "no JSON": b"<html>busy</html>",
    "no choices": b'{"choices": []}',
    "a list": b"[]",
    "no text": completion(7),
    "cut short": completion()[:-9],
}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_endpoint_is_asked_again_after_growing_pauses(
    server: Server, pauses: list[float], status: int
) -> None:
    for _ in range(3):
        server.answer(b"busy", status)
    server.answer(completion())
    assert Endpoint(server.url, "small").chat(MESSAGES, max_tokens=7).text == "A dog."
    assert pauses == [1, 2, 4]


def test_as_long_as_the_endpoint_asks_for_within_reason(
    server: Server, pauses: list[float]
) -> None:
    server.answer(b"", 429, Retry_After="5")
    server.answer(b"", 429, Retry_After="99999")
    server.answer(b"", 429, Retry_After="soon")
    server.answer(completion())
    Endpoint(server.url, "small").chat(MESSAGES, max_tokens=7)
    assert pauses == [5, 30, 4]


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_is_no_answer_is_asked_for_again(
    server: Server, pauses: list[float], kind: str
) -> None:
    server.answer(GARBAGE[kind])
    server.answer(completion())
    assert Endpoint(server.url, "small").chat(MESSAGES, max_tokens=7).text == "A dog."
    assert len(pauses) == 1


# ---- what ends in one line ---------------------------------------------------------------------


def refusal(asked: Endpoint) -> UserError:
    with pytest.raises(UserError) as caught:
        asked.chat(MESSAGES, max_tokens=7)
    assert "\n" not in str(caught.value)
    return caught.value


def test_an_endpoint_that_is_down_is_one_line_after_all_tries(
    server: Server, pauses: list[float]
) -> None:
    server.server_close()  # its port is free again
    error = refusal(Endpoint(server.url, "small"))
    assert isinstance(error, UnreachableError)
    assert isinstance(error, ConnectionError)  # so that a run of many questions stops
    assert "cannot be reached (ConnectError) (4 tries)" in str(error)
    assert "/v1" not in str(error)
    assert len(pauses) == 3


def test_garbage_for_ever_is_one_line(server: Server, pauses: list[float]) -> None:
    server.answer(b"<html>")
    assert "no chat completion (4 tries)" in str(refusal(Endpoint(server.url, "small")))


def test_a_slow_endpoint_is_one_line(server: Server, pauses: list[float]) -> None:
    stuck = threading.Event()
    server.answer(completion())
    handle = Handler.do_POST
    Handler.do_POST = lambda self: stuck.wait(5)  # type: ignore[assignment,method-assign]
    try:
        started = time.monotonic()
        error = refusal(Endpoint(server.url, "small", seconds=0.1))
        assert time.monotonic() - started < 3
    finally:
        Handler.do_POST = handle  # type: ignore[method-assign]
        stuck.set()
    assert "took more than 0.1 s (4 tries)" in str(error)


def test_an_endpoint_that_drips_does_not_hold_the_line(
    server: Server, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def drip(self: Handler) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(b" ")
                self.wfile.flush()
                threading.Event().wait(0.02)
        except OSError:
            pass

    monkeypatch.setattr(Handler, "do_POST", drip)
    started = time.monotonic()
    assert "took more than 0.1 s" in str(refusal(Endpoint(server.url, "small", seconds=0.1)))
    assert time.monotonic() - started < 3


def test_an_endless_answer_is_cut_off(
    server: Server, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "_LARGEST", 1000)
    server.answer(b" " * 5000)
    assert "more than any answer holds" in str(refusal(Endpoint(server.url, "small")))


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"{}", "refuses the key (401): put the right one into the environment variable K"),
        (404, b'{"error": {"message": "no such model"}}', "model 'small' or the request (404): no"),
        (400, b'{"error": "too long"}', "(400): too long"),
        (302, b"", "(302)"),
    ],
)
def test_what_no_try_will_mend_is_refused_at_once(
    server: Server, pauses: list[float], status: int, body: bytes, words: str
) -> None:
    server.answer(body, status, Location="http://127.0.0.1:1/")
    error = refusal(Endpoint(server.url, "small", "K"))
    assert words in str(error)
    assert not isinstance(error, UnreachableError)
    assert (pauses, len(server.asked)) == ([], 1)


@pytest.mark.parametrize("url", ["ftp://host/v1", "host:8000/v1", "http://", "http://[::1/v1", ""])
def test_what_is_no_url_is_refused(url: str) -> None:
    assert "is no endpoint: give a URL" in str(refusal(Endpoint(url, "small")))


def test_messages_show_neither_key_nor_credentials(
    server: Server, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K", "hush")
    server.answer(b'{"error": "hush is not a key"}', 401)
    url = server.url.replace("http://", "http://me:word@")
    error = str(refusal(Endpoint(url, "small", "K")))
    assert "hush" not in error
    assert "word" not in error
