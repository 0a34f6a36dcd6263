"""Who makes a run: executors of any kind, workers that are killed, and how many processors they take."""

from __future__ import annotations

import dataclasses
import math
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from vae_gen import deflate
from vae_gen.cli import main
from vae_gen.decoder import files_of
from vae_gen.errors import BundleError, DataError, MissingExtraError, OutputError, StoppedError, UsageError, VaeGenError
from vae_gen.generator import jobs
from vae_gen.generator.generate import open_model, plan
from vae_gen.generator.indices import Indices
from vae_gen.generator.jobs import Crew, make_run
from vae_gen.generator.parts import Part
from vae_gen.generator.runs import Given, Record, Run
from vae_gen.generator.verify import read_manifests, verify
from vae_gen.generator.workers import local_processes
from vae_gen.latents import draw
from vae_gen.model import load
from vae_gen.stores import open_store

from tests.conftest import MODELS
from tests.runs import hashes
from tests.systems import needs_signals

pytestmark = pytest.mark.usefixtures("elsewhere")

FOREIGN = MODELS / "foreign"
SLOW = ("--seed", "3", "--batch-size", "2", "--threads", "1")
WHAT = ["sample", "--model", str(MODELS / "tiny"), "--n", "20000", "--format", "npy", "--shard-size", "1000", *SLOW]


def run_of(model: Path, **values: object) -> Run:
    opened = load(model, threads=1)
    values = {"seed": 3, "indices": Indices.of(0, 1000), "format": "npy", "part_size": 90, "latents": True, **values}
    return Run(
        str(model), opened.name, opened.decoder_sha256, opened.image_shape, opened.latent_dim, opened.reading, **values
    )


def test_a_run_is_of_a_seed_or_of_given_latents() -> None:
    for values in ({"seed": None}, {"given": Given("z.npy", np.zeros((1000, 3), np.float32))}):
        with pytest.raises(UsageError, match="of a seed, or of given latents; give one of them"):
            run_of(MODELS / "tiny", **values)


