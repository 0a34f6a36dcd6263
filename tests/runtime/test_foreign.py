"""Decoders that other people bring: the same images, whatever the graph looks like."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from vae_gen.decoder import _range_found
from vae_gen.errors import BundleError, UsageError, VaeGenError
from vae_gen.images import to_uint8
from vae_gen.latents import draw
from vae_gen.model import load
from vae_gen.reading import Reading

from tests.runtime import reference
from tests.runtime.foreign import FOREIGN, SEEN, expected

pytestmark = pytest.mark.usefixtures("elsewhere")

# What is to be said of a graph, how it is then read, its images, how many rows it runs at a time.
READ: dict[str, tuple[dict[str, Any], Reading, tuple[int, int, int], int]] = {
    "plain": ({}, Reading("NCHW", (0, 1), "image"), SEEN, 128),
    "ambiguous": ({"layout": "NCHW"}, Reading("NCHW", (0, 1), "image"), (3, 5, 4), 128),
    "grey": ({}, Reading("NHW", (0, 1), "image"), (1, 12, 5), 128),
    "nhwc": ({}, Reading("NHWC", (0, 1), "image"), SEEN, 128),
    "signed": ({"value_range": (-1, 1)}, Reading("NCHW", (-1, 1), "image"), SEEN, 128),
    "signed-stated": ({}, Reading("NCHW", (-1, 1), "image"), SEEN, 128),
    "to-255": ({"value_range": (0, 255)}, Reading("NCHW", (0, 255), "image"), SEEN, 128),
    "double": ({}, Reading("NCHW", (0, 1), "image"), SEEN, 128),
    "fixed-batch": ({}, Reading("NCHW", (0, 1), "image"), SEEN, 4),
    "one-at-a-time": ({}, Reading("NCHW", (0, 1), "image"), SEEN, 1),
    "batch-within": ({}, Reading("NCHW", (0, 1), "image"), SEEN, 1),
    "maps": ({}, Reading("NCHW", (0, 1), "image"), SEEN, 128),
    "open-sizes": ({}, Reading("NCHW", (0, 1), "image"), SEEN, 128),
    "weights-as-inputs": ({}, Reading("NCHW", (0, 1), "image"), SEEN, 128),
    "weights-beside": ({}, Reading("NCHW", (0, 1), "image"), SEEN, 128),
    "several-outputs": ({"output_name": "image"}, Reading("NCHW", (0, 1), "image"), SEEN, 128),
}


def by_onnxruntime(name: str, z: np.ndarray) -> np.ndarray:
    """The image output of a graph, as it is."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(FOREIGN / f"{name}.onnx"), options).run(["image"], {"z": z})[0]


def changed(name: str, old: bytes, new: bytes) -> Path:
    """A copy of a graph with other bytes in it, as many."""
    content = (FOREIGN / f"{name}.onnx").read_bytes()
    assert content.count(old) == 1
    assert len(old) == len(new)
    Path("changed.onnx").write_bytes(content.replace(old, new))
    return Path("changed.onnx")


@pytest.mark.parametrize("name", READ)
def test_the_same_images_of_whatever_form(name: str) -> None:
    said, read_as, image_shape, rows_per_run = READ[name]
    model = load(FOREIGN / f"{name}.onnx", **said)
    assert (model.reading, model.image_shape, model.latent_dim) == (read_as, image_shape, 3)
    assert model.rows_per_run == model.description.rows_per_run == rows_per_run
    z = draw(1, 0, 130, 3)
    for count in (0, 1, 130):
        images, pixels = model.decode(z[:count]), model.decode_bytes(z[:count])
        assert (images.dtype, pixels.dtype) == (np.float32, np.uint8)
        np.testing.assert_allclose(images, expected(z[:count], image_shape), atol=1e-6)
        np.testing.assert_array_equal(pixels, reference.round_half_up(expected(z[:count], image_shape)))
        np.testing.assert_array_equal(pixels, to_uint8(images))


def test_half_precision_is_read_as_good_as_it_is() -> None:
    z = draw(1, 0, 130, 3)
    model = load(FOREIGN / "half.onnx")
    np.testing.assert_allclose(model.decode(z), expected(z), atol=1e-3)
    np.testing.assert_array_equal(model.decode_bytes(z), to_uint8(model.decode(z)))


