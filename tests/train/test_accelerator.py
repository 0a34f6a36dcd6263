"""Runs on a GPU, beside the same runs on the CPU: what the trainer promises of `--device`.

pytest tests/train/test_accelerator.py

The stand-in (standin.py) is always there, and must agree bit for bit. So is every GPU that PyTorch finds, where sums
have another order and numbers agree but for rounding. PyTorch knows one accelerator in a process, so a real one has
processes of its own; a CUDA GPU is found there by `auto`, without being asked for.

A GPU's own random numbers are others than the CPU's. Where numbers are compared one by one, the CPU draws for both
(device_runs.py); what own draws lead to is compared with the spread of the CPU's.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from vae_gen_train.metrics_log import read_metrics

from tests.runs import hashes
from tests.train import device_runs
from tests.train.small_runs import assert_same_run, comparable
from tests.train.standin import Standin

ENVIRONMENT = dict(os.environ)  # as it is outside tests
ROOT = Path(__file__).parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
REAL = [name for name, library in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if library.is_available()]

# What rounding may do to a run is what a nudge does to it: relative errors of the first weights that are at least as
# large. In a sum of n float32 products all partial sums are rounded, by 2^-24, and that of k products has sqrt(k) times
# a product's size; so factors that are off by sqrt(n / 2) 2^-24 do as much, 2^-19 for the longest sums here, of 1,536.
# In bfloat16 every factor is rounded, by 2^-9. Where rounding decides a gradient's sign weights jump, as Adam moves by
# the sign: the nudges are 8 times as large, and to either side, so that they meet the jumps which a GPU may meet.
NUDGE = {"fp32": 8 * 2.0**-19, "bf16": 8 * 2.0**-9}
MARGIN = 2  # two nudges are two draws
SMALLEST = 2.0**-20  # times a number, or 1 where it is smaller: 16 roundings, where the nudges moved nothing
TF32 = 2.0**-11  # what a GPU rounds factors to when it is let
OTHER_NOISE = range(10, 70, 10)  # further random streams of a seed
STUDENT = 6.87 * (1 + 1 / len(OTHER_NOISE)) ** 0.5  # deviations of those draws: one more is nearer, but for 1 in 1,000

Maker = Callable[..., Path]


@pytest.fixture(params=["standin", *REAL])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Make a run, unless it is there already: kind, devices, and what device_runs.make can change on a CPU.

    With `two` processes, each has a device of its own.
    """

    @functools.cache
    def made(kind: str, *devices: str, two: bool = False, **changes: float) -> Path:
        run = tmp_path_factory.mktemp("accelerator") / "run"  # the loss curve's title has the folder's name
        if {*devices}.isdisjoint(REAL) and not two:
            waits = Standin.waits
            device_runs.make(kind, devices, run, **changes)
            assert ("standin" in devices) == (Standin.waits > waits)
            return run
        command = [sys.executable, *(TORCHRUN if two else ()), "-m", device_runs.__name__]
        command += [kind, ",".join(devices), str(run), str(changes.get("nudge", 0.0))]
        found = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
        return run

    return made


@pytest.mark.parametrize("kind", ["all of an mlp", "conv", "bf16", "pictures"])
def test_a_run_on_another_device_is_the_same_run(make: Maker, kind: str, device: str) -> None:
    assert_same(make, kind, make(kind, device), device)


@pytest.mark.parametrize("device", ["standin", *(["cuda"] if torch.cuda.device_count() > 1 else [])])
def test_two_processes_with_a_device_each_are_two_on_the_cpu(make: Maker, device: str) -> None:
    kind = "all of an mlp"
    run = make(kind, device, two=True)
    assert json.loads((run / "config.json").read_text())["config"]["processes"] == 2
    if device == "standin":
        assert_same_run(run, make(kind, "cpu", two=True))
    else:
        assert_close(make, kind, run, two=True)


def test_bf16_is_not_float32(make: Maker, device: str) -> None:
    with pytest.raises(AssertionError, match="more than rounding"):
        assert_close(make, "conv", make("bf16", device))


