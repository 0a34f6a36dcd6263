"""The variant of the default model in integers, where that is faster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import vae_gen
from vae_gen.bundles import shipped
from vae_gen.cli import main
from vae_gen.errors import BundleError
from vae_gen_export.variants import int8

from tests.export.variants_of_mnist import Z, decoder_size, pixels  # noqa: F401


def test_int8_that_is_not_faster_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "mnist", "--quantize", "int8", "--out", str(tmp_path / "int8")]) == 1
    said = capsys.readouterr().err
    assert "is not faster in int8 on this machine, so nothing was written. int8: " in said
    assert " images/s, one at a time; float32: " in said
    assert " images/s, 128 at a time. One image alone: " in said
    assert list(tmp_path.iterdir()) == []


def test_int8_that_is_faster_makes_each_image_by_itself(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pixels: np.ndarray,  # noqa: F811
) -> None:
    rates = iter([[10.0, 15.625], [500.0, 4000.0]])  # calls a second: for 128 images, and for one
    monkeypatch.setattr(int8, "_rates", lambda *calls: [call() for call in calls] and next(rates))
    out = tmp_path / "int8"
    assert main(["export", "mnist", "--quantize", "int8", "--out", str(out)]) == 0
    text = (
        "int8: 2,000 images/s, one at a time; float32: 1,280 images/s, 128 at a time. "
        "One image alone: 0.250 ms and 2.000 ms"
    )
    assert text in capsys.readouterr().err
    model = vae_gen.load(out)
    assert model.manifest is not None
    assert model.manifest.export["speed"]["text"] == text
    assert model.rows_per_run == model.description.rows_per_run == 1
    assert decoder_size(out) < 0.3 * decoder_size(shipped()["mnist"])
    together, alone = model.decode(Z[:9]), [model.decode(Z[i : i + 1])[0] for i in range(9)]
    np.testing.assert_array_equal(together, np.stack(alone))
    assert 1e-4 < np.abs(together - pixels[:9]).mean() < 0.03
    session = onnxruntime.InferenceSession(out / "decoder.onnx")
    assert "one row at a time" in session.get_modelmeta().description
    assert not np.array_equal(session.run(None, {"z": Z[:9]})[0], together)  # which is why


def test_int8_is_refused_at_the_same_speed() -> None:
    path = shipped()["mnist"] / "decoder.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8, "_rates", lambda *calls: [1.0, 1.0])
        with pytest.raises(BundleError, match=r"int8: 128 images/s, one at a time; float32: 128 images/s, 128 at"):
            int8.compare(path, path)
