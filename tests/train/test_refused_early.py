"""What is wrong with the options is said before the pictures are read, which may take an hour."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NoReturn

import pytest
from vae_gen.cli import main
from vae_gen.data.datasets import DataSet
from vae_gen_train import source, trainer

from tests.train.small_runs import config


@pytest.fixture
def unread(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a finished run of 12 steps and a file, in which nothing can be read as data."""

    def load(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the pictures were read")

    trainer.train(data, tmp_path / "run", config())
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source, "load", load)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ("--out run", 1, "run is not empty; choose another --out, or continue a run with --resume run"),
        ("--out file", 1, "cannot write to file: it is a file"),
        ("--out file/run", 1, f"cannot write to {Path('file/run')}: file is a file"),
        ("--resume run --steps 5", 2, "steps is 5, but run has already done 12"),
        ("--resume run --steps 0", 2, "steps is 0; it must be at least 1"),
        ("--resume run --device tpu", 2, "device 'tpu' cannot be used here"),
        ("--preset conv --image-size 4", 2, "images are 4x4; the conv network needs at least 8x8"),
        ("--preset notebook --image-size 30", 2, "images are 30x30; the notebook's network needs multiples of 4"),
        ("--preset mlp --image-size 1024", 2, "the network mlp with 16 latents would have "),
        ("--preset conv --image-size 64 --latent-dim 1000000", 2, "such as 32, a smaller --latent-dim"),
        ("--image-size 64 --latent-dim 1000000", 2, "the network conv with 1,000,000 latents would have "),
        (
            "--image-size 20 --channels 1 --latent-dim 1000000",
            2,
            "such as 32, --preset conv, or a smaller --latent-dim",
        ),
        ("--white -1", 2, "white is -1; it must be a number above 0"),
    ],
)
def test_it_is_said_before_the_pictures_are_read(
    unread: Path, capsys: pytest.CaptureFixture[str], options: str, status: int, message: str
) -> None:
    assert main(["train", *shlex.split(options)]) == status
    assert message in capsys.readouterr().err
    assert {path.name for path in unread.iterdir()} == {"run", "file"}


def test_the_preset_alone_says_where_the_run_will_be(unread: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (unread / "runs/conv").mkdir(parents=True)
    (unread / "runs/conv/notes.txt").touch()
    assert main(["train", "--preset", "conv"]) == 1
    assert f"{Path('runs/conv')} is not empty" in capsys.readouterr().err