@pytest.mark.parametrize("order", ["to the GPU and back", "from the GPU and back"])
def test_a_run_goes_on_on_another_device(make: Maker, order: str, device: str) -> None:
    kind = "dropout, average and prior"
    devices = ("cpu", device, "cpu") if order.startswith("to") else (device, "cpu", device)
    assert_same(make, kind, make(kind, *devices), device)


def test_pictures_on_another_device_are_the_same(make: Maker, device: str) -> None:
    run, cpu = make("pictures", device), make("pictures", "cpu")
    assert {*hashes(run)} == {*hashes(cpu)}
    if device == "standin":
        found, expected = (
            {name: value for name, value in hashes(folder).items() if name.endswith((".png", ".gif"))}
            for folder in (run, cpu)
        )
        assert found == expected
        assert len(expected) == 8
    assert levels_apart(run, cpu) <= 1 + MARGIN * max(levels_apart(moved, cpu) for moved in nudged(make, "pictures"))


def test_a_devices_own_noise_is_a_function_of_the_seed_and_as_good(make: Maker, device: str) -> None:
    whole, resumed = make("own noise", device), make("own noise", device, device, device)
    assert_same_run(resumed, whole)
    others = [validation(make("own noise", "cpu", streams=number)) for number in OTHER_NOISE]
    middle, deviation = np.mean(others, 0), np.std(others, 0, ddof=1)
    assert (deviation > 0).all()
    assert (np.abs(validation(whole) - middle) < STUDENT * deviation).all()


def test_products_of_fewer_bits_are_no_rounding(make: Maker) -> None:
    for kind in ("all of an mlp", "conv"):
        with pytest.raises(AssertionError, match="more than rounding"):
            assert_close(make, kind, make(kind, "cpu", nudge=TF32))


def assert_same(make: Maker, kind: str, run: Path, device: str) -> None:
    """That `run`, with the help of `device`, is what the CPU alone makes of this kind."""
    if device == "standin":
        assert_same_run(run, make(kind, "cpu"))
    assert_close(make, kind, run)


def nudged(make: Maker, kind: str, **processes: bool) -> list[Path]:
    """The CPU's runs of that kind from first weights that are slightly off."""
    size = NUDGE[str(device_runs.KINDS[kind].get("precision", "fp32"))]
    return [make(kind, "cpu", nudge=nudge, **processes) for nudge in (size, -size)]


def assert_close(make: Maker, kind: str, run: Path, **processes: bool) -> None:
    """That no number that `run` logged is further from the CPU's than rounding may take it. Weights may: they jump."""
    folders = (make(kind, "cpu", **processes), *nudged(make, kind, **processes))
    expected, *moved = (comparable(folder)[1] for folder in folders)
    reach: dict[str, float] = {}  # how far nudges have taken each number so far
    for found, right, *others in zip(comparable(run)[1], expected, *moved, strict=True):
        assert (found["step"], found["split"]) == (right["step"], right["split"])
        for name in [name for name, value in right.items() if isinstance(value, float)]:
            reach[name] = max(reach.get(name, 0), *(abs(other[name] - right[name]) for other in others))
            allowed = MARGIN * reach[name] + SMALLEST * max(1, abs(right[name]))
            difference = abs(found[name] - right[name])
            assert difference <= allowed, f"{name} at step {right['step']}: {difference:.2g} off, more than rounding"


def levels_apart(run: Path, other: Path) -> int:
    """The largest difference between pixels of pictures that show nothing but what networks made."""
    names = ["samples.png", "decoded-z.png", "reconstructions/step-000004.png"]
    one, two = (
        np.concatenate([np.asarray(Image.open(folder / name), np.int64).ravel() for name in names])
        for folder in (run, other)
    )
    return int(np.abs(one - two).max())


def validation(run: Path) -> np.ndarray:
    """What a run logged of the validation images: after the VAE, and after its prior."""
    records = [record for record in read_metrics(run) if record["split"] == "validation"]
    return np.array([[record[name] for name in ("reconstruction", "kl", "total", "sse")] for record in records])
