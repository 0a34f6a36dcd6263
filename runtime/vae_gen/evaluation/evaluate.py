"""How good a model is, measured on a data set: reconstructions, latents, samples; numpy and onnxruntime only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_gen.data.datasets import DataSet
from vae_gen.data.splits import TEST_SHARE
from vae_gen.errors import DataError, UsageError
from vae_gen.evaluation.components import Components, Points, evenly_spaced, fit_components, images_at_a_time
from vae_gen.evaluation.metrics import (
    ROUNDING_ERROR,
    CalibratedElbo,
    active_units,
    calibrated_elbo,
    kl_to_standard_normal,
    peak_signal_to_noise_ratio,
    sum_of_squared_errors,
)
from vae_gen.evaluation.sample_quality import NEIGHBOURS, Neighbourhoods, frechet_distance, nearest_distances, overlap
from vae_gen.images import ByteImages, to_float, to_uint8
from vae_gen.latents import check_range, draw
from vae_gen.model import Model

SAMPLES = 10_000
STEPS = 8  # how often `progress` is called
CLOSE = 1  # percentile of the held-out images' distances below which a sample is called close

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredOn:
    """What the figures are of."""

    model: str
    bundle_id: str
    data: dict[str, Any]  # as DataSet.describe() has it
    same_data: bool | None  # as the model was trained on; None where it does not say what that was
    training_images: int  # all of them, for the nearest one
    split: str  # of the held-out images: "test", or "validation" where the data set has no test images
    images: int  # all of that split: for the reconstructions, the latents and the ELBO
    compared_images: int  # of each set that is compared: held-out, training, reconstructions, samples
    seed: int
    components: int  # principal components in which sets are compared
    components_fitted_on: int  # training images
    neighbours: int  # k of precision, recall, density and coverage


@dataclass(frozen=True)
class Reconstruction:
    """Means per image, pixels in [0, 1], of the decoder's output as it is, not rounded to 8 bits."""

    sse: float  # sum of squared errors, from the posterior mean
    sse_after_draw: float  # the same, from one draw from each posterior
    mse: float  # sse divided by an image's number of values
    psnr: float  # dB; the mean of every image's own


@dataclass(frozen=True)
class LatentUse:
    """What the encoder puts into the latents; the KL divergence of the posterior from N(0, 1), mean per image."""

    kl: float  # nats
    kl_per_latent: list[float]
    active_units: int  # latents whose posterior mean has a variance above 0.01


@dataclass(frozen=True)
class Likeness:
    """How alike a set of images is to the held-out images, in the principal components."""

    frechet_distance: float  # in squared pixel values: the first few components decide
    frechet_standardised: float  # the same in deviations of the held-out images, or of rounding where that is more
    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class SampleQuality:
    """What is compared with the held-out images: training images (the floor), their reconstructions, samples."""

    training_images: Likeness
    reconstructions: Likeness  # of the held-out images, from the posterior mean
    samples: Likeness
    samples_to_reconstructions: dict[str, float | None]  # the ratio of each figure, where there is one


@dataclass(frozen=True)
class Nearest:
    """Distances of a set of images to the nearest training image of each, in the principal components."""

    median: float
    smallest: float  # 0 for a copy
    close_share: float  # closer than 99 in 100 held-out images are; 0.01 for images like them


@dataclass(frozen=True)
class NearestTrainingImage:
    held_out: Nearest
    reconstructions: Nearest
    samples: Nearest


@dataclass(frozen=True)
class Evaluation:
    measured_on: MeasuredOn
    reconstruction: Reconstruction
    latents: LatentUse
    elbo: CalibratedElbo
    sample_quality: SampleQuality
    nearest_training_image: NearestTrainingImage


