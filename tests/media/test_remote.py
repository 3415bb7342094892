"""URLs: what may be fetched is, and what may not is never even asked for (hit count 0)."""

from __future__ import annotations

import http.server
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sparsight.core.errors import UserError
from sparsight.media import Access, Limits, load, remote
from sparsight.media.access import is_public
from sparsight.media.remote import check_url

Handler = http.server.BaseHTTPRequestHandler
PRIVATE = Access(allow_private=True)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (9, 8, 7)).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Server:
    """A server on loopback that counts what it is asked for."""

    port: int = 0
    answers: dict[str, Callable[[Handler], None]] = field(default_factory=dict)
    hits: list[tuple[str, str | None]] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def body(content: bytes, **headers: str) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        for key, value in {"Content_Length": str(len(content)), **headers}.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def redirect(target: str) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def dripping(pause: float, times: int = 50) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(times):
            handler.wfile.write(b"\x89")
            handler.wfile.flush()
            time.sleep(pause)

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Counting(Handler):
        def do_GET(self) -> None:  # noqa: N802
            state.hits.append((self.path, self.headers.get("Host")))
            with suppress(BrokenPipeError, ConnectionResetError):
                state.answers[self.path](self)

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    httpd.daemon_threads = True
    state.port = httpd.server_address[1]
    state.answers["/a.png"] = body(png())
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """Host name to the answers of successive look-ups; the last answer stays."""
    table: dict[str, list[list[str]]] = {}
    original = socket.getaddrinfo

    def lookup(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        if host not in table:
            return original(host, port, *args, **options)
        answers = table[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(0, 0, 0, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return table


def test_a_picture_is_fetched_where_private_addresses_are_allowed(server):
    clip = load(server.url("/a.png"), policy=PRIVATE)
    assert (clip.origin, clip.size) == ("a.png", (3, 4))
    assert np.array_equal(clip.frames()[0, 0, 0].numpy(), [9, 8, 7])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433"])
def test_loopback_is_never_asked(server, host):
    with pytest.raises(UserError, match=r"not on the public internet|not known"):
        load(server.url("/a.png", host))
    assert server.hits == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "198.18.0.1",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "::7f00:1",
        "64:ff9b:1::1",
        "2001:0:1::1",
        "192.0.2.1",
        "2001:db8::1",
    ],
)
def test_these_addresses_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:2800:220:1::1"])
def test_these_addresses_are_public(address):
    assert is_public(address)


def test_a_name_that_leads_to_a_private_address_is_refused(server, names):
    names["innocent.example"] = [["127.0.0.1"]]
    names["mixed.example"] = [["93.184.216.34", "127.0.0.1"]]
    for host in names:
        with pytest.raises(UserError, match="not on the public internet"):
            load(server.url("/a.png", host))
    assert server.hits == []


def test_the_connection_goes_to_the_checked_address_under_its_own_name(server, names, monkeypatch):
    # public at the check, private at every later look-up: only the first one may count
    names["rebinding.example"] = [["93.184.216.34"], ["127.0.0.1"]]
    reached = []
    connect = remote.httpcore.SyncBackend.connect_tcp

    def connecting(self, host, port, **options):
        reached.append(host)
        return connect(self, "127.0.0.1", port, **options)

    monkeypatch.setattr(remote.httpcore.SyncBackend, "connect_tcp", connecting)
    assert load(server.url("/a.png", "rebinding.example")).size == (3, 4)
    assert reached == ["93.184.216.34"]
    assert server.hits == [("/a.png", f"rebinding.example:{server.port}")]


def test_redirects_are_off_unless_asked_for(server):
    server.answers["/go"] = redirect("/a.png")
    with pytest.raises(UserError, match="redirects elsewhere"):
        load(server.url("/go"), policy=PRIVATE)
    assert [path for path, _ in server.hits] == ["/go"]
    assert load(server.url("/go"), policy=Access(allow_private=True, redirects=1)).size == (3, 4)


def test_a_redirect_to_a_private_address_is_refused(server, names, monkeypatch):
    names["public.example"] = [["93.184.216.34"]]
    connect = remote.httpcore.SyncBackend.connect_tcp
    monkeypatch.setattr(
        remote.httpcore.SyncBackend,
        "connect_tcp",
        lambda self, host, port, **options: connect(self, "127.0.0.1", port, **options),
    )
    policy = Access(redirects=3)
    for target in (
        server.url("/a.png"),
        server.url("/a.png", "localhost"),
        f"//127.0.0.1:{server.port}/a.png",
        "file:///etc/passwd",
        server.url("/a.png").replace("http://", "http://user:pass@"),
    ):
        server.answers["/go"] = redirect(target)
        server.hits.clear()
        with pytest.raises(UserError):
            load(server.url("/go", "public.example"), policy=policy)
        assert [path for path, _ in server.hits] == ["/go"]


def test_endless_redirects_end(server):
    server.answers["/go"] = redirect("/go")
    with pytest.raises(UserError, match="redirects more than 3 times"):
        load(server.url("/go"), policy=Access(allow_private=True, redirects=3))
    assert len(server.hits) == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: f"http://user:pass@127.0.0.1:{s.port}/a.png", "credentials"),
        (lambda s: f"http://good.example\\@127.0.0.1:{s.port}/a.png", "backslash"),
        (lambda s: f"http://127.0.0.1:{s.port}\\a.png", "backslash"),
        (lambda s: f"http://127.0.0.1:{s.port}/a\n.png", "control"),
        (lambda s: f"ftp://127.0.0.1:{s.port}/a.png", "ftp URLs are refused"),
        (lambda s: "file:///etc/passwd", "file URLs are refused"),
        (lambda s: "file:a.png", "file URLs are refused"),
        (lambda s: "http:///a.png", "no host|cannot be read"),
        (lambda s: "http:a.png", "no host|cannot be read"),
        (lambda s: "http://[::1", "cannot be read"),
        (lambda s: "gopher://x/a", "gopher URLs are refused"),
    ],
)
def test_refused_urls_are_never_asked(server, make, message):
    with pytest.raises(UserError, match=message) as caught:
        load(make(server), policy=PRIVATE)
    assert server.hits == []
    assert "pass" not in str(caught.value).replace("passwd", "")


