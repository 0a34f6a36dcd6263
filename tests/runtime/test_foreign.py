"""Decoders that other people bring: the same images, whatever the graph looks like, and the same bytes every time."""

from __future__ import annotations

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from vae_gen.cli import main
from vae_gen.decoder import _range_found
from vae_gen.errors import BundleError, UsageError, VaeGenError
from vae_gen.generate import plan
from vae_gen.images import to_uint8
from vae_gen.indices import Indices
from vae_gen.jobs import Crew, make_run
from vae_gen.latents import draw, traversal
from vae_gen.model import load
from vae_gen.reading import Reading

from tests.conftest import MODELS
from tests.runtime import reference

pytestmark = pytest.mark.usefixtures("elsewhere")

FOREIGN = MODELS / "foreign"
SIGNED = str(FOREIGN / "signed.onnx")
SEEN = (3, 2, 10)

Capture = pytest.CaptureFixture[str]

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


def run(*arguments: object) -> None:
    assert main([*map(str, arguments), "-q"]) == 0


def by_onnxruntime(name: str, z: np.ndarray) -> np.ndarray:
    """The image output of a graph, as it is."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(FOREIGN / f"{name}.onnx"), options).run(["image"], {"z": z})[0]


def expected(z: np.ndarray, image_shape: tuple[int, ...] = SEEN) -> np.ndarray:
    return reference.decode(z).reshape(-1, *image_shape)


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


@pytest.mark.parametrize("name", ["fixed-batch", "one-at-a-time", "batch-within", "scale-of-all", "ours", "nhwc"])
def test_bytes_do_not_depend_on_the_batch(name: str) -> None:
    what = ("sample", "--model", FOREIGN / f"{name}.onnx", "--seed", 3, "--n", 30, "--format", "npy")
    run(*what, "--out", "a.npy", "--threads", 1)
    for number, how in enumerate([("--batch-size", 1), ("--batch-size", 7, "--threads", 2), ("--batch-size", 100)]):
        run(*what, "--out", f"{number}.npy", *how)
        assert Path(f"{number}.npy").read_bytes() == Path("a.npy").read_bytes()
    run(*what[:5], "--indices", "3,7-9,29", "--out", "some.npy")
    np.testing.assert_array_equal(np.load("some.npy"), np.load("a.npy")[[3, 7, 8, 9, 29]])


def test_how_it_is_read_reaches_processes_shards_and_executors() -> None:
    what = ("sample", "--model", SIGNED, "--value-range=-1,1", "--seed", 3, "--n", 40, "--shard-size", 10)
    run(*what, "--format", "npy", "--out", "whole")
    pixels = np.concatenate([np.load(path) for path in sorted(Path("whole").glob("0*.npy"))])
    np.testing.assert_array_equal(pixels, reference.round_half_up(expected(draw(3, 0, 40, 3))))
    run(*what, "--format", "npy", "--out", "processes", "--workers", 2, "--threads", 1)
    for shard in (1, 0):
        run(*what, "--format", "npy", "--out", "shards", "--shard", f"{shard}/2")
    wanted = plan(SIGNED, 3, Indices.of(0, 40), reading=Reading(value_range=(-1, 1)), format="npy", part_size=10)
    with ThreadPoolExecutor(2) as pool:
        make_run(wanted, "executor", Crew(executor=pool))
    for other in ("processes", "shards", "executor"):
        for path in Path("whole").glob("0*.npy"):
            assert Path(other, path.name).read_bytes() == path.read_bytes()
        assert main(["verify", other, "-q"]) == 0


def test_a_run_remembers_how_it_was_read(capsys: Capture) -> None:
    what = ["sample", "--model", SIGNED, "--seed", "3", "--n", "10", "--out", "out", "--grid", "1x2", "-q"]
    assert main([*what, "--value-range", "-1,1", "--layout", "NCHW"]) == 0
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert manifest["decoder_output"] == {"output_name": "image", "layout": "NCHW", "value_range": [-1, 1]}
    with Image.open("out/grid.png") as sheet:
        first = np.asarray(sheet)[2:4, 2:12].transpose(2, 0, 1)
    np.testing.assert_array_equal(first, reference.round_half_up(expected(draw(3, 0, 1, 3)))[0])
    picture = Path("out/000000004.png")
    before = picture.read_bytes()
    picture.unlink()

    assert main([*what, "--value-range", "-2,2", "--resume"]) == 1
    message = "out already holds another run: value_range is [-1.0, 1.0] there and [-2.0, 2.0] here; choose another"
    assert message in capsys.readouterr().err
    assert not picture.exists()

    assert main(["verify", "out", "--discard", "--json"]) == 1
    (command,) = json.loads(capsys.readouterr().out)["commands"]
    assert command == (
        f"vae-gen sample --model {SIGNED} --layout=NCHW --value-range=-1,1 --seed 3 --n 10 --format png --grid 1x2 "
        "--out out --resume"
    )
    assert main([*command.split()[1:], "-q"]) == 0
    assert picture.read_bytes() == before
    assert main([*what, "--value-range", "-1,1", "--resume"]) == 0  # the same, said in fewer words


def test_an_unfinished_run_is_not_resumed_in_another_reading(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    what = ["sample", "--model", str(FOREIGN / "bytes.onnx"), "--seed", "3", "--n", "20", "--format", "npy", "-q"]
    what += ["--shard-size", "10", "--out", "out"]
    assert main(what) == 0
    manifest = json.loads(Path("out/manifest.json").read_text())
    Path("out/.vae-gen").mkdir()
    Path("out/manifest.json").unlink()
    Path("out/.vae-gen/run.json").write_text(json.dumps(manifest))
    assert main([*what, "--resume", "--value-range", "0,510"]) == 1
    assert "value_range is [0.0, 255.0] there and [0.0, 510.0] here" in capsys.readouterr().err


def test_every_command_that_decodes_takes_the_options(capsys: Capture) -> None:
    z = draw(3, 0, 4, 3)
    np.save("z.npy", z)
    run("decode", "--model", SIGNED, "--value-range", "-1,1", "--z", "z.npy", "--out", "decoded")
    with Image.open("decoded/000000003.png") as picture:
        found = np.asarray(picture).transpose(2, 0, 1)
    np.testing.assert_array_equal(found, reference.round_half_up(expected(z))[3])
    Path("decoded/000000003.png").unlink()
    capsys.readouterr()
    assert main(["verify", "decoded", "--json"]) == 1
    (command,) = json.loads(capsys.readouterr().out)["commands"]
    assert main([*command.split()[1:], "-q"]) == 0
    assert main(["verify", "decoded", "-q"]) == 0

    sweep = ("--dim", 1, "--from", -2, "--to", 2, "--frames", 2, "--scale", 1, "--z", "0.5,-1,2")
    run("traverse", "--model", SIGNED, "--value-range", "-1,1", *sweep, "--out", "a.webp")
    with Image.open("a.webp") as animation:
        animation.seek(1)
        frame = np.asarray(animation.convert("RGB")).transpose(2, 0, 1)
    swept = traversal(np.array([0.5, -1, 2]), 1, np.array([2]))
    np.testing.assert_array_equal(frame, reference.round_half_up(expected(swept))[0])

    assert main(["bench", SIGNED, "--value-range", "-1,1", "--seconds", "0"]) == 0
    assert main(["info", SIGNED, "--value-range", "-1,1", "--json"]) == 0
    about = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))
    assert (about["layout"], about["value_range"], about["output_name"]) == ("NCHW", [-1, 1], "image")
    low, high = about["values_found"]
    assert -1 <= low < -0.9 < 0.9 < high <= 1
    for command in ("sample", "bench", "info", "traverse"):
        place = ("--model", SIGNED) if command in ("sample", "traverse") else (SIGNED,)
        assert main([command, *place]) == 1
        assert "are read as 0,1; say which are black and white with --value-range=-1,1\n" in capsys.readouterr().err


def test_of_several_outputs_one_is_chosen(capsys: Capture) -> None:
    model = str(FOREIGN / "several-outputs.onnx")
    assert main(["sample", "--model", model]) == 1
    assert "several outputs; say which is the image with --output-name: its inputs" in capsys.readouterr().err
    run("sample", "--model", model, "--output-name", "image", "--n", 3, "--seed", 3, "--out", "a.npy")
    np.testing.assert_array_equal(np.load("a.npy"), reference.round_half_up(expected(draw(3, 0, 3, 3))))
    manifest = json.loads(Path("a.npy.manifest.json").read_text())
    assert "--output-name=image" in manifest["command"]
    with pytest.raises(UsageError, match=r"no output 'picture'; its inputs are .*; logits tensor\(float\)"):
        load(model, output_name="picture")
    with pytest.raises(BundleError, match=r"is no decoder: its output must be images, NCHW \[batch, channels.* NHW \["):
        load(model, output_name="logits")
    with pytest.raises(BundleError, match=r"its output must be images, NHW \[batch, height, width\]; its inputs"):
        load(model, output_name="image", layout="NHW")


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


def test_channels_at_both_ends_are_asked_for(capsys: Capture) -> None:
    assert main(["sample", "--model", str(FOREIGN / "ambiguous.onnx"), "--out", "out"]) == 1
    message = "images of shape (3, 5, 4), whose channels may be the first axis or the last; say --layout=NCHW or --layo"
    assert message in capsys.readouterr().err
    assert not Path("out").exists()
    run("sample", "--model", FOREIGN / "ambiguous.onnx", "--layout", "nchw", "--out", "out", "--n", 1)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--value-range", "1"], "'1' is no range; write the values of black and white, such as 0,1 or -1,1"),
        (["--value-range", "0,1,2"], "'0,1,2' is no range"),
        (["--value-range", "black,white"], "'black,white' is no range"),
        (
            ["--value-range", "1,-1"],
            "value_range is (1.0, -1.0); it must be two numbers up to 1e+30, the lower one first",
        ),
        (["--value-range", "0,inf"], "value_range is (0.0, inf); it must be two numbers"),
        (["--value-range", "nan,1"], "value_range is (nan, 1.0); it must be two numbers"),
        (["--layout", "CHW"], "is not one of"),
        (["--output-name", "out/"], "has no output 'out/'"),
    ],
)
def test_bad_options_get_a_message(options: list[str], message: str, capsys: Capture) -> None:
    assert main(["sample", "--model", str(FOREIGN / "plain.onnx"), *options, "--out", "out"]) == 2
    assert message in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_bad_values_of_the_library_are_errors_of_its_own() -> None:
    for wrong in ({"layout": ""}, {"layout": "nchw"}, {"layout": ["NCHW"]}, {"value_range": (1, 1)}):
        with pytest.raises(VaeGenError, match=f"^{next(iter(wrong))} is"):
            load(FOREIGN / "plain.onnx", **wrong)
    for no_range in (1, (1,), (0, 1, 5), "-1,1", (None, 1)):
        with pytest.raises(VaeGenError, match=r"^value_range is .*; it must be two numbers"):
            load(FOREIGN / "plain.onnx", value_range=no_range)
