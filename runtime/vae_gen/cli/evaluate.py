"""vae-gen evaluate"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_gen.cli import messages, options
from vae_gen.errors import UsageError

if TYPE_CHECKING:
    from vae_gen.data.tones import Tones
    from vae_gen.evaluation.evaluate import Evaluation

TITLES = {"training_images": "training images", "samples_to_reconstructions": "samples / reconstructions"}
WIDTH = 24  # of the names of figures
FEW = 500  # images, of which distances and shares mean little


@click.command()
@options.model_argument
@click.option(
    "--data",
    type=options.PathType(),
    required=True,
    help="A folder or a zip or tar archive of pictures, an .npy, .npz or IDX file, or a folder of IDX files named as "
    "MNIST's are.",
)
@click.option(
    "--samples",
    type=click.IntRange(6, 1_000_000),
    default=10_000,
    show_default=True,
    help="Images of each kind that are compared; fewer where the data has fewer. Figures for other numbers are "
    "not comparable: the fewer, the larger the Frechet distances, by a bias that falls as 1/n.",
)
@click.option(
    "--seed",
    type=int,
    help="0 to 2**64 - 1; the same seed gives the same figures. Default: a random one, which is printed.",
)
@options.skip_bad_option
@options.tones_options
@click.option("--write", is_flag=True, help="Record the result in the bundle's manifest.json, under metrics.evaluate.")
@options.threads_option
@options.json_option
@options.quiet_option
def evaluate(
    model: str,
    data: Path,
    samples: int,
    seed: int | None,
    skip_bad: bool,
    tones: Tones,
    write: bool,
    threads: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure a model on images that it was not trained on.

    MODEL is a shipped model's name or a bundle's directory. The images are the data's test images, or its
    validation images if it has none. Sets of images are compared in the 64 leading principal components of the
    training images; what training images score there is the floor. The data should be those that the model was
    trained on, given as they were then: a message says if they are others.

    \b
    vae-gen evaluate notebook --data ~/.cache/vae-gen/mnist
    vae-gen evaluate bundles/mine --data photos/ --seed 1 --json
    """
    from vae_gen.bundles import shipped
    from vae_gen.cpus import usable_cpus

    # numpy's linear algebra reads it when it is imported, and knows no other way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads or usable_cpus()))
    from vae_gen.data.datasets import DataOptions, load_data_set
    from vae_gen.evaluation.evaluate import STEPS, differences_from_training
    from vae_gen.evaluation.evaluate import evaluate as measure
    from vae_gen.files import as_text
    from vae_gen.latents import check_range, fresh_seed
    from vae_gen.model import load_bundle

    if write and model in shipped():
        raise UsageError(
            f"--write is for models of your own, and {model} came with vae-gen; give the path of a copy of "
            f"{shipped()[model]}"
        )
    chosen = fresh_seed() if seed is None else seed
    check_range(chosen, 0, samples)
    network = load_bundle(model, threads)
    if seed is None:
        messages.say(f"seed {chosen}", quiet)
    channels, *size = network.image_shape
    wanted = DataOptions((size[0], size[1]), channels, skip_bad, **vars(tones))
    loaded = load_data_set(data, wanted, notify=lambda message: messages.say(message, quiet))
    doubt = _doubt(network.name, data, differences_from_training(network, loaded))
    if doubt:
        messages.say(doubt, quiet)
    tested = loaded.validation if loaded.test is None else loaded.test
    if len(tested) < FEW:
        messages.say(
            f"there are only {len(tested):,} images to compare with: distances and shares of so few say little", quiet
        )
    with messages.progress_bar(STEPS, quiet) as progress:
        found = measure(network, loaded, seed=chosen, samples=samples, progress=progress)

    # As it can be repeated, without where somebody keeps their files.
    words = ["vae-gen", "evaluate", network.name, "--data", as_text(data.resolve().name)]
    words += [*["--skip-bad"] * skip_bad, *tones.as_options]
    command = shlex.join([*words, "--samples", str(samples), "--seed", str(chosen)])
    result = {"command": command, **dataclasses.asdict(found)}
    click.echo(json.dumps(result, indent=2) if as_json else _table(found))
    if write and network.manifest is not None and network.directory is not None:
        network.manifest.record(network.directory, evaluate=result)
        messages.say(f"recorded in {network.directory / 'manifest.json'}", quiet)


def _doubt(model: str, data: Path, differences: list[str] | None) -> str:
    """What keeps the figures from being those of images that the model has not seen; nothing if all is well."""
    if differences is None:
        return f"{model} does not say what it was trained on: it may have been some of the images that it is tested on"
    if not differences:
        return ""
    return (
        f"{model} was trained on other data than {data}: there are {'; '.join(differences)}. "
        "So the training images that samples are compared with are not the model's, and it may have been trained on "
        "some of the images that it is tested on"
    )


def _table(found: Evaluation) -> str:
    on, errors, latents, elbo = found.measured_on, found.reconstruction, found.latents, found.elbo
    held_out = f"{on.split} images"
    others = " of other data than it was trained on" if on.same_data is False else ""
    lines = [
        f"{on.model} on {on.images:,} {held_out}{others}, seed {on.seed}; pixels in [0, 1]",
        "",
        "reconstructions, means per image",
        _row("sum of squared errors", errors.sse, "from the posterior mean"),
        _row("sum of squared errors", errors.sse_after_draw, "after one draw from the posterior"),
        _row("mean squared error", errors.mse, "from the posterior mean"),
        _row("PSNR", errors.psnr, "dB, from the posterior mean"),
        "latents",
        _row("KL divergence", latents.kl, "nats per image"),
        *(_row(f"  of latent {dim}", kl) for dim, kl in enumerate(latents.kl_per_latent)),
        f"  {'active units':{WIDTH}}{latents.active_units:>10}  of {len(latents.kl_per_latent)}",
        "ELBO, Gaussian decoder with the best variance",
        _row("ELBO", elbo.nats_per_image, "nats per image"),
        _row("-ELBO", elbo.bits_per_dimension, "bits per dimension"),
        _row("sigma", elbo.sigma, "the decoder's standard deviation"),
        "",
        f"{on.compared_images:,} images of each kind against {on.compared_images:,} {held_out}, in "
        f"{on.components} principal components, k = {on.neighbours}",
        *_columns(dataclasses.asdict(found.sample_quality)),
        "",
        f"distance to the nearest of {on.training_images:,} training images, in the same components",
        *_columns(dataclasses.asdict(found.nearest_training_image), {"held_out": held_out}),
        f"  close: nearer than 99 in 100 {held_out} are",
    ]
    return "\n".join(lines)


def _row(name: str, value: float, unit: str = "") -> str:
    return f"  {name:{WIDTH}}{_figure(value):>10}  {unit}".rstrip()


def _columns(sets: dict[str, dict[str, float | None]], more_titles: dict[str, str] | None = None) -> list[str]:
    """A table with a column for each set and a row for each figure."""
    titles = [(TITLES | (more_titles or {})).get(name, name) for name in sets]
    widths = [max(10, len(title)) for title in titles]

    def line(first: str, cells: list[str]) -> str:
        return f"  {first:{WIDTH}}" + "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))

    figures = list(next(iter(sets.values())))
    rows = {name: [_figure(values[name]) for values in sets.values()] for name in figures}
    spoken = {name: name.replace("_", " ").replace("frechet", "Frechet") for name in figures}
    return [line("", titles), *(line(spoken[name], cells) for name, cells in rows.items())]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
