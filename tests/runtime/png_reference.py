"""A strict and slow reader of PNG files, written from the specification: 8 bits a channel, not interlaced, no palette.

W3C, Portable Network Graphics, third edition: chunks (5.3), order (5.6), IHDR (11.2.1), tEXt (11.3.3.2),
filters (9.2), CRC (annex D); RFC 1950 for the zlib stream. Anything else than the specification allows is an
AssertionError.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CHANNELS = {0: 1, 4: 2, 2: 3, 6: 4}  # by colour type


@dataclass(frozen=True)
class Picture:
    pixels: npt.NDArray[np.uint8]  # [C, H, W]
    texts: list[tuple[str, str]]
    filters: list[int]  # of each row


def read_png(content: bytes) -> Picture:
    assert content[:8] == bytes([137, 80, 78, 71, 13, 10, 26, 10])
    chunks = _chunks(content[8:])
    kinds = [kind for kind, _ in chunks]
    assert kinds == [b"IHDR", *[b"tEXt"] * (len(kinds) - 3), b"IDAT", b"IEND"]
    assert chunks[-1][1] == b""
    width, height, channels = _header(chunks[0][1])
    rows = _inflate(chunks[-2][1])
    stride = 1 + width * channels
    assert len(rows) == height * stride
    filters = list(rows[::stride])
    lines = [np.frombuffer(rows, np.uint8, stride - 1, y * stride + 1).tolist() for y in range(height)]
    pixels = np.array(_unfilter(filters, lines, channels), np.uint8).reshape(height, width, channels)
    return Picture(pixels.transpose(2, 0, 1), [_text(data) for kind, data in chunks if kind == b"tEXt"], filters)


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    chunks = []
    while content:
        assert len(content) >= 12
        length = int.from_bytes(content[:4], "big")
        assert length < 2**31
        assert len(content) >= 12 + length
        kind, data = content[4:8], content[8 : 8 + length]
        assert content[8 + length : 12 + length] == _crc(kind + data).to_bytes(4, "big")
        chunks.append((kind, data))
        content = content[12 + length :]
    return chunks


def _crc(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def _header(data: bytes) -> tuple[int, int, int]:
    assert len(data) == 13
    width, height = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    assert 0 < width < 2**31
    assert 0 < height < 2**31
    depth, color_type, compression, filtering, interlace = data[8:]
    assert (depth, compression, filtering, interlace) == (8, 0, 0, 0)
    return width, height, CHANNELS[color_type]


def _text(data: bytes) -> tuple[str, str]:
    keyword, text = data.split(b"\0")
    assert 1 <= len(keyword) <= 79
    assert all(32 <= code <= 126 or code >= 161 for code in keyword)
    assert b"  " not in keyword
    assert keyword.strip() == keyword
    return keyword.decode("latin-1"), text.decode("latin-1")


def _inflate(stream: bytes) -> bytes:
    method, flags = stream[:2]
    assert method & 15 == 8  # deflate
    assert method >> 4 <= 7  # a window of at most 32 KiB
    assert (256 * method + flags) % 31 == 0
    assert not flags & 32  # no preset dictionary
    window = (method >> 4) + 8
    inflater = zlib.decompressobj(-window)  # the bare blocks: no distance reaches beyond the window
    data = inflater.decompress(stream[2:])
    assert inflater.eof
    low, high = 1, 0  # Adler-32
    for byte in data:
        low = (low + byte) % 65521
        high = (high + low) % 65521
    assert inflater.unused_data == (high << 16 | low).to_bytes(4, "big")
    return data


def _unfilter(filters: list[int], rows: list[list[int]], channels: int) -> list[list[int]]:
    above = [0] * len(rows[0])
    result = []
    for kind, residuals in zip(filters, rows, strict=True):
        row: list[int] = []
        for i, residual in enumerate(residuals):
            a = row[i - channels] if i >= channels else 0
            b = above[i]
            c = above[i - channels] if i >= channels else 0
            row.append((residual + [0, a, b, (a + b) // 2, _paeth(a, b, c)][kind]) % 256)
        result.append(row)
        above = row
    return result


def _paeth(a: int, b: int, c: int) -> int:
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    if pa <= pb and pa <= pc:
        return a
    return b if pb <= pc else c
