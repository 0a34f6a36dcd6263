from __future__ import annotations

import importlib
import os
import uuid
from collections.abc import Iterator

import fsspec
import pytest
from moto.server import ThreadedMotoServer
from vae_gen.errors import DataError, MissingExtraError, OutputError, UsageError
from vae_gen.stores import Store, open_store
from vae_gen.stores.remote import BATCH_FILES

from tests.remote.conftest import PART, set_s3, uploads
from tests.runtime.store_contract import StoreContract, read, write


class TestS3(StoreContract):
    @pytest.fixture
    def store(self, s3: fsspec.AbstractFileSystem) -> Iterator[Store]:
        yield open_store("s3://bucket/some/prefix")
        assert uploads(s3) == []


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        root = f"memory://{uuid.uuid4().hex}"
        yield open_store(root)
        assert not [name for name in fsspec.filesystem("memory").find(root) if name.endswith(".partial")]


class TestFileUrl(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: os.PathLike[str]) -> Store:
        return open_store(f"file://{os.fspath(tmp_path)}/out")


class TestOtherFileSystem(StoreContract):
    """fsspec's own directory, for the many file systems where a file is seen while it is written."""

    @pytest.fixture
    def store(self, tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
        monkeypatch.setattr("vae_gen.stores.LOCAL_SCHEMES", ())
        yield open_store(f"file://{os.fspath(tmp_path)}/out")
        assert not [name for name in fsspec.filesystem("file").find(tmp_path) if name.endswith(".partial")]


@pytest.mark.parametrize("size", [10, PART - 1, PART, 2 * PART + 3])
def test_an_upload_that_failed_is_aborted(s3: fsspec.AbstractFileSystem, size: int) -> None:
    store = open_store("s3://bucket/prefix")
    with pytest.raises(RuntimeError), store.create("a") as file:  # noqa: PT012
        file.write(b"x" * size)
        assert len(uploads(s3)) == (size >= PART)
        raise RuntimeError
    del file
    assert store.names() == []
    assert uploads(s3) == []
    write(store, "a", b"y" * size)
    assert read(store, "a") == b"y" * size
    assert uploads(s3) == []


@pytest.mark.parametrize("method", ["upload_part", "complete_multipart_upload"])
def test_an_upload_that_s3_refuses_is_aborted(
    s3: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    store = open_store("s3://bucket/prefix")
    call, calls = type(s3).call_s3, []

    def refuse_the_last(self: object, name: str, *arguments: object, **options: object) -> object:
        calls.append(name)
        if name == method and options.get("PartNumber") != 1:
            raise PermissionError("Access\nDenied")
        return call(self, name, *arguments, **options)

    monkeypatch.setattr(type(s3), "call_s3", refuse_the_last)
    with pytest.raises(OutputError, match=r"^cannot write s3://bucket/prefix/a: Access Denied$"):  # noqa: PT012, SIM117
        with store.create("a") as file:
            file.write(b"x" * PART)
            file.write(b"x" * PART)
    monkeypatch.setattr(type(s3), "call_s3", call)
    assert method in calls
    assert store.names() == []
    assert uploads(s3) == []


def test_a_bucket_that_is_missing_is_named_and_not_made(s3: fsspec.AbstractFileSystem) -> None:
    store = open_store("s3://another/prefix")
    cause = "The specified bucket does not exist"
    with pytest.raises(OutputError, match=f"^cannot write s3://another/prefix/a: {cause}$"):
        write(store, "a", b"1")
    with pytest.raises(OutputError, match=f"^cannot write to s3://another/prefix/b: {cause}$"):  # noqa: SIM117
        with store.create_folder("b") as folder:
            folder.write("x", b"1")
    with pytest.raises(DataError, match=r"^cannot read s3://another/prefix/a: "):
        read(store, "a")
    store.remove("a")
    assert [name for name in s3.ls("", detail=False, refresh=True) if name != "bucket"] == []


def test_a_server_that_went_away_is_named(s3: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    set_s3(monkeypatch, f"http://{host}:{port}")
    monkeypatch.setattr(type(s3), "retries", 1)
    fsspec.config.conf["s3"]["config_kwargs"] = {"retries": {"max_attempts": 0}}
    store = open_store("s3://bucket/prefix")
    with pytest.raises(OutputError) as writing, store.create("a") as file:  # noqa: PT012
        file.write(b"x" * PART)
        server.stop()
        file.write(b"x" * PART)
    with pytest.raises(OutputError) as creating, store.create_folder("b") as folder:
        folder.write("x", b"1")
    with pytest.raises(DataError) as reading:
        store.names()
    with pytest.raises(OutputError) as removing:
        store.remove("a")
    for raised, start in (
        (writing, "cannot write s3://bucket/prefix/a: "),
        (creating, "cannot write to s3://bucket/prefix/b: "),
        (reading, "cannot read s3://bucket/prefix: "),
        (removing, "cannot remove s3://bucket/prefix/a: "),
    ):
        assert str(raised.value).startswith(f'{start}Could not connect to the endpoint URL: "http://{host}:{port}/')
        assert "\n" not in str(raised.value)


def test_files_of_a_folder_are_sent_together(s3: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    pipe = s3.pipe
    monkeypatch.setattr(s3, "pipe", lambda files: batches.append(len(files)) or pipe(files))
    store = open_store("s3://bucket")
    with pytest.raises(RuntimeError), store.create_folder("a") as folder:  # noqa: PT012
        for number in range(2 * BATCH_FILES + 3):
            folder.write(f"{number:03}", b"1")
        raise RuntimeError
    assert batches == [BATCH_FILES, BATCH_FILES]
    with store.create_folder("a") as folder:
        folder.write("large", bytes(16 * 2**20))
        folder.write("small", b"1")
    assert batches[2:] == [1, 1]
    assert len(store.names("a")) == 2 * BATCH_FILES + 2


def test_what_another_process_wrote_is_seen(s3: fsspec.AbstractFileSystem) -> None:
    store = open_store("s3://bucket/prefix")
    write(store, "a", b"1")
    assert store.names() == ["a"]
    s3.call_s3("put_object", Bucket="bucket", Key="prefix/b/c", Body=b"22")
    s3.call_s3("put_object", Bucket="bucket", Key="prefix/a", Body=b"22")
    assert store.names() == ["a", "b"]
    assert read(store, "a") == b"22"


def test_a_file_that_vanishes_while_it_is_read_is_named(s3: fsspec.AbstractFileSystem) -> None:
    store = open_store("s3://bucket/prefix")
    write(store, "a", b"1")
    with pytest.raises(DataError, match=r"^cannot read s3://bucket/prefix/a: "), store.open("a") as file:  # noqa: PT012
        s3.call_s3("delete_object", Bucket="bucket", Key="prefix/a")
        file.read()


def test_an_object_store_has_nothing_to_sweep(s3: fsspec.AbstractFileSystem) -> None:
    s3.pipe("bucket/.a.1-2.partial", b"not of a store")
    open_store("s3://bucket").sweep(["a"])
    assert s3.find("bucket") == ["bucket/.a.1-2.partial"]


def test_a_folder_in_the_way_is_named() -> None:
    root = f"memory://{uuid.uuid4().hex}"
    store = open_store(root)
    write(store, "folder/x", b"1")
    with pytest.raises(OutputError, match=f"^cannot write {root}/folder: it is a folder$"):
        write(store, "folder", b"2")
    with pytest.raises(OutputError, match=f"^cannot write {root}/folder/x/y: a file is in the way$"):
        write(store, "folder/x/y", b"2")
    assert store.names("folder") == ["x"]


def test_leftovers_are_swept_by_name() -> None:
    root = f"memory://{uuid.uuid4().hex}"
    store, fs = open_store(root), fsspec.filesystem("memory")
    for name in (".a.1-2.partial", ".ab.1-2.partial", "deep/.a.1-2.partial", "deep/.b.1-2.partial", "deep/b"):
        fs.pipe(f"{root}/{name}", b"1")
    assert store.names() == ["deep"]
    store.sweep(["a", "deep/b", "missing/c"])
    assert [name.split("/", 2)[2] for name in fs.find(root)] == [".ab.1-2.partial", "deep/.a.1-2.partial", "deep/b"]


def test_protocols_that_cannot_be_used_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"unknown protocol 'nowhere'; known: .*memory"):
        open_store("nowhere://a/b")
    registry = importlib.import_module("fsspec.registry")
    missing = {"class": "not_installed.FileSystem", "err": "Please install gcsfs to access Google Storage"}
    for protocol in ("gs", "s3"):
        monkeypatch.setitem(registry.known_implementations, protocol, missing)
        monkeypatch.delitem(registry._registry, protocol, raising=False)
    with pytest.raises(UsageError, match=r"writing to gs:// needs a package .* here: Please install gcsfs to access"):
        open_store("gs://bucket")
    with pytest.raises(MissingExtraError, match=r"needs s3fs, .* pip install \"vae-gen\[remote\]\""):
        open_store("s3://bucket")
