"""Anyone's networks as the source of a bundle: a factory in a Python module, and a file of weights."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from vae_gen.errors import NetworkError, UsageError
from vae_gen.files import as_text
from vae_gen.images import ImageShape
from vae_gen.manifest import COLOR_MODES, DECODER, ENCODER, sha256_of
from vae_gen.reading import UNIT, Range, flaw_of

from vae_gen_export.blame import blame, listed
from vae_gen_export.sources.adapt import Decoder, Encoder, kind
from vae_gen_export.sources.networks import Networks
from vae_gen_export.sources.weights import load_weights

METHODS = {ENCODER: ("encode", "encoder"), DECODER: ("decode", "decoder")}
ROWS = 8  # that a network is tried with
AGREEMENT = 1e-6  # of the largest magnitude, or of 1; float64 gives 1e-12 or so


def open_module(
    name: str,
    weights: Path | None,
    latent_dim: int,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    value_range: Range = UNIT,
    alone: bool = False,
) -> Networks:
    """The networks that the factory `name`, package.module:factory, makes, with the weights in that file.

    They have methods `encode` and `decode` or sub-modules `encoder` and `decoder`, or are such a pair; with `alone`
    the decoder is all that is taken, and may be the network itself. `image_size` and `channels` are those of the
    images, by default what the decoder makes; `value_range` is that of the pixels that the networks know.
    Raises UsageError, DataError for the weights, NetworkError if the networks are not what a bundle can hold.
    """
    if flaw := flaw_of("NCHW", value_range):
        raise UsageError(flaw)
    network = make_network(name)
    if weights is not None:
        load_weights(network, weights)
    network.cpu().eval().requires_grad_(False).double()
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((ROWS, latent_dim)))
    decoder = Decoder(*_part(network, DECODER, alone), value_range)
    made = _run(decoder, z, "decoder")
    flat = made.ndim == 2
    shape = _image_shape(made, image_size, channels)
    if flat:
        decoder.shape = shape
    _check_decoder(decoder, z)
    parts: dict[str, nn.Module] = {DECODER: decoder}
    if not alone:
        encoder = Encoder(*_part(network, ENCODER), value_range, flat)
        _check_encoder(encoder, torch.from_numpy(np.random.default_rng(0).random((ROWS, *shape))), latent_dim)
        parts = {ENCODER: encoder, DECODER: decoder}
    about = {"weights": as_text(weights.name), "weights_sha256": sha256_of(weights)} if weights else {}
    return Networks(
        parts=parts,
        latent_dim=latent_dim,
        image_shape=shape,
        training={"module": name, **about, "packages": {"torch": metadata.version("torch")}},
        note=_note_of_groups(nn.ModuleList(parts.values())),
    )


def _note_of_groups(network: nn.Module) -> str:
    """How many weights transposed convolutions in groups have, and in one group, as `plain` writes them."""
    kinds = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
    grouped = [layer for layer in network.modules() if isinstance(layer, kinds) and layer.groups > 1]
    if not grouped:
        return ""
    before = sum(layer.weight.numel() for layer in grouped)
    after = sum(layer.weight.numel() * layer.groups for layer in grouped)
    return (
        "transposed convolutions in groups become dense, as not every engine computes groups there: "
        f"their {before:,} weights become {after:,}"
    )


def make_network(name: str) -> nn.Module:
    """What the factory `name`, package.module:factory, returns; of a pair, one network that has both.

    Raises UsageError if there is no such factory, NetworkError if it or its module fails.
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise UsageError(f"--module is {name!r}; write package.module:factory")
    try:
        factory: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise UsageError(
                f"there is no module {error.name!r}, neither installed nor in the current directory {Path.cwd()}"
            ) from error
        raise NetworkError(f"{module_name} cannot be imported: {blame(error)}") from error
    for attribute in path.split("."):
        if not hasattr(factory, attribute):
            known = listed(each for each in dir(factory) if each[0] != "_" and callable(getattr(factory, each)))
            raise UsageError(f"{module_name} has no {path!r}; it has {known}")
        factory = getattr(factory, attribute)
    if not callable(factory) or isinstance(factory, nn.Module):
        made = factory  # a network that is there already
    else:
        try:
            made = factory()
        except (Exception, SystemExit) as error:
            raise NetworkError(f"{name} cannot be called without arguments: {blame(error)}") from error
    if isinstance(made, tuple | list) and len(made) == 2 and all(isinstance(part, nn.Module) for part in made):
        return nn.ModuleDict({"encoder": made[0], "decoder": made[1]})
    if not isinstance(made, nn.Module):
        raise NetworkError(f"{name} makes {kind(made)}; it must make a torch.nn.Module, or an encoder and a decoder")
    return made


