"""A run and its bundle where files in use cannot be replaced: see tests/windows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from vae_gen.cli import main

from tests.runs import VAE_GEN, tree
from tests.train.small_runs import assert_same_run
from tests.windows import on_windows


@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for Windows asks Linux what is open")
def test_a_run_and_its_bundle_are_the_same_on_windows(small_data: Path, tmp_path: Path) -> None:
    steps = ["--steps", "6", "--prior-steps", "4", "--batch-size", "8", "--checkpoint-every", "2", "--threads", "1"]
    run = ["train", "--preset", "mlp", "--data", str(small_data), "--latent-dim", "2", *steps, "--quiet"]
    export = ["export", "mnist", "--precision", "fp16", "--out", "bundle", "--quiet"]
    commands = [[*run, "--out", "run"], ["train", "--resume", "run", "--quiet"], export, [*export, "--overwrite"]]
    for command in commands:
        subprocess.run([*VAE_GEN, *command], cwd=tmp_path, env=on_windows(), check=True, timeout=120)
    assert main([*run, "--out", str(tmp_path / "expected")]) == 0
    assert_same_run(tmp_path / "run", tmp_path / "expected")
    assert sorted(tree(tmp_path / "bundle")) == ["decoder.onnx", "encoder.onnx", "manifest.json"]
    assert not [path for path in tmp_path.rglob("*.partial") if path.is_file()]
