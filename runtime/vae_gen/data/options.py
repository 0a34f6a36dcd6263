"""DataOptions: how pictures and arrays become the images of a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vae_gen.data.tones import Tones
from vae_gen.errors import UsageError
from vae_gen.manifest import COLOR_MODES

MAX_IMAGE_SIDE = 4096  # pixels

Notify = Callable[[str], None]  # told what was chosen, what was left out, and what takes long


@dataclass(frozen=True)
class DataOptions:
    """What was asked for; None is what the data suggest. Raises UsageError when constructed with other values."""

    image_size: tuple[int, int] | None = None  # height, width
    channels: int | None = None  # 1 grey, 3 colour, 4 colour and alpha
    skip_bad: bool = False  # leave out pictures that cannot be read, instead of failing
    invert: bool = False  # this and the next as in Tones
    white: float | None = None

    def __post_init__(self) -> None:
        _ = self.tones  # which looks at its values
        if self.image_size is not None and not all(1 <= side <= MAX_IMAGE_SIDE for side in self.image_size):
            height, width = self.image_size
            raise UsageError(f"image-size is {height}x{width}; both sides must be from 1 to {MAX_IMAGE_SIDE}")
        if self.channels is not None and self.channels not in COLOR_MODES:
            raise UsageError(f"channels is {self.channels}; it must be 1 (grey), 3 (colour) or 4 (colour and alpha)")

    @property
    def tones(self) -> Tones:
        return Tones(self.invert, self.white)

    @property
    def as_options(self) -> list[str]:
        """The words that say it on the command line."""
        words = ["--image-size", "{}x{}".format(*self.image_size)] if self.image_size is not None else []
        words += ["--channels", str(self.channels)] if self.channels is not None else []
        return words + ["--skip-bad"] * self.skip_bad + self.tones.as_options

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataOptions:
        """The options that as_dict gave, also after a way through JSON."""
        size = values.get("image_size")
        return cls(**{**values, "image_size": None if size is None else (size[0], size[1])})


AS_FOUND = DataOptions()
