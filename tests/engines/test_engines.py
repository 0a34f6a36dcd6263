"""Every shipped graph in every engine, against float64."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from vae_gen.bundles import shipped
from vae_gen.images import to_uint8

from tests.engines.engines import ENGINES, ONNXRUNTIME, Answer, Engine, EngineError, ask, operators
from tests.engines.environments import MAKE
from tests.engines.reference import BATCHES, images, latents, reference

# Of the largest magnitude in an output. The longest sums have 1,024 terms of float32, and a flow of 12 couplings
# carries on what each of them rounds.
ENCODER_TOLERANCE = 5e-5

each_engine = pytest.mark.parametrize("engine", ENGINES, ids=str)
each_bundle = pytest.mark.parametrize("bundle", shipped().values(), ids=shipped().keys())


@cache
def answer(engine: Engine, bundle: Path, graph: str, batch: int) -> Answer:
    rows = latents(bundle, batch) if graph == "decoder" else images(bundle, batch)
    return ask(engine, bundle / f"{graph}.onnx", rows)


def can_run(engine: Engine, model: Path) -> bool:
    """Whether it has all operators of a graph; where it has not, see that it says so."""
    if not engine.environment.ready():
        pytest.skip(f"{engine} is not here: {MAKE} installs it")
    missing = operators(model) & set(engine.lacks)
    if missing:
        with pytest.raises(EngineError, match="|".join(sorted(missing))):
            ask(engine, model, latents(model.parent, 3) if model.stem == "decoder" else images(model.parent, 3))
    return not missing


@each_bundle
@each_engine
def test_decoder(engine: Engine, bundle: Path) -> None:
    if not can_run(engine, bundle / "decoder.onnx"):
        return
    pixels = []
    for batch in BATCHES:
        image = answer(engine, bundle, "decoder", batch).outputs["image"]
        expected = reference(bundle / "decoder.onnx", latents(bundle, batch))["image"]
        assert image.dtype == np.float32
        assert image.shape == expected.shape
        assert np.abs(image - expected).max() <= 1 / 255 / 10, batch
        there = to_uint8(image).astype(int)
        here = to_uint8(answer(ONNXRUNTIME, bundle, "decoder", batch).outputs["image"]).astype(int)
        pixels.append(np.abs(there - here).ravel())
    levels = np.concatenate(pixels)
    assert levels.max() <= 1
    assert (levels > 0).mean() <= 1e-4


@each_bundle
@each_engine
def test_encoder(engine: Engine, bundle: Path) -> None:
    if not can_run(engine, bundle / "encoder.onnx"):
        return
    for batch in BATCHES:
        outputs = answer(engine, bundle, "encoder", batch).outputs
        for name, expected in reference(bundle / "encoder.onnx", images(bundle, batch)).items():
            assert outputs[name].dtype == np.float32
            assert outputs[name].shape == expected.shape
            error = np.abs(outputs[name] - expected).max() / np.abs(expected).max()
            assert error <= ENCODER_TOLERANCE, (name, batch)


@each_engine
def test_version_is_the_one_that_is_pinned(engine: Engine) -> None:
    if not engine.environment.ready():
        pytest.skip(f"{engine} is not here: {MAKE} installs it")
    said = answer(engine, shipped()["notebook"], "decoder", 1)
    assert (said.engine, said.version) == (engine.name, engine.version)
