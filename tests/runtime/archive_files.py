"""What tests of archives share: archives of pictures of all kinds."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from vae_gen.data.datasets import DataSet

from tests.runtime.data_files import everything, sizes

KINDS = ("zip", "deflated.zip", "tar", "pax.tar", "tar.gz", "tgz")


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def pack(path: Path, files: Mapping[str, bytes]) -> Path:
    """An archive of the kind that its name says, with these files."""
    if path.suffix == ".zip":
        compression = zipfile.ZIP_DEFLATED if path.name.endswith("deflated.zip") else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    mode = "w:gz" if path.suffix in (".gz", ".tgz") else "w"
    form = tarfile.PAX_FORMAT if path.name.endswith("pax.tar") else tarfile.GNU_FORMAT
    with tarfile.open(path, mode, format=form) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if form == tarfile.PAX_FORMAT:
                member.pax_headers = {"comment": "known"}
            tar.addfile(member, io.BytesIO(content))
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def same(found: DataSet, expected: DataSet) -> bool:
    alike = (found.sha256, found.test_sha256) == (expected.sha256, expected.test_sha256)
    return alike and sizes(found) == sizes(expected) and np.array_equal(everything(found), everything(expected))


def blank(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member
