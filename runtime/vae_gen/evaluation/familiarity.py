"""Whether pictures are such as a model knows: how well it reconstructs some of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vae_gen.evaluation.metrics import ROUNDING_ERROR, sum_of_squared_errors
from vae_gen.images import FloatImages, inverted
from vae_gen.manifest import Manifest

if TYPE_CHECKING:
    from vae_gen.model import Model

TRIED = 16  # pictures, spread evenly over all of them
# How many times the usual error is too much. One of MNIST's 70,000 images has 9 times, alone; the two hardest of its
# test images have 6.7 times in the mean, five of one digit at most some 3. Photographs have 25 times with `mnist`, and
# 7 times with `notebook`, whose usual error is larger.
FAR_TOGETHER, FAR_ALONE = 4, 10


@dataclass(frozen=True)
class Familiarity:
    """Errors of reconstructions: means over the pictures tried of the sum of squared errors, pixels in [0, 1]."""

    given: int  # pictures
    tried: int  # of them
    error: float
    error_inverted: float  # with black and white swapped
    usual: float | None  # of held-out images of the model's own data; None where nobody measured it

    @property
    def better_inverted(self) -> bool:
        """Whether the model reconstructs these badly, and far better with black and white swapped.

        Digits the wrong way round have a hundred times the error; halved is enough, and noise or plain grey does not
        come near it.
        """
        return self.error_inverted < self.error / 2 and (self.usual is None or self.error > self.usual)

    @property
    def is_far(self) -> bool:
        """Whether the pictures are far from all that the model knows; False where nobody measured that."""
        return self._is_too_much(self.error)

    def hint(self, invert: bool) -> str:
        """What to tell who gives such pictures with --invert, or without; nothing if the model knows them."""
        advice = "leave out --invert" if invert else "try --invert"
        if self.better_inverted and not self._is_too_much(self.error_inverted):
            return f"the model reconstructs such pictures far better with black and white swapped: {advice}"
        if not self.is_far:
            return ""
        some = "" if self.tried == self.given else f" (of {self.tried} of the {self.given:,})"
        swapped = f" ({self.error_inverted:.3f} with black and white swapped: {advice})" if self.better_inverted else ""
        return (
            f"the model does not know such pictures: the mean sum of squared errors of its reconstructions{some} is "
            f"{self.error:.3f}{swapped}, and {self.usual:.3f} is usual; give it pictures like those it was trained on, "
            "of the same size and in the same place, or train a model on such as these with vae-gen train --data"
        )

    def _is_too_much(self, error: float) -> bool:
        times = FAR_TOGETHER + (FAR_ALONE - FAR_TOGETHER) / self.tried
        return self.usual is not None and error > times * self.usual


def familiarity(images: FloatImages, network: Model) -> Familiarity:
    """How familiar images [n, C, H, W] in [0, 1], n at least 1, are to a model with an encoder.

    Raises BundleError if it has none.
    """
    some = images[:: math.ceil(len(images) / TRIED)]
    error, error_inverted = (_reconstruction_error(each, network) for each in (some, inverted(some, 1)))
    usual = usual_error(network.manifest) if network.manifest else None
    if usual is not None:  # of images that are reconstructed exactly, others rounded to 8 bits are no strangers
        usual = max(usual, ROUNDING_ERROR * math.prod(network.image_shape))
    return Familiarity(len(images), len(some), error, error_inverted, usual)


def usual_error(manifest: Manifest) -> float | None:
    """The mean sum of squared errors of a model's reconstructions of held-out images of the data it was trained on.

    As `evaluate --write` or else the training run has measured it; None where neither did.
    """
    metrics = manifest.metrics
    evaluated = _at(metrics, "evaluate", "reconstruction", "sse")
    of_own_data = _at(metrics, "evaluate", "measured_on", "same_data") is True
    found = [evaluated if of_own_data else None, _at(metrics, "test", "sse"), _at(metrics, "validation", "sse")]
    return next((float(error) for error in found if type(error) in (int, float) and error >= 0), None)


def _at(values: Any, *keys: str) -> Any:
    """What lies there in objects of JSON within each other; None where there is nothing."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _reconstruction_error(images: FloatImages, network: Model) -> float:
    mean, _ = network.encode(images)
    return float(sum_of_squared_errors(network.decode(mean), images).mean())
