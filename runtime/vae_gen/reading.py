"""How a decoder's output is read as images: which output, the order of its axes, the range of its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vae_gen.errors import UsageError

LAYOUTS = {  # the axes of an output
    "NCHW": "[batch, channels, height, width]",
    "NHWC": "[batch, height, width, channels]",
    "NHW": "[batch, height, width]",
}
UNIT, SIGNED, BYTES = (0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)

MAX_VALUE = 1e30  # within float32, with room for a difference

Range = tuple[float, float]  # the values of black and white, or of none and all of a colour


@dataclass(frozen=True)
class Reading:
    """What somebody says of a decoder's output. None: as the graph says, or else as its output suggests.

    Raises UsageError when constructed with values that cannot be.
    """

    layout: str | None = None  # a key of LAYOUTS
    value_range: Range | None = None
    output_name: str | None = None

    def __post_init__(self) -> None:
        layout = "NCHW" if self.layout is None else self.layout
        flaw = flaw_of(layout, UNIT if self.value_range is None else self.value_range)
        if flaw:
            raise UsageError(flaw)

    @property
    def as_options(self) -> list[str]:
        """The words that say it on the command line."""
        words = [f"--layout={self.layout}"] if self.layout is not None else []
        words += [f"--value-range={range_text(self.value_range)}"] if self.value_range is not None else []
        return words + ([f"--output-name={self.output_name}"] if self.output_name is not None else [])

    @property
    def as_json(self) -> dict[str, Any]:
        values = list(self.value_range) if self.value_range is not None else None
        return {"output_name": self.output_name, "layout": self.layout, "value_range": values}


def flaw_of(layout: str, value_range: Range) -> str:
    """What is wrong with these; nothing if they can be."""
    if not isinstance(layout, str) or layout not in LAYOUTS:
        return f"layout is {layout!r}; it must be {', '.join(LAYOUTS)}"
    if len(value_range) != 2 or not -MAX_VALUE <= value_range[0] < value_range[1] <= MAX_VALUE:
        return f"value_range is {tuple(value_range)}; it must be two numbers up to {MAX_VALUE:g}, the lower one first"
    return ""


def parse_range(text: str) -> Range:
    """-1,1 or [-1, 1]. Raises ValueError if it is no such thing."""
    low, high = map(float, text.strip().removeprefix("[").removesuffix("]").split(","))
    return low, high


def range_text(values: Range) -> str:
    """As it is typed: -1,1."""
    return ",".join(f"{int(value) if value == int(value) else value}" for value in values)


AS_STATED = Reading()
