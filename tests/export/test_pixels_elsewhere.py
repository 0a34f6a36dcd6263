"""Pixels where the arithmetic is another: onnx's reference evaluator, numpy's sums in numpy's order."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from vae_gen.bundles import shipped
from vae_gen.images import to_uint8
from vae_gen.latents import draw
from vae_gen.model import load


@pytest.mark.parametrize("name", shipped())
@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
def test_pixels_differ_by_one_level_in_one_place_of_ten_thousand_at_most(name: str) -> None:
    model = load(name)
    z = draw(0, 0, 1000, model.latent_dim)
    evaluator = ReferenceEvaluator(str(shipped()[name] / "decoder.onnx"))
    there = to_uint8(evaluator.run(None, {"z": z})[0]).astype(int)
    difference = np.abs(model.decode_bytes(z).astype(int) - there)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-4
