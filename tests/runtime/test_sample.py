"""vae-gen sample: the same pixels in every format, the same bytes however they are made."""

from __future__ import annotations

import json
import shlex
import struct
import tarfile
import zipfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.bundles import shipped
from vae_gen.cli import main
from vae_gen.latents import draw
from vae_gen.model import load
from vae_gen.sheets import grid

from tests.conftest import MODELS
from tests.runs import TINY, sample, tree
from tests.runtime import reference

pytestmark = pytest.mark.usefixtures("elsewhere")

FORMATS = ("png", "npy", "npz", "tar", "zip", "idx")


def expected(seed: int, indices: list[int], temperature: float = 1) -> np.ndarray:
    z = np.concatenate([draw(seed, index, 1, 3) for index in indices]) * np.float32(temperature)
    return reference.round_half_up(reference.decode(z))


def images_in(folder: str | Path) -> dict[str, bytes]:
    """Every file in a folder, by its path, but for manifests: they differ between shards of one run."""
    return {path: content for path, content in tree(folder).items() if not Path(path).name.startswith("manifest")}


def png(content: bytes) -> tuple[np.ndarray, dict[str, str]]:
    with Image.open(BytesIO(content)) as picture:
        return np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1), dict(picture.text)


def read(path: str) -> tuple[np.ndarray, list[int] | None]:
    """Images and indices of a folder or a file, by readers that are not ours."""
    if Path(path).is_dir():
        files = sorted(Path(path).glob("*.png"))
        return np.stack([png(file.read_bytes())[0] for file in files]), [int(file.stem) for file in files]
    if path.endswith(".npy"):
        return np.load(path), None
    if path.endswith(".npz"):
        with np.load(path) as arrays:
            return arrays["images"], None
    if path.endswith(".idx"):
        content = Path(path).read_bytes()
        shape = struct.unpack(f">{content[3]}I", content[4 : 4 + 4 * content[3]])
        return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape), None
    if path.endswith(".tar"):
        with tarfile.open(path) as archive:
            members = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
    else:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    pictures = {name: content for name, content in members.items() if name.endswith(".png")}
    return np.stack([png(content)[0] for content in pictures.values()]), [int(name[:-4]) for name in pictures]


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_holds_the_decoded_draws(format: str) -> None:
    out = "out" if format == "png" else f"out.{format}"
    sample("--indices", "5,17,100-120", "--seed", 3, "--out", out)
    indices = [5, 17, *range(100, 121)]
    images, found = read(out)
    np.testing.assert_array_equal(images, expected(3, indices))
    assert found in (None, indices)


@pytest.mark.parametrize("format", FORMATS)
def test_bytes_do_not_depend_on_how_they_are_made(format: str) -> None:
    parts = () if format == "png" else ("--shard-size", 300)
    what = ("--n", 1000, "--seed", 3, "--start", 50, "--format", format, "--latents", *parts)
    sample(*what, "--out", "a", "--threads", 1)
    reference_tree = images_in("a")
    assert len(reference_tree) == (1001 if format == "png" else 8)
    manifest = Path("a/manifest.json").read_bytes()
    for number, how in enumerate(
        [
            ("--threads", 2, "--batch-size", 1),
            ("--threads", 2, "--batch-size", 7),
            ("--batch-size", 100_000),
            ("--workers", 2, "--threads", 1, "--batch-size", 64),
        ]
    ):
        sample(*what, "--out", f"b{number}", *how)
        assert images_in(f"b{number}") == reference_tree
        assert Path(f"b{number}/manifest.json").read_bytes() == manifest


@pytest.mark.parametrize("name", shipped())
def test_shipped_models_make_the_same_bytes_in_any_batch(name: str) -> None:
    what = ("--n", 1000, "--seed", 3)
    sample(*what, "--out", "a.npy", "--threads", 1, model=name)
    for size in (1, 50, 128, 300):
        sample(*what, "--out", f"{size}.npy", "--batch-size", size, "--threads", 2, model=name)
        assert Path(f"{size}.npy").read_bytes() == Path("a.npy").read_bytes()
    sample("--indices", "7,999,128", "--seed", 3, "--out", "few.npy", model=name)
    np.testing.assert_array_equal(np.load("few.npy"), np.load("a.npy")[[7, 128, 999]])


@pytest.mark.parametrize(
    "what",
    [
        ("--n", 1000, "--format", "png"),
        ("--n", 20_500, "--start", 9_700, "--format", "png"),
        ("--n", 1000, "--format", "tar", "--shard-size", 90),
        ("--n", 1000, "--format", "npy", "--shard-size", 400),
    ],
    ids=str,
)
def test_shards_make_together_what_one_run_makes(what: tuple[object, ...]) -> None:
    sample(*what, "--seed", 3, "--out", "whole")
    for shard in (2, 0, 1):
        sample(*what, "--seed", 3, "--out", "shards", "--shard", f"{shard}/3")
    assert images_in("shards") == images_in("whole")
    manifests = [json.loads(path.read_text()) for path in sorted(Path("shards").glob("manifest*"))]
    assert [manifest["shard"] for manifest in manifests] == ["0/3", "1/3", "2/3"]
    assert not Path("shards/.vae-gen").exists()
    assert main(["verify", "shards", "--quiet"]) == 0


