from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.animate import save_animation, to_frames
from vae_gen.bundles import find
from vae_gen.cpus import usable_cpus
from vae_gen.data.datasets import load_data_set
from vae_gen.data.pictures import load_pictures
from vae_gen.errors import BundleError, DataError, OutputError, UsageError, VaeGenError
from vae_gen.files import is_there, make_folder, remove_tree, whole_file
from vae_gen.latent_files import read_latents, to_csv, write_latents
from vae_gen.manifest import Manifest

from tests.runtime.commands import stream_of
from tests.systems import needs_links, needs_names_too_long

TOO_LONG = Path("a" * 300)  # a name of which no system can say whether there is such a file


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("before")

    def write_and_fail() -> None:
        with whole_file(path) as partial:
            partial.write_text("half")
            assert path.read_text() == "before"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert [entry.name for entry in tmp_path.iterdir()] == ["result"]
    assert path.read_text() == "before"
    with whole_file(path) as partial:
        partial.write_text("after")
    assert [entry.name for entry in tmp_path.iterdir()] == ["result"]
    assert path.read_text() == "after"


@pytest.mark.usefixtures("paths_of_python_3_14")
def test_what_is_there_is_told_from_what_is_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert is_there(file)
    assert is_there(tmp_path)
    assert not any(map(is_there, (tmp_path / "other", file / "below", tmp_path / "\0")))


@needs_links
@pytest.mark.usefixtures("paths_of_python_3_14")
def test_links_that_lead_nowhere_are_not_there(tmp_path: Path) -> None:
    link, loop = tmp_path / "link", tmp_path / "loop"
    link.symlink_to("nowhere")
    loop.symlink_to("loop")
    assert not any(map(is_there, (link, loop)))


@needs_names_too_long
@pytest.mark.usefixtures("paths_of_python_3_14")
def test_names_that_are_too_long_are_told_from_what_is_not_there() -> None:
    for path in (TOO_LONG, TOO_LONG / "below"):
        with pytest.raises(OSError, match="File name too long"):
            is_there(path)


@needs_names_too_long
@pytest.mark.usefixtures("paths_of_python_3_14")
@pytest.mark.parametrize(
    ("read", "error"),
    [
        (find, BundleError),
        (Manifest.read, BundleError),
        (lambda path: load_pictures([path], (1, 2, 2)), DataError),
        (load_data_set, DataError),
        (lambda path: read_latents(str(path), stream_of(""), 2), DataError),
    ],
)
def test_what_nobody_can_tell_is_not_called_missing(read: Callable[[Path], object], error: type[VaeGenError]) -> None:
    with pytest.raises(error, match=r"^cannot read .*: (\[Errno \d+\] )?File name too long"):
        read(TOO_LONG)


def test_a_file_above_a_folder_is_named_where_windows_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(path: Path, **others: object) -> None:
        raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", str(path.parent))

    monkeypatch.setattr(Path, "mkdir", refused)
    message = f"cannot write to {tmp_path / 'file'}: it is a file; give the name of a directory"
    with pytest.raises(OutputError, match=re.escape(message)):
        make_folder(tmp_path / "file" / "below")


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a directory"), whole_file(tmp_path):
        pass
    with pytest.raises(OutputError, match="it is a file"):
        make_folder(tmp_path / "file")
    if sys.platform == "win32":
        below = r"cannot write to .*file: it is a file; give the name of a directory"
    else:
        below = r"cannot make the directory .*below: Not a directory"
    with pytest.raises(OutputError, match=below):
        make_folder(tmp_path / "file" / "below")
    missing = tmp_path / "missing" / "result"
    message = f"cannot write {missing}: No such file"
    with pytest.raises(OutputError, match=re.escape(message)), whole_file(missing) as partial:
        partial.touch()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no place in folders there")
def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(OutputError, match="is a device or a pipe"), whole_file(tmp_path / "pipe.npy"):
        pass
    assert (tmp_path / "pipe.npy").is_fifo()


@needs_links
def test_links_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with whole_file(tmp_path / "link") as partial:
        partial.write_text("through the link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "through the link"


def test_files_with_long_names_alike_do_not_meet(tmp_path: Path) -> None:
    with whole_file(tmp_path / f"{'a' * 50}-1") as one, whole_file(tmp_path / f"{'a' * 50}-2") as other:
        assert one != other
        one.write_text("1")
        other.write_text("2")
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["1", "2"]


def test_all_that_can_be_removed_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / "top" / name).mkdir(parents=True)
        (tmp_path / "top" / name / "file").touch()
    unlink = os.unlink

    def refuse(path: str, *arguments: object, **options: object) -> None:
        folder = os.path.realpath(f"/dev/fd/{options['dir_fd']}") if options.get("dir_fd") is not None else path
        if "b" in Path(folder).parts:
            raise PermissionError(13, "Permission denied", path)
        unlink(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(PermissionError):
        remove_tree(tmp_path / "top")
    remove_tree(tmp_path / "top", ignore_errors=True)
    assert [path.name for path in (tmp_path / "top").iterdir()] == ["b"]
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "top")


