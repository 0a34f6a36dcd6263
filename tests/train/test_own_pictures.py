"""Training on real pictures: scikit-learn's digits, and patches of its two sample photographs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import vae_gen
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from vae_gen.cli import main
from vae_gen.data.datasets import DataSet, load_data_set
from vae_gen.data.options import AS_FOUND, DataOptions
from vae_gen.errors import DataError
from vae_gen_train import source, trainer
from vae_gen_train.checkpoint import Checkpoint
from vae_gen_train.config import TrainConfig
from vae_gen_train.metrics_log import read_metrics
from vae_gen_train.mnist import cache_folder

from tests.systems import needs_names_too_long


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_GEN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """uint8 [1797, 8, 8]; the data have 17 shades, 0 to 16."""
    return np.floor(load_digits().images * 255 / 16 + 0.5).astype(np.uint8)


@pytest.fixture(scope="module")
def digit_folder(digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG file for each digit, in a folder for each class."""
    folder = tmp_path_factory.mktemp("digits")
    for number, (digit, target) in enumerate(zip(digits, load_digits().target, strict=True)):
        (folder / str(target)).mkdir(exist_ok=True)
        Image.fromarray(digit).save(folder / str(target) / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of many sizes from both photographs, as PNG, JPEG and WebP."""
    folder = tmp_path_factory.mktemp("patches")
    random = np.random.default_rng(0)
    for name, photograph in zip(("china", "flower"), load_sample_images().images, strict=True):
        for number in range(75):
            height, width = random.integers(40, 120, 2)
            top, left = (
                random.integers(0, photograph.shape[0] - height),
                random.integers(0, photograph.shape[1] - width),
            )
            patch = Image.fromarray(photograph[top : top + height, left : left + width])
            patch.save(folder / f"{name}-{number}.{('png', 'jpg', 'webp')[number % 3]}")
    return folder


def train(data: DataSet, run: Path, **changes: int) -> list[float]:
    """The training losses of 30 steps."""
    config = TrainConfig.from_preset("notebook", steps=30, log_every=1, threads=1, batch_size=32, **changes)
    trainer.train(data, run, config)
    return [record["total"] for record in read_metrics(run) if record["split"] == "train"]


def test_the_digits_are_the_same_as_files_and_as_an_array(
    digits: np.ndarray, digit_folder: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "digits.npy", load_digits().images / 16)
    np.savez(tmp_path / "digits.npz", x_train=digits[:1500], x_test=digits[1500:])
    files, array, archive = (
        load_data_set(path) for path in (digit_folder, tmp_path / "digits.npy", tmp_path / "digits.npz")
    )
    for data in (files, array):
        assert (len(data.train), len(data.validation)) == (1499, 149)
        assert data.image_shape == (1, 8, 8)
        assert data.test is not None
        together = np.concatenate([data.validation, data.test, data.train])
        assert sorted(image.tobytes() for image in together) == sorted(digit.tobytes() for digit in digits)
    np.testing.assert_array_equal(array.train[:, 0], digits[298:])
    assert archive.test is not None
    np.testing.assert_array_equal(archive.test[:, 0], digits[1500:])


@pytest.mark.parametrize("kind", ["folder", "npy", "npz"])
def test_digits_are_learned(digits: np.ndarray, digit_folder: Path, tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "a.npy", digits)
    np.savez(tmp_path / "a.npz", x_train=digits[:1500], x_test=digits[1500:])
    data = load_data_set(digit_folder if kind == "folder" else tmp_path / f"a.{kind}")
    losses = train(data, tmp_path / "run")
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])


def test_colour_patches_are_learned(patches: Path, tmp_path: Path) -> None:
    data = load_data_set(patches)
    assert data.image_shape == (3, 64, 64)
    assert (len(data.train), len(data.validation)) == (126, 12)
    losses = train(load_data_set(patches, DataOptions(image_size=(16, 20))), tmp_path / "run")
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])


def test_from_a_folder_to_images_of_one_s_own(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, bundle = str(tmp_path / "run"), str(tmp_path / "bundle")
    small = ["--steps", "3", "--threads", "1", "--batch-size", "16"]
    options = ["--image-size", "12x16", "--channels", "3", "--invert"]
    assert main(["train", "--preset", "notebook", "--data", str(patches), *options, "--out", run, *small]) == 0
    said = capsys.readouterr().err
    assert "150 pictures as 12x16, colour: 126 to train with, 12 for validation, 12 for testing" in said
    assert Checkpoint.open(Path(run)).image_shape == (3, 12, 16)
    expected = load_data_set(patches, DataOptions((12, 16), 3, invert=True))
    assert Checkpoint.open(Path(run)).data == expected.describe()

    # The run knows where its pictures are, and how they were made.
    assert main(["train", "--resume", run, "--steps", "5", "--quiet"]) == 0
    assert Checkpoint.open(Path(run)).step == 5
    assert json.loads((tmp_path / "run/config.json").read_text())["source"] == {
        "path": str(patches),
        "image_size": [12, 16],
        "channels": 3,
        "skip_bad": False,
        "invert": True,
        "white": None,
    }
    assert main(["export", run, "--out", bundle]) == 0
    assert str(patches) not in "".join(path.read_text("latin-1") for path in (tmp_path / "bundle").iterdir())
    assert vae_gen.load(bundle).sample(2, seed=1).shape == (2, 3, 12, 16)
    command = json.loads((tmp_path / "bundle/manifest.json").read_text())["metrics"]["command"]
    settings = "--batch-size 16 --steps 5 --threads 1"
    about = f"--data {patches.name} --image-size 12x16 --channels 3 --invert"
    assert command == f"vae-gen train --preset notebook {about} {settings}"


def test_a_run_whose_pictures_have_changed_says_what_differs(
    digit_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = tmp_path / "pictures", str(tmp_path / "run")
    folder.mkdir()
    for path in sorted((digit_folder / "3").iterdir())[:48]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.png").write_text("no")
    small = ["--steps", "2", "--threads", "1", "--quiet"]
    assert main(["train", "--preset", "notebook", "--data", str(folder), "--out", run, *small]) == 1
    assert "broken.png: not in a picture format that Pillow can read" in capsys.readouterr().err
    assert not Path(run).exists()
    assert main(["train", "--preset", "notebook", "--data", str(folder), "--out", run, "--skip-bad", *small]) == 0
    assert main(["train", "--resume", run, "--steps", "3", "--quiet"]) == 0  # --skip-bad is remembered too

    for path in sorted(folder.iterdir())[:12]:
        path.unlink()
    capsys.readouterr()
    assert main(["train", "--resume", run, "--steps", "4", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert f"{run} was begun with other data: {folder} gives " in said
    assert "30 train images, not 40" in said
    assert "3 validation images, not 4" in said
    assert "other pixels in the training and validation images (SHA-256 " in said

    folder.rename(tmp_path / "moved")
    assert main(["train", "--resume", run, "--steps", "4"]) == 1
    assert f"{run} was begun with {folder}, which is no longer there; give its new place" in capsys.readouterr().err
    assert main(["train", "--resume", run, "--image-size", "8"]) == 2
    assert "--image-size cannot be given with --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--image-size", "8y8"], 2, "'8y8' is no size; write 64 for 64x64 pixels, or 48x64"),
        (["--image-size", "0"], 2, "image-size is 0x0; both sides must be from 1 to"),
        (["--channels", "2"], 2, "'2' is not one of '1', '3', '4'"),
        (["--image-size", "30"], 2, "images are 30x30; the notebook's network needs multiples of 4"),
        (["--image-size", "256"], 2, "weights for them, and a file may hold 500,000,000; give a smaller --image-size"),
        (["--latent-dim", "9000000"], 2, "with 9,000,000 latents would have"),
    ],
)
def test_options_that_cannot_be_are_refused(
    digit_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    status: int,
    message: str,
) -> None:
    assert (
        main(["train", "--preset", "notebook", "--data", str(digit_folder), "--out", str(tmp_path / "run"), *options])
        == status
    )
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


@needs_names_too_long
@pytest.mark.usefixtures("paths_of_python_3_14")
def test_what_nobody_can_tell_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    too_long = Path("a" * 300)
    with pytest.raises(DataError, match=r"cannot read .*File name too long"):
        read_metrics(too_long)
    with pytest.raises(OSError, match="File name too long"):
        Checkpoint.open(too_long)
    monkeypatch.setattr(source, "remembered", lambda run: (too_long, AS_FOUND))
    with pytest.raises(OSError, match="File name too long"):
        source.load(None, AS_FOUND, Path("run"), lambda message: None)


def test_mnist_itself_is_remembered_as_such(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "fetch_mnist", lambda notify: small_data)
    data = source.load(None, DataOptions(invert=True), None, print)
    assert data.origin == {
        "path": None,
        "image_size": None,
        "channels": None,
        "skip_bad": False,
        "invert": True,
        "white": None,
    }
    config = TrainConfig.from_preset("notebook", steps=1, threads=1, batch_size=4)
    trainer.train(data, tmp_path / "run", config)
    again = source.load(None, DataOptions(), tmp_path / "run", print)
    assert again.describe() == data.describe()
    # Runs from before paths were remembered.
    values = json.loads((tmp_path / "run/config.json").read_text())
    del values["source"]
    (tmp_path / "run/config.json").write_text(json.dumps(values))
    assert source.load(None, DataOptions(), tmp_path / "run", print).describe() == load_data_set(small_data).describe()


@pytest.mark.skipif(os.name == "nt", reason="it never was anywhere else there")
def test_the_cache_is_where_it_always_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import pooch

    monkeypatch.delenv("VAE_GEN_CACHE")
    assert cache_folder() == Path(pooch.os_cache("vae-gen")) / "mnist"


@pytest.mark.parametrize(("patch", "known"), [(28, False), (100, False), (427, False), ("digits", True)], ids=str)
def test_the_shipped_model_knows_digits_and_no_photographs(
    digits: np.ndarray, patch: int | str, known: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(20):
        if patch == "digits":  # as MNIST's, in a frame of black
            picture = Image.new("L", (28, 28))
            picture.paste(Image.fromarray(digits[number]).resize((20, 20), Image.Resampling.BICUBIC), (4, 4))
        else:
            photograph = Image.fromarray(load_sample_images().images[number % 2])
            left, top = (room * number // 20 for room in (photograph.width - patch, photograph.height - patch))
            picture = photograph.crop((left, top, left + patch, top + patch))
        picture.save(folder / f"{number}.png")
    assert main(["encode", str(folder), "--out", str(tmp_path / "z.npy")]) == 0
    assert ("the model does not know such pictures" in capsys.readouterr().err) == (not known)
