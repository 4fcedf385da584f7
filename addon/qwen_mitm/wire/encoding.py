"""Content codings: answers decoded while they arrive, request bodies decoded whole.

Output is bounded in both directions, because a few KB can unpack to gigabytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import brotli  # type: ignore[import-untyped] # ships no types
import zstandard

from qwen_mitm.errors import InvalidRequest, RequestTooLarge

MAX_DECODED_PER_FEED: Final = 64 * 1024 * 1024
"""No honest piece of a network stream unpacks to more."""

_MAX_CODINGS: Final = 3
_PIECE_BYTES: Final = 1024 * 1024
# zstandard and brotli have no limit for the output of one call, so a call gets little input: a
# block of zstd is at most 128 KB and at least 4 bytes, one of brotli at most 16 MB and some bytes.
_ZSTD_SLICE: Final = 256
_BROTLI_SLICE: Final = 16


class _TooMuch(ValueError):
    pass


class _Coding(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]: ...

    @property
    def complete(self) -> bool:
        """What was fed ends where an encoded body may end."""


class _Zlib:
    """gzip, also in several members, or deflate, also without its zlib header, as some send it."""

    def __init__(self, *, is_gzip: bool) -> None:
        self.complete = False
        self._is_gzip = is_gzip
        self._start = b""
        self._member: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member is None:
                data = self._start + data
                self._start = data if len(data) < 2 else b""
                if self._start or (self.complete and not self._begins_member(data)):
                    return
                self._member = zlib.decompressobj(self._window(data))
                self.complete = False
            member = self._member
            # A full piece may leave output behind although all input is taken.
            while piece := member.decompress(data, _PIECE_BYTES):
                yield piece
                data = member.unconsumed_tail
            data = member.unused_data
            if member.eof:
                self._member = None
                self.complete = True

    def _begins_member(self, data: bytes) -> bool:
        return self._is_gzip and data.startswith(b"\x1f\x8b")

    def _window(self, start: bytes) -> int:
        if self._is_gzip:
            return zlib.MAX_WBITS | 16
        has_header = start[0] & 0x0F == 8 and int.from_bytes(start[:2]) % 31 == 0
        return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS


class _Zstd:
    """Frames of zstd, one after another (RFC 8878 §3.1)."""

    def __init__(self) -> None:
        self.complete = False
        self._frame = zstandard.ZstdDecompressor().decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        for rest in _slices(data, _ZSTD_SLICE):
            while rest:
                if self.complete:
                    self._frame = zstandard.ZstdDecompressor().decompressobj()
                yield self._frame.decompress(rest)
                self.complete = self._frame.eof
                rest = self._frame.unused_data if self.complete else b""


class _Brotli:
    def __init__(self) -> None:
        self._decompressor = brotli.Decompressor()

    @property
    def complete(self) -> bool:
        return bool(self._decompressor.is_finished())

    def feed(self, data: bytes) -> Iterator[bytes]:
        for piece in _slices(data, _BROTLI_SLICE):
            yield self._decompressor.process(piece)


_CODINGS: Final[dict[str, Callable[[], _Coding]]] = {
    "gzip": lambda: _Zlib(is_gzip=True),
    "x-gzip": lambda: _Zlib(is_gzip=True),
    "deflate": lambda: _Zlib(is_gzip=False),
    "br": _Brotli,
    "zstd": _Zstd,
}


class ContentDecoder:
    """Decodes a body as it arrives; everything that the bytes so far say comes out at once.

    ``encoding`` is the value of a content-encoding header; an unknown one is a ``ValueError``, as
    are broken data. A body that was cut is not an error: what it lacks, its reader misses.
    """

    def __init__(self, encoding: str) -> None:
        self._codings = _codings(encoding)

    def feed(self, data: bytes) -> bytes:
        for coding in self._codings:
            data = _decode(coding, data, MAX_DECODED_PER_FEED)
        return data

    def end(self) -> bytes:
        """What is left; nothing, since ``feed`` holds nothing back."""
        return b""


def decode_body(body: bytes, encoding: str, limit: int) -> bytes:
    """A whole request body; more than ``limit`` bytes are ``RequestTooLarge``."""
    try:
        for coding in _codings(encoding):
            body = _decode(coding, body, limit)
            if not coding.complete:
                raise ValueError("the body is cut off")
    except _TooMuch:
        raise _too_large(limit) from None
    except ValueError as e:
        raise InvalidRequest(
            f"The request body cannot be decoded as its content-encoding says ({encoding}): {e}."
        ) from e
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"The request body is larger than {limit:,} bytes after decompression. Shorten the "
        "conversation or raise qwen_max_body_mb."
    )


def _codings(encoding: str) -> list[_Coding]:
    names = [name for part in encoding.lower().split(",") if (name := part.strip())]
    names = [name for name in reversed(names) if name != "identity"]
    if unknown := [name for name in names if name not in _CODINGS]:
        raise ValueError(f"{unknown[0]} is not one of gzip, deflate, br, zstd")
    if len(names) > _MAX_CODINGS:
        raise ValueError(f"more than {_MAX_CODINGS} codings")
    return [_CODINGS[name]() for name in names]


def _decode(coding: _Coding, data: bytes, limit: int) -> bytes:
    pieces = []
    size = 0
    try:
        for piece in coding.feed(data):
            size += len(piece)
            if size > limit:
                raise _TooMuch(f"more than {limit:,} bytes")
            pieces.append(piece)
    except (zlib.error, zstandard.ZstdError, brotli.error) as e:
        raise ValueError(str(e)) from e
    return b"".join(pieces)


def _slices(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def decoded(body: bytes, encoding: str) -> bytes:
    """As much of a failed answer's body as can be decoded: it may be cut."""
    try:
        decoder = ContentDecoder(encoding)
        return decoder.feed(body)
    except ValueError:
        return b""
