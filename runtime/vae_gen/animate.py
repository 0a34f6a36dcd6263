"""Frames -> an animated GIF, WebP or PNG."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont, PngImagePlugin

from vae_gen.defaults import FIGURE
from vae_gen.errors import OutputError, UsageError
from vae_gen.files import make_folder, whole_file
from vae_gen.images import ByteImages, from_pillow, to_pillow
from vae_gen.manifest import COLOR_MODES
from vae_gen.png import FIGURE_TEXTS

FORMATS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG"}  # an animated PNG is a PNG


def check_format(path: Path) -> None:
    """Raise UsageError unless the suffix of `path` names an animation format."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path} has no suffix of an animation; use one of {', '.join(FORMATS)}")


def save_animation(frames: list[Image.Image], path: Path, fps: float) -> None:
    """Write the frames as one endless animation, in the format that the suffix of `path` names.

    Raises UsageError for another suffix, OutputError if `path` cannot be written.
    """
    check_format(path)
    kind = FORMATS[path.suffix.lower()]
    milliseconds = round(100 / fps) * 10 if kind == "GIF" else round(1000 / fps)  # a GIF counts hundredths
    make_folder(path.parent)
    with whole_file(path) as partial:
        first, *others = frames
        try:
            first.save(
                partial, kind, save_all=True, append_images=others, duration=milliseconds, loop=0, **_settings(kind)
            )
        except (ValueError, RuntimeError, OverflowError, struct.error) as error:
            size = f"{first.height}x{first.width}"
            raise OutputError(f"cannot write frames of {size} as {kind}: {error}; try a smaller --scale") from error


def _settings(kind: str) -> dict[str, Any]:
    """What Pillow writes into such a file beside the frames; each says that it is a figure, in its format's way."""
    if kind == "GIF":
        return {"comment": FIGURE}
    if kind == "WEBP":
        exif = Image.Exif()
        exif[ExifTags.Base.ImageDescription] = FIGURE
        return {"lossless": True, "exif": exif}
    texts = PngImagePlugin.PngInfo()
    for text in FIGURE_TEXTS.items():
        texts.add_text(*text)
    return {"pnginfo": texts}


def to_frames(images: ByteImages, captions: list[str] | None = None) -> list[Image.Image]:
    """Images [n, C, H, W] as frames, each with its caption on a strip above it if there are captions."""
    frames = [to_pillow(image) for image in images]
    if captions is None:
        return frames
    size = text_size(frames[0].width)
    font = ImageFont.load_default(size)
    width = max(frames[0].width, *(math.ceil(font.getlength(text)) + 4 for text in captions))
    return [_with_caption(frame, text, width, size) for frame, text in zip(frames, captions, strict=True)]


def labelled(images: ByteImages, text: str) -> ByteImages:
    """Images [..., C, H, W], each below a strip with `text` on it, as grey as a grid is between its tiles."""
    *others, channels, _, width = images.shape
    strip = _strip(text, COLOR_MODES[channels], width, text_size(width), background="gray")
    label = from_pillow(strip)
    return np.concatenate([np.broadcast_to(label, (*others, *label.shape)), images], axis=-2)


def text_size(width: int) -> int:
    """How high text is above a picture of that width, in pixels."""
    return max(12, min(20, width // 12))


def _with_caption(frame: Image.Image, text: str, width: int, size: int) -> Image.Image:
    strip = _strip(text, frame.mode, width, size, background="white")
    captioned = Image.new(frame.mode, (width, strip.height + frame.height), "white")
    captioned.paste(strip)
    captioned.paste(frame, ((width - frame.width) // 2, strip.height))
    return captioned


def _strip(text: str, mode: str, width: int, size: int, background: str) -> Image.Image:
    strip = Image.new(mode, (width, size + size // 2), background)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(strip).text((width / 2, strip.height / 2), text, fill="black", font=font, anchor="mm")
    return strip