def test_containers_without_a_size_are_one_a_shard() -> None:
    sample("--n", 10, "--seed", 3, "--out", "whole.npy")
    for shard in range(3):
        sample("--n", 10, "--seed", 3, "--out", "shards", "--format", "npy", "--shard", f"{shard}/3")
    parts = [np.load(f"shards/00000{number}.npy") for number in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), np.load("whole.npy"))


def test_pictures_say_where_they_come_from_unless_told_not_to() -> None:
    sample("--n", 2, "--seed", 3, "--start", 7, "--temperature", 0.5, "--out", "a")
    hash_of_decoder = sha256((MODELS / "tiny/decoder.onnx").read_bytes()).hexdigest()
    image, texts = png(Path("a/000000008.png").read_bytes())
    assert texts == {
        "Software": "vae-gen 0.1.0",
        "Model": f"tiny {hash_of_decoder[:16]}",
        "Seed": "3",
        "Temperature": "0.5",
        "Index": "8",
    }
    np.testing.assert_array_equal(image, expected(3, [8], 0.5)[0])
    sample("--n", 2, "--seed", 3, "--out", "b", "--no-metadata")
    assert png(Path("b/000000001.png").read_bytes())[1] == {}
    sample("--n", 1, "--seed", 3, "--out", "c.tar")
    with tarfile.open("c.tar") as archive:
        record = json.loads(archive.extractfile("000000000.json").read())
    assert record == {"index": 0, "software": "vae-gen 0.1.0", "model": f"tiny {hash_of_decoder[:16]}", "seed": 3}
    sample("--n", 1, "--seed", 3, "--out", "d.tar", "--no-metadata")
    with tarfile.open("d.tar") as archive:
        assert archive.getnames() == ["000000000.png"]


def test_the_manifest_says_what_was_made_and_how_to_make_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    sample("--n", 250, "--seed", 3, "--out", "a", "--format", "zip", "--shard-size", 100, "--latents", "--json")
    manifest = json.loads(Path("a/manifest.json").read_text())
    assert json.loads(capsys.readouterr().out) == manifest
    images = expected(3, list(range(250)))
    z = draw(3, 0, 250, 3)
    assert manifest["parts"] == [
        {
            "name": f"{number:06d}.zip",
            "images": stop - first,
            "indices": f"{first}-{stop - 1}",
            "pixels_sha256": sha256(images[first:stop].tobytes()).hexdigest(),
            "latents": f"{number:06d}.latents.npy",
            "latents_sha256": sha256(z[first:stop].tobytes()).hexdigest(),
        }
        for number, (first, stop) in enumerate([(0, 100), (100, 200), (200, 250)])
    ]
    assert (manifest["images"], manifest["seed"], manifest["format"], manifest["model"]) == (250, 3, "zip", "tiny")
    np.testing.assert_array_equal(np.load("a/000001.latents.npy"), z[100:200])
    words = shlex.split(manifest["command"])
    assert words[:2] == ["vae-gen", "sample"]
    assert main([*words[1:], "--out", "again", "--quiet"]) == 0
    assert images_in("again") == images_in("a")


def test_a_single_file_has_its_manifest_beside_it() -> None:
    sample("--n", 5, "--seed", 3, "--out", "deep/er/a.npy", "--grid", "2x3", "--latents")
    names = ["a.grid.png", "a.latents.npy", "a.npy", "a.npy.manifest.json"]
    assert sorted(path.name for path in Path("deep/er").iterdir()) == names
    assert main(["verify", "deep/er/a.npy", "--quiet"]) == 0
    again = ("--latents", "--z", "deep/er/a.latents.npy")
    assert main(["decode", "--model", TINY, *again[1:], "--out", "b.npy", "-q"]) == 0
    np.testing.assert_array_equal(np.load("b.npy"), np.load("deep/er/a.npy"))


def test_the_contact_sheet_has_the_first_images() -> None:
    sample("--n", 30, "--seed", 3, "--start", 4, "--out", "a", "--grid", "2x5")
    sheet, _ = png(Path("a/grid.png").read_bytes())
    np.testing.assert_array_equal(sheet, grid(expected(3, list(range(4, 14))), columns=5))
    assert sheet.shape == (3, 2 + 2 * 7, 2 + 5 * 6)


@pytest.mark.parametrize("format", ["npy", "tar"])
def test_a_pipe_gets_the_same_bytes(format: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    sample("--n", 300, "--seed", 3, "--out", f"a.{format}")
    capfdbinary.readouterr()
    sample("--n", 300, "--seed", 3, "--out", "-", "--format", format)
    assert capfdbinary.readouterr().out == Path(f"a.{format}").read_bytes()


def test_grey_stays_grey() -> None:
    sample("--n", 1, "--seed", 3, "--out", "a", model="mnist")
    with Image.open("a/000000000.png") as picture:
        assert (picture.mode, picture.size) == ("L", (28, 28))
    np.testing.assert_array_equal(
        png(Path("a/000000000.png").read_bytes())[0][0],
        reference.round_half_up(load("mnist").sample(1, seed=3))[0, 0],
    )
