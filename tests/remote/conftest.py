"""S3 on this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import fsspec
import pytest
from moto.server import ThreadedMotoServer

PART = 5 * 2**20  # the least that S3 takes for a part of an upload
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def set_s3(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name, value in ENVIRONMENT.items():
        patch.setenv(name, value)
    patch.setitem(fsspec.config.conf, "s3", {"endpoint_url": endpoint, "default_block_size": PART})


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """S3 with one empty bucket, `bucket`."""
    set_s3(monkeypatch, endpoint)
    fs = fsspec.filesystem("s3")
    fs.mkdir("bucket")
    yield fs
    fs.invalidate_cache()
    fs.rm("bucket", recursive=True)


def uploads(fs: fsspec.AbstractFileSystem) -> list[object]:
    """The uploads in parts that are neither completed nor aborted."""
    return fs.call_s3("list_multipart_uploads", Bucket="bucket").get("Uploads", [])