def test_numbers_of_a_run_are_python_s_own_whatever_they_are_given_as() -> None:
    run = run_of(MODELS / "tiny", seed=np.int64(7), temperature=np.float32(2))
    assert (type(run.seed), type(run.temperature)) == (int, float)
    assert run.about == run_of(MODELS / "tiny", seed=7, temperature=2).about
    assert run.provenance == run_of(MODELS / "tiny", seed=7, temperature=2.0).provenance


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": "7"}, "seed is '7'; it must be a whole number"),
        ({"seed": True}, "seed is True; it must be a whole number"),
        ({"seed": 2**64}, r"seed is .*between 0 and 2\*\*64 - 1"),
        ({"temperature": -1}, "temperature is -1; it must be a number between 0 and 100"),
        ({"temperature": math.nan}, "temperature is nan; it must be"),
        ({"format": "bogus"}, "unknown format 'bogus'; known: png, npy"),
    ],
    ids=str,
)
def test_a_run_that_cannot_be_is_refused_before_it_begins(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_of(MODELS / "tiny", **values)


@pytest.mark.parametrize("format", ["npy", "png"])
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_any_executor_makes_the_same_bytes(kind: str, format: str) -> None:
    indices = Indices.of(9_990, 20) if format == "npy" else Indices.parse("0-99,10000-10099,20000-20099,30000-30999")
    shutil.copytree(MODELS / "tiny", "mine")  # named relative to a directory that workers need not have
    run = run_of(Path("mine"), indices=indices, format=format, part_size=5 if format == "npy" else None)
    make_run(run, "alone", Crew(workers=1))
    done: list[int] = []
    pool: Executor
    with (
        ThreadPoolExecutor(2) if kind == "threads" else ProcessPoolExecutor(2, get_context("spawn"), os.chdir, ("/",))
    ) as pool:
        make_run(run, "shared", Crew(executor=pool), progress=done.append)
    assert hashes("shared") == hashes("alone")
    assert sorted(done) == sorted([0, *(part.indices.count for part in run.parts)])


def test_progress_of_processes_is_told() -> None:
    done: list[int] = []
    run = run_of(MODELS / "tiny")
    make_run(run, "out", Crew(workers=2, threads=1), progress=done.append)
    assert sorted(done) == [0, 10, *[90] * 11]


@pytest.mark.parametrize("cpus", [1, 2, 4, 16, 64])
def test_workers_times_threads_never_exceed_the_processors(cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "usable_cpus", lambda: cpus)

    def split(
        workers: int | None, threads: int | None, images: int, parts: int, format: str = "npy"
    ) -> tuple[int, int]:
        return Crew(threads, workers).workers_and_threads(format, images, parts)

    amounts = (None, 1, 2, 3, 5, 16, 64, 1000)
    for threads in amounts:
        for workers in amounts:
            for images, parts in ((1000, 1), (1000, 1000), (10**6, 1), (10**6, 3), (10**6, 1000)):
                processes, each = split(workers, threads, images, parts)
                assert 1 <= processes * each <= cpus
                assert processes <= parts
                assert processes == min(workers or processes, cpus, parts)
                assert each == min(threads or each, cpus // processes)
    assert split(None, None, 1000, 100) == (1, cpus)  # few images are not worth a process
    assert split(None, None, 10**6, 1000) == (max(1, cpus // 2), min(2, cpus))
    assert split(None, None, 10**6, 1000, "tar") == (cpus, 1)  # encoding threads would wait for each other
    assert split(None, None, 10**6, 1, "tar") == (1, cpus)
    assert split(None, 2, 10**6, 1000, "png") == (max(1, cpus // 2), min(2, cpus))
    assert split(None, None, 10**6, 1) == (1, cpus)
    assert split(None, 1, 10**6, 1000) == (cpus, 1)
    assert split(2, None, 1000, 100) == ((2, cpus // 2) if cpus > 1 else (1, 1))


@pytest.mark.parametrize("name", ["threads", "workers", "batch_size"])
def test_a_crew_of_nobody_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is 0; it must be at least 1"):
        Crew(**{name: 0})


def test_a_worker_that_kept_an_older_model_opens_the_newer_one() -> None:
    for number, model in enumerate((MODELS / "tiny" / "decoder.onnx", FOREIGN / "plain.onnx")):
        shutil.copy(model, "decoder.onnx")
        run = run_of(Path("decoder.onnx"), indices=Indices.of(0, 10))
        with ThreadPoolExecutor(1) as pool:
            make_run(run, f"out{number}", Crew(executor=pool))
    copied = run_of(FOREIGN / "plain.onnx", indices=Indices.of(0, 10))
    make_run(dataclasses.replace(copied, model_name=run.model_name, model=run.model), "whole")
    assert hashes("out1") == hashes("whole")


def test_a_model_that_was_replaced_is_opened_anew() -> None:
    found = []
    models = (MODELS / "tiny" / "decoder.onnx", FOREIGN / "plain.onnx")
    for model in models:
        shutil.copy(model, "decoder.onnx")
        found.append(plan("decoder.onnx", 0, Indices.of(0, 10)).decoder_sha256)
    assert found == [load(path, 1).decoder_sha256 for path in models]


def test_weights_that_were_replaced_are_read_anew() -> None:
    for name in ("weights-beside.onnx", "weights-beside.onnx.data"):
        shutil.copy(FOREIGN / name, name)
    before = open_model("weights-beside.onnx")
    old = before.decoder_sha256
    assert open_model("weights-beside.onnx") is before
    np.fromfile("weights-beside.onnx.data", np.float32)[::-1].tofile("other")
    Path("other").replace("weights-beside.onnx.data")
    after = open_model("weights-beside.onnx")
    z = draw(0, 0, 5, 3)
    expected = load("weights-beside.onnx", 1)
    assert after.decoder_sha256 == expected.decoder_sha256 != old
    np.testing.assert_array_equal(after.decode(z), expected.decode(z))
    assert open_model("weights-beside.onnx") is after
    Path("weights-beside.onnx.data").unlink()
    with pytest.raises(BundleError, match=r"beside\.onnx is not an ONNX graph that can be run: .*\.onnx\.data"):
        open_model("weights-beside.onnx")


@pytest.mark.parametrize(("name", "length"), [("w" * 127, b"\x7f"), ("w" * 128, b"\x80\x01"), ("w" * 250, b"\xfa\x01")])
def test_weights_beside_belong_to_the_model_however_long_their_name(name: str, length: bytes) -> None:
    """Lengths are protobuf's: seven bits in each byte, the lowest first, with the eighth bit where more follow."""
    Path("a.onnx").write_bytes(b"\x08\x08j\x86\x01\x0a\x08location\x12" + length + name.encode() + b"j\x08")
    assert files_of(Path("a.onnx")) == [Path("a.onnx")]
    Path(name).write_bytes(b"weights")
    assert files_of(Path("a.onnx")) == [Path("a.onnx"), Path(name)]


def test_a_worker_with_another_model_is_refused() -> None:
    other = dataclasses.replace(run_of(MODELS / "tiny"), decoder_sha256="0" * 64)
    with ThreadPoolExecutor(1) as pool, pytest.raises(BundleError, match="is another model than the run began with"):
        make_run(other, "out", Crew(executor=pool))


def test_versions_are_those_of_the_library_that_deflates() -> None:
    python_s = f"zlib {zlib.ZLIB_RUNTIME_VERSION}"
    assert run_of(MODELS / "tiny", format="npz").versions["deflate"] == python_s
    assert run_of(MODELS / "tiny", format="zip").versions["deflate"] == deflate.NAME != python_s


def test_a_worker_with_other_versions_is_refused() -> None:
    run = run_of(MODELS / "tiny")
    old = dataclasses.replace(run, versions={**run.versions, "onnxruntime": "1.2.3"})
    with ThreadPoolExecutor(1) as pool, pytest.raises(OutputError, match=r"this worker has .*, and the run began with"):
        make_run(old, "out", Crew(executor=pool))


class Lost(Executor):
    """A cluster on which everything but the first part fails."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def submit(self, make: object, part: Part) -> Future:  # type: ignore[override]
        future: Future = Future()
        if part.number == 0:
            future.set_result(make(part))
        elif self.error:
            future.set_exception(self.error)
        else:
            future.cancel()
            future.set_running_or_notify_cancel()
        return future


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ModuleNotFoundError("No module named\n'vae_gen'"), OutputError, "a worker has not made its part: "),
        (None, OutputError, "a part was cancelled before it was complete; the cluster's scheduler has ended"),
        (MissingExtraError("writing", "s3fs", "remote"), MissingExtraError, "writing needs PyTorch"),
    ],
)
def test_whatever_an_executor_raises_is_said_with_what_is_missing(
    error: Exception | None, kind: type[Exception], message: str
) -> None:
    run = run_of(MODELS / "tiny")
    with pytest.raises(kind) as raised:
        make_run(run, "out", Crew(executor=Lost(error)))
    first, second = str(raised.value).splitlines()
    assert first.startswith(message)
    assert re.fullmatch(r"(910|1,000) of 1,000 images are not made; the same command with --resume makes them", second)
    make_run(run, "out", resume=True)
    make_run(run, "whole")
    assert hashes("out") == hashes("whole")


def test_what_waits_is_cancelled_when_a_part_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def fail(run: Run, out: str, part: Part, **options: object) -> Record:
        begun.append(part.number)
        time.sleep(0.05)
        raise OutputError("no")

    monkeypatch.setattr(jobs, "make_part", fail)
    with ThreadPoolExecutor(1) as pool, pytest.raises(OutputError, match=r"^no\n1,000 of 1,000 images are not made"):
        make_run(run_of(MODELS / "tiny", part_size=10), "out", Crew(executor=pool))
    assert len(begun) < 10


def test_a_check_whose_worker_is_killed_says_so() -> None:
    make_run(run_of(MODELS / "tiny"), "out")
    with (
        ProcessPoolExecutor(1, get_context("spawn"), os._exit, (1,)) as pool,
        pytest.raises(DataError, match=r"^a process ended before it had checked its part: "),
    ):
        verify("out", read_manifests(open_store("out")), executor=pool)


@pytest.mark.parametrize(
    "error",
    [
        MissingExtraError("writing to s3://", "s3fs", "remote", needs="s3fs"),
        StoppedError("what is complete stays", 2),
        OutputError("a message"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_from_other_processes_as_they_are(error: VaeGenError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.exit_code) == (type(error), str(error), error.exit_code)


def test_a_worker_that_the_kernel_kills_ends_the_run_and_resuming_finishes_it() -> None:
    command = [sys.executable, "-m", "vae_gen", *WHAT, "--workers", "2"]
    subprocess.run([*command, "--out", "whole", "-q"], check=True, timeout=60)
    with subprocess.Popen([*command, "--out", "out"], stderr=subprocess.PIPE, text=True) as process:
        partial = None
        deadline = time.monotonic() + 30
        while partial is None or len(list(Path("out").glob("0*.npy"))) < 3:
            assert time.monotonic() < deadline
            partial = next(Path("out").glob(".0*.partial"), None)
        at_once = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL
        os.kill(int(partial.name.split(".")[3].partition("-")[0]), at_once)
        began = time.monotonic()
        _, messages = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == 1
    first, second = messages.splitlines()
    assert first.startswith("Error: a worker process ended before its part was complete: ")
    assert re.fullmatch(r"1?\d,000 of 20,000 images are not made; the same command with --resume makes them", second)
    left = {name: content for name, content in hashes("out").items() if not name.startswith(".")}
    whole = hashes("whole")
    assert 3 <= len(left) < len(whole)
    assert left == {name: whole[name] for name in left}
    assert main([*WHAT, "--out", "out", "--resume", "-q"]) == 0
    assert hashes("out") == whole


@needs_signals
def test_a_process_that_is_starting_leaves_ctrl_c_to_its_parent(capfd: pytest.CaptureFixture[str]) -> None:
    with local_processes(1) as pool:
        future = pool.submit(os.getpid)
        (number,) = pool._processes  # type: ignore[attr-defined]
        os.kill(number, signal.SIGINT)  # while it imports what it needs
        assert future.result(60) == number
    assert capfd.readouterr().err == ""
