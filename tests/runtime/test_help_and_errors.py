"""Every command's help, and what bad input gets from the commands; what needs a process is in test_process.py."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
from vae_gen.cli import COMMANDS, cli, main

from tests.runs import TINY
from tests.runtime.commands import expected_pixels, run, save_pictures
from tests.systems import needs_links, needs_names_too_long

pytestmark = pytest.mark.usefixtures("elsewhere")


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
        pytest.param(["sample", "--model", "a" * 300], 1, "File name too long", marks=needs_names_too_long),
        pytest.param(["encode", "a" * 300], 1, "File name too long", marks=needs_names_too_long),
        (["encode", "file", "--out", "file"], 2, "does not end as a file of latents"),
        (["traverse", "--from", "nan"], 2, "nan is not in the range -100<=x<=100"),
        (["traverse", "--fps", "nan"], 2, "nan is not in the range 1<=x<=50"),
        (["decode", "--z", "file"], 1, "file holds no latents"),
        (["decode", "--z", "1e39" + ",0" * 15], 2, "number 1 of 16 is 1e39, which is not finite"),
        (["sample", "--batch-size", "0"], 2, "0 is not in the range 1<=x<=1000000"),
        (["sample", "--surprise"], 2, "No such option"),
        (["sample", "--out", "file"], 1, "file is a file; give the name of a folder"),
        (["sample", "--out", "file/below"], 1, "file is a file; give the name of a folder"),
        (["sample", "--out", "x.jpg"], 2, "x.jpg names a picture"),
        (["sample", "--out", "folder.npy", "--overwrite"], 1, "cannot write folder.npy: it is a directory"),
        (["traverse", "--dim", "16"], 2, "dim is 16; the model has 16 latents, numbered 0 to 15"),
        (["traverse", "--dim", "-1"], 2, "dim is -1; the model has 16 latents"),
        (["traverse", "--out", "x.bmp"], 2, "x.bmp has no suffix of an animation"),
        (["traverse", "--z", "1,2"], 2, "'1,2' is neither a file nor 16 numbers between commas: there are 2"),
        (["traverse", "--invert"], 2, "--invert is for --picture"),
        (["traverse", "--seed", "1", "--z", "1"], 2, "give one of them"),
        (["traverse", "--frames", "1"], 2, "1 is not in the range 2<=x<=10000"),
        (["traverse", "--sheet", "--fps", "5"], 2, "--fps is for animations, and --sheet is a still picture"),
        (["traverse", "--sheet", "--out", "x.gif"], 2, "x.gif does not end in .png; the sheet is a PNG file"),
        (["interpolate"], 2, "Missing argument 'POINT POINT...'"),
        (["interpolate", "3"], 2, "3 is one point alone; give two or more"),
        (["interpolate", "3", "missing.png"], 2, "'missing.png' is neither a file nor 16 numbers between commas"),
        (
            ["interpolate", "3", "-1"],
            2,
            "16 numbers between commas; '-' reads lines of them from stdin. A point is a seed",
        ),
        (
            ["interpolate", "3", "7:x"],
            2,
            "A point is a seed (7, or 7:41 for its image 41), such numbers, or a file or folder",
        ),
        (["interpolate", "3", "-1,2"], 2, "'-1,2' is neither a file nor 16 numbers between commas: there are 2"),
        (["interpolate", "3", "nan" + ",0" * 15], 2, "number 1 of 16 is nan, which is not finite"),
        (["interpolate", "3", "1" + "0" * 20], 2, "seed is 100000000000000000000; it must be between 0 and 2**64 - 1"),
        (["interpolate", "3", f"4:{2**63}"], 2, "indices run from 0 to 2**63 - 1"),
        (["interpolate", "1" + ",0" * 15, "-2" + ",0" * 15], 2, "lie in opposite directions"),
        (["interpolate", "3", "4", "3", "--frames", "5001"], 2, "2 times 5001 images are more than 10,000; give fewer"),
        (["interpolate", "3", "4", "--invert"], 2, "--invert is for pictures, and no point is one"),
        (["interpolate", "3", "4", "--out", "x.bmp"], 2, "x.bmp has no suffix of an animation"),
        (
            ["interpolate", "3", "4", "--sheet", "--out", "x.gif"],
            2,
            "x.gif does not end in .png; the sheet is a PNG file",
        ),
        (["interpolate", "3", "4", "--sheet", "--fps", "5"], 2, "--fps is for animations"),
        (["interpolate", "3", "4", "-x"], 2, "No such option"),
        (["interpolate", "3", "file"], 1, "file is empty"),
        (["interpolate", "3", "folder"], 1, "the folder folder holds no pictures"),
        (["interpolate", "3", ""], 2, "an empty path"),
        (["interpolate", "3", "s3://bucket/x"], 2, "s3://bucket/x is a URL, and this is a path on this machine"),
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


@pytest.mark.parametrize("source", ["pictures/0.png", "pictures"])
@pytest.mark.parametrize(
    "command", ["reconstruct {}", "traverse --picture {}", "interpolate 3 {}", "interpolate {} 3 --sheet"]
)
@pytest.mark.parametrize("out", ["pictures/0.png", pytest.param("link.png", marks=needs_links)])
def test_what_is_read_is_not_replaced(command: str, source: str, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_pictures(np.ones((1, 3)))
    before = Path("pictures/0.png").read_bytes()
    if out == "link.png":
        Path(out).symlink_to("pictures/0.png")
    assert main([*command.format(source).split(), "--model", TINY, "--out", out]) == 2
    assert f"--out {Path(out)} would replace a file that is read; choose another --out" in capsys.readouterr().err
    assert Path("pictures/0.png").read_bytes() == before


@pytest.mark.parametrize("source", ["pictures/0.npy", "pictures"])
def test_encode_does_not_replace_the_array_that_it_reads(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pictures").mkdir()
    np.save("pictures/0.npy", expected_pixels(np.ones((2, 3))))
    before = Path("pictures/0.npy").read_bytes()
    assert main(["encode", source, "--model", TINY, "--out", "pictures/0.npy"]) == 2
    assert f"--out {Path('pictures/0.npy')} would replace a file that is read" in capsys.readouterr().err
    assert Path("pictures/0.npy").read_bytes() == before
