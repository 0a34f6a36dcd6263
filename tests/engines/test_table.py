"""The README's table of engines: all of them, as they are pinned, measured with the files that ship."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vae_gen.bundles import shipped

from tests.engines.engines import ENGINES
from tests.engines.table import README, SECTION, Row, Table, put_into_readme
from tests.engines.test_engines import TOLERANCE

AGAIN = "`python -m tests.engines` measures again"


def test_readme_has_the_table() -> None:
    (section,) = SECTION.findall(README.read_text())
    assert section == Table.load().markdown(), AGAIN


def test_every_engine_is_in_it_with_its_version() -> None:
    rows = [(row.engine, row.version, row.note) for row in Table.load().rows]
    assert rows == [(engine.name, engine.version, engine.note) for engine in ENGINES], AGAIN


def test_it_is_of_the_files_that_ship() -> None:
    for name, hash_then in Table.load().graphs.items():
        bundle, _, file = name.partition("/")
        assert hashlib.sha256((shipped()[bundle] / file).read_bytes()).hexdigest() == hash_then, AGAIN


def test_figures_are_what_the_tests_allow() -> None:
    rows = Table.load().rows
    assert (rows[0].engine, rows[0].rate) == ("onnxruntime", 1.0)
    for row in rows:
        for figure in (row.decoder, row.encoder):
            assert 0 < figure <= TOLERANCE
        assert row.rate > 0


def test_how_a_row_looks(tmp_path: Path) -> None:
    rows = (
        Row("one", "1.2", 1.26e-05, 3e-7, 1.0, ""),
        Row("two", "3", 1e-6, 2e-6, 0.0431, "slow"),
    )
    (tmp_path / "README.md").write_text("head\n<!-- engines -->\nold\n<!-- /engines -->\ntail\n")
    put_into_readme(Table({}, rows), tmp_path / "README.md")
    start, mark, first, rule, one, two, *rest = (tmp_path / "README.md").read_text().splitlines()
    assert (start, mark, *rest) == ("head", "<!-- engines -->", "<!-- /engines -->", "tail")
    assert (first.count("|"), rule.count("|")) == (7, 7)
    assert one == "| one | 1.2 | 1.3e-5 | 3.0e-7 | 1 | |"
    assert two == "| two | 3 | 1.0e-6 | 2.0e-6 | 0.043 | slow |"
