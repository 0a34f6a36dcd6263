"""The programs in examples/ make the picture that the command line makes, pixel for pixel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.engines.environments import ENGINES, MAKE, OPENCV4
from tests.examples.conftest import BUNDLES, ROOT, Case, install

EXAMPLES = ROOT / "examples"
PROGRAMS = ("python", "node", "cpp", "opencv5", "opencv4")
Decode = Callable[..., Path]  # of a decoder, the picture to make, and latents or none


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What CMake makes of examples/cpp."""
    if not shutil.which("cmake"):
        pytest.skip("CMake is not installed")
    build = tmp_path_factory.mktemp("build")
    ran = subprocess.run(["cmake", "-S", EXAMPLES / "cpp", "-B", build], capture_output=True, text=True, check=False)
    if lacking := re.search(r"No CMAKE_CXX_COMPILER|Could not find ONNXRUNTIME_\w+|Could NOT find PNG", ran.stderr):
        pytest.skip(f"examples/cpp cannot be built: {lacking[0]}")
    assert ran.returncode == 0, ran.stderr
    subprocess.run(["cmake", "--build", build], check=True, stdout=subprocess.DEVNULL)
    return build / "decode"


def fixed(decoder: Path, folder: Path) -> Path:
    """What OpenCV 4 needs, made as examples/opencv says."""
    words = (EXAMPLES / "opencv/decode.py").read_text()
    (tool,) = re.findall(r"^python (-m onnxruntime\.tools\..*) decoder.onnx", words, re.MULTILINE)
    subprocess.run([sys.executable, *tool.split(), decoder, folder / "decoder-1.onnx"], check=True)
    return folder / "decoder-1.onnx"


@pytest.fixture(params=PROGRAMS)
def decode(request: pytest.FixtureRequest, tmp_path: Path) -> Decode:
    """Runs one of the programs."""
    variables: dict[str, str] = {}
    match request.param:
        case "python":
            command = [sys.executable, "python/decode.py"]
        case "node":
            install(EXAMPLES / "node")
            command = ["node", "node/decode.mjs"]
        case "cpp":
            command = [str(request.getfixturevalue("built"))]
        case _:
            opencv = ENGINES if request.param == "opencv5" else OPENCV4
            if not opencv.ready():
                pytest.skip(f"OpenCV is not here: `{MAKE}` installs it")
            command, variables = opencv.command(Path("opencv/decode.py")), opencv.variables()

    def run(decoder: Path, picture: Path, *z: str) -> Path:
        if request.param == "opencv4" and decoder.parent.name == "mnist":
            decoder = fixed(decoder, tmp_path)
        arguments = [*command, str(decoder), str(picture), *z]
        subprocess.run(arguments, cwd=EXAMPLES, env={**os.environ, **variables}, check=True)
        return picture

    return run


@pytest.mark.parametrize("name", BUNDLES)
def test_the_picture_is_the_command_lines(decode: Decode, name: str, cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases[name]
    case.check(decode(case.decoder, tmp_path / "picture.png", case.z))


def test_without_latents_each_picture_is_another(decode: Decode, cases: dict[str, Case], tmp_path: Path) -> None:
    decoder = cases["tiny"].decoder
    pictures = [np.asarray(Image.open(decode(decoder, tmp_path / f"{index}.png"))) for index in range(2)]
    assert pictures[0].shape == (5, 4, 3)
    assert (pictures[0] != pictures[1]).any()


def test_ten_lines_of_python() -> None:
    _, _, code = (EXAMPLES / "python/decode.py").read_text().rpartition('"""')
    lines = [line for line in code.splitlines() if line and not re.match("import|from", line)]
    assert len(lines) <= 10
