"""What only a process of its own can show."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.runs import VAE_GEN
from tests.systems import needs_names_without_text
from tests.telemetry import WATCH

unix = pytest.mark.skipif(os.name == "nt", reason="signals and shells work otherwise there")


def run(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [*VAE_GEN, *arguments] if code is None else [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_help_version_and_completion_load_neither_numpy_nor_onnxruntime() -> None:
    asked = {"_VAE_GEN_COMPLETE": "bash_complete", "COMP_WORDS": "vae-gen sample --model ", "COMP_CWORD": "3"}
    for arguments, environment in ((["--help"], {}), (["--version"], {}), ([], asked)):
        command = [sys.executable, "-X", "importtime", "-m", "vae_gen", *arguments]
        found = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
        loaded = found.stderr
        assert not environment or "plain,mnist\n" in found.stdout
        modules = {line.rpartition("|")[2].strip() for line in loaded.splitlines() if line.startswith("import time:")}
        assert "vae_gen.cli" in modules
        assert not {"numpy", "onnxruntime", "PIL", "torch", "onnx", "http.server"} & modules


def test_the_version_is_the_distributions() -> None:
    assert re.fullmatch(r"vae-gen \d+\.\d+\.\d+\n", run("--version").stdout)


def test_no_command_shows_the_help_and_fails() -> None:
    found = run()
    assert found.returncode == 2
    assert "Commands:" in found.stderr


@pytest.mark.parametrize("command", [["train"], ["export", "run", "--out", "out"]])
def test_train_and_export_say_what_to_install_where_torch_is_missing(command: list[str], tmp_path: Path) -> None:
    block = "import sys; sys.modules['torch'] = None; from vae_gen.cli import main; sys.exit(main(sys.argv[1:]))"
    found = run(*command, code=block)
    assert found.returncode == 1
    # It names the package that is missed first, which is another one where nothing of the extra is installed.
    assert re.fullmatch(
        rf"Error: vae-gen {command[0]} needs PyTorch and the packages around it, and '(torch|onnx|tqdm)' is not "
        r"installed here; install them with: pip install \"vae-gen\[train\]\"\n",
        found.stderr,
    )


def test_sampling_needs_no_training_package(tmp_path: Path) -> None:
    names = ["torch", "onnx", "onnxscript", "matplotlib", "tqdm", "pooch", "safetensors", "vae_gen_train"]
    block = f"import sys; sys.modules.update(dict.fromkeys({names})); from vae_gen.cli import main; "
    found = run("sample", "--n", "100", "--out", str(tmp_path / "out"), code=block + "sys.exit(main(sys.argv[1:]))")
    assert found.returncode == 0, found.stderr
    paths = list((tmp_path / "out").glob("*.png"))
    assert len({path.read_bytes() for path in paths}) == len(paths) == 100
    for path in paths:
        with Image.open(path) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (28, 28))


def test_onnxruntime_is_told_not_to_report_usage() -> None:
    assert run(code=WATCH + "import vae_gen; vae_gen.load('notebook')").stdout == "1\n"


@unix
def test_a_closed_pipe_ends_the_command_quietly(tmp_path: Path) -> None:
    # More text than a pipe holds, to a reader that takes one line.
    found = subprocess.run(
        f"{sys.executable} -m vae_gen sample --n 3000 --out a.npy -q && "
        f"{sys.executable} -c \"import numpy as np; np.save('a.npy', np.load('a.npy'))\" && "
        f"{sys.executable} -m vae_gen encode a.npy | head -n 1",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert len(found.stdout.splitlines()) == 1
    assert found.stderr == ""


@unix
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_closed_standard_streams_are_survived(tmp_path: Path, closed: str) -> None:
    command = f"{sys.executable} -m vae_gen decode --model notebook --z 0,0,0,0,0,0,0,0 --out out {closed}"
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "out/000000000.png").exists()


@unix
def test_a_pipe_is_a_file_to_read(tmp_path: Path) -> None:
    command = f"{sys.executable} -m vae_gen decode --model notebook --z <(echo 0,0,0,0,0,0,0,0) --out out -q"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=60)
    command = f"{sys.executable} -m vae_gen encode <(cat out/000000000.png) | {sys.executable} -m vae_gen decode --z -"
    subprocess.run(["bash", "-c", f"{command} --out again -q"], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "again/000000000.png").exists()


@pytest.mark.skipif(os.name == "nt", reason="the system has no such terminals")
@pytest.mark.parametrize(("options", "shown"), [([], True), (["--quiet"], False)])
def test_a_progress_bar_is_for_terminals_only(tmp_path: Path, options: list[str], shown: bool) -> None:
    import pty

    command = [*VAE_GEN, "sample", "--n", "3000", "--out", "a.npy", "--seed", "1", "--overwrite", *options]
    assert "3000/3000" not in subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    reader, terminal = pty.openpty()
    subprocess.run(command, cwd=tmp_path, stderr=terminal, check=True)
    os.close(terminal)
    text = b""
    with contextlib.suppress(OSError):  # what Linux says where nobody can write any more
        while part := os.read(reader, 4096):
            text += part
    os.close(reader)
    assert (b"3000/3000" in text) == (b" images/s, 0:00:0" in text) == shown


@unix
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_partial_file(tmp_path: Path, number: signal.Signals, status: int) -> None:
    command = [*VAE_GEN, "sample", "--n", "100000000", "--out", "a.npy", "--seed", "1"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while not any(path.stat().st_size > 100_000 for path in tmp_path.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == status
    assert ("Stopped: nothing is kept of an unfinished file" in errors) == (number == signal.SIGINT)
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [*VAE_GEN, "models"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert found.returncode == 1
    assert "No space left on device" in found.stderr
    assert "Traceback" not in found.stderr


def shown(*arguments: str, cwd: Path, encoding: str) -> subprocess.CompletedProcess[bytes]:
    """What the command prints into a pipe where text has this encoding."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(
        [*VAE_GEN, *arguments], cwd=cwd, env=environment, capture_output=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("folder", "encoding", "as_shown"),
    [
        pytest.param("a\udcff", "utf-8", rb"a\udcff", marks=needs_names_without_text),  # the byte ff
        ("\u4e00\u00fc", "cp1252", b"\\u4e00\xfc"),
        ("\u4e00\u00fc", "cp1252:surrogateescape", b"\\u4e00\xfc"),  # so Python begins on Windows
    ],
)
def test_a_name_that_the_terminal_cannot_show_is_shown_as_far_as_it_can_be(
    tmp_path: Path, folder: str, encoding: str, as_shown: bytes
) -> None:
    assert shown("sample", "--n", "1", "--out", folder, cwd=tmp_path, encoding=encoding).returncode == 0
    picture = tmp_path / folder / "000000000.png"
    picture.write_bytes(picture.read_bytes()[:-1])
    found = shown("verify", folder, cwd=tmp_path, encoding=encoding)
    assert (found.returncode, found.stdout.partition(b" holds")[0]) == (1, as_shown + b": " + as_shown)


def test_latents_go_into_a_pipe_as_utf8_and_come_back_as_shells_write_it(tmp_path: Path) -> None:
    Image.new("L", (28, 28)).save(tmp_path / "\u4e00\u00fc.png")
    found = shown("encode", "\u4e00\u00fc.png", "--quiet", cwd=tmp_path, encoding="cp1252")
    text = found.stdout.decode()
    assert text.splitlines()[1].startswith("\u4e00\u00fc.png,")
    pictures = set()
    for name, encoding in (("plain", "utf-8"), ("marked", "utf-8-sig"), ("of PowerShell", "utf-16")):
        (tmp_path / name).write_bytes(text.encode(encoding))
        for z in (name, "-"):
            command = [*VAE_GEN, "decode", "--z", z, "--out", "again", "--overwrite", "--quiet"]
            with (tmp_path / name).open("rb") as stdin:
                subprocess.run(command, cwd=tmp_path, stdin=stdin, check=True, timeout=60)
            pictures.add((tmp_path / "again/000000000.png").read_bytes())
    assert len(pictures) == 1
