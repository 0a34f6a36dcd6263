"""What Windows and macOS do otherwise, as far as it can be seen here: see tests/windows."""

from __future__ import annotations

import errno
import ntpath
import os
import posixpath
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from vae_gen import cli, files, shell, stores
from vae_gen.cli import main
from vae_gen.evaluation.components import evenly_spaced
from vae_gen.generator import workers
from vae_gen.stores import destinations
from vae_gen.stores.destinations import Destination, destination
from vae_gen.stores.local import LocalStore

from tests.runs import TINY, VAE_GEN, sample, tree
from tests.windows import on_windows

pytestmark = pytest.mark.usefixtures("elsewhere")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for Windows asks Linux what is open")


def there(*arguments: str, status: int = 0) -> str:
    """What the command says on the stand-in, in the current folder."""
    found = subprocess.run(
        [*VAE_GEN, *arguments], env=on_windows(), capture_output=True, text=True, check=False, timeout=120
    )
    assert found.returncode == status, found.stderr
    return found.stderr


@linux_only
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--latents", "--grid", "2x2"],
        ["--format", "npy", "--shard-size", "5", "--workers", "2", "--latents"],
        ["--format", "tar", "--shard-size", "7", "--shard", "0/1"],
    ],
)
def test_runs_on_windows_make_and_mend_the_same_files(options: list[str]) -> None:
    run = ["sample", "--model", TINY, "--n", "12", "--seed", "1", *options]
    assert main([*run, "--out", "here", "--quiet"]) == 0
    there(*run, "--out", "out")
    assert tree("out") == tree("here")
    images = [path for path in sorted(tree("out")) if not path.startswith("manifest")]
    for name in (images[0], images[-1]):
        Path("out", name).unlink()
    there(*run, "--out", "out", "--resume")
    assert tree("out") == tree("here")
    if "--shard" not in options:
        there(*run, "--out", "out", "--overwrite")
    there("verify", "out")
    assert tree("out") == tree("here")
    assert sorted(path.name for path in Path().iterdir()) == ["here", "out"]


@linux_only
def test_one_named_file_is_replaced_on_windows() -> None:
    for seed in ("1", "2"):
        overwrite = ["--overwrite"] if seed == "2" else ["--latents"]
        there("sample", "--model", TINY, "--n", "9", "--seed", seed, "--out", "a.npy", *overwrite)
        sample("--n", 9, "--seed", seed, "--out", "here.npy", "--overwrite")
        np.testing.assert_array_equal(np.load("a.npy"), np.load("here.npy"))
    assert not list(Path().glob(".*"))
    assert not Path("a.latents.npy").exists()


@linux_only
def test_two_processes_do_not_make_one_run_on_windows() -> None:
    run = ["sample", "--model", TINY, "--n", "9", "--seed", "1", "--out", "out", "--format", "npy", "--shard-size", "3"]
    holds = "import sys, time\nfrom vae_gen.stores import LocalStore\n"
    holds += "with LocalStore('out').lock('manifest.json'):\n    print('held', flush=True)\n    time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", holds], env=on_windows(), stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        said = there(*run, status=1)
        other.send_signal(signal.SIGINT)
    path = Path("out", "manifest.json")
    assert said == f"Error: another process is at work on {path}; wait for it, or choose another --out\n"
    there(*run)
    assert not list(Path("out").glob(".*"))


@linux_only
def test_shards_wait_for_one_another_on_windows() -> None:
    run = ["sample", "--model", TINY, "--n", "9", "--seed", "1", "--out", "out", "--format", "npy"]
    commands = [[*VAE_GEN, *run, "--shard", f"{shard}/3", "--resume"] for shard in range(3)]
    processes = [subprocess.Popen(command, env=on_windows()) for command in commands]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    there("verify", "out")
    assert not list(Path("out").glob(".*"))


@pytest.mark.parametrize(
    "out",
    [
        "digits.npy",
        r"C:\data\digits.npy",
        r"out\digits.npy",
        r"out\deep/digits.npy",
        "C:/digits.npy",
        "C:digits.npy",
        r"\\server\share\digits.npy",
        r"C:\data\digits",
        "digits\\",
        "C:\\",
        "C:/",
    ],
)
def test_windows_paths_are_taken_apart_as_windows_does(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destinations, "os", SimpleNamespace(path=ntpath, sep="\\"))
    place = destination(out, None)
    assert PureWindowsPath(place.root, place.file) == PureWindowsPath(out)
    assert place.file == ("digits.npy" if out.endswith(".npy") else "")


def test_a_name_with_a_slash_behind_it_is_a_folder() -> None:
    for out, root in {"out.npy/": "out.npy", "a/b.zip//": "a/b.zip", "/": "/", "/a.tar/": "/a.tar"}.items():
        assert destination(out, None) == Destination(root, "", "png")


def test_a_backslash_is_a_letter_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destinations, "os", SimpleNamespace(path=posixpath, sep="/"))
    place = destination("out/a\\b.npy", None)
    assert (place.root, place.file) == ("out", "a\\b.npy")


@pytest.mark.parametrize(("path", "root"), [("/C:/data", "C:/data"), ("/data", "/data"), ("//C:/x", "//C:/x")])
def test_file_urls_name_drives(path: str, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "os", SimpleNamespace(path=ntpath))
    assert stores.open_store(f"file://{path}") == LocalStore(root)


class InUseError(PermissionError):
    winerror = 32


