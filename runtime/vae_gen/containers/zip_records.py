"""The records of a zip archive (PKWARE's APPNOTE.TXT 6.3.10, section 4.3), all of 1980-01-01.

Sizes and offsets are in bytes; offsets count from the first byte of the archive.
"""

from __future__ import annotations

import struct

# Values from these on stand in zip64 fields instead, and the 16 or 32 bits of their own are all ones.
LIMIT_16 = 0xFFFF
LIMIT_32 = 0xFFFFFFFF
STORED = 0
DEFLATED = 8
SIZES_FOLLOW = 1 << 3  # the flag of a data descriptor
ZIP64 = 1  # the identifier of the extra field
VERSION = 20  # of the format, times ten
VERSION_ZIP64 = 45
UNIX = 3 << 8
DATE = 0 << 9 | 1 << 5 | 1  # years after 1980, month, day
ATTRIBUTES = 0o100644 << 16  # a regular file that anyone may read

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")


def local_header(name: bytes, method: int, crc: int, packed: int, size: int) -> bytes:
    """What comes before a file that is less than 4 GiB; `packed` is its compressed size."""
    return LOCAL.pack(b"PK\3\4", VERSION, 0, method, 0, DATE, crc, packed, size, len(name), 0) + name


def local_header_of_stream(name: bytes, method: int, zip64: bool) -> bytes:
    """What comes before a file whose checksum and sizes are not known yet: its data descriptor has them."""
    version, sizes = (VERSION_ZIP64, 0xFFFFFFFF) if zip64 else (VERSION, 0)
    extra = struct.pack("<2H2Q", ZIP64, 16, 0, 0) if zip64 else b""
    fields = (version, SIZES_FOLLOW, method, 0, DATE, 0, sizes, sizes, len(name), len(extra))
    return LOCAL.pack(b"PK\3\4", *fields) + name + extra


def data_descriptor(crc: int, packed: int, size: int, zip64: bool) -> bytes:
    """What comes after such a file."""
    return struct.pack("<4sI2Q" if zip64 else "<4s3I", b"PK\7\x08", crc, packed, size)


def central_header(name: bytes, method: int, crc: int, packed: int, size: int, offset: int, flags: int = 0) -> bytes:
    """A file's entry in the directory; `offset` is that of its local header."""
    version, extra = VERSION, b""
    if max(packed, size, offset) >= LIMIT_32:
        large = [value for value in (size, packed, offset) if value >= LIMIT_32]
        extra = struct.pack(f"<2H{len(large)}Q", ZIP64, 8 * len(large), *large)
        version = VERSION_ZIP64
        packed, size, offset = (0xFFFFFFFF if value >= LIMIT_32 else value for value in (packed, size, offset))
    fields = (UNIX | version, version, flags, method, 0, DATE, crc, packed, size)
    return CENTRAL.pack(b"PK\1\2", *fields, len(name), len(extra), 0, 0, 0, ATTRIBUTES, offset) + name + extra


def end_of_archive(entries: int, size: int, offset: int) -> bytes:
    """What comes after the directory, which has so many entries and bytes and begins at `offset`."""
    if entries < LIMIT_16 and max(size, offset) < LIMIT_32:
        return struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, entries, entries, size, offset, 0)
    versions = (UNIX | VERSION_ZIP64, VERSION_ZIP64)
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, *versions, 0, 0, entries, entries, size, offset)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, offset + size, 1)
    entries = entries if entries < LIMIT_16 else 0xFFFF
    size, offset = (0xFFFFFFFF if value >= LIMIT_32 else value for value in (size, offset))
    return record + locator + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, entries, entries, size, offset, 0)
