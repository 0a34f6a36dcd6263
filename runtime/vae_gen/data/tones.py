"""Tones: which values of pictures and arrays are black and white."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vae_gen.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALMOST_BLACK = 1 / 8  # of white: what is nowhere brighter has very likely another white


@dataclass(frozen=True)
class Tones:
    """What was asked for. Raises UsageError when constructed with a white that is no positive number."""

    invert: bool = False  # swap black and white, but not alpha
    white: float | None = None  # in arrays, and in grey pictures of more than 8 bits; None: as their type has it

    def __post_init__(self) -> None:
        if self.white is not None and not 0 < self.white < math.inf:
            raise UsageError(f"white is {self.white:g}; it must be a number above 0, such as 4095 of 12 bits")

    def brightest(self, images: NDArray[Any], full: float) -> float:
        """The largest value of fitted images [..., C, H, W] before any inversion, as a share of `full`, their white."""
        values = images[..., :3, :, :]
        return float((full - values.min() if self.invert else values.max()) / full)

    def hint_if_dark(self, brightest: float) -> str:
        """What to tell who gives pictures of which none is brighter than that, of 1; nothing if no white would help."""
        if brightest <= 0 or brightest > ALMOST_BLACK:
            return ""
        dark = f"no picture is brighter than {brightest:.1%} of white"
        if self.white is not None:
            return f"{dark}: --white {self.white:g} is too large, or has no effect, as on pictures of 8 bits and colour"
        return f"{dark}; if white is another value, such as 4095 of 12 bits in 16-bit files, --white says so"

    @property
    def as_options(self) -> list[str]:
        """The words that say it on the command line."""
        white = [] if self.white is None else ["--white", repr(self.white).removesuffix(".0")]
        return white + ["--invert"] * self.invert


AS_THEY_ARE = Tones()
