"""Commands with decoders that other people bring: the same bytes every time, and how they are read is remembered."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.cli import main
from vae_gen.errors import BundleError, UsageError
from vae_gen.generator.generate import plan
from vae_gen.generator.indices import Indices
from vae_gen.generator.jobs import Crew, make_run
from vae_gen.latents import draw
from vae_gen.model import load
from vae_gen.paths import traversal
from vae_gen.reading import Reading
from vae_gen.shell import quoted

from tests.runtime import reference
from tests.runtime.commands import words_of
from tests.runtime.foreign import FOREIGN, expected

pytestmark = pytest.mark.usefixtures("elsewhere")

SIGNED = str(FOREIGN / "signed.onnx")

Capture = pytest.CaptureFixture[str]


def run(*arguments: object) -> None:
    assert main([*map(str, arguments), "-q"]) == 0


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
        f"vae-gen sample --model {SIGNED} --layout=NCHW {quoted('--value-range=-1,1')} --seed 3 --n 10 --format png "
        "--grid 1x2 --out out --resume"
    )
    assert main([*words_of(command)[1:], "-q"]) == 0
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
    assert main([*words_of(command)[1:], "-q"]) == 0
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


def test_channels_at_both_ends_are_asked_for(capsys: Capture) -> None:
    assert main(["sample", "--model", str(FOREIGN / "ambiguous.onnx"), "--out", "out"]) == 1
    message = "images of shape (3, 5, 4), whose channels may be the first axis or the last; say --layout=NCHW or --layo"
    assert message in capsys.readouterr().err
    assert not Path("out").exists()
    run("sample", "--model", FOREIGN / "ambiguous.onnx", "--layout", "nchw", "--out", "out", "--n", 1)


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
