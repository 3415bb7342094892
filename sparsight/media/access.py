"""Which addresses and paths a medium may come from: one set of rules for CLI and server."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from sparsight.core.errors import UserError

# Reserved blocks through which an IPv6 address reaches an IPv4 one: mapped, compatible, 6to4,
# Teredo and both NAT64 prefixes. A public service has no need of them.
_TUNNELS = tuple(
    ipaddress.ip_network(net)
    for net in (
        "::/96",
        "::ffff:0:0/96",
        "2002::/16",
        "2001::/32",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
    )
)
# Azure's metadata service has a public number; the other clouds' are link-local or private.
_METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})


@dataclass(frozen=True)
class Access:
    """What may be opened.

    urls: http and https at all. paths: local files at all (a server switches them off).
    local_roots: None for anywhere, else only below these folders, symlinks followed first.
    allow_private: also loopback, private and metadata addresses. redirects: how many to follow,
    each checked like the first address. allowed_hosts: None for any, else only these names.
    """

    urls: bool = True
    paths: bool = True
    local_roots: tuple[Path, ...] | None = None
    allow_private: bool = False
    redirects: int = 0
    allowed_hosts: frozenset[str] | None = None


def is_public(address: str) -> bool:
    """Whether a numeric IP address belongs to the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return (
        ip.is_global
        and not (ip.is_multicast or ip.is_reserved or ip.is_loopback or ip.is_link_local)
        and ip not in _METADATA
        and not any(ip in net for net in _TUNNELS if net.version == ip.version)
    )


def check_path(path: Path, access: Access) -> Path:
    """The real path behind `path`. Raises `UserError` if it is out of bounds.

    Out of bounds and missing are told apart only inside the permitted folders, so that nobody
    can ask what lies outside.
    """
    if not access.paths:
        raise UserError("local files are switched off here; send the medium itself or a URL")
    try:
        real = path.expanduser().resolve()
    except (OSError, RuntimeError, ValueError):
        raise UserError(f"the path {path.name!r} cannot be read; check its name") from None
    roots = access.local_roots
    if roots is not None and not any(real.is_relative_to(Path(root).resolve()) for root in roots):
        raise UserError(f"{path.name} is outside the permitted folders")
    return real
