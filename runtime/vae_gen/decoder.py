"""A decoder, ours or someone else's: what it says of itself, and images from what it makes."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import numpy as np

from vae_gen.errors import BundleError, UsageError
from vae_gen.graph import Array, Graph, Shape
from vae_gen.images import ByteImages, FloatImages, ImageShape, to_uint8
from vae_gen.latents import Latents, draw
from vae_gen.manifest import COLOR_MODES, Description
from vae_gen.reading import BYTES, LAYOUTS, SIGNED, UNIT, Range, Reading, parse_range, range_text

# A decoder whose last layer is linear makes some values beyond black and white, and they are clipped. Values are of
# another range where one in a hundred is further off than half the range is wide (of [-1, 1] read as [0, 1], all that
# is darker than a quarter of full brightness), or where clipping takes away a third of their standard deviation.
FAR, FEW = 0.5, 0.01
MOST_LOST = 1 / 3


class Decoder:
    """A graph that turns latents into images, and how its output is read; one file is enough."""

    def __init__(self, path: Path, threads: int, reading: Reading) -> None:
        """Open the file `path`.

        Raises BundleError if it is no decoder, or makes no images as it is read, UsageError if `reading` is not what
        a bundle's decoder says of itself.
        """
        graph = Graph(path, threads, output_name=reading.output_name)
        if len(graph.output_shapes) != 1:
            raise BundleError(
                f"{path} has several outputs; say which is the image with --output-name: {graph.signature}"
            )
        self.values_found: Range | None = None  # what values a decoder that is not ours has made of some latents
        if "bundle_id" in graph.metadata:
            self.graph, self.description = graph, Description.from_metadata(graph.metadata, str(path))
            _check_fit(graph, self.description, reading)
        else:
            about = _describe(graph, reading)
            self.graph, values = _steady(graph)
            self.description = dataclasses.replace(about, rows_per_run=self.graph.rows_per_run)
            self.values_found = _range_found(values, self.description.value_range, path)
        (output,) = self.graph.output_shapes
        about = self.description
        self.reading = Reading(about.layout, about.value_range, output)  # all of it said
        self._is_bytes = self.graph.output_types[output] == np.uint8 and about.value_range == BYTES
        self._is_unit = self.graph.output_types[output] == np.float32 and about.value_range == UNIT

    def decode(self, z: Latents) -> FloatImages:
        """Latents [n, latent_dim] -> images float32 [n, C, H, W] in [0, 1]. Raises BundleError if the graph fails."""
        images = np.empty((len(z), *self.description.image_shape), np.float32)
        for first, (output,) in self.graph.runs(self._rows(z)):
            images[first : first + len(output)] = self._channels_first(self._floats(output))
        return images

    def decode_bytes(self, z: Latents) -> ByteImages:
        """The same as uint8: the very bytes that a graph makes, or `decode`'s, times 255, rounded half up."""
        images = np.empty((len(z), *self.description.image_shape), np.uint8)
        for first, (output,) in self.graph.runs(self._rows(z)):  # converted while they are in the processor's cache
            images[first : first + len(output)] = self._channels_first(self._bytes(output))
        return images

    def _rows(self, z: Latents) -> Latents:
        return z.reshape(len(z), *self.graph.input_shape)

    def _floats(self, output: Array) -> FloatImages:
        low, high = self.description.value_range
        # In no less than float32; a float64 that is too large for it is clipped first.
        values = output.astype(np.result_type(output.dtype, np.float32))
        if not self._is_unit:
            values -= low
            values /= high - low
        return np.clip(values, 0, 1, out=values).astype(np.float32, copy=False)

    def _bytes(self, output: Array) -> ByteImages:
        if self._is_bytes:
            return output
        return to_uint8(output if self._is_unit else self._floats(output))

    def _channels_first(self, pixels: Array) -> Array:
        if self.description.layout == "NHWC":
            return np.moveaxis(pixels, -1, 1)
        return pixels[:, None] if self.description.layout == "NHW" else pixels


def files_of(path: Path) -> list[Path]:
    """The graph's file, and the files beside it in which it says that its weights lie."""
    content = path.read_bytes()
    # As ONNX has it: an entry with a key, "location", and a value after its length, 7 bits in each byte.
    places = re.finditer(rb"\x0a\x08location\x12([\x80-\xff]{0,2}[\x01-\x7f])", content)
    lengths = ((each.end(), sum((byte & 127) << 7 * place for place, byte in enumerate(each[1]))) for each in places)
    names = {content[start : start + length] for start, length in lengths}
    beside = [path.parent / name.decode("utf-8", "replace") for name in sorted(names)]
    return [path, *(each for each in beside if each.is_file())]


def _check_fit(graph: Graph, description: Description, reading: Reading) -> None:
    """Raise BundleError unless a decoder is as it says, UsageError if it is to be read in another way."""
    ((output, shape),) = graph.output_shapes.items()
    if graph.output_types[output] == np.uint8 and description.value_range != BYTES:
        raise BundleError(f"{graph.path} makes uint8, and says of itself that value_range is {description.value_range}")
    found = (_latent_dim(graph), _image_shape(shape, description.layout))
    if found != (description.latent_dim, description.image_shape):
        raise BundleError(f"the metadata of {graph.path} does not fit its graph: {graph.signature}")
    for name in ("layout", "value_range"):
        said, wanted = getattr(description, name), getattr(reading, name)
        if wanted not in (None, said):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{graph.path} says of itself that its {name} is {said}, not {wanted}; leave out {option}")