@pytest.mark.parametrize(
    ("error", "times", "tried"), [(InUseError, 3, 4), (PermissionError, 3, 1), (InUseError, 99, 7)]
)
def test_what_is_in_use_is_tried_again(
    error: type[PermissionError], times: int, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def change(source: str, *, target: str) -> str:
        calls.append((source, target))
        if len(calls) <= times:
            raise error
        return "done"

    if tried == times + 1:
        assert files.when_free(change, "a", target="b") == "done"
    else:
        with pytest.raises(error):
            files.when_free(change, "a", target="b")
    assert calls == [("a", "b")] * tried


def test_commands_are_shown_as_the_shell_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["vae-gen", "export", "runs\\mlp", "--out", "my bundles", "plain"]
    monkeypatch.setattr(shell, "os", SimpleNamespace(name="posix"))
    assert shell.joined(words) == "vae-gen export 'runs\\mlp' --out 'my bundles' plain"
    monkeypatch.setattr(shell, "os", SimpleNamespace(name="nt"))
    assert shell.joined(words) == 'vae-gen export runs\\mlp --out "my bundles" plain'
    for word, typed in (
        (Path("a b"), '"a b"'),
        ("it's", '"it\'s"'),
        ("a&b", '"a&b"'),
        ("C:\\a b\\", '"C:\\a b\\\\"'),
        ('a"b', '"a\\"b"'),
        ('a\\"b', '"a\\\\\\"b"'),
        ("", '""'),
    ):
        assert shell.quoted(word) == typed
        if word != "it's":
            assert subprocess.list2cmdline([str(word)]) in (typed, typed.strip('"'))


def test_what_is_to_be_typed_after_verify_suits_the_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sample("--n", 2, "--out", "my digits")
    Path("my digits/000000001.png").unlink()
    capsys.readouterr()
    monkeypatch.setattr(shell, "os", SimpleNamespace(name="nt"))
    assert main(["verify", "my digits"]) == 1
    assert capsys.readouterr().err.endswith(' --out "my digits" --resume\n')


@pytest.mark.parametrize("litter", [".DS_Store", "._x", "desktop.ini", "Desktop.ini", "Thumbs.db"])
def test_what_file_managers_leave_is_in_nobodys_way(litter: str) -> None:
    Path("out").mkdir()
    Path("out", litter).write_text("theirs")
    sample("--n", 2, "--out", "out", "--seed", 1)
    assert LocalStore("out").names() == ["000000000.png", "000000001.png", "manifest.json"]
    sample("--n", 2, "--out", "out", "--seed", 2, "--overwrite")
    assert Path("out", litter).read_text() == "theirs"


@pytest.fixture
def listed_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that takes a name in capitals for the same, and lists files as they were first called."""
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda *folder: [name.upper() for name in listdir(*folder)])


@pytest.mark.usefixtures("listed_otherwise")
def test_a_file_in_other_letters_is_the_same_file(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["sample", "--model", TINY, "--n", "3", "--out", "a.npy", "--quiet"]
    assert main([*run, "--seed", "1"]) == 0
    before = tree(".")
    assert main([*run, "--seed", "2"]) == 1
    assert "a.npy already holds another run: seed is 1 there and 2 here" in capsys.readouterr().err
    assert main([*run, "--resume"]) == 0  # with the seed that is there
    assert main(["verify", "a.npy"]) == 0
    assert tree(".") == before


def test_an_input_by_another_name_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sample("--n", 1, "--out", "out")
    digit = Path("out/000000000.png")
    Path("DIGIT.png").hardlink_to(digit)  # the same file by two names
    assert main(["reconstruct", "DIGIT.png", "--model", TINY, "--out", str(digit)]) == 2
    assert f"--out {digit} would replace a file that is read" in capsys.readouterr().err


def test_there_are_no_more_processes_than_can_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MOST", 2)
    with workers.local_processes(5) as pool:
        assert pool._max_workers == 2  # type: ignore[attr-defined]


def test_who_waits_for_workers_can_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    import concurrent.futures

    wait = concurrent.futures.wait
    timeouts: list[float | None] = []

    def noted(pending: Any, timeout: float | None = None, **options: Any) -> Any:
        timeouts.append(timeout)
        return wait(pending, timeout, **options)

    monkeypatch.setattr(concurrent.futures, "wait", noted)
    sample("--n", 4, "--out", "out", "--format", "npy", "--shard-size", 2, "--workers", 2)
    assert timeouts
    assert all(timeout is not None and timeout <= 1 for timeout in timeouts)


@pytest.mark.parametrize(
    ("closed", "said"), [((errno.EPIPE, errno.EINVAL), ""), ((errno.EPIPE,), "Error: Invalid argument\n")]
)
def test_a_pipe_that_was_closed_is_known_by_its_name_there(
    closed: tuple[int, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(cli, "CLOSED_PIPE", closed)
    monkeypatch.setattr(cli, "OF_PIPES_AND_DISKS", (None, *closed))
    monkeypatch.setattr(cli, "_close_stdout", lambda: None)
    monkeypatch.setattr("vae_gen.cli.models.models.callback", refused)
    assert main(["models"]) == 1
    assert capsys.readouterr().err == said


def test_positions_are_found_beyond_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    arange: Callable[..., Any] = np.arange
    monkeypatch.setattr(np, "arange", lambda stop, dtype=np.int32: arange(stop, dtype=dtype))  # Windows' before NumPy 2
    np.testing.assert_array_equal(evenly_spaced(3 * 10**9, 4), [0, 75 * 10**7, 15 * 10**8, 225 * 10**7])
