"""Picture sheets of networks whose decoder is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn
from vae_gen.data.picture_files import is_figure
from vae_gen.paths import traversal
from vae_gen_train import report, traversals
from vae_gen_train.config import TrainConfig
from vae_gen_train.nets import VAE, Encoder
from vae_gen_train.report import _draw_loss_curve, draw_reconstructions, draw_report

from tests.systems import needs_names_without_text
from tests.train.test_metrics_log import LOSSES, PRIOR, log

CPU = torch.device("cpu")
Shape = tuple[int, int, int]


def linear_vae(shape: Shape, latent_dim: int) -> VAE:
    torch.manual_seed(0)
    values = int(np.prod(shape))
    decoder = nn.Sequential(nn.Linear(latent_dim, values), nn.Sigmoid(), nn.Unflatten(1, shape))
    return VAE(Encoder(nn.Flatten(), values, latent_dim), decoder)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_all_that_a_run_draws_says_that_it_is_no_picture(tmp_path: Path) -> None:
    vae = linear_vae((1, 8, 8), 8)
    record = {"step": 1, "split": "train", "reconstruction": 2.0, "kl": 1.0, "total": 3.0, "sse": 2.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    draw_report(tmp_path, vae, TrainConfig.from_preset("notebook"), [1.0] * 8, CPU)
    draw_reconstructions(vae, np.zeros((3, 1, 8, 8), np.uint8), CPU, tmp_path / "reconstructions.png")
    drawn = sorted(path for path in tmp_path.iterdir() if path.suffix != ".jsonl")
    assert len(drawn) == 8
    for path in drawn:
        with Image.open(path) as picture:
            assert is_figure(picture), path.name


@pytest.mark.parametrize(
    ("shape", "samples", "row"),
    [
        # Width and height of ten by ten with 2 pixels between, twice; and of 13 in a row, without what is written.
        ((1, 28, 28), (604, 604), (13 * 30 + 2, 30)),
        ((3, 64, 64), (662, 662), (13 * 66 + 2, 66)),
        # Six by six; pictures made smaller, to 96 pixels.
        ((3, 256, 256), (1550, 1550), (13 * 98 + 2, 98)),
        ((4, 128, 512), (1544, 1302), (13 * 98 + 2, 26)),
    ],
    ids=str,
)
def test_sheets_of_any_image_size_stay_handy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: Shape, samples: tuple[int, int], row: tuple[int, int]
) -> None:
    for slow in ("save_animation", "_draw_histogram", "_draw_titled_samples"):  # and of no interest here
        monkeypatch.setattr(report, slow, lambda *arguments, **named: None)
    vae = linear_vae(shape, 40)
    config = TrainConfig.from_preset("notebook", latent_dim=40)
    draw_report(tmp_path, vae, config, [float(latent) for latent in range(40)], CPU)
    assert size_of(tmp_path / "samples.png") == samples
    width, height = size_of(tmp_path / "traversals.png")  # names stand left of its rows and above its columns
    assert 30 < width - row[0] < 110
    assert 14 < height - (32 * row[1] + 2) < 20  # 32 of the 40 latents
    images = np.random.default_rng(0).integers(0, 256, (30, *shape), np.uint8)
    draw_reconstructions(vae, images, CPU, tmp_path / "reconstructions.png")
    assert max(size_of(tmp_path / "reconstructions.png")) <= 1600


@pytest.mark.parametrize("splits", [("train",), ("train", "validation")], ids=len)
@pytest.mark.parametrize("with_prior", [False, True])
def test_the_legend_of_the_losses_covers_nothing(
    splits: tuple[str, ...], with_prior: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [
        {"step": step, "split": split, "total": -700.0, "reconstruction": -760.0, "kl": 60.0, "sse": 6.0}
        for step in range(50, 401, 50)
        for split in splits
    ]
    if with_prior:
        records += [{"step": step, "split": "prior", "nll": 20.0, "discriminator": 1.3} for step in range(450, 801, 50)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    drawn: list[Figure] = []
    monkeypatch.setattr(report, "_save_plot", lambda figure, path: drawn.append(figure))
    report._draw_loss_curve(tmp_path, 400)
    (figure,) = drawn
    figure.draw_without_rendering()
    losses, *others = figure.axes
    assert len(others) == 2 * with_prior
    legend = losses.get_legend()
    assert legend is not None
    place = legend.get_window_extent()
    assert len(legend.get_texts()) == 3 * len(splits)
    words = [*losses.get_xticklabels(), losses.xaxis.label]
    for other in [*(axes.get_window_extent() for axes in figure.axes), *(word.get_window_extent() for word in words)]:
        assert not place.overlaps(other)
    assert place.x0 >= 0
    assert place.y0 >= 0
    assert place.x1 <= figure.bbox.x1


def test_the_losses_that_are_shown_are_all_but_those_of_the_first_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"split": "train", "reconstruction": -90.0, "kl": 10.0, "sse": 6.0}
    validation = {"split": "validation", "reconstruction": -60.0, "kl": 12.0, "sse": 6.0}
    records = [
        {"step": 50, **train, "total": 900.0},
        {"step": 100, **validation, "total": -48.0},
        {"step": 200, **train, "total": -80.0},  # a network that overfits
        {"step": 200, **validation, "total": -40.0},
    ]
    # Other images may come out infinitely bad where those that were learnt from did not.
    infinite = [
        {**record, "step": record["step"] + 1, "reconstruction": math.inf, "total": math.inf}
        for record in records
        if record["split"] == "validation"
    ]
    drawn: list[Figure] = []
    monkeypatch.setattr(report, "_save_plot", lambda figure, path: drawn.append(figure))
    for shown in (records, infinite[:1] + records, records + infinite):
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in shown))
        report._draw_loss_curve(tmp_path, 201)
        low, high = drawn.pop().axes[0].get_ylim()
        assert -110 < low < -90
        assert 12 < high < 100
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in infinite))
    report._draw_loss_curve(tmp_path, 201)
    assert len(drawn) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_a_loss_of_the_prior_that_was_logged_once_is_a_dot(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = [{**PRIOR, "step": 200 + number, "discriminator": 1.3} for number in range(count)]
    log(tmp_path, {**LOSSES, "step": 100, "split": "train"}, *fitted)
    drawn: list[Figure] = []
    monkeypatch.setattr(report, "_save_plot", lambda figure, path: drawn.append(figure))
    report._draw_loss_curve(tmp_path, 100)
    lines = [line for axes in drawn[0].axes[1:] for line in axes.get_lines()]
    assert [line.get_marker() for line in lines] == (["."] * 2 if count == 1 else [""] * 2)


def test_traversals_show_each_latent_of_the_largest_kl_first(tmp_path: Path) -> None:
    vae = linear_vae((1, 12, 8), 3)
    z = np.array([0.5, -1, 2], np.float32)
    traversals.draw_traversals(vae, z, [0.1, 3.0, 0.7], CPU, tmp_path / "traversals.png")
    with Image.open(tmp_path / "traversals.png") as picture:
        grid = np.asarray(picture)[-(3 * (72 + 2) + 2) :, -(13 * (48 + 2) + 2) :]
    for row, latent in enumerate((1, 2, 0)):
        with torch.inference_mode():
            expected = vae.decoder(torch.from_numpy(traversal(z, latent, np.linspace(-3, 3, 13)))).numpy()
        for column in range(13):
            top, left = 2 + row * (72 + 2), 2 + column * (48 + 2)  # six times as large
            shown = grid[top : top + 72 : 6, left : left + 48 : 6]
            np.testing.assert_allclose(shown, expected[column, 0] * 255, atol=0.51)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name", ["cost$^$", "$x\\foo$", pytest.param("b\udcff", marks=needs_names_without_text), "\u4e2d\u6587", "a$b$c"]
)
def test_a_run_may_have_any_name(name: str, tmp_path: Path) -> None:
    run = tmp_path / name
    run.mkdir(parents=True)  # a backslash is a folder on Windows
    records = [{**LOSSES, "step": 100, "split": split} for split in ("train", "validation")]
    _draw_loss_curve(log(run, *records, {**PRIOR, "step": 200}), 100)
    assert size_of(run / "loss-curve.png") == (900, 500)
