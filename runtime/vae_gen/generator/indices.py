"""Which images of a seed: ascending indices, kept as ranges so that a billion of them cost nothing."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from vae_gen.errors import UsageError
from vae_gen.latents import MAX_INDEX

_RANGE = re.compile(r"\s*(\d{1,19})\s*(?:-\s*(\d{1,19})\s*)?")


@dataclass(frozen=True)
class Indices:
    """Ascending ranges that do not overlap; UsageError if an index is out of range."""

    ranges: tuple[range, ...]

    def __post_init__(self) -> None:
        if not self.ranges or any(each.stop <= each.start for each in self.ranges):
            raise UsageError("no images are asked for; ask for at least 1")
        if self.ranges[0].start < 0 or self.ranges[-1].stop - 1 > MAX_INDEX:
            raise UsageError(f"images {self} are asked for; indices run from 0 to 2**63 - 1")

    @classmethod
    def of(cls, start: int, count: int) -> Indices:
        """start ... start + count - 1."""
        if count < 1:
            raise UsageError(f"n is {count}; it must be at least 1")
        return cls((range(start, start + count),))

    @classmethod
    def parse(cls, text: str) -> Indices:
        """What a person writes, "5,17,100-120", in any order; indices given twice count once."""
        ranges = []
        for piece in text.split(","):
            match = _RANGE.fullmatch(piece)
            if match is None:
                raise UsageError(f"{piece!r} is no index and no range of them; write, for example, 5,17,100-120")
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                raise UsageError(f"the range {piece.strip()} ends before it begins")
            ranges.append(range(first, last + 1))
        merged: list[range] = []
        for each in sorted(ranges, key=lambda each: each.start):
            if merged and each.start <= merged[-1].stop:
                merged[-1] = range(merged[-1].start, max(merged[-1].stop, each.stop))
            else:
                merged.append(each)
        return cls(tuple(merged))

    def __str__(self) -> str:
        """As `parse` reads it."""
        ends = ((each.start, each.stop - 1) for each in self.ranges)
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)

    @cached_property
    def _ends(self) -> list[int]:
        """How many indices there are up to the end of each range."""
        return list(accumulate(each.stop - each.start for each in self.ranges))  # len() fails beyond 2**63 - 1

    @property
    def count(self) -> int:
        return self._ends[-1]

    def __iter__(self) -> Iterator[int]:
        for each in self.ranges:
            yield from each

    def slice(self, first: int, stop: int) -> Indices:
        """The indices at the positions first ... stop - 1; positions beyond the last are left out."""
        stop = min(stop, self.count)
        pieces = []
        number = bisect_right(self._ends, first)
        while first < stop:
            each = self.ranges[number]
            offset = each.stop - self._ends[number]  # from a position in this range to its index
            end = min(stop, self._ends[number])
            pieces.append(range(first + offset, end + offset))
            first, number = end, number + 1
        return Indices(tuple(pieces))

    def any_between(self, first: int, stop: int) -> bool:
        """Whether one of the indices first ... stop - 1 is among these."""
        number = bisect_right(self.ranges, first, key=lambda each: each.stop)
        return number < len(self.ranges) and self.ranges[number].start < stop

    def between(self, first: int, stop: int) -> Indices:
        """Those of the indices first ... stop - 1 that are among these."""
        begin = bisect_right(self.ranges, first, key=lambda each: each.stop)
        end = bisect_left(self.ranges, stop, key=lambda each: each.start)
        return Indices(tuple(range(max(each.start, first), min(each.stop, stop)) for each in self.ranges[begin:end]))

    def batches(self, size: int) -> Iterator[Indices]:
        """All of them, `size` at a time."""
        return (self.slice(first, first + size) for first in range(0, self.count, size))
