"""The commands as a user types them, in this process; what needs a process of its own is in test_process.py."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import pytest
import vae_gen
from click.shell_completion import ShellComplete
from PIL import Image
from vae_gen.cli import COMMANDS, cli, main
from vae_gen.defaults import FORMATS
from vae_gen.latents import draw, traversal
from vae_gen.stores import open_store

from tests.conftest import MODELS
from tests.runs import TINY
from tests.runtime import reference

pytestmark = pytest.mark.usefixtures("elsewhere")

RUNTIME_COMMANDS = [name for name, home in COMMANDS.items() if home.startswith("vae_gen.")]


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.moveaxis(np.asarray(picture), -1, 0)


def expected_pixels(z: np.ndarray) -> np.ndarray:
    return reference.round_half_up(reference.decode(z))


def save_pictures(z: np.ndarray, folder: str = "pictures") -> None:
    Path(folder).mkdir()
    for number, image in enumerate(expected_pixels(z)):
        Image.fromarray(image.transpose(1, 2, 0)).save(f"{folder}/{number}.png")


# sample


def test_sample_writes_the_decoded_draws(capsys: pytest.CaptureFixture[str]) -> None:
    run("sample", "--model", TINY, "--n", 5, "--seed", 3, "--out", "out")
    names = sorted(path.name for path in Path("out").glob("*.png"))
    assert names == [f"{index:09d}.png" for index in range(5)]
    for name, image in zip(names, expected_pixels(draw(3, 0, 5, 3)), strict=True):
        np.testing.assert_array_equal(pixels(f"out/{name}"), image)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "5 images in out\n"


def test_the_same_seed_gives_the_same_bytes_whatever_the_batch_size() -> None:
    for number, size in enumerate((1, 7, 64, 100, 1024)):
        run("sample", "--model", TINY, "--n", 100, "--seed", 3, "--out", f"{number}.npy", "--batch-size", size)
        run("sample", "--n", 100, "--seed", 3, "--out", f"shipped{number}.npy", "--batch-size", size)
        assert Path(f"{number}.npy").read_bytes() == Path("0.npy").read_bytes()
        assert Path(f"shipped{number}.npy").read_bytes() == Path("shipped0.npy").read_bytes()
    np.testing.assert_array_equal(np.load("0.npy"), expected_pixels(draw(3, 0, 100, 3)))


def test_start_temperature_threads_and_format() -> None:
    run("sample", "--model", TINY, "--n", 2, "--seed", 3, "--start", 10, "--out", "a", "--threads", 1)
    assert sorted(path.name for path in Path("a").glob("*.png")) == ["000000010.png", "000000011.png"]
    np.testing.assert_array_equal(pixels("a/000000011.png"), expected_pixels(draw(3, 11, 1, 3))[0])
    run("sample", "--model", TINY, "--n", 2, "--seed", 3, "--temperature", 0.25, "--out", "b", "--format", "npy")
    np.testing.assert_array_equal(np.load("b/000000.npy"), expected_pixels(draw(3, 0, 2, 3) / 4))


def test_without_a_seed_a_fresh_one_is_shown_and_gives_the_images_again(capsys: pytest.CaptureFixture[str]) -> None:
    run("sample", "--model", TINY, "--n", 2, "--out", "a.npy")
    word, seed = capsys.readouterr().err.splitlines()[0].split()
    assert word == "seed"
    run("sample", "--model", TINY, "--n", 2, "--out", "b.npy", "--seed", seed)
    run("sample", "--model", TINY, "--n", 2, "--out", "c.npy")
    assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes() != Path("c.npy").read_bytes()


@pytest.mark.parametrize("command", ["sample", "traverse"])
def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str], command: str) -> None:
    run(command, "--model", TINY, "--quiet")
    assert capsys.readouterr() == ("", "")


def test_sample_overwrites_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sample", "--model", TINY, "--n", "1", "--out", "out"]
    run(*arguments, "--seed", 1)
    before = Path("out/000000000.png").read_bytes()
    assert main([*arguments, "--seed", "2"]) == 1
    message = "out already holds another run: seed is 1 there and 2 here; choose another --out, or give --overwrite"
    assert message in capsys.readouterr().err
    assert Path("out/000000000.png").read_bytes() == before
    Path("out/notes.txt").write_text("kept")
    run(*arguments, "--seed", 2, "--overwrite")
    assert Path("out/000000000.png").read_bytes() != before
    assert sorted(path.name for path in Path("out").iterdir()) == ["000000000.png", "manifest.json", "notes.txt"]


# decode and encode


def test_decode_takes_typed_numbers_files_and_overwrite() -> None:
    run("decode", "--model", TINY, "--z", "-1,0.5,2", "--out", "out")
    np.testing.assert_array_equal(pixels("out/000000000.png"), expected_pixels(np.array([[-1, 0.5, 2]]))[0])
    z = draw(0, 0, 9, 3)
    np.save("z.npy", z)
    run("decode", "--model", TINY, "--z", "z.npy", "--out", "a.npy", "--batch-size", 2, "--threads", 1)
    np.testing.assert_array_equal(np.load("a.npy"), expected_pixels(z))
    run("decode", "--model", TINY, "--z", "0,0,0", "--out", "a.npy", "--overwrite", "--quiet")
    assert len(np.load("a.npy")) == 1


def test_decode_is_alone_in_its_place_and_clears_what_a_killed_one_left(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("decode", "--model", TINY, "--z", "-1,0.5,2", "-q")
    Path("out/.images.1-2.partial").mkdir(parents=True)
    for name in (".a.npy.1-2.partial", ".b.npy.1-2.partial"):
        Path(name).touch()
    with open_store("out").lock("manifest.json"):
        assert main([*arguments, "--out", "out"]) == 1
    assert "another process is at work on out/manifest.json" in capsys.readouterr().err
    run(*arguments, "--out", "out")
    run(*arguments, "--out", "a.npy")
    assert sorted(path.name for path in Path("out").iterdir()) == ["000000000.png", "manifest.json"]
    assert sorted(path.name for path in Path().iterdir()) == [
        ".b.npy.1-2.partial",
        "a.npy",
        "a.npy.manifest.json",
        "out",
    ]
    for out in ("out", "a.npy"):
        assert main([*arguments, "--out", out]) == 1
        message = f"Error: {out} already holds something; choose another --out, or give --overwrite\n"
        assert capsys.readouterr().err == message


def test_what_is_there_stays_if_there_is_nothing_to_put_in_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    run("decode", "--z", ",".join(["0"] * 16), "--out", "out")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    largest = ",".join(["3e38", "-3e38"] * 8)  # with which sums in the network overflow
    assert main(["decode", "--z", largest, "--out", "out", "--overwrite"]) == 1
    assert "makes values that are not finite" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


def test_encode_prints_csv_that_decode_reads(capsys: pytest.CaptureFixture[str]) -> None:
    z = draw(0, 0, 3, 3)
    save_pictures(z)
    run("encode", "pictures", "--model", TINY)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == ["picture", "mean_0", "mean_1", "mean_2", "log_var_0", "log_var_1", "log_var_2"]
    assert [row["picture"] for row in rows] == ["pictures/0.png", "pictures/1.png", "pictures/2.png"]
    mean, log_var = reference.encode(expected_pixels(z) / np.float32(255))
    for name, expected in (("mean", mean), ("log_var", log_var)):
        found = [[float(row[f"{name}_{dim}"]) for dim in range(3)] for row in rows]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    run("encode", "pictures", "--model", TINY, "--out", "z.csv")
    run("decode", "--model", TINY, "--z", "z.csv", "--out", "again.npy")
    np.testing.assert_array_equal(np.load("again.npy"), expected_pixels(mean))


def test_encode_writes_files_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    z = draw(0, 0, 3, 3)
    save_pictures(z)
    images = expected_pixels(z) / np.float32(255)
    run("encode", "pictures", "--model", TINY, "--out", "z.npz", "--threads", 1, "--json")
    captured = capsys.readouterr()
    mean, log_var = reference.encode(images)
    with np.load("z.npz") as both:
        np.testing.assert_allclose(both["mean"], mean, atol=1e-6)
        np.testing.assert_allclose(both["log_var"], log_var, atol=1e-6)
    rows = json.loads(captured.out)
    assert [row["picture"] for row in rows] == ["pictures/0.png", "pictures/1.png", "pictures/2.png"]
    np.testing.assert_allclose([row["log_var"] for row in rows], log_var, atol=1e-6)
    assert captured.err == "latents of 3 pictures in z.npz\n"
    run("encode", "pictures", "--model", TINY, "--invert", "--out", "inverted.npy", "--quiet")
    np.testing.assert_allclose(np.load("inverted.npy"), reference.encode(1 - images)[0], atol=1e-6)


@pytest.mark.parametrize("format", FORMATS)
def test_encode_reads_what_sample_writes(
    format: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vae_gen.parts.IMAGES_PER_FOLDER", 4)
    size = [] if format == "png" else ["--shard-size", 4]
    what = ("sample", "--model", TINY, "--n", 10, "--seed", 3, "--latents", "-q", "--format", format)
    run(*what, *size, "--out", "digits")
    if format != "png":
        run(*what, "--out", f"digits.{format}")
    mean, _ = reference.encode(expected_pixels(draw(3, 0, 10, 3)) / np.float32(255))
    for place in ("digits", *([] if format == "png" else [f"digits.{format}"])):
        run("encode", place, "--model", TINY, "--json")
        rows = json.loads(capsys.readouterr().out)
        np.testing.assert_allclose([row["mean"] for row in rows], mean, atol=1e-5)
        names = [row["picture"] for row in rows]
        if format == "png":
            assert names == [f"digits/{index // 4:05d}/{index:09d}.png" for index in range(10)]
        elif place != "digits":
            assert names == [f"{place}[{index}]" for index in range(10)]


# traverse


def frames(path: str) -> list[np.ndarray]:
    with Image.open(path) as animation:
        found = []
        for number in range(animation.n_frames):
            animation.seek(number)
            found.append(np.moveaxis(np.asarray(animation.convert("RGB")), -1, 0))
        return found


def test_traverse_of_the_shipped_default_gives_a_moving_gif() -> None:
    run("traverse", "--dim", 7)
    with Image.open("traverse.gif") as animation:
        assert (animation.format, animation.n_frames, animation.size) == ("GIF", 60, (224, 224))
    seen = frames("traverse.gif")
    assert all((one != other).any() for one, other in pairwise(seen))


def test_the_notebooks_own_sweep() -> None:
    z = "-1.0,1.0,0.1,0.3,-0.2,0.7,-0.5,-2.5"
    sweep = ("--model", "notebook", "--z", z, "--dim", 7, "--from", -2.4, "--to", 2.5, "--frames", 50)
    run("traverse", *sweep, "--caption", "--out", "captioned.gif")
    run("traverse", *sweep, "--out", "plain.gif")
    assert len(frames("captioned.gif")) == len(frames("plain.gif")) == 50
    strip = frames("captioned.gif")[0].shape[1] - 224
    assert strip > 0
    np.testing.assert_array_equal(frames("captioned.gif")[20][:, strip:], frames("plain.gif")[20])


def test_traverse_sweeps_the_latent_that_is_named() -> None:
    z = np.array([0.5, -1.0, 2.0])
    sweep = ("--z", "0.5,-1,2", "--dim", 1, "--from", -2, "--to", 2, "--frames", 5)
    run("traverse", "--model", TINY, *sweep, "--scale", 3, "--out", "a.webp", "--fps", 5, "--threads", 1)
    values = np.array([-2, -1, 0, 1, 2])
    expected = expected_pixels(traversal(z, 1, values)).repeat(3, 2).repeat(3, 3)
    np.testing.assert_array_equal(np.stack(frames("a.webp")), expected)
    with Image.open("a.webp") as animation:
        animation.load()
        assert animation.info["duration"] == 200


def test_traverse_starts_from_a_seed_or_a_picture() -> None:
    z = draw(4, 0, 1, 3)
    save_pictures(z)
    options = ("--model", TINY, "--dim", 0, "--frames", 2, "--from", 1, "--to", 2, "--scale", 1)
    run("traverse", *options, "--seed", 4, "--out", "seed.webp")
    np.testing.assert_array_equal(frames("seed.webp"), expected_pixels(traversal(z[0], 0, np.array([1, 2]))))
    run("traverse", *options, "--picture", "pictures/0.png", "--out", "picture.webp")
    mean = reference.encode(expected_pixels(z) / np.float32(255))[0].astype(np.float32)
    np.testing.assert_array_equal(frames("picture.webp"), expected_pixels(traversal(mean[0], 0, np.array([1, 2]))))
    run("traverse", *options, "--picture", "pictures/0.png", "--invert", "--out", "inverted.webp")
    mean = reference.encode(1 - expected_pixels(z) / np.float32(255))[0].astype(np.float32)
    np.testing.assert_array_equal(frames("inverted.webp"), expected_pixels(traversal(mean[0], 0, np.array([1, 2]))))


def test_traverse_of_all_latents_is_a_grid() -> None:
    options = ("--model", TINY, "--z", "0.5,-1,2", "--frames", 2, "--from", -3, "--to", 3, "--scale", 1)
    run("traverse", *options, "--out", "all.webp")
    first = frames("all.webp")[0]
    assert first.shape == (3, 2 + 2 * 7, 2 + 2 * 6)
    for dim, (top, left) in enumerate(((2, 2), (2, 8), (9, 2))):
        expected = expected_pixels(traversal(np.array([0.5, -1, 2]), dim, np.array([-3])))[0]
        np.testing.assert_array_equal(first[:, top : top + 5, left : left + 4], expected)


def test_a_caption_above_all_latents_names_each_of_them() -> None:
    z = [-1.0, 1.0, 0.1, 0.3, -0.2, 0.7, -0.5, -2.5]
    typed = ",".join(map(str, z))
    run("traverse", "--model", "notebook", "--z", typed, "--frames", 2, "--scale", 2, "--caption", "--out", "all.png")
    first, second = frames("all.png")
    cell, gap, above = 2 * 28, 2 * 2, 10 + 5  # pixels; the text is 10 high
    top, label = first.shape[1] - 3 * (above + cell + gap) - gap, {}
    assert top == 15 + 7  # for the value, in text 15 high
    assert (first[:, :top] != second[:, :top]).any()
    expected = vae_gen.load("notebook").decode_bytes(traversal(np.array(z), 7, np.array([-3, 3])))
    for dim in range(8):
        y, x = top + gap + dim // 3 * (above + cell + gap), gap + dim % 3 * (cell + gap)
        label[dim] = first[:, y : y + above, x : x + cell]
        assert label[dim].max() == 128  # the grey of the grid
        assert 0 < (label[dim] < 64).mean() < 0.1  # its number, in black
        np.testing.assert_array_equal(second[:, y : y + above, x : x + cell], label[dim])
        if dim == 7:
            tile = second[0, y + above : y + above + cell, x : x + cell]
            np.testing.assert_array_equal(tile, expected[1, 0].repeat(2, 0).repeat(2, 1))
    assert len({strip.tobytes() for strip in label.values()}) == 8


def test_no_seed_is_drawn_for_a_latent_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["traverse", "--dim", "16"]) == 2
    assert capsys.readouterr().err == "Error: dim is 16; the model has 16 latents, numbered 0 to 15\n"


# reconstruct


def test_reconstruct_shows_inputs_over_reconstructions_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    save_pictures(draw(0, 0, 5, 3))
    inputs = expected_pixels(draw(0, 0, 5, 3))
    images = inputs / np.float32(255)
    outputs = reference.decode(reference.encode(images)[0])
    errors = ((outputs - images) ** 2).sum((1, 2, 3))

    run("reconstruct", "pictures", "--model", TINY, "--scale", 1, "--columns", 2, "--show", 3, "--threads", 1)
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [float(line.split()[0]) for line in lines[:3]] == pytest.approx(errors[:3], abs=1e-3)
    assert lines[2].endswith("pictures/2.png")
    assert "2 more; --json lists them all" in lines[3]
    assert float(lines[4].split()[0]) == pytest.approx(errors.mean(), abs=1e-3)
    assert captured.err == "3 of 5 pictures in reconstruct.png\n"

    sheet = pixels("reconstruct.png")
    assert sheet.shape == (3, 2 + 4 * 7, 2 + 2 * 6)
    np.testing.assert_array_equal(sheet[:, 2:7, 8:12], inputs[1])
    np.testing.assert_array_equal(sheet[:, 9:14, 8:12], reference.round_half_up(outputs[1]))
    np.testing.assert_array_equal(sheet[:, 16:21, 2:6], inputs[2])


def test_reconstruct_json_has_every_picture(capsys: pytest.CaptureFixture[str]) -> None:
    save_pictures(draw(0, 0, 5, 3))
    images = 1 - expected_pixels(draw(0, 0, 5, 3)) / np.float32(255)
    errors = ((reference.decode(reference.encode(images)[0]) - images) ** 2).sum((1, 2, 3))
    options = ("--json", "--invert", "--show", 1, "--out", "deep/er/sheet.png", "--quiet")
    run("reconstruct", "pictures", "--model", TINY, *options)
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["mean_sse"] == pytest.approx(errors.mean(), rel=1e-5)
    assert [row["sse"] for row in found["pictures"]] == pytest.approx(errors, rel=1e-5)
    assert captured.err == ""
    assert Path("deep/er/sheet.png").is_file()


@pytest.mark.mnist
def test_the_shipped_model_reconstructs_mnist(mnist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("reconstruct", mnist / "t10k-images-idx3-ubyte.gz", "--json")
    found = json.loads(capsys.readouterr().out)
    assert len(found["pictures"]) == 10_000
    assert found["mean_sse"] < 6  # a blank picture has 101, the mean of all digits 53


@pytest.mark.parametrize("command", ["encode", "reconstruct", "traverse --frames 2 --picture"])
@pytest.mark.parametrize("colours", ["light on black", "dark on white", "grey on paper"])
def test_pictures_the_wrong_way_round_get_a_hint(
    command: str, colours: str, capsys: pytest.CaptureFixture[str]
) -> None:
    digit = vae_gen.load("mnist").sample(1, seed=1)[0, 0]
    if colours == "dark on white":
        digit = 1 - digit
    elif colours == "grey on paper":
        digit = np.linspace(0.8, 1, 28) - 0.7 * digit + np.random.default_rng(0).normal(0, 0.03, (28, 28))
    Image.fromarray(np.uint8(np.clip(digit, 0, 1) * 255)).save("digit.png")
    hint = "the model knows such pictures with black and white swapped"
    run(*command.split(), "digit.png")
    assert (f"{hint}: try --invert\n" in capsys.readouterr().err) == (colours != "light on black")
    run(*command.split(), "digit.png", "--invert")
    assert (f"{hint}: leave out --invert\n" in capsys.readouterr().err) == (colours == "light on black")
    for each in ("--invert", None):
        run(*command.split(), "digit.png", "--quiet", *filter(None, [each]))
        assert capsys.readouterr().err == ""


def test_what_is_bad_either_way_gets_no_hint(capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    grey, slope = np.full((1, 28, 28), 128, np.uint8), np.tile(np.linspace(0, 255, 28), (1, 28, 1)).astype(np.uint8)
    for images in (noise, grey, slope):
        np.save("images.npy", images)
        run("reconstruct", "images.npy")
        assert "--invert" not in capsys.readouterr().err


# models and info


def test_models_lists_what_ships(capsys: pytest.CaptureFixture[str]) -> None:
    run("models")
    listed = capsys.readouterr().out
    assert re.search(r"mnist +16 latents  28x28x1 +\d+ kB  \(default\)", listed)
    assert "notebook            8 latents  28x28x1" in listed
    run("models", "--json")
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["default"]]
    assert (row["name"], row["latent_dim"], row["image_shape"]) == ("mnist", 16, [1, 28, 28])
    assert (Path(row["path"]) / "decoder.onnx").stat().st_size == row["decoder_bytes"]


def test_info_says_what_the_bundle_says(capsys: pytest.CaptureFixture[str]) -> None:
    run("info", TINY, "--json")
    found = json.loads(capsys.readouterr().out)
    manifest = json.loads((MODELS / "tiny/manifest.json").read_text())
    assert {name: found[name] for name in manifest["description"]} == manifest["description"]
    assert found["sha256"] == manifest["sha256"]
    run("info", TINY)
    lines = capsys.readouterr().out.splitlines()
    assert "image_shape        3, 5, 4" in lines
    assert "latent_mean        0, 0.125, -0.25" in lines
    run("info", MODELS / "foreign/plain.onnx", "--layout", "nchw")
    assert "latent_dim         3" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["info --json", "bench --seconds 0 --json"])
def test_a_model_s_place_may_be_an_option_as_in_other_commands(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for place in ([TINY], ["--model", TINY], ["mnist"], []):
        run(*command.split(), *place)
        values = json.loads(capsys.readouterr().out)
        found.append(values.get("name", values.get("model")))
    assert found[0] == found[1] != found[2] == found[3] == "mnist"
    assert main([*command.split(), "mnist", "--model", "notebook"]) == 2
    assert "mnist and --model notebook both name the model; give one of them" in capsys.readouterr().err


def test_a_bundle_that_a_shipped_name_hides_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    hint = "mnist is the model that ships; ./mnist is the one here\n"
    Path("mnist").mkdir()  # a folder of pictures, say
    run("sample", "--n", 1, "--seed", 1, "--out", "a")
    assert hint not in capsys.readouterr().err
    shutil.copytree(MODELS / "tiny", "mnist", dirs_exist_ok=True)
    for command in (["sample", "--n", 1, "--seed", 1, "--out", "b"], ["info"], ["info", "--model", "mnist"]):
        run(*command)
        assert capsys.readouterr().err.startswith(hint)
    run("sample", "--n", 1, "--seed", 1, "--out", "c", "--quiet")
    assert capsys.readouterr().err == ""
    run("info", "./mnist")
    found = capsys.readouterr()
    assert found.out.startswith("name               tiny")
    assert found.err == ""


# completion, help and errors


@pytest.mark.parametrize("line", ["sample --model", "info", "bench", "evaluate", "export", "reconstruct x --model"])
@pytest.mark.parametrize(("typed", "names"), [("", ["mnist", "notebook"]), ("no", ["notebook"]), ("bundles/", [])])
def test_models_are_completed_by_name_and_else_as_paths(line: str, typed: str, names: list[str]) -> None:
    completion = ShellComplete(cli, {}, "vae-gen", "_VAE_GEN_COMPLETE")
    found = [(item.type, item.value) for item in completion.get_completions(line.split(), typed)]
    assert found == [("file", typed), *(("plain", name) for name in names)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(name, "--help")
    usage, _, description = capsys.readouterr().out.partition("Options:")[0].partition("\n")
    assert usage.startswith(f"Usage: vae-gen {name}")
    assert f"vae-gen {name}" in description
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["sample", "--model", "nope"],
            1,
            "there is no model 'nope': it is neither the name of a shipped model (mnist, notebo",
        ),
        (["sample", "--model", "mnits"], 1, "or of a decoder.onnx; did you mean mnist?\n"),
        (["info", "Notebok"], 1, "or of a decoder.onnx; did you mean notebook?\n"),
        (["sample", "--model", "quite-else"], 1, "or of a decoder.onnx\n"),
        (["sample", "--model", "."], 1, "is not a bundle: it has no manifest.json"),
        (["sample", "--n", "0"], 2, "n is 0; it must be at least 1"),
        (["sample", "--n", "-3"], 2, "n is -3; it must be at least 1"),
        (["sample", "--n", "many"], 2, "'many' is not a valid integer"),
        (["sample", "--seed", "-1"], 2, "seed is -1; it must be between 0 and 2**64 - 1"),
        (["encode", "s3://bucket/x"], 2, "s3://bucket/x is a URL, and this is a path on this machine"),
        (["encode", "file", "--out", "gs://bucket/z.csv"], 2, "Invalid value for '--out': gs://bucket/z.csv is a URL"),
        (["traverse", "--out", "memory://x/a.gif"], 2, "URLs are for --out of sample and decode, and for verify"),
        (["sample", "--start", "-1"], 2, "indices run from 0"),
        (["sample", "--temperature", "nan"], 2, "nan is not in the range 0<=x<=100"),
        (["sample", "--temperature", "1e300"], 2, "is not in the range 0<=x<=100"),
        (["sample", "--start", str(2**63 - 1), "--n", "2"], 2, "indices run from 0 to 2**63 - 1"),
        (["sample", "--out", "out.tar", "--format", "png"], 2, "out.tar names a file of the format tar, and --format"),
        (["sample", "--out", ""], 2, "an empty path"),
        (["sample", "--format", "npy", "--out", "."], 1, ". already holds something; choose another --out"),
        (["sample", "--model", ""], 1, "there is no model ''"),
        (["sample", "--model", "a" * 300], 1, "File name too long"),
        (["encode", "a" * 300], 1, "File name too long"),
        (["encode", "file", "--out", "file"], 2, "does not end as a file of latents"),
        (["reconstruct", "x.png", "--out", "./x.png"], 2, "would replace a picture that is read"),
        (["encode", "x.npy", "--out", "x.npy"], 2, "would replace a picture that is read"),
        (["traverse", "--picture", "x.png", "--out", "x.png"], 2, "would replace a picture that is read"),
        (["traverse", "--from", "nan"], 2, "nan is not in the range -100<=x<=100"),
        (["traverse", "--fps", "nan"], 2, "nan is not in the range 1<=x<=50"),
        (["decode", "--z", "file"], 1, "file holds no latents"),
        (["decode", "--z", "1e39" + ",0" * 15], 2, "number 1 of 16 is 1e39, which is not finite"),
        (["sample", "--batch-size", "0"], 2, "0 is not in the range 1<=x<=1000000"),
        (["sample", "--surprise"], 2, "No such option"),
        (["sample", "--out", "file"], 1, "file is a file; give the name of a folder"),
        (["sample", "--out", "file/below"], 1, "file is a file; give the name of a folder"),
        (["sample", "--out", "x.png"], 2, "x.png names a picture"),
        (["sample", "--out", "folder.npy", "--overwrite"], 1, "cannot write folder.npy: it is a directory"),
        (["traverse", "--dim", "16"], 2, "dim is 16; the model has 16 latents, numbered 0 to 15"),
        (["traverse", "--dim", "-1"], 2, "dim is -1; the model has 16 latents"),
        (["traverse", "--out", "x.bmp"], 2, "x.bmp has no suffix of an animation"),
        (["traverse", "--z", "1,2"], 2, "'1,2' is neither a file nor 16 numbers between commas: there are 2"),
        (["traverse", "--invert"], 2, "--invert is for --picture"),
        (["traverse", "--seed", "1", "--z", "1"], 2, "give one of them"),
        (["traverse", "--frames", "1"], 2, "1 is not in the range 2<=x<=10000"),
        (["decode", "--z", "1,2,x"], 2, "nor 16 numbers between commas: number 3 of 3 is 'x'"),
        (["decode"], 2, "Missing option '--z'"),
        (["encode", "file"], 1, "file is empty"),
        (["encode", "folder"], 1, "the folder folder holds no pictures"),
        (["encode", "file", "--out", "z.txt"], 2, "z.txt does not end as a file of latents does"),
        (["reconstruct", "file", "--out", "x.jpg"], 2, "x.jpg does not end in .png"),
        (["reconstruct", "missing.png"], 1, "there is no file or folder missing.png"),
        (["reconstruct"], 2, "Missing argument 'PICTURES...'"),
        (["smaple"], 2, "No such command 'smaple'; did you mean sample?\n"),
        (["Evaluate", "--help"], 2, "No such command 'Evaluate'; did you mean evaluate?\n"),
        (["quite-else"], 2, "No such command 'quite-else'.\n"),
        (["sample", "--sede", "1"], 2, "--seed"),
    ],
)
def test_bad_input_gets_a_message_and_nothing_is_written(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").touch()
    Path("folder").mkdir()
    Path("folder.npy").mkdir()
    assert main(arguments) == status
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert sorted(str(path) for path in Path().rglob("*") if path.is_file()) == ["file"]
