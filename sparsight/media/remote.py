"""Fetching a medium over http(s) without being led anywhere else.

The name is resolved once, every address behind it is checked, and the connection goes to a
checked address, so a name that answers differently the second time gains nothing. Proxies and
other settings of the environment are ignored.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

from sparsight.core.errors import UserError
from sparsight.media.access import Access, is_public
from sparsight.media.limits import Limits

_REDIRECTS = (301, 302, 303, 307, 308)


def fetch(text: str, limits: Limits, access: Access) -> bytes:
    """The body behind an http(s) URL.

    Raises `UserError` if the rules of `access` refuse the address or a redirect, if it answers
    with anything but 200, and above the limits on bytes, total time and idle time.
    """
    deadline = time.monotonic() + (limits.fetch_seconds or float("inf"))
    for _ in range(access.redirects + 1):
        url = check_url(text, access)
        answer = _get(url, limits, access, deadline)
        if isinstance(answer, bytes):
            return answer
        text = answer
    if access.redirects == 0:
        raise UserError(f"{_shown(url)} redirects elsewhere; give the final address")
    raise UserError(f"{_shown(url)} redirects more than {access.redirects} times")


def check_url(text: str, access: Access) -> httpx.URL:
    """Parse `text` once, for the check and the fetch alike.

    Raises `UserError` for anything but plain http(s) to a permitted host name. The addresses
    behind the name are checked where they are resolved.
    """
    if not access.urls:
        raise UserError("URLs are switched off here; give a file")
    # Parsers disagree about these characters; no honest URL holds them unescaped.
    if "\\" in text or any(c <= " " or c == "\x7f" for c in text):
        raise UserError("the URL holds a backslash, a space or a control character; escape it")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError):
        raise UserError("the URL cannot be read; give http://host/path") from None
    if url.scheme not in ("http", "https"):
        raise UserError(f"{url.scheme or 'no'} URLs are refused; use http or https")
    if url.userinfo:
        raise UserError("credentials in a URL are refused; take them out")
    if not url.host:
        raise UserError("the URL has no host; give http://host/path")
    if access.allowed_hosts is not None and url.host not in access.allowed_hosts:
        raise UserError(f"the host {url.host} is not among the allowed hosts")
    return url


def _get(url: httpx.URL, limits: Limits, access: Access, deadline: float) -> bytes | str:
    """The body, or the address to go to next."""
    shown = _shown(url)
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    host = url.raw_host.decode()
    backend = _Pinned(_addresses(host, port, access, shown), limits.idle_seconds, deadline)
    name = f"[{host}]" if ":" in host else host
    headers: dict[bytes | str, bytes | str] = {
        "Host": name if url.port is None else f"{name}:{url.port}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",  # a compressed body would hide its size from the cap
        "User-Agent": "sparsight",
    }
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=port, target=url.raw_path)
    try:
        with (
            httpcore.ConnectionPool(
                ssl_context=httpx.create_ssl_context(trust_env=False), network_backend=backend
            ) as pool,
            pool.stream("GET", target, headers=headers) as response,
        ):
            if response.status in _REDIRECTS:
                return _next(url, response.headers)
            if response.status != 200:
                raise UserError(f"{shown} answered {response.status}; check the address")
            return _body(response, limits, shown)
    except (httpcore.TimeoutException, TimeoutError):
        raise UserError(
            f"{shown} is too slow: above {limits.fetch_seconds} s in all or "
            f"{limits.idle_seconds} s without a byte; save it to a file first"
        ) from None
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
        raise UserError(f"{shown} cannot be fetched; check the address and the network") from None


def _body(response: httpcore.Response, limits: Limits, shown: str) -> bytes:
    headers = {key.lower(): value for key, value in response.headers}
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UserError(f"{shown} sends a compressed body, which is refused")
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit():
        limits.check("bytes", int(declared), shown, f"a size of {int(declared):,} bytes")
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        limits.check("bytes", len(body), shown, "its size")
    return bytes(body)


def _next(url: httpx.URL, headers: list[tuple[bytes, bytes]]) -> str:
    for key, value in headers:
        if key.lower() == b"location":
            try:
                return str(url.join(value.decode("latin-1")))
            except (httpx.InvalidURL, UnicodeError):
                break
    raise UserError(f"{_shown(url)} redirects nowhere; give the final address")


def _addresses(host: str, port: int, access: Access, shown: str) -> list[str]:
    """The numeric addresses of `host`, or an error if even one is out of bounds."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise UserError(f"{shown}: the host name is not known; check the address") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not access.allow_private and not all(is_public(address) for address in addresses):
        raise UserError(f"{shown} is not on the public internet, which is refused")
    return addresses


def _shown(url: httpx.URL) -> str:
    """The URL without its query, which may hold a secret."""
    return str(url.copy_with(query=None, fragment=None))


class _Pinned(httpcore.NetworkBackend):
    """Connects to the given addresses, whatever the name; keeps both time limits."""

    def __init__(self, addresses: list[str], idle: float | None, deadline: float) -> None:
        self.addresses, self.idle, self.deadline = addresses, idle, deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError()
        for address in self.addresses:
            try:
                patience = _patience(self.idle, self.deadline)
                stream = httpcore.SyncBackend().connect_tcp(address, port, timeout=patience)
                return _Timed(stream, self.idle, self.deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _Timed(httpcore.NetworkStream):
    """A stream whose every read and write ends by the deadline: one byte at a time won't do."""

    def __init__(self, stream: httpcore.NetworkStream, idle: float | None, deadline: float) -> None:
        self.stream, self.idle, self.deadline = stream, idle, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.stream.read(max_bytes, _patience(self.idle, self.deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, _patience(self.idle, self.deadline))

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        patience = _patience(self.idle, self.deadline)
        secure = self.stream.start_tls(ssl_context, server_hostname, patience)
        return _Timed(secure, self.idle, self.deadline)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


def _patience(idle: float | None, deadline: float) -> float | None:
    """Seconds the next step may wait."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout()
    patience = min(left, idle or left)
    return None if patience == float("inf") else patience
