"""Measures every engine and writes the table: `python -m tests.engines`.

Images a second are of mnist's decoder, 64 at a time, on two threads, by the fastest run: other work on the machine
makes threads that wait for one another a hundred times slower. onnxruntime takes a turn before each turn of another
engine, and the best turns of both are compared. Some three minutes.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from vae_gen.bundles import shipped

from tests.engines.engines import ENGINES, ONNXRUNTIME, Engine, ask
from tests.engines.environments import MAKE
from tests.engines.reference import BATCHES, error, reference, rows_for
from tests.engines.table import Row, Table, put_into_readme

TIMED, BATCH = "mnist/decoder.onnx", 64
SECONDS, TURNS = 1.0, 5


def rows_per_second(engine: Engine, model: Path) -> float:
    rate = ask(engine, model, rows_for(model, BATCH), SECONDS).rows_per_second
    assert rate is not None
    return rate


def measured(engine: Engine, models: dict[str, Path]) -> Row:
    errors: dict[str, float] = {}
    for model in models.values():
        for batch in BATCHES:
            rows = rows_for(model, batch)
            outputs, expected = ask(engine, model, rows).outputs, reference(model, rows)
            largest = max(error(output, outputs[output], expected[output]) for output in expected)
            errors[model.stem] = max(errors.get(model.stem, 0.0), largest)
    ratio = 1.0
    if engine is not ONNXRUNTIME:
        model = models[TIMED]
        turns = [(rows_per_second(ONNXRUNTIME, model), rows_per_second(engine, model)) for _ in range(TURNS)]
        ours, theirs = (max(rates) for rates in zip(*turns, strict=True))
        ratio = theirs / ours
    return Row(engine.name, engine.version, errors["decoder"], errors["encoder"], ratio, engine.note)


def main() -> None:
    if absent := [str(engine) for engine in ENGINES if not engine.environment.ready()]:
        sys.exit(f"not here: {', '.join(absent)}; `{MAKE}` installs what Python engines need")
    models = {
        f"{name}/{graph}.onnx": bundle / f"{graph}.onnx"
        for name, bundle in shipped().items()
        for graph in ("decoder", "encoder")
    }
    rows = []
    for engine in ENGINES:
        print(f"{engine} ...", file=sys.stderr, flush=True)
        rows.append(measured(engine, models))
    hashes = {name: hashlib.sha256(model.read_bytes()).hexdigest() for name, model in models.items()}
    table = Table(hashes, tuple(rows))
    table.save()
    put_into_readme(table)
    print(table.markdown(), end="")


if __name__ == "__main__":
    main()
