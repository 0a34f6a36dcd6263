"""What a run shows: reconstructions while it trains, and what the notebook drew on screen when it is done."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from vae_gen.animate import save_animation, to_frames
from vae_gen.files import as_text, whole_file
from vae_gen.images import ByteImages, to_pillow
from vae_gen.latents import Latents, draw
from vae_gen.paths import traversal
from vae_gen.png import FIGURE_TEXTS, save_figure
from vae_gen.sheets import enlarge, grid, pairs_sheet, viewing_factor

from vae_gen_train.config import TrainConfig
from vae_gen_train.evaluation import decoded, posteriors
from vae_gen_train.metrics_log import read_metrics
from vae_gen_train.nets import VAE
from vae_gen_train.traversals import draw_traversals

# The point that the notebook decodes, and from which it sweeps latent 7.
NOTEBOOK_Z = (-1.0, 1.0, 0.1, 0.3, -0.2, 0.7, -0.5, -2.5)
HISTOGRAM_LATENTS = 80_000
SHEET = 1600  # pixels that a sheet may be wide or high, whatever the size of the images
VIEW = 900  # and to which a smaller one is enlarged, about
SWEEP = np.linspace(-2.4, 2.5, 50)


def draw_reconstructions(vae: VAE, images: ByteImages, device: torch.device, path: Path, count: int = 20) -> None:
    """A PNG of the first images, `count` or fewer if they are large, over their reconstructions from the mean."""
    columns = min(10, fitting(images.shape[3]))
    inputs = images[: min(count, 2 * columns)]
    mean, _ = posteriors(vae, inputs, device)
    sheet = pairs_sheet(inputs, decoded(vae, mean.cpu().numpy(), device), columns)
    save_figure(enlarge(sheet, 2 if 2 * sheet.shape[2] <= SHEET else 1), path)


def draw_report(run: Path, vae: VAE, config: TrainConfig, latent_kl: Sequence[float], device: torch.device) -> None:
    """Draw, in the run's directory:

    loss-curve.png   training losses over steps, and those of the validation images
    samples.png      a sheet of samples from the prior, ten by ten where they are small
    traversals.png   each latent swept alone, one a row, those of the largest KL divergence (`latent_kl`) first
    histogram.png    a draw of latents beside the standard normal density
    decoded-z.png    one given point decoded (the notebook's, where there are 8 latents; else the origin)
    traversal.gif    the last latent swept from that point

    and for the notebook's networks ten-samples.png, titled as the notebook showed them.
    """
    latent_dim = config.latent_dim
    z = np.zeros(latent_dim, np.float32)
    if latent_dim == len(NOTEBOOK_Z):
        z[:] = NOTEBOOK_Z
    draws = draw(seed=0, start=0, count=max(100, HISTOGRAM_LATENTS // latent_dim), latent_dim=latent_dim)
    values = [f"{value:+.1f}" for value in SWEEP]
    sweep = decoded(vae, traversal(z, latent_dim - 1, SWEEP), device)
    height, width = sweep.shape[2:]
    factor = viewing_factor(height, width)

    _draw_loss_curve(run, config.steps)
    columns, rows = (min(10, fitting(size)) for size in (width, height))
    sheet = grid(decoded(vae, draws[: columns * rows], device), columns)
    save_figure(enlarge(sheet, max(1, VIEW // max(sheet.shape[1:]))), run / "samples.png")
    if config.network.startswith("notebook"):
        _draw_titled_samples(decoded(vae, draws[:10], device), run / "ten-samples.png")
    draw_traversals(vae, z, latent_kl, device, run / "traversals.png")
    _draw_histogram(draws, run / "histogram.png")
    save_figure(enlarge(decoded(vae, z[None], device)[0], factor), run / "decoded-z.png")
    captions = [f"z[{latent_dim - 1}] = {value}" for value in values]
    save_animation(to_frames(enlarge(sweep, factor), captions), run / "traversal.gif", fps=10)


def fitting(size: int) -> int:
    """How many pictures of that many pixels stand side by side on a sheet, at least 1."""
    return max(1, SHEET // (size + 2))


def _draw_loss_curve(run: Path, steps: int) -> None:
    """The losses over the VAE's `steps`, and beside them those of the prior after it."""
    everything = read_metrics(run)
    records = [record for record in everything if record["step"] <= steps]
    if not records:
        return
    figure = Figure(figsize=(9, 5), layout="constrained")
    fitted = [record for record in everything if record["split"] == "prior"]
    axes, *others = figure.subplots(1, 2, width_ratios=(2, 1)) if fitted else [figure.add_subplot()]
    for prior_axes in others:
        _plot(prior_axes, [(record["step"], record["nll"]) for record in fitted], "C0")
        prior_axes.set(xlabel="step", title="its prior, nats")
        prior_axes.set_ylabel("-log p(z)", color="C0")
        prior_axes.grid(alpha=0.3)
        told = [(record["step"], told) for record in fitted if (told := record.get("discriminator")) is not None]
        if told:
            discriminator_axes = prior_axes.twinx()
            _plot(discriminator_axes, told, "C3")
            discriminator_axes.set_ylabel("the discriminator's loss (1.386: chance level)", color="C3")
    for name, color in (("total", "C0"), ("reconstruction", "C1"), ("kl", "C2")):
        for split, style in (("train", {"alpha": 0.35, "linewidth": 0.8}), ("validation", {"marker": "."})):
            points = [(record["step"], record[name]) for record in records if record["split"] == split]
            if points:
                axes.plot(*zip(*points, strict=True), color=color, label=f"{name}, {split}", **style)
    axes.set(xlabel="step", ylabel="loss per image (nats)")
    axes.set_title(f"Training of {as_text(run.resolve().name)}", parse_math=False)
    finite = [record for record in records if math.isfinite(record["total"])]
    evaluated = [record for record in finite if record["split"] == "validation"]
    if evaluated:  # the first steps would leave no room for the rest
        later = [record for record in finite if record["step"] >= evaluated[0]["step"]]
        terms = [record[name] for record in later for name in ("total", "reconstruction", "kl")]
        low = min(0, *terms)  # a density, unlike a sum of squares, can exceed 1
        axes.set_ylim(1.05 * low, max(terms) - 0.05 * low if low else 2 * evaluated[0]["total"])
    axes.grid(alpha=0.3)
    # Below the axes: within them there is no place that no curve ever crosses.
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize="small", columnspacing=1, frameon=False
    )
    _save_plot(figure, run / "loss-curve.png")


def _plot(axes: Axes, points: list[tuple[int, float]], color: str) -> None:
    """A line through the points; where there is one alone, a dot."""
    axes.plot(*zip(*points, strict=True), color=color, linewidth=0.8, marker="" if len(points) > 1 else ".")


def _draw_titled_samples(images: ByteImages, path: Path) -> None:
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    for number, image in enumerate(images):
        axes = figure.add_subplot(2, 5, number + 1)
        axes.imshow(to_pillow(image), cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"sample {number}")
        axes.set_axis_off()
    _save_plot(figure, path)


def _draw_histogram(draws: Latents, path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    edges = np.linspace(-5, 5, 101)
    axes.hist(draws.ravel(), bins=edges.tolist(), density=True, label=f"{draws.size:,} latents, seed 0")
    axes.plot(edges, np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi), label="N(0, 1)")
    axes.set(xlabel="z", ylabel="density")
    axes.legend(loc="upper right")
    _save_plot(figure, path)


def _save_plot(figure: Figure, path: Path) -> None:
    with whole_file(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a run's name; a box stands for it
        figure.savefig(partial, format="png", dpi=100, metadata=FIGURE_TEXTS)