def _part(network: nn.Module, file: str, alone: bool = False) -> tuple[nn.Module, str]:
    """The module and the name of its method that is to become `file`. Raises NetworkError if there is none."""
    method, module = METHODS[file]
    if callable(getattr(network, method, None)):
        return network, method
    part = getattr(network, module, network if alone else None)
    if isinstance(part, nn.Module):
        return part, "__call__"
    parts = listed(name for name, _ in network.named_children())
    raise NetworkError(
        f"{type(network).__name__} has neither a method {method!r} nor a sub-module {module!r}; its sub-modules are "
        f"{parts}. Give it one; or export a decoder alone, with --out NAME.onnx"
    )


def _run(network: nn.Module, rows: Tensor, what: str) -> Any:
    """What a network makes of `rows`. Raises NetworkError if it fails."""
    try:
        with torch.no_grad():
            return network(rows)
    except NetworkError:
        raise
    except Exception as error:
        raise NetworkError(
            f"the {what} fails on float64 {list(rows.shape)}: {blame(error)}. It must take any number of rows, "
            "in the floating-point type that they have"
        ) from error


def _image_shape(made: Tensor, size: tuple[int, int] | None, channels: int | None) -> ImageShape:
    """The shape of the images that a decoder makes, which must be as it was asked for. Raises NetworkError."""
    rows, *found = made.shape or [0]
    if len(found) == 1 and size is not None:  # rows of pixels
        found = [channels or found[0] // math.prod(size), *size]
    fits = (
        rows == ROWS
        and len(found) == 3
        and math.prod(found) == made[0].numel()
        and found[0] in COLOR_MODES
        and channels in (None, found[0])
        and size in (None, (found[1], found[2]))
    )
    if not fits:
        wanted = ", ".join(map(str, [channels or "C", *(size or "HW")]))
        raise NetworkError(
            f"the decoder makes {list(made.shape)} of {ROWS} latents; it must make images [{ROWS}, {wanted}] with "
            "1, 3 or 4 channels, or rows of their pixels, whose height and width --image-size says"
        )
    return found[0], found[1], found[2]


def _check_decoder(decoder: nn.Module, z: Tensor) -> None:
    image = _run(decoder, z, "decoder")
    _check_rows(decoder, z, (image,), "decoder")
    low, high = float(image.min()), float(image.max())
    if low < -AGREEMENT or high > 1 + AGREEMENT:
        raise NetworkError(
            f"the decoder makes pixels from {low:.3g} to {high:.3g}; they must lie in [0, 1]. End it with a sigmoid or "
            "a clamp, or say with --value-range LOW,HIGH between which two its pixels lie"
        )


def _check_encoder(encoder: nn.Module, image: Tensor, latent_dim: int) -> None:
    outputs = _run(encoder, image, "encoder")
    for name, output in zip(("mean", "log-variance"), outputs, strict=True):
        if output.shape != (ROWS, latent_dim):
            raise NetworkError(
                f"the encoder makes a {name} {list(output.shape)} of {ROWS} images; it must be [{ROWS}, {latent_dim}], "
                f"by --latent-dim {latent_dim}"
            )
    _check_rows(encoder, image, outputs, "encoder")


def _check_rows(network: nn.Module, rows: Tensor, outputs: Sequence[Tensor], what: str) -> None:
    """Raise NetworkError unless the outputs are finite, the same again, and those of each row its own."""
    if not all(bool(output.isfinite().all()) for output in outputs):
        raise NetworkError(f"the {what} makes values that are not finite numbers; are these the right weights?")
    if not _agree(outputs, _tuple(_run(network, rows, what))):
        raise NetworkError(
            f"two runs of the {what} on the same input differ: it draws random numbers, and no graph of a bundle does. "
            "Return what they are drawn about, such as the mean"
        )
    one = slice(ROWS // 2, ROWS // 2 + 1)  # with others before it and after it
    if not _agree([output[one] for output in outputs], _tuple(_run(network, rows[one], what))):
        raise NetworkError(
            f"what the {what} makes of a row depends on the others in its batch; each must be by itself. "
            "Normalise over the features, or in evaluation by statistics of the training (BatchNorm's default)"
        )


def _agree(outputs: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return all(
        one.shape == other.shape and float((one - other).abs().max()) <= AGREEMENT * max(1.0, float(one.abs().max()))
        for one, other in zip(outputs, others, strict=True)
    )


def _tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else outputs
