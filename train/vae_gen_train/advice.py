"""What to tell of a run that will go, or by its log has gone, less well than it could."""

from __future__ import annotations

import math
from pathlib import Path

from vae_gen.errors import UsageError
from vae_gen.images import ByteImages, ImageShape
from vae_gen.shell import quoted

from vae_gen_train.config import TrainConfig
from vae_gen_train.metrics_log import read_metrics

OVERFITTED_NATS, OVERFITTED_SHARE = 1.0, 0.02  # by which a loss may have risen since it was lowest
SPOILT = 1.5  # times the squared error; of MNIST it becomes 1.07 times

BYTES_A_PIXEL = 700  # of each image, that a step of `conv` takes; 650 to 730 were measured from 128x128 to 512x512
MUCH_MEMORY = 4e9  # bytes

AT_ONCE = 1024  # images that are compared


def memory(config: TrainConfig, image_shape: ImageShape, there: float = math.inf) -> str:
    """What to tell before a run whose steps need much memory; nothing if they do not, or the network is another.

    Raises UsageError, with the same words, if they need more than the bytes that are `there`: the system would end it.
    """
    _, height, width = image_shape
    images = config.batch_size // (config.processes * config.accumulate)
    one = BYTES_A_PIXEL * height * width
    if config.network != "conv" or images * one <= MUCH_MEMORY:
        return ""
    fewer = next((n for n in range(images - 1, 0, -1) if images % n == 0 and n * one <= MUCH_MEMORY), 1)
    way_out = "a smaller --image-size takes less"
    if fewer < images:
        way_out = (
            f"with --accumulate {config.accumulate * images // fewer} it is {fewer} at a time and some "
            f"{fewer * one / 1e9:.1f} GB, and a smaller --image-size is faster too"
        )
    words = (
        f"steps compute {images} image{'s' if images > 1 else ''} of {height}x{width} at a time, which takes some "
        f"{images * one / 1e9:.0f} GB of memory; {way_out}"
    )
    if images * one > there:
        raise UsageError(f"{words}. This machine has {there / 1e9:.0f} GB")
    return words


def sameness(images: ByteImages) -> str:
    """What to tell of training images [n, C, H, W] that are one image n times; nothing if they are not."""
    first = images[:1]
    if any((images[start : start + AT_ONCE] != first).any() for start in range(0, len(images), AT_ONCE)):
        return ""
    lowest, highest = int(first.min()), int(first.max())
    looks = f"every pixel is {lowest} of 255" if lowest == highest else "the same to the pixel"
    return (
        f"the {len(images):,} training images are all the same ({looks}), so that there is nothing to learn; "
        "look whether --data holds what was meant"
    )


def overfitting(run: Path, steps: int) -> str:
    """What to tell of a VAE of so many steps that knew its validation images better before; nothing if by little."""
    found = [each for each in read_metrics(run) if each["split"] == "validation" and each["step"] <= steps]
    if not found:
        return ""
    best, last = min(found, key=lambda record: record["total"]), found[-1]
    if not _worse(best["total"], last["total"]):
        return ""
    return (
        f"the network overfits: the loss of the validation images was {best['total']:,.2f} at step {best['step']:,} "
        f"and is {last['total']:,.2f} at step {last['step']:,}; more pictures help, or fewer steps "
        f"(--steps {best['step']})"
    )


def overfitted_prior(run: Path, steps: int) -> str:
    """What to tell where the prior's steps have spoilt the reconstructions of the VAE after `steps`; or nothing.

    They are decoded from draws from the posteriors, which the flow, if it knows its pictures by heart, takes apart.
    Wider posteriors alone, which cost less KL divergence than they lose, are no fault.
    """
    found = {each["step"]: each for each in read_metrics(run) if each["split"] == "validation"}
    before, (last, after) = found.get(steps), max(found.items(), default=(0, {}))
    if before is None or after["sse"] <= SPOILT * before["sse"] or not _worse(before["total"], after["total"]):
        return ""
    fewer = (last - steps) // 4
    command = f" (vae-gen train --resume {quoted(run)} --prior-steps {fewer})" if fewer else ""
    return (
        f"the prior overfits: the validation images' squared error was {before['sse']:.2f} at step {steps:,} and is "
        f"{after['sse']:.2f} at step {last:,}; more pictures help, or fewer of its steps{command}"
    )


def _worse(before: float, after: float) -> bool:
    """Whether a loss in nats has risen by more than chance."""
    return after - before > max(OVERFITTED_NATS, OVERFITTED_SHARE * abs(before))
