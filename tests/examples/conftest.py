"""Models, latents, and the pictures that the command line makes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vae_gen.bundles import shipped
from vae_gen.cli import main
from vae_gen.latents import draw
from vae_gen.manifest import DECODER, MANIFEST
from vae_gen.model import load

from tests import npm
from tests.conftest import MODELS

ROOT = Path(__file__).parents[2]
ALPHA = "alpha"  # a model that ../models/generate.py describes, with 4 channels, 5 rows and 3 columns
BUNDLES = (*shipped(), "tiny", ALPHA)

# What two engines disagree by must not decide how a pixel is rounded: so far from the middle between two levels
# are all of a picture's pixels, in levels. Engines differ by a hundredth of it.
MARGIN = 2e-3


@dataclass(frozen=True)
class Case:
    """A bundle, latents as the command line takes them, and the picture that it makes of them."""

    bundle: Path
    z: str
    picture: Path

    @property
    def decoder(self) -> Path:
        return self.bundle / DECODER

    def check(self, picture: Path) -> None:
        """Fail unless `picture` has the same mode and pixels."""
        with Image.open(picture) as found, Image.open(self.picture) as expected:
            assert found.mode == expected.mode
            np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@pytest.fixture(scope="session")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> Path:
    onnx = pytest.importorskip("onnx", reason="a model with an alpha channel is made with onnx, which is not installed")
    from tests.models.generate import decoder, metadata

    bundle = tmp_path_factory.mktemp("bundles") / ALPHA
    bundle.mkdir()
    about = {"name": ALPHA, "image_shape": [4, 5, 3]}
    onnx.save(decoder(shape=(4, 5, 3), texts=metadata(**about, color_mode="RGBA")), bundle / DECODER)
    manifest = json.loads((MODELS / "tiny" / MANIFEST).read_text())
    manifest["description"] |= about
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    return bundle


@pytest.fixture(scope="session")
def cases(alpha: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("pictures")
    return {bundle.name: case(bundle, folder) for bundle in (*shipped().values(), MODELS / "tiny", alpha)}


def case(bundle: Path, folder: Path) -> Case:
    """The first latents of seed 0 whose picture is as far from the middle between two levels as MARGIN says."""
    model = load(bundle / DECODER)
    drawn = draw(0, 0, 1000, model.latent_dim).round(2)
    levels = model.decode(drawn).reshape(len(drawn), -1) * 255
    margins = np.abs(levels % 1 - 0.5).min(axis=1)
    z = ",".join(f"{value:.2f}" for value in drawn[np.argmax(margins > MARGIN)])
    assert margins.max() > MARGIN
    out = folder / bundle.name
    assert main(["decode", "--model", str(bundle / DECODER), "--z", z, "--out", str(out), "--quiet"]) == 0
    return Case(bundle, z, next(out.glob("*.png")))


def install(folder: Path) -> None:
    """The packages of an example, as its user installs them. Skips the test where there is no Node.js."""
    if npm.node() is None:
        pytest.skip("Node.js and npm are not installed")
    npm.install(folder)