def test_bytes_are_the_graphs_own() -> None:
    z = draw(1, 0, 128, 3)
    model = load(FOREIGN / "bytes.onnx")
    assert model.reading == Reading("NHWC", (0, 255), "image")
    theirs = by_onnxruntime("bytes", z).transpose(0, 3, 1, 2)
    assert theirs.dtype == np.uint8
    np.testing.assert_array_equal(model.decode_bytes(z), theirs)
    np.testing.assert_array_equal(model.decode(z), theirs.astype(np.float32) / np.float32(255))
    part = load(FOREIGN / "bytes.onnx", value_range=(-100, 200)).decode(z)  # bytes are numbers too
    np.testing.assert_allclose(part, np.minimum((theirs + 100.0) / 300, 1), atol=1e-6)


def test_rows_that_share_a_scale_run_alone() -> None:
    z = draw(1, 0, 20, 3)
    alone = np.concatenate([by_onnxruntime("scale-of-all", row[None]) for row in z])
    assert (by_onnxruntime("scale-of-all", z) != alone).any()
    model = load(FOREIGN / "scale-of-all.onnx")
    assert model.rows_per_run == 1
    np.testing.assert_array_equal(model.decode(z), alone)


def test_a_decoder_of_ours_may_make_bytes_of_a_fixed_batch_and_share_a_scale() -> None:
    z = draw(1, 0, 5, 3)
    padded = [np.concatenate([row[None], np.zeros((3, 3), np.float32)]) for row in z]
    alone = np.concatenate([by_onnxruntime("ours", rows)[:1] for rows in padded]).transpose(0, 3, 1, 2)
    model = load(FOREIGN / "ours.onnx")
    about = model.description
    assert (about.name, about.layout, about.value_range, about.rows_per_run) == ("tiny", "NHWC", (0, 255), 1)
    np.testing.assert_array_equal(model.decode_bytes(z), alone)
    np.testing.assert_array_equal(model.decode_bytes(z[3:]), alone[3:])


def test_a_description_that_says_nothing_of_layout_and_rows_has_the_defaults(tiny: Path) -> None:
    assert "layout" not in json.loads((tiny / "manifest.json").read_text())["description"]
    about = load(tiny).description
    assert (about.layout, about.rows_per_run) == ("NCHW", None)


def test_what_a_graph_says_is_overruled_by_options() -> None:
    z = draw(1, 0, 3, 3)
    stated = FOREIGN / "signed-stated.onnx"
    wide = load(stated, value_range=(-3, 3)).decode(z)
    np.testing.assert_allclose(wide, (2 * expected(z) - 1 + 3) / 6, atol=1e-6)
    assert load(FOREIGN / "ambiguous.onnx", layout="NHWC").image_shape == (4, 3, 5)


def test_what_our_own_decoders_say_is_not_overruled(tiny: Path) -> None:
    with pytest.raises(
        UsageError, match=r"value_range is \(0\.0, 1\.0\), not \(-1\.0, 1\.0\); leave out --value-range"
    ):
        load(tiny, value_range=(-1, 1))
    with pytest.raises(UsageError, match=r"its layout is NCHW, not NHWC; leave out --layout"):
        load(tiny / "decoder.onnx", layout="NHWC")
    assert load(tiny, layout="NCHW", value_range=(0, 1), output_name="image").reading == load(tiny).reading


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("signed-stated", b"[-1, 1]", b"[-1, x]", r"say that value_range is '\[-1, x\]', not two numbers"),
        ("signed-stated", b"[-1, 1]", b"[1, -1]", r"value_range is \(1\.0, -1\.0\); it must be two numbers"),
        ("signed-stated", b"NCHW", b"CHWN", r"its output must be images, NCHW"),
        ("ours", b"rows_per_run\x12\x011", b"rows_per_run\x12\x015", "rows_per_run is 5; it must be 1 to 4"),
        ("ours", b"rows_per_run\x12\x011", b"rows_per_run\x12\x01x", "rows_per_run is 'x'; it must be 1 to 4"),
        ("ours", b"NHWC", b"NCHW", "does not fit its graph"),
        ("ours", b"[0, 255]", b"[0, 254]", r"makes uint8, and says of itself that value_range is \(0, 254\)"),
    ],
)
def test_metadata_that_cannot_be_are_refused(name: str, old: bytes, new: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=rf"changed\.onnx.*{message}"):
        load(changed(name, old, new))


