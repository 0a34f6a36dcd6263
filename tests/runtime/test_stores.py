from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from vae_gen.errors import DataError, MissingExtraError, OutputError, UsageError
from vae_gen.stores import LocalStore, open_store

from tests.runtime.store_contract import StoreContract, read, write


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "out"))


def files(store: LocalStore) -> dict[str, bytes]:
    """Everything there, temporary names included."""
    top = Path(store.root)
    return {path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def called(store: LocalStore, name: str = "") -> str:
    """What messages call it, as a pattern."""
    return re.escape(str(Path(store.root, name)))


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The kernel writes no file longer than this: first less than was asked for, then an error."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


DIES_WITHIN_ITS_BLOCKS = """
import os, sys
from vae_gen.stores import open_store
store = open_store(sys.argv[1])
blocks = [store.create_folder(name) if name in ("", "part") else store.create(name) for name in sys.argv[2:]]
for block in blocks:
    block.__enter__()
os._exit(0)
"""


class TestLocalStore(StoreContract):
    """The contract, on a local directory."""


def test_a_url_is_not_a_directory(tmp_path: Path) -> None:
    top = tmp_path.as_posix()
    for out in (top, f"file:///{top.lstrip('/')}", f"local:///{top.lstrip('/')}"):
        assert open_store(out) == LocalStore(top)
    assert open_store("out:/x") == LocalStore("out:/x")


@pytest.mark.parametrize("out", ["file://out/digits", "file://localhost/tmp/digits", "local://out", "file://"])
def test_a_local_url_names_the_whole_path(out: str) -> None:
    with pytest.raises(UsageError, match=f"^{out} has no path from / on; write (file|local):///folder, or"):
        open_store(out)


def test_a_url_without_fsspec_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match=r"writing to s3:// needs fsspec.*pip install \"vae-gen\[remote\]\""):
        open_store("s3://bucket/prefix")


def test_a_url_that_would_be_a_pattern_is_refused() -> None:
    with pytest.raises(UsageError, match=r"cannot write to s3://bucket/run\[1\]: a URL may have none of"):
        open_store("s3://bucket/run[1]")


def test_a_folder_that_failed_leaves_what_was_there(store: LocalStore) -> None:
    with store.create_folder("a") as folder:
        folder.write("old", b"1")
    for name in ("a", "b", ""):
        with pytest.raises(RuntimeError), store.create_folder(name) as folder:  # noqa: PT012
            folder.write("new", b"2")
            raise RuntimeError
    assert files(store) == {"a/old": b"1"}
    assert store.names() == ["a"]


def test_nothing_of_a_folder_is_seen_before_its_end(store: LocalStore) -> None:
    for name in ("a", ""):
        with store.create_folder(name) as folder:
            folder.write("image", b"1")
            assert "image" not in store.names(name)
            assert store.names("") == ([] if name else ["a"])
    assert files(store) == {"a/image": b"1", "image": b"1"}


def test_the_last_writer_of_a_folder_wins(store: LocalStore) -> None:
    with store.create_folder("a") as one, store.create_folder("a") as other:
        one.write("x", b"1")
        one.write("y", b"1")
        other.write("x", b"2")
    assert files(store) == {"a/x": b"1", "a/y": b"1"}


def test_a_folder_that_comes_back_between_the_renames_is_replaced(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.create_folder("a") as folder:
        folder.write("x", b"1")
    rename, returns = Path.rename, iter((True, True, False))

    def rename_and_publish(source: Path, target: Path) -> Path:
        result = rename(source, target)
        if source.name == "a" and next(returns):
            source.mkdir()
            (source / "from another process").touch()
        return result

    monkeypatch.setattr(Path, "rename", rename_and_publish)
    with store.create_folder("a") as folder:
        folder.write("x", b"2")
    assert files(store) == {"a/x": b"2"}


def test_two_writers_of_a_file_do_not_meet(store: LocalStore) -> None:
    with store.create("a") as one, store.create("a") as other:
        one.write(b"1")
        other.write(b"2")
    assert files(store) == {"a": b"1"}


def test_a_full_disk_is_named_and_leaves_nothing(store: LocalStore) -> None:
    with files_up_to(1000):
        with pytest.raises(OutputError, match=f"^cannot write {called(store, 'a/b')}: File too large$"):
            write(store, "a/b", b"x" * 1001)
        for name, shown in (("c", "c/image"), ("", "image")):
            with pytest.raises(OutputError, match=f"^cannot write {called(store, shown)}: File too large$"):  # noqa: PT012, SIM117
                with store.create_folder(name) as folder:
                    folder.write("whole", b"x" * 1000)
                    folder.write("image", b"x" * 1001)
    assert files(store) == {}
    assert store.names() == ["a"]


def test_a_short_write_is_gone_on_with(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write_all(file, content[:3]))
    with store.create_folder("a") as folder:
        folder.write("x", b"0123456789")
        folder.write("empty", b"")
    assert files(store) == {"a/x": b"0123456789", "a/empty": b""}


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="the system does not list open files")
def test_no_descriptor_stays_open(store: LocalStore) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    for name in ("a", "a", ""):
        with store.create_folder(name) as folder:
            for number in range(10):
                folder.write(str(number), b"1")
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_name_twice_in_a_folder_is_refused(store: LocalStore) -> None:
    with pytest.raises(OutputError, match=f"^cannot write {called(store, 'a/x')}: File exists$"):  # noqa: PT012, SIM117
        with store.create_folder("a") as folder:
            folder.write("x", b"1")
            folder.write("x", b"2")
    assert files(store) == {}


