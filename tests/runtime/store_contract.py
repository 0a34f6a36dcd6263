"""What every store does. A test class that derives from this gives the store as a fixture."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
from vae_gen.errors import DataError
from vae_gen.stores import Store


def read(store: Store, name: str) -> bytes:
    with store.open(name) as file:
        return file.read()


def write(store: Store, name: str, content: bytes) -> None:
    with store.create(name) as file:
        file.write(content)


class StoreContract:
    def test_a_file_appears_when_its_block_ends(self, store: Store) -> None:
        for content in (b"first", b"", b"second"):
            before = store.names("folder/deep")
            with store.create("folder/deep/name.bin") as file:
                file.write(content[:3])
                assert store.names("folder/deep") == before
                file.write(content[3:])
            assert read(store, "folder/deep/name.bin") == content
            assert store.names("folder/deep") == ["name.bin"]

    def test_a_file_that_failed_does_not_appear(self, store: Store) -> None:
        write(store, "kept", b"before")
        for name, error in (("kept", RuntimeError), ("new", RuntimeError), ("new", KeyboardInterrupt)):
            with pytest.raises(error), store.create(name) as file:  # noqa: PT012
                file.write(b"half")
                raise error
        del file
        assert store.names() == ["kept"]
        assert read(store, "kept") == b"before"

    def test_a_folder_appears_with_its_files(self, store: Store) -> None:
        contents = {f"{number:03}.png": bytes([number]) * number for number in range(150)}
        with store.create_folder("a/00012") as folder:
            for name, content in contents.items():
                folder.write(name, content)
        assert store.names("a/00012") == list(contents)
        assert {name: read(store, f"a/00012/{name}") for name in contents} == contents

    def test_the_top_is_a_folder_that_keeps_what_it_has(self, store: Store) -> None:
        write(store, "other", b"kept")
        for content in (b"first", b"second"):
            with store.create_folder("") as folder:
                folder.write("000.png", content)
                folder.write("001.png", content)
            assert store.names() == ["000.png", "001.png", "other"]
            assert read(store, "001.png") == content
        assert read(store, "other") == b"kept"

    def test_names_tell_files_and_folders(self, store: Store) -> None:
        assert store.names() == store.names("missing") == []
        for name in ("b", "a/x", "a/y/z", ".hidden/1.json"):
            write(store, name, b"1")
        assert store.names() == [".hidden", "a", "b"]
        assert store.names("a") == ["x", "y"]
        assert store.names("b") == store.names("b/below") == []
        there = ("a", "b", "a/x", "a/y/z", ".hidden", "missing", "a/missing", "b/below", "missing/x", "a" * 999)
        assert [name for name in there if store.holds(name)] == ["a", "b", "a/x", "a/y/z", ".hidden"]

    def test_what_is_removed_is_gone_and_nothing_else(self, store: Store) -> None:
        for name in ("a/x", "a/y/z", "ab", "c"):
            write(store, name, b"1")
        for name in ("a", "c", "c", "missing", "ab/below"):
            store.remove(name)
        assert store.names() == ["ab"]
        assert store.names("a") == []

    def test_a_file_is_read_from_anywhere(self, store: Store) -> None:
        with store.create("images.zip") as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("one", b"1" * 100)
            archive.writestr("two", b"2" * 100)
        with store.open("images.zip") as file, zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None
            assert archive.read("two") == b"2" * 100
        array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
        with store.create("a.npy") as file:
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
            file.write(array.data)
        with store.open("a.npy") as file:
            np.testing.assert_array_equal(np.load(file), array)

    def test_what_is_missing_is_named(self, store: Store) -> None:
        with pytest.raises(DataError) as raised, store.open("a/missing"):
            pass
        assert str(raised.value) in {
            f"cannot read {store.path('a/missing')}: {cause}"
            for cause in ("No such file or directory", "no such file", "The specified key does not exist.")
        }

    def test_a_store_travels(self, store: Store) -> None:
        write(store, "a", b"1")
        other = pickle.loads(pickle.dumps(store))
        assert other == store
        assert read(other, "a") == b"1"
        write(other, "b", b"2")
        assert store.names() == ["a", "b"]
