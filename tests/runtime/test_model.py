from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vae_gen
from vae_gen.bundles import shipped
from vae_gen.errors import BundleError, DataError, UsageError, VaeGenError
from vae_gen.graph import MAX_ROWS
from vae_gen.latents import draw
from vae_gen.model import Model, load

from tests.conftest import MODELS
from tests.runtime import reference


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """A bundle that may be spoiled."""
    return shutil.copytree(tiny, tmp_path / "copy")


def edit(manifest: Path, **changes: object) -> None:
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(values | changes))


@pytest.mark.parametrize("count", [0, 1, 3, MAX_ROWS, 2 * MAX_ROWS + 1])
def test_decode_and_encode_compute_what_the_graphs_say(tiny: Path, count: int) -> None:
    model = load(tiny)
    z = np.random.default_rng(0).standard_normal((count, 3)).astype(np.float32)
    images = model.decode(z)
    assert images.dtype == np.float32
    assert images.shape == (count, 3, 5, 4)
    np.testing.assert_allclose(images, reference.decode(z), atol=1e-6)
    mean, log_var = model.encode(images)
    expected_mean, expected_log_var = reference.encode(images)
    assert mean.shape == log_var.shape == (count, 3)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-6)
    np.testing.assert_allclose(log_var, expected_log_var, atol=1e-6)


def test_a_decoder_alone_decodes_as_its_bundle_does(tiny: Path) -> None:
    z = draw(5, 0, 4, 3)
    for path, layout in ((tiny / "decoder.onnx", None), (MODELS / "foreign/ambiguous.onnx", "NCHW")):
        model = load(path, layout=layout)
        assert (model.latent_dim, model.image_shape) == (3, (3, 5, 4))
        np.testing.assert_array_equal(model.decode(z), load(tiny).decode(z))
        with pytest.raises(BundleError, match=r"decoder alone.*encoder\.onnx"):
            model.encode(np.zeros((1, 3, 5, 4)))


def test_sample_is_the_decoded_draw_of_each_index(tiny: Path) -> None:
    model = load(tiny)
    np.testing.assert_allclose(model.sample(5, seed=9), reference.decode(draw(9, 0, 5, 3)), atol=1e-6)
    np.testing.assert_array_equal(model.sample(5, seed=9)[2:], model.sample(3, seed=9, start=2))
    np.testing.assert_allclose(
        model.sample(2, seed=9, temperature=0.5), reference.decode(draw(9, 0, 2, 3) / 2), atol=1e-6
    )


def test_without_a_seed_each_call_makes_other_images(tiny: Path) -> None:
    model = load(tiny)
    calls = [model.sample(2), model.sample(2), model.sample(2, seed=0)]
    for number, one in enumerate(calls):
        assert all(not np.array_equal(one, other) for other in calls[:number])


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_do_not_depend_on_their_batch_in_any_shipped_model(name: str, threads: int) -> None:
    model = load(name, threads)
    together = model.sample(300, seed=1)
    apart = np.concatenate([model.sample(size, seed=1, start=start) for start, size in ((0, 1), (1, 7), (8, 292))])
    np.testing.assert_array_equal(apart, together)
    np.testing.assert_array_equal(load(name, 1).sample(300, seed=1), together)
    mean, _ = model.encode(together)
    np.testing.assert_array_equal(np.concatenate([model.encode(together[[i]])[0] for i in range(9)]), mean[:9])


