"""PNG files of images (W3C, Portable Network Graphics, third edition), many at a time."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vae_gen import deflate
from vae_gen.defaults import FIGURE
from vae_gen.errors import DataError, UsageError
from vae_gen.files import make_folder, whole_file
from vae_gen.images import ByteImages, ImageShape

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOR_TYPES = {1: 0, 3: 2, 4: 6}  # by channels: grey, RGB, RGBA
PAETH = 4  # a filter's number; that of None is 0
SMALL_IMAGE = 1024  # bytes
MAX_SIDE = 2**31 - 1
INDEX = "Index"
FIGURE_TEXTS = {"Comment": FIGURE}
BLOCK = 2**15  # bytes; a block and its intermediate results stay in a processor's cache

Bytes = npt.NDArray[np.uint8]
_uint32 = struct.Struct(">I").pack


def _chunk(kind: bytes, data: bytes) -> bytes:
    return _uint32(len(data)) + kind + data + _uint32(deflate.crc32(kind + data))


IDAT_CRC = deflate.crc32(b"IDAT")
END = _chunk(b"IEND", b"")


def encode_png(image: ByteImages, texts: Mapping[str, str] | None = None) -> bytes:
    """One image uint8 [C, H, W], C = 1, 3 or 4, as the content of a PNG file. `texts`, errors: see PngEncoder."""
    return PngEncoder(image.shape, texts).encode(image[None])[0]


def encode_figure(sheet: ByteImages) -> bytes:
    """A sheet of images uint8 [C, H, W] as the content of a PNG file that says that it is no picture itself."""
    return encode_png(sheet, FIGURE_TEXTS)


def check_suffix(path: Path) -> None:
    """Raise UsageError unless `path` ends as a PNG file does."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path} does not end in .png; the sheet is a PNG file")


def save_figure(sheet: ByteImages, path: Path) -> None:
    """Write a sheet [C, H, W] as a PNG file, in a folder that is made if need be. Raises OutputError."""
    content = encode_figure(sheet)
    make_folder(path.parent)
    with whole_file(path) as partial:
        partial.write_bytes(content)


class PngEncoder:
    """PNG files of images of one shape: 8 bits a channel; grey, RGB or RGBA.

    A file depends on its image, its index and the encoder, not on the batch it came in.

    Images of up to 1,024 bytes are not filtered and are compressed quickly, since digits on a flat background only
    grow by filters, and a Huffman code of its own costs an image three times what the rest does; larger ones are
    filtered by Paeth and compressed as residuals: natural pictures shrink most by it, and large digits, sheets of
    images and noise are no larger than without.
    """

    def __init__(self, image_shape: ImageShape, texts: Mapping[str, str] | None = None) -> None:
        """`image_shape` is [C, H, W]; `texts` are keywords and texts (tEXt chunks) that every file carries.

        Raises UsageError if the images are none of these or PNG cannot hold such a text.
        """
        if len(image_shape) != 3 or image_shape[0] not in COLOR_TYPES:
            raise UsageError(f"images of shape {image_shape} become no PNG files; [C, H, W] with C = 1, 3 or 4 do")
        channels, height, width = self.image_shape = image_shape
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
            raise UsageError(f"PNG has no images of {width} by {height} pixels; a side has 1 to {MAX_SIDE}")
        header = struct.pack(">IIBBBBB", width, height, 8, COLOR_TYPES[channels], 0, 0, 0)
        chunks = [_chunk(b"IHDR", header), *(_text_chunk(*text) for text in (texts or {}).items())]
        self._head = SIGNATURE + b"".join(chunks)
        self._small = channels * height * width <= SMALL_IMAGE

    def encode(self, images: ByteImages, indices: Sequence[int] | None = None) -> list[bytes]:
        """Images uint8 [n, C, H, W] as the contents of n files; with `indices`, each has its own as the text "Index".

        Raises DataError if the images have another shape or type, or if there are not n indices.
        """
        if images.shape[1:] != self.image_shape or images.dtype != np.uint8:
            raise DataError(
                f"images are {images.dtype} {list(images.shape)}; they must be uint8 {['n', *self.image_shape]}"
            )
        if indices is not None and len(indices) != len(images):
            raise DataError(f"there are {len(indices)} indices for {len(images)} images")
        numbers = [b""] * len(images) if indices is None else map(_index_chunk, indices)
        compress = deflate.compress if self._small else deflate.compress_residuals
        files = []
        for rows, number in zip(self._filtered(images), numbers, strict=True):
            stream = compress(rows)
            crc = _uint32(deflate.crc32(stream, IDAT_CRC))
            files.append(b"".join((self._head, number, _uint32(len(stream)), b"IDAT", stream, crc, END)))
        return files

    def _filtered(self, images: ByteImages) -> Iterator[bytes]:
        # Every row has a pixel of zeros before it and every image a row of zeros above it, as filters assume. The last
        # of the zeros before a row makes way for the filter's number.
        channels, height, width = self.image_shape
        padded = np.zeros((len(images), height + 1, width + 1, channels), np.uint8)
        for channel in range(channels):  # faster than one assignment that moves the axis
            padded[:, 1:, 1:, channel] = images[:, channel]
        if not self._small:
            padded = _paeth(padded)
            padded[:, :, 0] = PAETH
        rows = padded.reshape(len(images), height + 1, (width + 1) * channels)[:, 1:, channels - 1 :]
        return (image.tobytes() for image in np.ascontiguousarray(rows))


