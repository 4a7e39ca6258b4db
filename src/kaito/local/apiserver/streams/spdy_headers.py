"""The header blocks of SPDY/3: zlib with a dictionary that both sides know (SPDY draft 3.1, section 2.6.10.1)."""

from __future__ import annotations

import struct
import zlib

from kaito.local.apiserver.streams.errors import StreamProtocolError

# The dictionary is these words, each after its length in four bytes, and then the text below.
_NAMES = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
)
_WORDS = [*_NAMES.split(), "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"]
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug "
    "Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,"
    "sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack(">I", len(word)) + word.encode() for word in _WORDS) + _TEXT.encode()
BLOCK_LIMIT = 64 * 1024
"""Bytes of one header block once decompressed."""
PAIRS_LIMIT = 100


class HeaderCodec:
    """Both directions of one connection: the compression state goes on from block to block."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def decode(self, block: bytes) -> dict[str, str]:
        """Names in lower case. Raises StreamProtocolError."""
        try:
            plain = self._inflate.decompress(block, BLOCK_LIMIT)
        except zlib.error as error:
            raise StreamProtocolError(f"a header block does not decompress: {error}") from error
        if self._inflate.unconsumed_tail:
            raise StreamProtocolError(f"a header block has more than {BLOCK_LIMIT} bytes")
        try:
            return _parse(plain)
        except (struct.error, UnicodeDecodeError) as error:
            raise StreamProtocolError(f"a header block is cut short or not text: {error}") from error

    def encode(self, headers: dict[str, str]) -> bytes:
        parts = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                parts += (struct.pack(">I", len(text)), text)
        return self._deflate.compress(b"".join(parts)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def _parse(plain: bytes) -> dict[str, str]:
    (count,) = struct.unpack_from(">I", plain)
    if count > PAIRS_LIMIT:
        raise StreamProtocolError(f"a header block has {count} headers")
    position = 4
    texts: list[str] = []
    for _ in range(2 * count):
        (length,) = struct.unpack_from(">I", plain, position)
        position += 4
        if position + length > len(plain):
            raise struct.error("a length points past the end")
        texts.append(plain[position : position + length].decode())
        position += length
    return {name.lower(): value for name, value in zip(texts[::2], texts[1::2], strict=True)}