def test_what_nobody_can_tell_is_not_called_missing(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "lstat", refuse)
    with pytest.raises(DataError, match=f"^cannot read {called(store, 'a')}: Permission denied$"):
        store.holds("a")


def test_a_directory_that_cannot_be_written_is_named(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    write(store, "a", b"1")
    for function in ("mkdir", "rename", "replace", "unlink", "listdir"):
        monkeypatch.setattr(os, function, refuse)
    for method in ("rename", "replace", "mkdir", "unlink"):
        monkeypatch.setattr(Path, method, refuse)
    cause = "Read-only file system$"
    with pytest.raises(OutputError, match=f"^cannot write {called(store, 'b/c')}: {cause}"), store.create("b/c"):
        pass
    with pytest.raises(OutputError, match=f"^cannot write {called(store, 'b')}: {cause}"), store.create_folder("b"):
        pass
    with pytest.raises(OutputError, match=f"^cannot remove {called(store, 'a')}: {cause}"):
        store.remove("a")
    with pytest.raises(DataError, match=f"^cannot read {called(store)}: {cause}"):
        store.names()


def test_what_is_in_the_way_is_named(store: LocalStore) -> None:
    write(store, "file", b"1")
    write(store, "folder/x", b"1")
    top, file, folder = called(store), called(store, "file"), called(store, "folder")
    is_folder = "(Permission|Access).* denied" if os.name == "nt" else "Is a directory"
    with pytest.raises(OutputError, match=f"^cannot write to {file}: it is a file; give the name of a folder"):  # noqa: SIM117
        with store.create_folder("file"):
            pass
    with pytest.raises(
        OutputError, match=f"^cannot write to {called(store, 'file/a')}: {file} is a file; give the name of"
    ):
        write(store, "file/a/b", b"2")
    with pytest.raises(OutputError, match=f"^cannot write {folder}: it is a directory"):
        write(store, "folder", b"2")
    with pytest.raises(DataError, match=f"^cannot read {folder}: {is_folder}"):
        read(store, "folder")
    with pytest.raises(OutputError, match=f"^cannot write {top}: {is_folder}"):  # noqa: SIM117
        with store.create_folder("") as new:
            new.write("folder", b"2")
    assert files(store) == {"file": b"1", "folder/x": b"1"}


def test_what_killed_processes_left_is_swept_by_name(store: LocalStore) -> None:
    long, longest = "n" * 100, "o" * 250
    names = ["a", "a.1-2.partial", "ab", "deep/a", "deep/b", "part", ""]
    names += [long + "1", long + "2", longest + "1", longest + "2"]
    subprocess.run([sys.executable, "-c", DIES_WITHIN_ITS_BLOCKS, store.root, *names], check=True)

    def left() -> list[str]:
        return sorted(path.name[1:].rsplit(".", 2)[0][:12] for path in Path(store.root).rglob("*.partial"))

    everything = ["a", "a", "a.1-2.partia", "ab", "b", "images", "n" * 12, "n" * 12, "o" * 12, "o" * 12, "part"]
    assert left() == everything
    assert store.names() == ["deep"]
    store.sweep(["a", "deep/b", "missing/c"])
    assert left() == ["a", "a.1-2.partia", "ab", "images", "n" * 12, "n" * 12, "o" * 12, "o" * 12, "part"]
    assert [path.name[:3] for path in (Path(store.root) / "deep").iterdir()] == [".a."]
    store.sweep(["", long + "1", longest + "1"])
    assert left() == ["a", "a.1-2.partia", "ab", "n" * 12, "o" * 12, "part"]
    store.sweep(names)
    assert left() == []


def test_a_file_of_the_user_is_no_leftover(store: LocalStore) -> None:
    for name in (".a.partial", "a.1-2.partial", ".a.1.partial"):
        write(store, name, b"1")
    store.sweep(["a", ""])
    assert store.names() == [".a.1.partial", ".a.partial", "a.1-2.partial"]


def test_a_new_top_appears_at_once_and_one_that_is_there_is_added_to(store: LocalStore) -> None:
    top = Path(store.root)
    with store.create_folder("") as folder:
        folder.write("1", b"1")
        assert not top.exists()
    with store.create_folder("") as folder:
        folder.write("2", b"2")
    assert files(store) == {"1": b"1", "2": b"2"}
    top.rename(top.with_name("aside"))

    def write_into_what_another_makes() -> None:
        with store.create_folder("") as folder:
            folder.write("3", b"3")
            write(store, "4", b"4")

    with pytest.raises(OutputError, match=f"^cannot write to {called(store)}: another process has made it meanwhile"):
        write_into_what_another_makes()
    assert files(store) == {"4": b"4"}
    assert [path.name for path in top.parent.iterdir() if path.name.endswith(".partial")] == []


def test_what_is_left_of_a_new_top_is_swept(store: LocalStore) -> None:
    top = Path(store.root)
    left = top.with_name(f".{top.name}.12-34.partial")
    left.mkdir(parents=True)
    (left / "1").touch()
    store.sweep([""])
    assert not left.exists()
