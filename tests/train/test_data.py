from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from vae_gen.data.datasets import load_data_set
from vae_gen.errors import DataError
from vae_gen_train import mnist as mnist_module
from vae_gen_train.batches import batches
from vae_gen_train.mnist import cache_folder, fetch_mnist

from tests.runtime.data_files import idx
from tests.train.conftest import blobs


def test_a_twelfth_is_held_out_and_the_rest_trained_on(small_data: Path) -> None:
    data = load_data_set(small_data)
    everything = blobs(120, 12, 8, seed=1)[:, None]
    np.testing.assert_array_equal(data.validation, everything[:10])
    np.testing.assert_array_equal(data.train, everything[10:])
    assert data.test is not None
    np.testing.assert_array_equal(data.test, blobs(20, 12, 8, seed=2)[:, None])
    assert data.image_shape == (1, 12, 8)
    content = (small_data / "train-images-idx3-ubyte").read_bytes()
    assert data.describe() == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "test_sha256": hashlib.sha256(idx(blobs(20, 12, 8, seed=2))).hexdigest(),
        "train_images": 110,
        "validation_images": 10,
        "test_images": 20,
    }


def test_a_test_file_is_optional_but_must_fit(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(blobs(24, 12, 8, seed=1)))
    assert load_data_set(tmp_path).test is None
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(blobs(24, 8, 12, seed=1)))
    with pytest.raises(
        DataError,
        match=r"[/\\]train.* and .*[/\\]t10k.*: .* test \(1, 8, 12\), train \(1, 12, 8\), validation",
    ):
        load_data_set(tmp_path)


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(blobs(11, 12, 8, seed=1)))
    with pytest.raises(DataError, match="at least 12 are needed"):
        load_data_set(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(blobs(12, 12, 8, seed=1))[:-1])
    with pytest.raises(DataError, match="train-images-idx3-ubyte is truncated"):
        load_data_set(tmp_path)


@pytest.mark.mnist
def test_mnist_is_split_as_tensorflow_did(mnist: Path) -> None:
    data = load_data_set(mnist)
    assert (len(data.train), len(data.validation)) == (55_000, 5_000)
    assert data.test is not None
    assert len(data.test) == 10_000
    assert data.sha256 == mnist_module.SHA256["train-images-idx3-ubyte"]


def test_every_epoch_shows_every_image_once_in_another_order() -> None:
    stream = np.concatenate(list(islice(batches(seed=3, images=10, batch_size=4, first_step=0), 10)))
    epochs = stream.reshape(4, 10)
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 4
    assert len({tuple(epoch) for epoch in epochs}) == 4
    other = np.concatenate(list(islice(batches(seed=4, images=10, batch_size=4, first_step=0), 10)))
    assert (stream != other).any()


@pytest.mark.parametrize("batch_size", [1, 4, 10, 23])
@pytest.mark.parametrize("first_step", [0, 1, 2, 5, 10])
def test_a_stream_may_begin_anywhere(batch_size: int, first_step: int) -> None:
    whole = list(islice(batches(0, 10, batch_size, 0), first_step + 4))
    np.testing.assert_array_equal(list(islice(batches(0, 10, batch_size, first_step), 4)), whole[first_step:])


# the download, against a server in this process

CONTENT = {name: idx(blobs(12, 4, 4, seed)) for seed, name in enumerate(mnist_module.SHA256)}
Pages = dict[str, bytes | int]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Pages, list[str]]]:
    """An address, what it serves (bytes, or an HTTP error), and the paths that were asked for."""
    monkeypatch.setattr(
        mnist_module, "SHA256", {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    )
    pages: Pages = {f"/{name}.gz": gzip.compress(content) for name, content in CONTENT.items()}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            page = pages.get(self.path, 404)
            if isinstance(page, int):
                self.send_error(page)
                return
            whole = pages.get("length", page)
            assert isinstance(whole, bytes)
            self.send_response(200)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/", pages, asked
    http.shutdown()
    thread.join()
    http.server_close()


Server = tuple[str, Pages, list[str]]
NOBODY = "http://127.0.0.1:9/"  # the discard port, where nobody listens


def test_what_is_missing_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    address, _, asked = server
    folder = fetch_mnist(tmp_path / "cache" / "mnist", [address])
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.gz" for name in CONTENT)
    for name, content in CONTENT.items():
        assert gzip.decompress((folder / f"{name}.gz").read_bytes()) == content
    assert len(asked) == 2
    fetch_mnist(folder, [address])
    assert len(asked) == 2
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(b"damaged")
    fetch_mnist(folder, [address])
    assert asked[2:] == ["/t10k-images-idx3-ubyte.gz"]


def test_another_compression_of_the_same_content_is_right(server: Server, tmp_path: Path) -> None:
    address, pages, _ = server
    for name, content in CONTENT.items():
        pages[f"/{name}.gz"] = gzip.compress(content, compresslevel=1, mtime=1)
    fetch_mnist(tmp_path, [address])


def test_the_next_mirror_is_tried(server: Server, tmp_path: Path) -> None:
    address, _, _ = server
    fetch_mnist(tmp_path, [NOBODY, address + "nothing/here/", address])
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            {"/train-images-idx3-ubyte.gz": gzip.compress(b"something else")},
            "the content is not MNIST's, whose SHA-256",
        ),
        ({"/train-images-idx3-ubyte.gz": b"<html>please log in</html>"}, "the content is not MNIST's"),
        ({"/train-images-idx3-ubyte.gz": gzip.compress(idx(blobs(12, 4, 4, 0)))[:30]}, "the content is not MNIST's"),
        ({"length": b"x" * 100_000}, "IncompleteRead|Connection broken"),
        ({"/train-images-idx3-ubyte.gz": 503}, "503 Server Error"),
        ({"/train-images-idx3-ubyte.gz": 404}, "404 Client Error"),
    ],
    ids=["wrong hash", "login page", "cut file", "cut connection", "server error", "not found"],
)
def test_a_download_that_fails_leaves_nothing(server: Server, tmp_path: Path, spoil: Pages, message: str) -> None:
    address, pages, _ = server
    pages.update(spoil)
    with pytest.raises(DataError, match=message) as raised:
        fetch_mnist(tmp_path, [address])
    assert f"{address}train-images-idx3-ubyte.gz: " in str(raised.value)
    assert f"Put the file into {tmp_path}, or give --data a directory that has it" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_every_mirror_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="could not be downloaded") as raised:
        fetch_mnist(tmp_path, [NOBODY, "http://no-such-host.invalid/"])
    assert f"{NOBODY}train-images" in str(raised.value)
    assert "no-such-host.invalid/train-images" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VAE_GEN_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "mnist"
    monkeypatch.delenv("VAE_GEN_CACHE")
    below = ("vae-gen", "Cache", "mnist") if os.name == "nt" else ("vae-gen", "mnist")
    assert cache_folder().parts[-len(below) :] == below


@pytest.mark.mnist
def test_the_real_files_have_the_hashes_in_the_source(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {path.name for path in mnist.glob("*-images-*")}
    assert names == {f"{name}.gz" for name in mnist_module.SHA256}
    fetch_mnist(mnist, mirrors=[])  # nothing is missing, so nobody is asked
