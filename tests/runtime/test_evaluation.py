"""evaluate, against the figures computed another way."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import vae_gen
from vae_gen.data.datasets import DataSet
from vae_gen.errors import BundleError, DataError, UsageError
from vae_gen.evaluation import evaluate as evaluation
from vae_gen.evaluation.evaluate import STEPS, Evaluation, evaluate
from vae_gen.evaluation.sample_quality import Neighbourhoods
from vae_gen.latents import draw

from tests.conftest import MODELS
from tests.runtime import reference
from tests.runtime.overlap_by_loops import by_loops


def tiny_data(train: int = 45, validation: int = 9, test: int | None = 30) -> DataSet:
    """Images that the model could have made, with noise on them."""
    count = train + validation + (test or 0)
    noise = np.random.default_rng(1).normal(0, 0.05, (count, 3, 5, 4))
    images = reference.round_half_up(np.clip(reference.decode(1.5 * draw(99, 0, count, 3)) + noise, 0, 1))
    return DataSet(
        sha256="a" * 64,
        test_sha256=None if test is None else "b" * 64,
        train=images[:train],
        validation=images[train : train + validation],
        test=None if test is None else images[train + validation :],
    )


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return evaluate(vae_gen.load(MODELS / "tiny"), tiny_data(), seed=4)


def test_what_it_is_measured_on(found: Evaluation) -> None:
    assert dataclasses.asdict(found.measured_on) == {
        "model": "tiny",
        "bundle_id": "0123456789abcdef",
        "data": tiny_data().describe(),
        "same_data": None,  # the model says nothing of what it was trained on
        "training_images": 45,
        "split": "test",
        "images": 30,
        "compared_images": 30,
        "seed": 4,
        "components": 44,  # 45 training images differ in no more directions
        "components_fitted_on": 45,
        "neighbours": 5,
    }


def test_reconstruction_latents_and_elbo(found: Evaluation) -> None:
    images = tiny_data().test
    assert images is not None
    inputs = images / 255
    mean, log_var = reference.encode(inputs)
    sse = ((reference.decode(mean) - inputs) ** 2).reshape(30, 60).sum(axis=1)
    drawn = mean + np.exp(log_var / 2) * draw(4, 0, 30, 3)
    sse_after_draw = ((reference.decode(drawn) - inputs) ** 2).reshape(30, 60).sum(axis=1).mean()
    kl = ((mean**2 + np.exp(log_var) - 1 - log_var) / 2).mean(axis=0)
    assert found.reconstruction.sse == pytest.approx(sse.mean(), rel=1e-5)
    assert found.reconstruction.sse_after_draw == pytest.approx(sse_after_draw, rel=1e-5)
    assert found.reconstruction.mse == pytest.approx(sse.mean() / 60, rel=1e-5)
    assert found.reconstruction.psnr == pytest.approx((10 * np.log10(60 / sse)).mean(), rel=1e-5)
    assert found.latents.kl_per_latent == pytest.approx(kl, rel=1e-5)
    assert found.latents.kl == pytest.approx(kl.sum(), rel=1e-5)
    assert found.latents.active_units == (mean.var(axis=0) > 0.01).sum()
    variance = sse_after_draw / 60
    nats = -30 * (math.log(2 * math.pi * variance) + 1) - kl.sum()
    assert found.elbo.sigma == pytest.approx(math.sqrt(variance), rel=1e-5)
    assert found.elbo.nats_per_image == pytest.approx(nats, rel=1e-5)
    assert found.elbo.bits_per_dimension == pytest.approx(-nats / 60 / math.log(2), rel=1e-5)


def test_sample_quality(found: Evaluation) -> None:
    data = tiny_data()
    assert data.test is not None
    rows = data.train.reshape(45, 60) / 255
    basis = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][:44].T

    def project(images: np.ndarray) -> np.ndarray:
        return (images.reshape(len(images), 60) / 255 - rows.mean(axis=0)) @ basis

    def rounded(z: np.ndarray) -> np.ndarray:
        return project(reference.round_half_up(reference.decode(z)))

    real, train = project(data.test), project(data.train)
    sets = {
        "training_images": train[np.arange(30) * 45 // 30],
        "reconstructions": rounded(reference.encode(data.test / 255)[0]),
        "samples": rounded(draw(4, 0, 30, 3)),
    }
    quality = dataclasses.asdict(found.sample_quality)
    for name, points in sets.items():
        figures = quality[name]
        names = ("precision", "recall", "density", "coverage")
        assert tuple(figures[each] for each in names) == pytest.approx(by_loops(real.tolist(), points.tolist(), 5))
        for figure, scale in (
            ("frechet_distance", 1),
            ("frechet_standardised", np.sqrt(np.mean(real**2, 0) - np.mean(real, 0) ** 2)),
        ):
            one, other = real / scale, points / scale
            covariances = np.cov(one.T), np.cov(other.T)
            roots = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).astype(complex)).real
            distance = np.sum((one.mean(0) - other.mean(0)) ** 2) + np.trace(sum(covariances)) - 2 * roots.sum()
            assert figures[figure] == pytest.approx(distance, abs=1e-4), figure
    for name, ratio in quality["samples_to_reconstructions"].items():
        base = quality["reconstructions"][name]
        assert ratio == (quality["samples"][name] / base if base else None)

    nearest = dataclasses.asdict(found.nearest_training_image)
    expected = {
        name: np.array([min(math.dist(point, other) for other in train) for point in points])
        for name, points in {"held_out": real, **sets}.items()
    }
    close = np.percentile(expected["held_out"], 1)
    assert nearest.keys() == {"held_out", "reconstructions", "samples"}
    for name, figures in nearest.items():
        distances = expected[name]
        assert list(figures.values()) == pytest.approx(
            [np.median(distances), distances.min(), (distances < close).mean()], abs=1e-9
        )


def test_another_seed_changes_what_is_drawn_and_nothing_else(found: Evaluation) -> None:
    again = evaluate(vae_gen.load(MODELS / "tiny", threads=1), tiny_data(), seed=4)
    assert again == found
    other = evaluate(vae_gen.load(MODELS / "tiny"), tiny_data(), seed=5)
    assert other.reconstruction.sse_after_draw != found.reconstruction.sse_after_draw
    assert other.sample_quality.samples != found.sample_quality.samples
    assert other.nearest_training_image.samples != found.nearest_training_image.samples
    assert other.reconstruction.sse == found.reconstruction.sse
    assert other.latents == found.latents
    assert other.sample_quality.training_images == found.sample_quality.training_images
    assert other.sample_quality.reconstructions == found.sample_quality.reconstructions
    assert other.nearest_training_image.held_out == found.nearest_training_image.held_out


def test_copies_of_training_images_are_seen() -> None:
    data = tiny_data()
    samples = reference.round_half_up(reference.decode(draw(4, 0, 30, 3)))
    found = evaluate(vae_gen.load(MODELS / "tiny"), dataclasses.replace(data, train=samples), seed=4)
    assert found.nearest_training_image.samples.smallest == 0
    assert found.nearest_training_image.samples.median == 0
    assert found.nearest_training_image.samples.close_share == 1
    assert found.nearest_training_image.held_out.smallest > 0


def test_validation_images_stand_in_for_test_images_and_fewer_samples_are_compared() -> None:
    calls: list[int] = []
    model = vae_gen.load(MODELS / "tiny")
    found = evaluate(model, tiny_data(test=None, validation=20), seed=0, samples=10, progress=calls.append)
    assert found.measured_on.split == "validation"
    assert found.measured_on.images == 20
    assert found.measured_on.compared_images == 10
    assert calls == [1] * STEPS


def test_the_fewest_images_suffice() -> None:
    found = evaluate(vae_gen.load(MODELS / "tiny"), tiny_data(train=6, test=6), seed=0)
    assert found.measured_on.components == 5
    numbers = json.dumps(dataclasses.asdict(found), allow_nan=False)
    assert json.loads(numbers)["measured_on"]["compared_images"] == 6


def test_a_component_that_varies_less_than_rounding_does_not_decide() -> None:
    """Points that are off by a hundredth of a level, in a component that hardly varies, are alike."""
    real = np.random.default_rng(0).normal(size=(100, 3)) * [1, 0.5, 1e-6]
    off = real + [0, 0, 0.01 / 255]
    found = evaluation._compare(Neighbourhoods.of(real), off)
    assert found.frechet_standardised == pytest.approx(0.01**2 * 12, rel=1e-3)


def test_what_cannot_be_measured_is_refused() -> None:
    model, data = vae_gen.load(MODELS / "tiny"), tiny_data()
    with pytest.raises(UsageError, match="samples is 5; it must be at least 6"):
        evaluate(model, data, seed=0, samples=5)
    with pytest.raises(UsageError, match="seed is -1"):  # before the images are looked at
        evaluate(model, dataclasses.replace(data, train=data.train.swapaxes(2, 3)), seed=-1)
    few = (
        r"45 images for training and 5 in its test split; at least 6 of each are needed: give 72 images, of which a "
        r"twelfth is for testing, or test images of their own, as x_test in an \.npz file or in a folder called test"
    )
    with pytest.raises(DataError, match=few):
        evaluate(model, tiny_data(test=5), seed=0)
    with pytest.raises(DataError, match="the training images are all alike"):
        evaluate(model, dataclasses.replace(data, train=np.zeros_like(data.train)), seed=0)
    with pytest.raises(DataError, match=r"shape \(3, 4, 5\) .* those of tiny \(3, 5, 4\); evaluate it with the data"):
        evaluate(model, dataclasses.replace(data, train=data.train.swapaxes(2, 3)), seed=0)
    with pytest.raises(BundleError, match=r"plain\.onnx is a decoder alone; this needs a bundle that has"):
        evaluate(vae_gen.load(MODELS / "foreign" / "plain.onnx"), data, seed=0)
