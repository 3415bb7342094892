"""Opening a film or sound file for FFmpeg without letting FFmpeg choose what it is.

FFmpeg's own guessing would also open play lists, which name other files and addresses. Here the
first bytes choose the demuxer, and none that is chosen opens anything but the one file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import av
from av.container import InputContainer

from sparsight.core.errors import UserError


@dataclass(frozen=True)
class MediaFile:
    """A film or sound file: its content or the path to it, and what its first bytes say it is."""

    source: Path | bytes
    demuxer: str
    origin: str

    def open(self) -> InputContainer:
        """The container, to be closed by the caller. Raises `UserError` if it cannot be read."""
        source = BytesIO(self.source) if isinstance(self.source, bytes) else f"file:{self.source}"
        options = {"protocol_whitelist": "file"}
        try:
            return av.open(source, "r", format=self.demuxer, container_options=options)
        except (av.FFmpegError, OSError, ValueError):
            raise UserError(
                f"{self.origin}: the film is broken or cut off: its header cannot be read; "
                "get it again or convert it"
            ) from None

    def digest(self, *options: object) -> str:
        """A hash of the content and of the reading `options`."""
        try:
            if isinstance(self.source, bytes):
                content = hashlib.sha256(self.source)
            else:
                with self.source.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256")
        except OSError:
            raise UserError(f"{self.origin}: the file can no longer be read") from None
        return hashlib.sha256(repr((content.digest(), self.demuxer, *options)).encode()).hexdigest()


def demuxer_of(head: bytes) -> str | None:
    """FFmpeg's name for the container that begins with `head` (its first 400 bytes), or None."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF"):
        return {b"AVI ": "avi", b"WAVE": "wav"}.get(head[8:12])
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return "mpegts"
    if len(head) > 388 and head[4] == head[196] == head[388] == 0x47:
        return "mpegts"  # M2TS: each packet has four bytes of time before it
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "mp3"
    return None


_MAGIC = {
    b"\x00\x00\x01\xba": "mpeg",
    b"\x00\x00\x01\xb3": "mpegvideo",
    b"OggS": "ogg",
    b"FLV\x01": "flv",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"GIF8": "gif",
    b"fLaC": "flac",
    b"ID3": "mp3",
}