def _paeth(padded: Bytes) -> Bytes:
    """The residuals of padded images [n, H + 1, W + 1, C] (PNG, section 9.4); at the padding, any values."""
    pixels = padded.reshape(-1)
    residuals = np.empty_like(pixels)
    pixel = padded.shape[3]
    row = padded.shape[2] * pixel
    first = row + pixel
    for start in range(first, len(pixels), BLOCK):
        stop = min(start + BLOCK, len(pixels))
        left = pixels[start - pixel : stop - pixel]
        above = pixels[start - row : stop - row]
        corner = pixels[start - first : stop - first]
        np.subtract(pixels[start:stop], _prediction(left, above, corner), out=residuals[start:stop])
    return residuals.reshape(padded.shape)


def _prediction(left: Bytes, above: Bytes, corner: Bytes) -> Bytes:
    # The distances of left + above - corner to the three, in eight bits: the corner is the nearest only if it lies
    # between the other two, and then its distance is the difference of theirs.
    to_left = np.maximum(above, corner) - np.minimum(above, corner)
    to_above = np.maximum(left, corner) - np.minimum(left, corner)
    nearer = np.minimum(to_left, to_above)
    to_corner = np.maximum(to_left, to_above) - nearer
    between = (above >= corner) != (left >= corner)
    return _choose(between & (to_corner < nearer), corner, _choose(to_left <= to_above, left, above))


def _choose(condition: npt.NDArray[np.bool_], chosen: Bytes, other: Bytes) -> Bytes:
    # What np.where does, many times as fast for bytes.
    return other ^ ((other ^ chosen) & -condition.view(np.uint8))


def _index_chunk(index: int) -> bytes:
    return _chunk(b"tEXt", b"%b\0%d" % (INDEX.encode(), index))


def _text_chunk(keyword: str, text: str) -> bytes:
    try:
        name, content = keyword.encode("latin-1"), text.encode("latin-1")
    except UnicodeEncodeError as error:
        character = error.object[error.start]
        raise UsageError(f"{character!r} in a PNG's text {keyword!r}: only Latin-1 is allowed") from error
    printable = all(32 <= code <= 126 or code >= 161 for code in name)
    if not (1 <= len(name) <= 79 and printable and b"  " not in name and name == name.strip(b" ")):
        raise UsageError(
            f"{keyword!r} is no keyword of a PNG's text; it has 1 to 79 printable characters of Latin-1, "
            "and single spaces between them"
        )
    if keyword == INDEX:
        raise UsageError(f"the keyword {INDEX!r} is for the index that `encode` is given")
    if b"\0" in content:
        raise UsageError(f"the text of {keyword!r} holds a null character, which ends a PNG's keyword")
    return _chunk(b"tEXt", name + b"\0" + content)
