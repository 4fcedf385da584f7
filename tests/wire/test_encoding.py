import gzip
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped] # ships no types
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.errors import InvalidRequest, RequestTooLarge
from qwen_mitm.wire import encoding
from qwen_mitm.wire.encoding import ContentDecoder, decode_body

TEXT = b"".join(b'data: {"n": %d}\n\n' % n for n in range(2000))


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


ENCODED = {
    "identity": TEXT,
    "": TEXT,
    "gzip": gzip.compress(TEXT),
    "X-GZip": gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]),
    "deflate": zlib.compress(TEXT),
    "Deflate": raw_deflate(TEXT),
    "br": brotli.compress(TEXT),
    "zstd": zstandard.compress(TEXT),
    "ZSTD": zstandard.compress(TEXT[:100]) + zstandard.compress(TEXT[100:]),
    "gzip, zstd": zstandard.compress(gzip.compress(TEXT)),
    "identity,gzip ,": gzip.compress(TEXT),
}
CODINGS = pytest.mark.parametrize("name", ENCODED)


@CODINGS
def test_request_body_is_decoded(name: str) -> None:
    assert decode_body(ENCODED[name], name, len(TEXT)) == TEXT


@CODINGS
def test_answer_is_decoded_whole(name: str) -> None:
    decoder = ContentDecoder(name)
    assert decoder.feed(ENCODED[name]) + decoder.end() == TEXT


@given(st.sampled_from(sorted(ENCODED)), st.integers(1, 700))
def test_answer_does_not_depend_on_how_the_bytes_are_cut(name: str, size: int) -> None:
    decoder = ContentDecoder(name)
    encoded = ENCODED[name]
    decoded = b"".join(
        decoder.feed(encoded[start : start + size]) for start in range(0, len(encoded), size)
    )
    assert decoded + decoder.end() == TEXT


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_each_event_comes_out_when_the_upstream_flushed_it(name: str) -> None:
    gz = zlib.compressobj(wbits=zlib.MAX_WBITS | (16 if name == "gzip" else 0))
    zst = zstandard.ZstdCompressor().compressobj()
    br = brotli.Compressor()
    flushed: dict[str, Callable[[bytes], bytes]] = {
        "gzip": lambda e: gz.compress(e) + gz.flush(zlib.Z_SYNC_FLUSH),
        "deflate": lambda e: gz.compress(e) + gz.flush(zlib.Z_SYNC_FLUSH),
        "br": lambda e: br.process(e) + br.flush(),
        "zstd": lambda e: zst.compress(e) + zst.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK),
    }
    decoder = ContentDecoder(name)
    for n in range(5):
        event = b'data: {"n": %d}\n\n' % n
        assert decoder.feed(flushed[name](event)) == event


@pytest.mark.parametrize("name", ["compress", "gzip, rot13", "gzip," * 4])
def test_unknown_or_endless_codings_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"codings|is not one of"):
        ContentDecoder(name)
    with pytest.raises(InvalidRequest, match="content-encoding"):
        decode_body(b"{}", name, 100)


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_broken_data_is_an_invalid_request_and_a_value_error(name: str) -> None:
    with pytest.raises(InvalidRequest, match="content-encoding"):
        decode_body(b"\xff not compressed at all", name, 100)
    with pytest.raises(ValueError, match=r"."):
        ContentDecoder(name).feed(b"\xff not compressed at all")


@pytest.mark.parametrize("name", ["gzip", "X-GZip", "deflate", "br", "zstd", "gzip, zstd"])
def test_cut_request_body_is_an_invalid_request(name: str) -> None:
    with pytest.raises(InvalidRequest, match="cut off"):
        decode_body(ENCODED[name][:-1], name, len(TEXT))


@pytest.mark.parametrize("name", ["gzip", "br", "zstd"])
def test_cut_answer_gives_what_arrived(name: str) -> None:
    decoder = ContentDecoder(name)
    assert TEXT.startswith(decoder.feed(ENCODED[name][:-1]) + decoder.end())


@CODINGS
def test_request_body_beyond_the_limit_is_too_large(name: str) -> None:
    with pytest.raises(RequestTooLarge):
        decode_body(ENCODED[name], name, len(TEXT) - 1)


BOMB = bytes(30_000_000)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("gzip", gzip.compress(BOMB)),
        ("deflate", zlib.compress(BOMB)),
        ("br", brotli.compress(BOMB, quality=5)),
        ("zstd", zstandard.compress(BOMB)),
        ("gzip, gzip", gzip.compress(gzip.compress(BOMB))),
    ],
)
def test_small_body_that_unpacks_to_much_is_refused(
    name: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "MAX_DECODED_PER_FEED", 1_000_000)
    with pytest.raises(RequestTooLarge):
        decode_body(body, name, 1_000_000)
    with pytest.raises(ValueError, match="more than"):
        ContentDecoder(name).feed(body)


def test_output_that_fills_several_pieces_is_complete() -> None:
    assert decode_body(gzip.compress(BOMB), "gzip", len(BOMB)) == BOMB


def test_padding_after_a_gzip_member_is_ignored() -> None:
    assert decode_body(gzip.compress(TEXT) + b"\0" * 10, "gzip", len(TEXT)) == TEXT
