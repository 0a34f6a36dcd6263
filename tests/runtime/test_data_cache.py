"""Pixels are read once, kept in the cache, and need not fit into memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.data.cache import cache_folder
from vae_gen.data.datasets import load_data_set
from vae_gen.data.options import DataOptions
from vae_gen.errors import OutputError

from tests.runtime.data_files import everything, fill, idx, pixels

pytestmark = pytest.mark.usefixtures("cache")


def count_opens(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    opened: list[object] = []
    really = Image.open

    def opening(file: object, *arguments: object, **options: object) -> Image.Image:
        opened.append(file)
        return really(file, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image, "open", opening)
    return opened


def test_a_folder_that_has_not_changed_is_not_read_again(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder)
    opened = count_opens(monkeypatch)
    said: list[list[str]] = [[], []]
    first = load_data_set(folder, notify=said[0].append)
    assert len(opened) >= 24
    opened.clear()
    again = load_data_set(folder, notify=said[1].append)
    assert opened == []
    assert "once; their pixels are kept in" in said[0][0]
    assert said[1] == said[0][1:]
    np.testing.assert_array_equal(everything(again), everything(first))
    assert again.describe() == first.describe()
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".npy"]

    before = first.sha256 + str(first.test_sha256)
    del first, again  # Windows keeps what is mapped
    Image.new("L", (8, 6), 3).save(folder / "00.png")  # another picture of that name
    changed = load_data_set(folder)
    assert opened
    assert changed.sha256 + str(changed.test_sha256) != before
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".npy"]  # the old pixels are gone
    load_data_set(folder, DataOptions(image_size=(4, 4)))
    assert len(list(cache.iterdir())) == 4


def test_what_was_chosen_and_what_is_asked_for_are_kept_once(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder)
    chosen = load_data_set(folder)
    channels, *size = chosen.image_shape
    opened = count_opens(monkeypatch)
    asked = load_data_set(folder, DataOptions((size[0], size[1]), channels))
    assert not opened
    assert asked.sha256 == chosen.sha256
    np.testing.assert_array_equal(everything(asked), everything(chosen))
    for options in (
        DataOptions((size[0], size[1] + 1), channels),
        DataOptions((size[0], size[1]), channels, invert=True),
    ):
        opened.clear()
        assert load_data_set(folder, options).sha256 != chosen.sha256
        assert opened


def test_a_cache_that_was_cut_is_made_again(folder: Path, cache: Path) -> None:
    fill(folder)
    first = load_data_set(folder).describe()
    (kept,) = cache.glob("*.npy")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert load_data_set(folder).describe() == first
    next(cache.glob("*.json")).write_text("{")
    assert load_data_set(folder).describe() == first
    next(cache.glob("*.npy")).unlink()
    assert load_data_set(folder).describe() == first


def test_a_cache_that_cannot_be_written_is_named(
    folder: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder)
    with monkeypatch.context() as patch:

        def full(*arguments: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(np.lib.format, "write_array_header_1_0", full)
        where = re.escape(str(cache))
        with pytest.raises(OutputError, match=rf"cannot write {where}.*\.npy: No space left.*set VAE_GEN_CACHE"):
            load_data_set(folder)
        assert not list(cache.iterdir())
    (tmp_path / "file").touch()
    monkeypatch.setenv("VAE_GEN_CACHE", str(tmp_path / "file"))
    where = re.escape(str(tmp_path / "file" if sys.platform == "win32" else tmp_path / "file" / "data"))
    with pytest.raises(OutputError, match=rf"{where}: .*set VAE_GEN_CACHE to a folder that can be written"):
        load_data_set(folder)


def test_who_has_no_home_needs_none_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("VAE_GEN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(pixels(24, 6, 8)))
    assert len(load_data_set(tmp_path).train) == 22
    with pytest.raises(OutputError, match="there is no home directory for a cache; set VAE_GEN_CACHE to a folder"):
        load_data_set(tmp_path, DataOptions(invert=True))


def test_what_needs_no_copy_needs_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", pixels(24, 3, 6, 8))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(pixels(24, 6, 8)))
    places = (tmp_path / "a.npy", tmp_path)
    expected = [load_data_set(place).describe() for place in places]
    (tmp_path / "file").touch()
    monkeypatch.setenv("VAE_GEN_CACHE", str(tmp_path / "file"))
    assert [load_data_set(place).describe() for place in places] == expected


def test_the_cache_lies_where_the_system_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder("data") == tmp_path / "cache" / "data"
    monkeypatch.delenv("VAE_GEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder("data") == tmp_path / "xdg" / "vae-gen" / "data"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder("data") == Path.home() / ".cache" / "vae-gen" / "data"


LIMITED = """
import resource, sys
from pathlib import Path
from vae_gen.data.datasets import load_data_set, DataOptions
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
limit = int(status["VmData"].split()[0]) * 1024 + 200 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
options = DataOptions(image_size=(512, 512), channels=3) if Path(sys.argv[1]).is_dir() else DataOptions()
data = load_data_set(Path(sys.argv[1]), options)
batch = data.train[[0, len(data.train) // 2, len(data.train) - 1]]
print(len(data.train), data.train.nbytes > 300 * 2**20, batch.shape, batch.flags.owndata, int(batch.max()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
@pytest.mark.parametrize("kind", ["folder", "array"])
def test_data_larger_than_the_memory_can_be_trained_on(folder: Path, tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        for number in range(516):
            Image.new("RGB", (8, 8), (7, 7, 8)).save(folder / f"{number}.bmp")
    else:
        np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (516, 3, 512, 512))[:] = 8
    source = folder if kind == "folder" else tmp_path / "a.npy"
    output = subprocess.run([sys.executable, "-c", LIMITED, str(source)], capture_output=True, text=True, check=True)
    assert output.stdout == "430 True (3, 3, 512, 512) True 8\n"