@needs_links
def test_a_link_to_itself_is_no_file_to_write(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    message = r"^cannot write .*loop: it is a link that leads to itself$"
    with pytest.raises(OutputError, match=message), whole_file(tmp_path / "loop") as partial:
        partial.touch()
    assert (tmp_path / "loop").is_symlink()


def read(source: object, text: str = "", latent_dim: int = 3) -> np.ndarray:
    return read_latents(str(source), stream_of(text), latent_dim)


def test_latents_survive_every_kind_of_file(tmp_path: Path) -> None:
    mean, log_var = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    names = ["a.png", 'b, "c".png', "new\nline.png", "mean_0"]
    for name in ("z.npy", "z.npz", "z.csv"):
        write_latents(tmp_path / name, names, mean, log_var)
        np.testing.assert_array_equal(read(tmp_path / name).astype(np.float32), mean)
    with np.load(tmp_path / "z.npz") as both:
        np.testing.assert_array_equal(both["mean"], mean)
        np.testing.assert_array_equal(both["log_var"], log_var)
    np.testing.assert_array_equal(read("-", (tmp_path / "z.csv").read_text()).astype(np.float32), mean)
    np.testing.assert_array_equal(read("-1.0,2,0.5"), np.array([[-1, 2, 0.5]], np.float32))
    (tmp_path / "spreadsheet.csv").write_bytes(b"\xef\xbb\xbf0.5,-1,3\r\n")  # as spreadsheets save UTF-8
    np.testing.assert_array_equal(read(tmp_path / "spreadsheet.csv"), [[0.5, -1, 3]])
    long = ",".join(["-0.12345678"] * 100)  # longer than a file's name may be
    np.testing.assert_array_equal(read(long, latent_dim=100), np.full((1, 100), -0.12345678))


def test_csv_names_its_rows_and_columns() -> None:
    mean, log_var = np.array([[0.1, -2], [3, 4]], np.float32), np.array([[-7, -8.5], [0, 1]], np.float32)
    text = to_csv(["a,b.png", "c.npy[1]"], mean, log_var)
    assert text == (
        'picture,mean_0,mean_1,log_var_0,log_var_1\n"a,b.png",0.1,-2.0,-7.0,-8.5\nc.npy[1],3.0,4.0,0.0,1.0\n'
    )


def test_columns_are_found_by_name_wherever_they_stand() -> None:
    files = "mean_1,picture,mean_0\n1,a,0\n\n11,b,10\nmean_1,picture,mean_0\n21,c,20\n"  # two, one after the other
    np.testing.assert_array_equal(read("-", files, 2), [[0, 1], [10, 11], [20, 21]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no latents"),
        ("\n\n", "holds no latents"),
        ("picture,mean_0,mean_1\n", "holds no latents"),
        ("1,2\n3\n", "line 2 of .* is not 2 numbers between commas: there is 1$"),
        ("1,2\n\na,b\n", "line 3 of .* is not 2 numbers between commas: number 1 of 2 is 'a'"),
        ("1,,2\n", "line 1 of .*: number 2 of 3 is empty"),
        ("1,-inf\n", "line 1 of .*: number 2 of 2 is -inf, which is not finite"),
        ("picture,mean_0\na,1\n", "line 1 of .* names the columns mean_0 to mean_0; this model needs mean_0 to mean_1"),
        ("mean_0,mean_1,mean_2\n1,2,3\n", "names the columns mean_0 to mean_2; this model needs mean_0 to mean_1"),
        ("picture,mean_0,mean_1\na,1\n", "line 2 of .* is not 2 numbers between commas: there is 1$"),
        ('"' + "1" * 200_000, "cannot read latents from .*: field larger than"),
    ],
)
def test_files_without_latents_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "z.csv").write_text(text)
    with pytest.raises(DataError, match=message) as raised:
        read(tmp_path / "z.csv", latent_dim=2)
    assert str(tmp_path / "z.csv") in str(raised.value)
    with pytest.raises(DataError, match=message):
        read("-", text, 2)


@pytest.mark.parametrize("name", ["z.npz", "z.npy", "z.png"])
@pytest.mark.parametrize("content", [b"PK\x03\x04damaged", b"\x89PNG", b"\x93NUMPY"])
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content + b"\xff")
    with pytest.raises(DataError, match=rf"cannot read latents from .*{name}: .*vae-gen encode makes them of pictures"):
        read(tmp_path / name)


def test_arrays_of_another_shape_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((4, 2)))
    with pytest.raises(DataError, match=r"z.npy holds float64 numbers of shape \[4, 2\]; .* floats \[n, 3\]"):
        read(tmp_path / "z.npy")