def evaluate(
    model: Model,
    data: DataSet,
    *,
    seed: int,
    samples: int = SAMPLES,
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Measure `model` on the test images of `data`, or on its validation images if it has no others.

    Sets are compared in the 64 leading principal components of the training images: what the model learnt from,
    so that the held-out images are as new to the components as the samples are. Each set has as many images,
    `samples` or as many as the smaller split has; of a larger split they are evenly spaced. All are rounded to
    8 bits, as real images are and as files hold them.

    The samples are images 0 ... n - 1 of `seed`, the draws from the posteriors its first latents.
    `progress` is called with 1 after each of 8 steps.
    Raises UsageError if `seed` or `samples` is out of range, DataError if the images have not the model's shape,
    are too few or all alike, BundleError if the model has no encoder or fails.
    """
    if samples <= NEIGHBOURS:
        raise UsageError(f"samples is {samples}; it must be at least {NEIGHBOURS + 1}")
    check_range(seed, 0, samples)
    model.encode(np.zeros((1, *model.image_shape), np.float32))  # whoever has no encoder need not wait to be told
    if data.image_shape != model.image_shape:
        raise DataError(
            f"the data's images have shape {data.image_shape} (channels, height, width), those of {model.name} "
            f"{model.image_shape}; evaluate it with the data it was trained on"
        )
    split, held_out = ("validation", data.validation) if data.test is None else ("test", data.test)
    compared = min(samples, len(held_out), len(data.train))
    if compared <= NEIGHBOURS:
        raise DataError(
            f"the data has {len(data.train)} images for training and {len(held_out)} in its {split} split; "
            f"at least {NEIGHBOURS + 1} of each are needed: give {(NEIGHBOURS + 1) * TEST_SHARE} images, of which a "
            "twelfth is for testing, or test images of their own, as x_test in an .npz file or in a folder called test"
        )
    components = fit_components(data.train)
    if not components.count:
        raise DataError("the training images are all alike; there is nothing to compare samples in")
    differences = differences_from_training(model, data)
    progress(1)

    encoded = _encode(model, held_out, seed, components)
    progress(1)
    train_points = _project(data.train, components)
    progress(1)
    chosen = evenly_spaced(len(held_out), compared)
    real = Neighbourhoods.of(_project(held_out, components)[chosen])
    sets = {
        "training_images": train_points[evenly_spaced(len(train_points), compared)],
        "reconstructions": encoded.reconstructions[chosen],
        "samples": _sample(model, seed, compared, components),
    }
    progress(1)
    likeness = {}
    for name, points in sets.items():
        likeness[name] = _compare(real, points)
        progress(1)
    nearest = _nearest(train_points, real.points, sets["reconstructions"], sets["samples"])
    progress(1)

    values = int(np.prod(model.image_shape))
    sse, drawn, kl = encoded.sse.mean(), encoded.sse_after_draw.mean(), encoded.kl_per_latent.mean(axis=0)
    return Evaluation(
        measured_on=MeasuredOn(
            model=model.name,
            bundle_id=model.description.bundle_id,
            data=data.describe(),
            same_data=None if differences is None else not differences,
            training_images=len(data.train),
            split=split,
            images=len(held_out),
            compared_images=compared,
            seed=seed,
            components=components.count,
            components_fitted_on=components.fitted_on,
            neighbours=NEIGHBOURS,
        ),
        reconstruction=Reconstruction(
            sse=float(sse),
            sse_after_draw=float(drawn),
            mse=float(sse / values),
            psnr=float(peak_signal_to_noise_ratio(encoded.sse / values).mean()),
        ),
        latents=LatentUse(float(kl.sum()), kl.tolist(), int(active_units(encoded.mean).sum())),
        elbo=calibrated_elbo(float(drawn), float(kl.sum()), values),
        sample_quality=SampleQuality(
            **likeness, samples_to_reconstructions=_ratios(likeness["samples"], likeness["reconstructions"])
        ),
        nearest_training_image=nearest,
    )


def differences_from_training(model: Model, data: DataSet) -> list[str] | None:
    """In words, where `data` are not what the model was trained on; None where it does not say what that was."""
    trained_on = model.manifest.training.get("data") if model.manifest else None
    return data.differences(trained_on) if isinstance(trained_on, dict) else None


@dataclass(frozen=True)
class _Encoded:
    """For every image: its posterior mean, its errors, its KL divergences, its reconstruction's components."""

    mean: npt.NDArray[np.float32]  # [n, latent_dim]
    kl_per_latent: Values  # [n, latent_dim]
    sse: Values  # [n]
    sse_after_draw: Values  # [n]
    reconstructions: Points


def _encode(model: Model, images: ByteImages, seed: int, components: Components) -> _Encoded:
    parts = []
    step = images_at_a_time(components.mean.size)
    for first in range(0, len(images), step):
        inputs = to_float(images[first : first + step])
        mean, log_var = model.encode(inputs)
        outputs = model.decode(mean)
        noise = draw(seed, first, len(inputs), model.latent_dim)
        with np.errstate(over="ignore"):  # decode says what is wrong
            drawn = mean + np.exp(log_var / 2) * noise
        parts.append(
            (
                mean,
                kl_to_standard_normal(mean, log_var),
                sum_of_squared_errors(outputs, inputs),
                sum_of_squared_errors(model.decode(drawn), inputs),
                components.project(to_uint8(outputs)),
            )
        )
    return _Encoded(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _sample(model: Model, seed: int, count: int, components: Components) -> Points:
    step = images_at_a_time(components.mean.size)
    return np.concatenate(
        [
            components.project(to_uint8(model.sample(min(step, count - first), seed, first)))
            for first in range(0, count, step)
        ]
    )


def _project(images: ByteImages, components: Components) -> Points:
    step = images_at_a_time(components.mean.size)
    return np.concatenate([components.project(images[first : first + step]) for first in range(0, len(images), step)])


def _compare(real: Neighbourhoods, points: Points) -> Likeness:
    found = overlap(real, Neighbourhoods.of(points, real.k))
    deviation = real.points.std(axis=0).clip(min=ROUNDING_ERROR**0.5)  # of what varies less, rounding would decide
    return Likeness(
        frechet_distance(real.points, points),
        frechet_distance(real.points / deviation, points / deviation),
        **vars(found),
    )


def _ratios(samples: Likeness, reconstructions: Likeness) -> dict[str, float | None]:
    pairs = {name: (value, vars(reconstructions)[name]) for name, value in vars(samples).items()}
    return {name: value / base if base else None for name, (value, base) in pairs.items()}


def _nearest(train: Points, held_out: Points, reconstructions: Points, samples: Points) -> NearestTrainingImage:
    distances = [nearest_distances(points, train) for points in (held_out, reconstructions, samples)]
    close = np.percentile(distances[0], CLOSE)
    return NearestTrainingImage(
        *(Nearest(float(np.median(each)), float(each.min()), float((each < close).mean())) for each in distances)
    )
