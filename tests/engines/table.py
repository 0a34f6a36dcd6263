"""The table of engines in the README: what is in it, and how it looks.

The figures are in table.json, which `python -m tests.engines` writes and puts into the README.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.engines.environments import HERE

FILE = HERE / "table.json"
README = HERE.parents[1] / "README.md"
SECTION = re.compile(r"(?<=<!-- engines -->\n).*?(?=<!-- /engines -->)", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """One engine. `decoder` and `encoder` are the largest differences from float64."""

    engine: str
    version: str
    decoder: float
    encoder: float
    rate: float  # images a second of mnist/decoder.onnx, as a multiple of onnxruntime's
    note: str


@dataclass(frozen=True)
class Table:
    """`graphs` are the hashes of the files that were run, so that figures of other files are noticed."""

    graphs: dict[str, str]
    rows: tuple[Row, ...]

    def save(self) -> None:
        FILE.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls) -> Table:
        content = json.loads(FILE.read_text())
        return cls(content["graphs"], tuple(Row(**row) for row in content["rows"]))

    def markdown(self) -> str:
        head = "| engine | version | decoder error | encoder error | speed | |\n|---|---|---:|---:|---:|---|\n"
        cells = (
            (row.engine, row.version, small(row.decoder), small(row.encoder), times(row.rate), row.note)
            for row in self.rows
        )
        return head + "".join("".join(f"| {cell} " if cell else "| " for cell in row) + "|\n" for row in cells)


def small(error: float) -> str:
    """7.2e-06 as 7.2e-6."""
    return re.sub(r"e-0", "e-", f"{error:.1e}")


def times(rate: float) -> str:
    return f"{rate:.2g}"


def put_into_readme(table: Table, readme: Path = README) -> None:
    readme.write_text(SECTION.sub(lambda _: table.markdown(), readme.read_text(), count=1))