def test_weights_beside_the_graph_belong_to_it() -> None:
    for name in ("weights-beside.onnx", "weights-beside.onnx.data"):
        shutil.copy(FOREIGN / name, name)
    before = load("weights-beside.onnx").decoder_sha256
    assert load(FOREIGN / "weights-beside.onnx").decoder_sha256 == before
    weights = bytearray(Path("weights-beside.onnx.data").read_bytes())
    weights[3] ^= 0x80  # a sign
    Path("weights-beside.onnx.data").write_bytes(weights)
    assert load("weights-beside.onnx").decoder_sha256 != before
    Path("weights-beside.onnx.data").unlink()
    with pytest.raises(BundleError, match=r"weights-beside\.onnx is not an ONNX graph that can be run: .*\.onnx\.data"):
        load("weights-beside.onnx")


def test_a_decoder_with_noise_in_it_is_refused() -> None:
    with pytest.raises(BundleError, match=r"noise\.onnx makes another image of the same latents each time"):
        load(FOREIGN / "noise.onnx")


# Values as decoders make them, and the ranges that they are read as.
random = np.random.default_rng(0)
LINEAR = np.where(random.random(10_000) < 0.8, 0, 1) + random.normal(0, 0.1, 10_000)  # a digit, by squared errors
PHOTOGRAPH = np.clip(random.normal(0, 0.5, 10_000), -1, 1)  # by a tanh
SNOW = np.clip(random.normal(0.4, 0.4, 10_000), -1, 1)
UNTRAINED = random.normal(0, 0.15, 10_000)
STANDARDISED = random.normal(0, 1, 10_000)


@pytest.mark.parametrize(
    ("values", "value_range", "suggestion"),
    [
        (LINEAR, (0, 1), None),
        (2 * LINEAR - 1, (-1, 1), None),
        (255 * LINEAR, (0, 255), None),
        (PHOTOGRAPH, (-1, 1), None),
        (np.zeros(100), (0, 1), None),
        (np.full(100, 1.2), (0, 1), None),
        (PHOTOGRAPH, (0, 1), "-1,1"),
        (SNOW, (0, 1), "-1,1"),
        (UNTRAINED, (0, 1), "-1,1"),
        (2 * LINEAR - 1, (0, 1), "-1,1"),
        (255 * LINEAR, (0, 1), "0,255"),
        (255 * LINEAR, (-1, 1), "0,255"),
        (LINEAR, (5, 6), "0,1"),
        (STANDARDISED, (0, 1), "LOW,HIGH"),
        (np.full(100, -1.0), (0, 1), "LOW,HIGH"),
    ],
)
def test_values_of_another_range_are_told_from_those_that_overshoot(
    values: np.ndarray, value_range: tuple[float, float], suggestion: str | None
) -> None:
    if suggestion is None:
        assert _range_found(values, value_range, Path("x.onnx")) == (values.min(), values.max())
        return
    with pytest.raises(BundleError, match=rf"^x\.onnx makes values from -?[0-9.]+ to .*=({re.escape(suggestion)})$"):
        _range_found(values, value_range, Path("x.onnx"))


def test_bad_values_of_the_library_are_errors_of_its_own() -> None:
    for wrong in ({"layout": ""}, {"layout": "nchw"}, {"layout": ["NCHW"]}, {"value_range": (1, 1)}):
        with pytest.raises(VaeGenError, match=f"^{next(iter(wrong))} is"):
            load(FOREIGN / "plain.onnx", **wrong)
    for no_range in (1, (1,), (0, 1, 5), "-1,1", (None, 1)):
        with pytest.raises(VaeGenError, match=r"^value_range is .*; it must be two numbers"):
            load(FOREIGN / "plain.onnx", value_range=no_range)