@pytest.mark.parametrize("shape", [(3,), (2, 4), (0,), (1, 2, 3)])
def test_latents_of_another_shape_are_refused(tiny: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"tiny needs \[n, 3\]"):
        load(tiny).decode(np.zeros(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_latents_that_are_not_finite_are_refused(tiny: Path, value: float) -> None:
    with pytest.raises(DataError, match=re.escape(f"latent 2 of point 1 is {value}, which is not finite in float32")):
        load(tiny).decode([[0, 0, 0], [0, 0, value]])


def test_images_of_another_shape_or_range_are_refused(tiny: Path) -> None:
    model = load(tiny)
    with pytest.raises(DataError, match=r"shape \(1, 3, 4, 5\); tiny needs \[n, 3, 5, 4\]"):
        model.encode(np.zeros((1, 3, 4, 5)))
    for kind in (np.uint8, np.float64):
        with pytest.raises(
            DataError, match=r"hold values from 0 to 255; pixels must lie in \[0, 1\]; divide them by the value"
        ):
            model.encode(np.linspace(0, 255, 60).astype(kind).reshape(1, 3, 5, 4))
    with pytest.raises(
        DataError, match=r"the images hold values from -1 to 255; pixels must lie in \[0, 1\]; scale them first"
    ):
        model.encode(np.linspace(-1, 255, 60).reshape(1, 3, 5, 4))
    some = np.full((1, 3, 5, 4), 0.5)
    some[0, 2, 4, 3] = np.nan
    with pytest.raises(DataError, match=r"the images hold values that are no numbers \(nan\); pixels must lie in"):
        model.encode(some)


def test_a_decoder_whose_output_is_not_finite_is_refused() -> None:
    with pytest.raises(BundleError, match=r"not-finite\.onnx makes values that are not finite numbers; the model is"):
        load(MODELS / "foreign/not-finite.onnx", layout="NCHW").decode(np.ones((1, 3)))
    with pytest.raises(BundleError, match=r"not finite numbers; its input has numbers up to 3\.4e\+38"):
        load("mnist").decode(np.full((1, 16), 3.4e38))


def test_a_graph_that_makes_other_rows_than_it_declares_is_refused() -> None:
    with pytest.raises(BundleError, match=r"makes arrays of shape \[\(64, 1, 4, 4\)\] where it declares"):
        load(MODELS / "foreign/other-rows.onnx", layout="NCHW").decode(np.zeros((3, 4)))


def test_an_encoder_that_does_not_fit_is_refused(copy: Path) -> None:
    import hashlib

    # The decoder in the encoder's place: the right bundle, the wrong graph.
    decoder = (copy / "decoder.onnx").read_bytes()
    (copy / "encoder.onnx").write_bytes(decoder)
    hashes = json.loads((copy / "manifest.json").read_text())["sha256"]
    edit(copy / "manifest.json", sha256=hashes | {"encoder.onnx": hashlib.sha256(decoder).hexdigest()})
    with pytest.raises(BundleError, match=r"encoder\.onnx is no encoder of this model: .*its inputs are z tensor"):
        load(copy).encode(np.zeros((1, 3, 5, 4)))


@pytest.mark.parametrize("values", ["abc", [[1, 2, 3], [1]], [[None, 1, 2]], [["1", "2", "3"]], [[1j, 0, 0]]])
def test_what_is_no_array_of_numbers_is_refused(tiny: Path, values: object) -> None:
    with pytest.raises(DataError):
        load(tiny).decode(values)


@pytest.mark.parametrize("temperature", [-1, float("nan"), 1e300, None, "1", [1, 2], 1j])
def test_a_temperature_out_of_range_is_refused(tiny: Path, temperature: Any) -> None:
    with pytest.raises(UsageError, match=r"temperature is .*between 0 and 100"):
        load(tiny).sample(1, temperature=temperature)


@pytest.mark.parametrize("name", ["two-inputs", "flat-output", "integers"])
def test_a_graph_that_is_no_decoder_is_refused_with_its_shapes(name: str) -> None:
    with pytest.raises(
        BundleError,
        match=rf"{name}\.onnx (is no decoder|cannot be used): .*its inputs are z tensor\((float|int64)\) \[",
    ):
        load(MODELS / f"foreign/{name}.onnx")


def test_images_of_two_channels_are_refused() -> None:
    with pytest.raises(BundleError, match=r"two-channels\.onnx: image_shape is \(2, 5, 6\)"):
        load(MODELS / "foreign/two-channels.onnx")


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"no graph", (MODELS / "tiny/decoder.onnx").read_bytes()[:700]])
def test_a_damaged_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "decoder.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"decoder\.onnx is not an ONNX graph that can be run"):
        load(path)