@pytest.mark.parametrize(
    ("typed", "flaw"),
    [
        ("1,two,3", ": number 2 of 3 is 'two'; '-' reads"),
        ("1,,3", ": number 2 of 3 is empty; '-' reads"),
        ("1,2", ": there are 2; '-' reads"),
        ("nan,1,2", ": number 1 of 3 is nan, which is not finite in float32; '-' reads"),
        ("1,2,1e39", ": number 3 of 3 is 1e39, which is not finite in float32; '-' reads"),
        (f"{'0' * 300},2,3x", ": number 3 of 3 is '3x'; '-' reads"),
        ("missing.npy", "; '-' reads"),
        (".", "; '-' reads"),
    ],
)
def test_what_is_neither_a_file_nor_numbers_is_refused(typed: str, flaw: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{typed!r} is neither a file nor 3 numbers between commas{flaw}")):
        read(typed)


def test_latents_are_not_written_into_other_files() -> None:
    with pytest.raises(UsageError, match=r"z\.txt does not end as a file of latents does; use one of \.npy"):
        write_latents(Path("z.txt"), ["a"], np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32))


def test_frames_are_as_wide_as_the_longest_caption() -> None:
    images = np.zeros((4, 1, 4, 4), np.uint8)
    assert len({frame.size for frame in to_frames(images, ["z = -3.00", "z = +1.00", "", "z"])}) == 1


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".apng"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_has_every_frame_for_its_time(tmp_path: Path, suffix: str, channels: int) -> None:
    levels = np.array([10, 200, 90], np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (3, channels, 8, 6))
    path = tmp_path / f"a{suffix}"
    save_animation(to_frames(images), path, fps=20)
    with Image.open(path) as animation:
        assert animation.n_frames == 3
        assert animation.size == (6, 8)
        assert animation.info.get("loop") == 0
        for number, level in enumerate(levels):
            animation.seek(number)
            animation.load()
            assert animation.info["duration"] == 50
            assert animation.convert("RGB").getpixel((3, 4)) == (level, level, level)


def test_captions_stand_above_the_pictures() -> None:
    black = np.zeros((2, 1, 224, 224), np.uint8)
    plain, captioned = to_frames(black), to_frames(black, ["z[7] = -2.40", "z[7] = +1.00"])
    assert captioned[0].height > plain[0].height == 224
    strip = captioned[0].height - 224
    assert captioned[0].crop((0, strip, 224, strip + 224)).tobytes() == plain[0].tobytes()
    assert captioned[0].crop((0, 0, 224, strip)).tobytes() != captioned[1].crop((0, 0, 224, strip)).tobytes()


def test_a_caption_is_never_cut_off() -> None:
    small, large = (to_frames(np.zeros((1, 1, size, size), np.uint8), ["z[7] = -2.40"])[0] for size in (28, 224))
    assert small.width > 28
    strip = np.asarray(small)[: small.height - 28]
    assert (strip[:, [0, -1]] == 255).all()
    assert large.width == 224


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 5, 4), np.uint8)


@pytest.mark.parametrize(("fps", "milliseconds"), [(50, 20), (30, 30), (24, 40), (10, 100)])
def test_a_gif_counts_in_hundredths_of_a_second(tmp_path: Path, fps: float, milliseconds: int) -> None:
    save_animation(to_frames(IMAGES), tmp_path / "a.gif", fps)
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.info["duration"] == milliseconds


def test_frames_too_large_for_their_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write frames of 1x20000 as WEBP: .*smaller --scale"):
        save_animation(to_frames(np.zeros((2, 1, 1, 20_000), np.uint8)), tmp_path / "a.webp", fps=10)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_animation_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.bmp has no suffix of an animation; use one of \.gif"):
        save_animation(to_frames(IMAGES), tmp_path / "a.bmp", fps=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a/b/cpu.max": "150000 100000", "a/cpu.max": "max 100000", "cpu.max": "900000 100000"}, 1),
        ({"a/b/cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "400000 100000"}, 4),
        ({"a/b/cpu.max": "max 100000"}, 16),
        ({"cpu/a/b/cpu.cfs_quota_us": "300000", "cpu/a/b/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/a/b/cpu.cfs_quota_us": "-1", "cpu/a/b/cpu.cfs_period_us": "100000"}, 16),
        ({}, 16),
    ],
)
def test_a_cgroup_quota_limits_the_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    version1 = any(name.startswith("cpu/") for name in files)
    (tmp_path / "membership").write_text("4:cpu,cpuacct:/a/b\n3:memory:/c\n" if version1 else "0::/a/b\n")
    monkeypatch.setattr("vae_gen.cpus.CGROUPS", tmp_path)
    monkeypatch.setattr("vae_gen.cpus.MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)), raising=False)
    assert usable_cpus() == expected