def _describe(graph: Graph, reading: Reading) -> Description:
    """What is known of a decoder that is not ours: from `reading`, its metadata, its shapes. Raises BundleError."""
    ((output, shape),) = graph.output_shapes.items()
    stated, path = graph.metadata.get("value_range"), str(graph.path)
    try:
        value_range = reading.value_range or (parse_range(stated) if stated is not None else None)
    except ValueError as error:
        raise BundleError(f"the metadata of {path} say that value_range is {stated!r:.60}, not two numbers") from error
    layout = reading.layout or graph.metadata.get("layout") or _guess_layout(graph, shape)
    image_shape = _image_shape(shape, layout)
    if image_shape is None:
        known = " or ".join(f"{name} {axes}" for name, axes in LAYOUTS.items() if reading.layout in (None, name))
        raise BundleError(f"{path} is no decoder: its output must be images, {known}; {graph.signature}")
    values = {
        "name": graph.path.stem,
        "bundle_id": "",
        "latent_dim": _latent_dim(graph),
        "image_shape": image_shape,
        "licence": "unknown",
        "value_range": value_range or (BYTES if graph.output_types[output] == np.uint8 else UNIT),
        "layout": layout,
    }
    return Description.build(values, path)


def _latent_dim(graph: Graph) -> int:
    """The number of values in a row of the input: [batch, n], or [batch, n, 1, 1] as convolutions have it."""
    if graph.input_shape[0] != math.prod(graph.input_shape):
        raise BundleError(f"{graph.path} is no decoder: its input must be latents [batch, n]; {graph.signature}")
    return graph.input_shape[0]


def _image_shape(shape: Shape, layout: str) -> ImageShape | None:
    """Channels, height and width of what lies in that layout; None if it has other axes."""
    if layout not in LAYOUTS or len(shape) != len(layout) - 1:
        return None
    sizes = dict(zip(layout[1:], shape, strict=True))
    return sizes.get("C", 1), sizes["H"], sizes["W"]


def _guess_layout(graph: Graph, shape: Shape) -> str:
    """By the axis that can be channels. Raises BundleError where there are two."""
    if len(shape) == 2:
        return "NHW"
    first, last = shape[0] in COLOR_MODES, shape[-1] in COLOR_MODES
    if first and last and len(shape) == 3:
        raise BundleError(
            f"{graph.path} makes images of shape {shape}, whose channels may be the first axis or the last; "
            "say --layout=NCHW or --layout=NHWC"
        )
    return "NHWC" if last and not first else "NCHW"


def _steady(graph: Graph) -> tuple[Graph, Array]:
    """The graph, with as many rows a run as leave each other alone, and what it makes of some latents.

    Raises BundleError if it does not run, or makes something else of the same latents when it is asked again.
    """
    failure = None
    for rows_per_run in dict.fromkeys((graph.rows_per_run, 1)):
        (output,) = graph.output_shapes
        each = graph if rows_per_run == graph.rows_per_run else Graph(graph.path, graph.threads, 1, output)
        z = draw(0, 0, rows_per_run, _latent_dim(graph)).reshape(-1, *graph.input_shape)
        try:
            (values,) = each.run(z)
            (again,) = each.run(np.concatenate([-2 * z[1:], z[:1]]))  # the first row in another place and company
        except BundleError as error:
            failure = failure or error  # some graphs have 1 row written into them, whatever their inputs say
            continue
        if np.array_equal(values[0], again[-1]):
            return each, values
    raise failure or BundleError(
        f"{graph.path} makes another image of the same latents each time; export it without the noise in it"
    )


def _range_found(values: Array, value_range: Range, path: Path) -> Range:
    """The lowest and the highest of these values. Raises BundleError if they clearly are of another range."""
    low, high = value_range
    values = values.astype(np.float64)
    found = float(values.min()), float(values.max())
    clipped = np.clip(values, low, high)
    far = np.count_nonzero(abs(values - clipped) > FAR * (high - low))
    if far > FEW * values.size or clipped.std() < (1 - MOST_LOST) * values.std():
        likely = next((each for each in (UNIT, SIGNED, BYTES) if each != value_range and _is_likely(each, found)), None)
        suggestion = range_text(likely) if likely else "LOW,HIGH"
        raise BundleError(
            f"{path} makes values from {found[0]:.4g} to {found[1]:.4g}, and they are read as "
            f"{range_text(value_range)}; say which are black and white with --value-range={suggestion}"
        )
    return found


def _is_likely(value_range: Range, found: Range) -> bool:
    """Whether these values fill a good part of the range, and are not far from it."""
    low, high = value_range
    far = FAR * (high - low)
    return low - far <= found[0] and found[1] <= high + far and found[1] - found[0] >= far / 2