def test_an_unknown_name_lists_what_ships(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no model 'mnits'.*notebook"):
        load("mnits")
    with pytest.raises(BundleError, match=r"is not a bundle: it has no manifest\.json$"):
        load(tmp_path)
    (tmp_path / "checkpoint.safetensors").touch()
    with pytest.raises(
        BundleError, match=r"no manifest\.json; it is a training run, and vae-gen export makes one of it"
    ):
        load(tmp_path)


def test_a_folder_of_bundles_is_told_of_them(tmp_path: Path) -> None:
    a, b, c, d, e = (tmp_path / name for name in "abcde")
    d.mkdir()
    for count, path in enumerate((a, b, c, e), 1):
        shutil.copytree(MODELS / "tiny", path)
        told = {1: f"{a}", 2: f"{a}, {b}", 3: f"{a}, {b}, {c}", 4: f"{a}, {b}, {c}, and 1 more"}[count]
        with pytest.raises(BundleError, match=re.escape(f"no manifest.json; in it there are {told}") + "$"):
            load(tmp_path)


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx"])
def test_a_changed_or_missing_file_is_refused(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=rf"{name} is not the file its manifest describes"):
        load(copy).check()
    (copy / name).unlink()
    with pytest.raises(BundleError, match=rf"incomplete: {name} is missing"):
        load(copy).check()


def test_a_pair_that_does_not_belong_together_is_refused(copy: Path) -> None:
    import hashlib

    other = (copy / "encoder.onnx").read_bytes().replace(b"0123456789abcdef", b"fedcba9876543210")
    (copy / "encoder.onnx").write_bytes(other)
    hashes = json.loads((copy / "manifest.json").read_text())["sha256"]
    edit(copy / "manifest.json", sha256=hashes | {"encoder.onnx": hashlib.sha256(other).hexdigest()})
    load(copy).decode([[0, 0, 0]])  # the decoder is as it was
    with pytest.raises(BundleError, match=r"do not belong together: .*fedcba9876543210 and 0123456789abcdef"):
        load(copy).check()


def test_a_manifest_of_another_model_is_refused(copy: Path) -> None:
    description = json.loads((copy / "manifest.json").read_text())["description"]
    edit(copy / "manifest.json", description=description | {"bundle_id": "0" * 16})
    with pytest.raises(BundleError, match="do not describe the same model"):
        load(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema version 2; this version of vae-gen reads version 1"),
        ({"schema": None}, "schema version None"),
        ({"schema": True}, "schema version True"),
        ({"surprise": 1}, "it has unknown 'surprise'"),
        ({"sha256": "abc"}, "sha256 is 'abc'"),
        ({"description": {}}, "it lacks 'bundle_id'"),
        ({"description": []}, r"description is \[\]"),
    ],
)
def test_a_manifest_that_is_not_valid_is_refused(copy: Path, changes: dict[str, object], message: str) -> None:
    edit(copy / "manifest.json", **changes)
    with pytest.raises(BundleError, match=rf"manifest\.json.*{message}"):
        load(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff", "[" * 200_000, '{"x": "\\ud800"}', '{"x": NaN}'])
def test_a_manifest_that_is_no_json_object_is_refused(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BundleError, match=r"manifest\.json"):
        load(copy)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latent_dim", 0),
        ("latent_dim", "8"),
        ("latent_dim", True),
        ("image_shape", [1, 28]),
        ("image_shape", [2, 5, 4]),
        ("latent_mean", [0.0]),
        ("latent_std", ["a", "b", "c"]),
        ("name", 3),
        ("image_shape", [3.0, 5, 4]),
        ("latent_mean", 5),
        ("value_range", [1, -1]),
        ("value_range", [0, 1, 2]),
        ("layout", "CHWN"),
        ("layout", None),
        ("rows_per_run", 0),
        ("rows_per_run", "1"),
        ("rows_per_run", True),
        ("prior", "uniform"),
    ],
)
def test_a_description_that_cannot_be_is_refused(copy: Path, field: str, value: object) -> None:
    description = json.loads((copy / "manifest.json").read_text())["description"]
    edit(copy / "manifest.json", description=description | {field: value})
    with pytest.raises(BundleError, match=rf"manifest\.json.*{field}"):
        load(copy)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_reach_onnxruntime(tiny: Path, threads: int) -> None:
    graph = load(tiny, threads)._decoder.graph
    assert graph._session.get_session_options().intra_op_num_threads == threads


@pytest.mark.parametrize("threads", [0, -1, 1025, 2**40, 1.5, "2", [1]])
def test_threads_that_cannot_be_are_refused(tiny: Path, threads: Any) -> None:
    with pytest.raises(UsageError, match=rf"^threads is {re.escape(repr(threads))}; it must be a whole number from 1"):
        load(tiny, threads=threads)
    assert load(tiny, threads=np.int64(2)).threads == 2


@pytest.mark.parametrize("model", [None, 5, b"mnist"])
def test_what_is_neither_a_name_nor_a_path_is_refused(model: Any) -> None:
    with pytest.raises(UsageError, match=rf"^model is {model!r}; it must be the name of a shipped model or a path"):
        load(model)


def test_a_model_shows_what_it_is(tiny: Path) -> None:
    assert repr(load(tiny)) == "Model('tiny', latent_dim=3, image_shape=(3, 5, 4))"


def test_the_public_names() -> None:
    assert vae_gen.load is load
    assert vae_gen.Model is Model
    assert vae_gen.VaeGenError is VaeGenError
    assert vae_gen.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="surprise"):
        _ = vae_gen.surprise