def test_only_allowed_hosts_where_there_is_a_list(server):
    policy = Access(allow_private=True, allowed_hosts=frozenset({"127.0.0.1"}))
    assert load(server.url("/a.png"), policy=policy)
    server.hits.clear()
    with pytest.raises(UserError, match="not among the allowed hosts"):
        load(server.url("/a.png", "localhost"), policy=policy)
    assert server.hits == []


def test_urls_can_be_off_altogether(server):
    with pytest.raises(UserError, match="URLs are switched off"):
        load(server.url("/a.png"), policy=Access(urls=False))
    assert server.hits == []


def test_a_body_above_the_limit_is_refused_by_its_declared_length(server):
    server.answers["/big"] = body(png(), Content_Length="999999999999")
    with pytest.raises(UserError, match="above the limit bytes"):
        load(server.url("/big"), policy=PRIVATE)


def test_a_body_that_hides_its_length_is_cut_at_the_limit(server):
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    server.answers["/endless"] = endless
    with pytest.raises(UserError, match="above the limit bytes"):
        load(server.url("/endless"), policy=PRIVATE, limits=Limits(bytes=10**6))


def test_a_compressed_body_is_refused(server):
    server.answers["/zip"] = body(b"x" * 100, Content_Encoding="gzip")
    with pytest.raises(UserError, match="compressed"):
        load(server.url("/zip"), policy=PRIVATE)


def test_a_body_that_stalls_is_given_up(server):
    server.answers["/stall"] = dripping(pause=5, times=2)
    began = time.perf_counter()
    with pytest.raises(UserError, match="too slow"):
        load(server.url("/stall"), policy=PRIVATE, limits=Limits(idle_seconds=0.2))
    assert time.perf_counter() - began < 2


def test_a_body_that_drips_is_given_up_at_the_total_time(server):
    server.answers["/drip"] = dripping(pause=0.05)
    began = time.perf_counter()
    with pytest.raises(UserError, match="too slow"):
        load(server.url("/drip"), policy=PRIVATE, limits=Limits(fetch_seconds=0.4))
    assert time.perf_counter() - began < 2


def test_headers_that_drip_are_given_up_at_the_total_time(server):
    def answer(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100):
            handler.wfile.write(b"X")
            handler.wfile.flush()
            time.sleep(0.05)

    server.answers["/drip"] = answer
    with pytest.raises(UserError, match="too slow"):
        load(server.url("/drip"), policy=PRIVATE, limits=Limits(fetch_seconds=0.4))


@pytest.mark.parametrize("status", [404, 403, 500, 204])
def test_other_answers_are_named(server, status):
    def answer(handler: Handler) -> None:
        handler.send_response(status)
        handler.end_headers()

    server.answers["/x"] = answer
    with pytest.raises(UserError, match=rf"answered {status}"):
        load(server.url("/x"), policy=PRIVATE)


def test_nobody_there_and_unknown_names_are_one_clear_line(server, names):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match="cannot be fetched"):
        load(f"http://127.0.0.1:{port}/a.png", policy=PRIVATE)
    with pytest.raises(UserError, match="host name is not known"):
        load("http://nowhere.example/a.png?key=secret")


def test_errors_leave_out_the_query(server):
    with pytest.raises(UserError) as caught:
        load(server.url("/a.png?key=secret"))
    assert "secret" not in str(caught.value)


def test_the_environment_has_no_say(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert load(server.url("/a.png"), policy=PRIVATE).size == (3, 4)


def test_one_parse_serves_check_and_fetch():
    url = check_url("http://EXAMPLE.com:80/%61?b#c", Access())
    assert (url.host, url.port, url.raw_path) == ("example.com", None, b"/%61?b")
