"""Every shipped graph in every engine, against float64."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from vae_gen.bundles import shipped
from vae_gen.images import to_uint8

from tests.engines.engines import ENGINES, ONNXRUNTIME, Answer, Engine, EngineError, ask
from tests.engines.environments import MAKE
from tests.engines.reference import BATCHES, error, reference, rows_for

# Of an image's range, or of the largest magnitude among means and log variances: sums of up to 1,024 terms in float32,
# twelve couplings of a flow in a row.
TOLERANCE = 5e-5
GRAPHS = ("decoder", "encoder")
NOTEBOOK = shipped()["notebook"] / "decoder.onnx"

each_engine = pytest.mark.parametrize("engine", ENGINES, ids=str)
each_bundle = pytest.mark.parametrize("bundle", shipped().values(), ids=shipped().keys())


@pytest.fixture
def here(engine: Engine) -> Engine:
    if not engine.environment.ready():
        pytest.skip(f"{engine} is not here: `{MAKE}` installs it")
    return engine


@cache
def answer(engine: Engine, model: Path, batch: int) -> Answer:
    return ask(engine, model, rows_for(model, batch))


def see_that_it_agrees(engine: Engine, model: Path) -> None:
    for batch in BATCHES:
        outputs = answer(engine, model, batch).outputs
        for name, expected in reference(model, rows_for(model, batch)).items():
            assert outputs[name].dtype == np.float32
            assert outputs[name].shape == expected.shape
            assert error(name, outputs[name], expected) <= TOLERANCE, (name, batch)


@each_bundle
@each_engine
def test_decoder(here: Engine, bundle: Path) -> None:
    model = bundle / "decoder.onnx"
    see_that_it_agrees(here, model)
    there, ours = (
        np.concatenate([to_uint8(answer(engine, model, batch).outputs["image"]) for batch in BATCHES]).astype(int)
        for engine in (here, ONNXRUNTIME)
    )
    assert np.abs(there - ours).max() <= 1
    assert (there != ours).mean() <= 1e-4


@each_bundle
@each_engine
def test_encoder(here: Engine, bundle: Path) -> None:
    see_that_it_agrees(here, bundle / "encoder.onnx")


@each_engine
def test_it_says_its_name_and_the_version_that_is_pinned(here: Engine) -> None:
    said = answer(here, NOTEBOOK, 3)
    assert (said.engine, said.version, said.rows_per_second) == (here.name, here.version, None)


@each_engine
def test_words_in_the_file_disturb_no_engine(here: Engine, tmp_path: Path) -> None:
    model = onnx.load(NOTEBOOK)
    assert model.metadata_props
    words = 'Ziffern, 数字, 🔢\n\t"quoted" \\ {"json": [1, 2]} ' * 1000
    model.doc_string = model.graph.doc_string = words
    for thing in [*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        thing.doc_string = words[:100]
    helper.set_model_props(model, {"": "no name", "a name with spaces": words, "empty": "", "名": "名"})
    onnx.save(model, tmp_path / "decoder.onnx")
    outputs = ask(here, tmp_path / "decoder.onnx", rows_for(NOTEBOOK, 3)).outputs
    np.testing.assert_array_equal(outputs["image"], answer(here, NOTEBOOK, 3).outputs["image"])


@each_engine
def test_what_no_engine_has_is_an_error_and_no_picture(here: Engine, tmp_path: Path) -> None:
    model = onnx.load(NOTEBOOK)
    model.graph.node[1].op_type = "NoSuchActivation"
    onnx.save(model, tmp_path / "decoder.onnx")
    with pytest.raises(EngineError):
        ask(here, tmp_path / "decoder.onnx", rows_for(NOTEBOOK, 3))


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine.fixed_batch], ids=str)
def test_the_batch_is_made_a_number_only_where_it_has_to_be(here: Engine) -> None:
    def takes_any(model: Path) -> bool:
        try:
            return bool(ask(replace(here, fixed_batch=False), model, rows_for(model, 3)).outputs)
        except EngineError:
            return False

    assert not all(takes_any(bundle / f"{graph}.onnx") for bundle in shipped().values() for graph in GRAPHS)


def test_a_weight_that_is_a_little_wrong_is_seen(tmp_path: Path) -> None:
    for name in GRAPHS:
        original, model = shipped()["mnist"] / f"{name}.onnx", onnx.load(shipped()["mnist"] / f"{name}.onnx")
        tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        weights = numpy_helper.to_array(tensor) * np.float32(1.001)
        tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
        onnx.save(model, tmp_path / f"{name}.onnx")
        outputs = ask(ONNXRUNTIME, tmp_path / f"{name}.onnx", rows_for(original, 64)).outputs
        expected = reference(original, rows_for(original, 64))
        assert max(error(output, outputs[output], expected[output]) for output in expected) > TOLERANCE
