"""What every test stands on: one thread, fixed seeds, no network, and the shared data folder."""

from __future__ import annotations

import ipaddress
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before any import that reads them.
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    MPLBACKEND="agg",
)
for _name in ("http_proxy", "https_proxy", "all_proxy"):  # a proxy on loopback would be a way out
    os.environ.pop(_name, None)
    os.environ.pop(_name.upper(), None)

import hypothesis
import numpy
import pytest
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("house", deadline=None, derandomize=True)
hypothesis.settings.load_profile("house")

ROOT = Path(__file__).resolve().parent.parent


class NetworkRefusedError(RuntimeError):
    """A test tried to leave this machine. Not an OSError, so that no handler can swallow it."""


def _is_local(family: int, address: Any) -> bool:
    if family not in (socket.AF_INET, socket.AF_INET6):
        return True
    host = address[0]
    try:
        return host in ("", "localhost") or ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Refuse every connection that is not loopback; host names do not resolve, as without a net."""

    def refusing(method: str, at: int) -> Any:
        original = getattr(socket.socket, method)

        def call(self: socket.socket, *args: Any) -> Any:
            if not _is_local(self.family, args[at]):
                raise NetworkRefusedError(f"a test called socket.{method} with {args[at]!r}")
            return original(self, *args)

        return call

    lookup = socket.getaddrinfo

    def local_lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in (None, "", "localhost", socket.gethostname()):
            try:
                ipaddress.ip_address(name.split("%")[0])
            except ValueError:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        return lookup(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for method, at in (("connect", 0), ("connect_ex", 0), ("sendto", -1)):
            patch.setattr(socket.socket, method, refusing(method, at))
        patch.setattr(socket, "getaddrinfo", local_lookup)
        yield


@pytest.fixture(autouse=True)
def seeds() -> None:
    """The same random numbers in every test, whatever ran before it."""
    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden numbers beside the repository."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the shared data folder is not beside the repository")
    return folder
