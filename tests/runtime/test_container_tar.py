"""Tar files, field by field and against Python's own."""

from __future__ import annotations

import io
import tarfile

import pytest
from vae_gen.png import PngEncoder

from tests.runtime.container_files import INDICES, NAMES, PROVENANCE, FakeEncoder, pixels, written


def test_a_tar_is_that_of_python_s_tarfile() -> None:
    images = pixels(4)
    texts = {key: str(value) for key, value in PROVENANCE.items()}
    pictures = PngEncoder((3, 5, 4), texts).encode(images, INDICES)
    reference = io.BytesIO()
    with tarfile.open(fileobj=reference, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, index, picture in zip(NAMES, INDICES, pictures, strict=True):
            line = f'{{"index": {index}, "model": "T\\u00efny", "seed": 7, "temperature": 0.5}}\n'
            for suffix, content in (("png", picture), ("json", line.encode())):
                member = tarfile.TarInfo(f"{name}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    content = written("tar", images, INDICES, PROVENANCE)
    assert len(content) % 10240 == 0
    assert content == reference.getvalue()


def test_a_tar_header_s_fields_are_those_of_ustar(fake_encoder: None) -> None:
    header = written("tar", pixels(1), [123])[:512]
    fields = {"name": 100, "mode": 8, "uid": 8, "gid": 8, "size": 12, "mtime": 12, "checksum": 8, "typeflag": 1}
    fields |= {"linkname": 100, "magic": 6, "version": 2, "owners": 64, "device": 16, "prefix": 155, "rest": 12}
    found, start = {}, 0
    for name, size in fields.items():
        found[name] = header[start : start + size]
        start += size
    assert start == 512
    assert found.pop("name").rstrip(b"\0") == b"000000123.png"
    blank = header[:148] + b" " * 8 + header[156:]
    assert found.pop("checksum") == b"%06o\0 " % sum(blank)
    assert found == {
        "mode": b"0000644\0",
        "uid": b"0000000\0",
        "gid": b"0000000\0",
        "size": b"00000000007\0",
        "mtime": b"00000000000\0",
        "typeflag": b"0",
        "linkname": bytes(100),
        "magic": b"ustar\0",
        "version": b"00",
        "owners": bytes(64),
        "device": bytes(16),
        "prefix": bytes(155),
        "rest": bytes(12),
    }


# Of 2 blocks, 9 pictures and the end fill 10,240 bytes exactly; of 3 blocks, 13 pictures leave room for half the end.
@pytest.mark.parametrize(
    ("blocks", "count", "size"), [(2, 8, 10240), (2, 9, 10240), (2, 10, 20480), (3, 13, 30720), (3, 20, 40960)]
)
def test_a_tar_s_end_is_padded_to_whole_records(
    fake_encoder: None, monkeypatch: pytest.MonkeyPatch, blocks: int, count: int, size: int
) -> None:
    monkeypatch.setattr(FakeEncoder, "content", b"x" * (512 * (blocks - 1)))
    content = written("tar", pixels(count))
    assert len(content) == size
    assert content[: count * blocks * 512].endswith(b"x")
    assert not any(content[count * blocks * 512 :])
