"""Containers of every format: others read what is written, and it is read back."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.containers import READERS, open_container, read_container
from vae_gen.defaults import FORMATS as WRITTEN
from vae_gen.errors import OutputError, UsageError

from tests.runtime.container_files import (
    ARRAYS,
    FORMATS,
    INDICES,
    PICTURES,
    PROVENANCE,
    SHAPES,
    Pipe,
    independently,
    pixels,
    read_back,
    written,
)


def test_every_format_that_is_written_is_read() -> None:
    assert sorted(WRITTEN) == sorted(READERS) == sorted([*FORMATS, "png"])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("format", FORMATS)
def test_others_read_the_pixels_that_were_written(format: str, shape: tuple[int, int, int]) -> None:
    images = pixels(6, shape)
    np.testing.assert_array_equal(independently(format, written(format, images, provenance=PROVENANCE)), images)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("format", FORMATS)
def test_what_was_written_is_read_back(format: str, shape: tuple[int, int, int]) -> None:
    images = pixels(5, shape)
    gaps = [0, 7, 8, 123_456_789_012, 2**63 - 1]
    indices, back = read_back(format, written(format, images, gaps, PROVENANCE))
    np.testing.assert_array_equal(back, images)
    assert indices == (gaps if format in PICTURES else None)


@pytest.mark.parametrize("format", FORMATS)
def test_the_bytes_do_not_depend_on_how_images_are_divided_among_calls(format: str) -> None:
    images = pixels(7)
    whole = written(format, images, provenance=PROVENANCE)
    assert [written(format, images, provenance=PROVENANCE, step=step) for step in (1, 3, 4)] == [whole] * 3


@pytest.mark.parametrize("format", FORMATS)
def test_views_are_written_like_copies(format: str) -> None:
    images = pixels(4).transpose(0, 1, 3, 2)
    assert written(format, images) == written(format, images.copy())


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_of_no_images_is_whole(format: str) -> None:
    container = open_container(format, pipe := Pipe(), 0, (1, 5, 4))
    container.write(pixels(0, (1, 5, 4)), [])
    container.close()
    assert list(read_container(format, io.BytesIO(pipe.content), "it")) == []


@pytest.mark.parametrize("format", ARRAYS)
@pytest.mark.parametrize("came", [2, 4])
def test_a_header_that_promised_another_count_is_an_error(format: str, came: int) -> None:
    container = open_container(format, Pipe(), 3, (3, 5, 4))
    container.write(pixels(came), range(came))
    with pytest.raises(OutputError, match=f"to hold 3 images and got {came}"):
        container.close()


def test_npy_files_begin_with_the_header_of_version_1() -> None:
    content = written("npy", pixels(3))
    np.save(reference := io.BytesIO(), pixels(3))
    assert content == reference.getvalue()
    assert content[6:8] == b"\1\0"


def test_idx_files_have_mnist_s_header() -> None:
    assert written("idx", pixels(3, (1, 5, 4)))[:16] == bytes.fromhex("00000803 00000003 00000005 00000004")
    assert written("idx", pixels(2))[:20] == bytes.fromhex("00000804 00000002 00000003 00000005 00000004")


def test_idx_counts_in_32_bits() -> None:
    open_container("idx", pipe := Pipe(), 2**32 - 1, (1, 28, 28))
    assert pipe.content[4:8] == b"\xff\xff\xff\xff"
    with pytest.raises(UsageError, match=r"32 bits.*at most 4,294,967,295, not 4,294,967,296; choose npy"):
        open_container("idx", Pipe(), 2**32, (1, 28, 28))


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown format 'rar'; known: png, npy, npz, tar, zip, idx"):
        open_container("rar", Pipe(), 1, (1, 2, 2))
    with pytest.raises(UsageError, match="unknown format 'rar'; known: png, npy, npz, tar, zip, idx"):
        read_container("rar", io.BytesIO(), "it")


@pytest.mark.parametrize("format", PICTURES)
@pytest.mark.parametrize("provenance", [None, {}, PROVENANCE])
def test_pictures_carry_provenance_if_there_is_any(
    format: str, provenance: dict[str, str | int | float] | None
) -> None:
    content = written(format, pixels(1), [12], provenance)
    if format == "tar":
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            found = {member.name: archive.extractfile(member).read() for member in archive}
    else:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = {name: archive.read(name) for name in archive.namelist()}
    texts = Image.open(io.BytesIO(found.pop("000000012.png"))).text
    if provenance is None:
        assert texts == {}
    else:
        assert texts == {"Index": "12"} | {key: str(value) for key, value in provenance.items()}
    if format == "tar" and provenance is not None:
        line = found.pop("000000012.json").decode()
        assert line.endswith("}\n")
        assert line.count("\n") == 1
        assert json.loads(line) == {"index": 12} | {key.lower(): value for key, value in provenance.items()}
    assert found == {}


@pytest.mark.parametrize(("format", "tool"), [("tar", ["tar", "-tf"]), ("zip", ["unzip", "-tqq"])])
def test_the_system_s_tools_accept_it(format: str, tool: list[str], tmp_path: Path) -> None:
    path = tmp_path / f"images.{format}"
    path.write_bytes(written(format, pixels(5), INDICES + [5], PROVENANCE))
    if shutil.which(tool[0]):
        done = subprocess.run([*tool, path], check=True, capture_output=True, text=True)
        assert done.stderr == ""
