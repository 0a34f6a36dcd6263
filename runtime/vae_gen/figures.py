"""Rows of images as people look at them: a still sheet, or an animation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vae_gen.animate import check_format, labelled, save_animation, text_size, to_frames
from vae_gen.errors import UsageError
from vae_gen.images import ByteImages, from_pillow, to_pillow
from vae_gen.png import check_suffix, save_figure
from vae_gen.sheets import enlarge, grid, viewing_factor

ON_SHEET = 64  # pixels of a picture's shorter side, about
GAP = 2  # between pictures, in pixels of theirs


@dataclass(frozen=True)
class Figure:
    """A file to be, and how images are shown in it. Raises UsageError when constructed with what does not agree."""

    out: Path
    sheet: bool  # a still picture, not an animation
    frames: int  # of each row
    fps: float | None = None  # of an animation; default: 20
    caption: bool = False
    scale: int | None = None  # default: to a comfortable size

    def __post_init__(self) -> None:
        if self.sheet and self.fps is not None:
            raise UsageError("--fps is for animations, and --sheet is a still picture; give one of them")
        (check_suffix if self.sheet else check_format)(self.out)

    def save_sheet(self, images: ByteImages, rows: Sequence[str], columns: Sequence[str]) -> None:
        """Write images [rows, columns, C, H, W] as a PNG; with captions, the names of rows and columns beside them."""
        height, width = images.shape[-2:]
        factor = self.scale or viewing_factor(height, width, pixels=ON_SHEET)
        tiles, gap = enlarge(images, factor), GAP * factor
        if self.caption:
            sheet = labelled_grid(tiles, gap, rows, columns)
        else:
            sheet = grid(tiles.reshape(-1, *tiles.shape[2:]), tiles.shape[1], gap)
        save_figure(sheet, self.out)

    def save_animation(self, cells: ByteImages, captions: Sequence[str], names: Sequence[str] = ()) -> None:
        """Write images [frames, cells, C, H, W] as an animation of the only cell, or of a grid of several.

        With captions, each frame has its own, and each cell of a grid its name.
        """
        alone = cells.shape[1] == 1
        shown = cells[0, 0] if alone else grid(cells[0], gap=GAP)
        height, width = cells.shape[-2:]
        factor = self.scale or max(viewing_factor(*shown.shape[-2:]), viewing_factor(height, width, ON_SHEET))
        tiles = enlarge(cells, factor)
        if self.caption and not alone:
            tiles = np.stack([labelled(tiles[:, cell], name) for cell, name in enumerate(names)], axis=1)
        pictures = tiles[:, 0] if alone else np.stack([grid(each, gap=GAP * factor) for each in tiles])
        save_animation(to_frames(pictures, list(captions) if self.caption else None), self.out, self.fps or 20)


def labelled_grid(cells: ByteImages, gap: int, rows: Sequence[str], columns: Sequence[str]) -> ByteImages:
    """Images [rows, columns, C, H, W] as a grid, with names left of its rows and above its columns: [C, height, width].

    Where there is no room for all names, every second one is left out, or more.
    """
    *_, channels, height, width = cells.shape
    sheet = to_pillow(grid(cells.reshape(-1, channels, height, width), cells.shape[1], gap))
    size = text_size(width)
    font = ImageFont.load_default(size)
    row_width, column_width = (max(math.ceil(font.getlength(name)) for name in names) for names in (rows, columns))
    overhang, below = (max(0, (text - side) // 2 + 1 - gap) for text, side in ((column_width, width), (size, height)))
    left, top = max(row_width + size, overhang), size + size // 2
    canvas = Image.new(sheet.mode, (left + sheet.width + overhang, top + sheet.height + below), "gray")
    canvas.paste(sheet, (left, top))
    draw = ImageDraw.Draw(canvas)
    for row in range(0, len(rows), math.ceil(size / (height + gap))):
        middle = top + gap + row * (height + gap) + height / 2
        draw.text((left - size / 2, middle), rows[row], fill="black", font=font, anchor="rm")
    for column in range(0, len(columns), math.ceil((column_width + size / 2) / (width + gap))):
        middle = left + gap + column * (width + gap) + width / 2
        draw.text((middle, top / 2), columns[column], fill="black", font=font, anchor="mm")
    return from_pillow(canvas)
