"""Asking a model behind an OpenAI-compatible endpoint, with patience."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from sparsight.core.errors import UserError
from sparsight.core.reply import Flops, Reply, Timing, Usage

_TRIES = 4
_PAUSE = 1.0  # seconds before the second try; twice as many before each further one
_LONGEST_PAUSE = 30.0
_LARGEST = 4 << 20  # bytes of an answer
_BUSY = {408, 409, 425, 429}  # worth another try, as is everything from 500 on


class UnreachableError(UserError, ConnectionError):
    """An endpoint that does not answer now: nothing is wrong with what it was asked."""


class _TryAgainError(Exception):
    """A try that failed in a way that the next may not; `pause` is what the endpoint asks for."""

    def __init__(self, why: str, pause: float = 0.0) -> None:
        super().__init__(why)
        self.pause = pause


@dataclass(frozen=True)
class Endpoint:
    """A chat model that is asked over HTTP.

    url      the base of the API, such as "https://host/v1"
    model    what the model is called there
    key      the environment variable that holds the key; where it is not set, none is sent
    seconds  that one answer may take, from the first byte sent to the last received
    """

    url: str
    model: str
    key: str = "OPENAI_API_KEY"
    seconds: float = 120.0

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        **sampling: Any,
    ) -> Reply:
        """The answer to messages of text, as the endpoint gives it.

        `sampling` are further settings of the API, such as top_p. Operations and bytes of the
        model are not known and count as none; tokens count as the endpoint reports them.

        A connection that fails, an endpoint that is busy, slow or answers with something else than
        a chat completion is tried again, with growing pauses. Raises `UnreachableError` when all
        tries have failed, and `UserError` for what no try will mend: a wrong URL, key, model or
        setting.
        """
        body = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            **sampling,
        }
        started = time.perf_counter()
        text, finish, asked, said = _read(self._patiently(body))
        spent = time.perf_counter() - started
        return Reply(
            text=text.strip(),
            tokens=(),
            finish=finish,
            usage=Usage(0, 0, 0.0, asked, said),
            timing=Timing({"endpoint": spent}, (), spent, spent),
            kv_bytes=0,
            flops=Flops(0.0, 0.0, 0.0),
        )

    @property
    def _host(self) -> str:
        """The URL as messages may show it: no path, no credentials."""
        url = httpx.URL(self.url)
        return f"{url.scheme}://{url.netloc.decode()}"

    def _patiently(self, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            url = httpx.URL(self.url.rstrip("/") + "/chat/completions")
        except httpx.InvalidURL:
            url = httpx.URL("")
        if url.scheme not in ("http", "https") or not url.host:
            raise UserError(f"{self.url!r} is no endpoint: give a URL such as http://host/v1")
        pause = _PAUSE
        for tried in range(1, _TRIES + 1):
            try:
                return self._once(url, body)
            except _TryAgainError as error:
                if tried == _TRIES:
                    raise UnreachableError(
                        f"the endpoint {self._host} {error} ({_TRIES} tries): see that it runs, "
                        "then ask again"
                    ) from error
                time.sleep(min(max(pause, error.pause), _LONGEST_PAUSE))
                pause *= 2
        raise AssertionError("the last try returns or raises")

    def _once(self, url: httpx.URL, body: Mapping[str, Any]) -> dict[str, Any]:
        secret = os.environ.get(self.key, "")
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        deadline = time.monotonic() + self.seconds
        try:
            with httpx.stream(
                "POST", url, json=body, headers=headers, timeout=self.seconds
            ) as response:
                raw = bytearray()
                for chunk in response.iter_bytes():
                    raw += chunk
                    if time.monotonic() > deadline:
                        raise _TryAgainError(f"took more than {self.seconds:g} s")
                    if len(raw) > _LARGEST:
                        raise _TryAgainError("answered more than any answer holds")
        except httpx.TimeoutException:
            raise _TryAgainError(f"took more than {self.seconds:g} s") from None
        except (httpx.TransportError, httpx.DecodingError, ValueError) as error:
            raise _TryAgainError(f"cannot be reached ({type(error).__name__})") from None
        self._check(response, bytes(raw))
        try:
            found = json.loads(raw)
            _read(found)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise _TryAgainError("answered something that is no chat completion") from None
        return found

    def _check(self, response: httpx.Response, raw: bytes) -> None:
        """Raise for an answer that is not a success."""
        status = response.status_code
        if status in _BUSY or status >= 500:
            raise _TryAgainError(f"answered {status}", _seconds(response.headers))
        if status in (401, 403):
            raise UserError(
                f"the endpoint {self._host} refuses the key ({status}): put the right one into "
                f"the environment variable {self.key}"
            )
        if not response.is_success:
            told = _told(raw)
            raise UserError(
                f"the endpoint {self._host} refuses model {self.model!r} or the request "
                f"({status}){': ' if told else ''}{told}"
            )


def _read(found: Any) -> tuple[str, str, int, int]:
    """Text, how it ended, and tokens asked and said, of a chat completion."""
    choice = found["choices"][0]
    text = choice["message"].get("content") or ""
    if not isinstance(text, str):
        raise TypeError("the content is no text")
    used = found.get("usage") or {}
    finish = "length" if choice.get("finish_reason") == "length" else "stop"
    counts = (used.get("prompt_tokens"), used.get("completion_tokens"))
    asked, said = (count if isinstance(count, int) else 0 for count in counts)
    return text, finish, asked, said


def _seconds(headers: Mapping[str, str]) -> float:
    """How long the endpoint asks to wait; 0 where it does not say."""
    try:
        return max(0.0, float(headers.get("retry-after", "0")))
    except ValueError:
        return 0.0  # a date: the pause of our own will do


def _told(raw: bytes) -> str:
    """What an error answer says, cut short; empty where it says nothing readable."""
    try:
        error = json.loads(raw)["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:200]
    except (ValueError, KeyError, TypeError):
        return ""
