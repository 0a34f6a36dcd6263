"""What tests of `vae-gen explore` share: a server in a thread, and requests as anybody could send them."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from vae_gen.data.tones import AS_THEY_ARE, Tones
from vae_gen.explore.explorer import Explorer
from vae_gen.explore.server import Server
from vae_gen.model import Model, load
from vae_gen.reading import AS_STATED, Reading


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    @property
    def json(self) -> Any:
        assert self.status == 200, self.text
        return json.loads(self.content)


@dataclass(frozen=True)
class Site:
    server: Server

    @property
    def url(self) -> str:
        return self.server.url.rstrip("/")

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str | None) -> Reply:
        """`headers` replace those that a browser would send, with _ for -; None leaves one out."""
        length = {"Content-Length": str(len(body))} if body is not None else {}
        sent = {"Host": f"127.0.0.1:{self.server.server_port}", **length}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def pictures(self, z: list[float], dims: tuple[int, ...] = (), **others: object) -> Reply:
        return self.ask("POST", "/pictures", json.dumps({"z": z, "dims": dims, **others}).encode())


@contextmanager
def serving(
    model: Model | Path, given: str = "given", reading: Reading = AS_STATED, tones: Tones = AS_THEY_ARE
) -> Iterator[Site]:
    network = load(model, **vars(reading)) if isinstance(model, Path) else model
    with Server(Explorer(network, given, reading, tones), None) as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield Site(server)
        finally:
            server.end()
            thread.join()


def rgba(image: np.ndarray) -> np.ndarray:
    """[C, H, W] as a canvas has it: [H, W, 4]."""
    opaque = np.full((1, *image.shape[1:]), 255, np.uint8)
    order = {1: [0, 0, 0, 1], 3: [0, 1, 2, 3], 4: [0, 1, 2, 3]}[len(image)]
    return np.concatenate([image, opaque])[order].transpose(1, 2, 0)
