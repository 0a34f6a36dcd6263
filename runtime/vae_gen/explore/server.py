"""The page and what it asks for, over HTTP, to browsers on this machine and to no other site's pages in them."""

from __future__ import annotations

import json
import os
import re
import socketserver
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from vae_gen.errors import UsageError, VaeGenError
from vae_gen.explore.explorer import Explorer

ADDRESS = "127.0.0.1"
USUAL_PORT = 8230  # so that an open page, a link and the browser's history find a server that was started again
MAX_UPLOAD = 64 * 2**20  # bytes
IDLE = 300  # seconds until a connection on which nothing comes is closed

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/explore.css": ("explore.css", "text/css; charset=utf-8"),
    "/explore.js": ("explore.js", "text/javascript; charset=utf-8"),
    "/model.js": ("model.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# A name that leads here may be anybody's (DNS rebinding); these are this machine's. The port may be a tunnel's.
OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Answer:
    content: bytes
    kind: str  # a media type
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """A request that gets no answer but a status and a reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Server(ThreadingHTTPServer):
    """Listens from its construction on, on this machine's own address; `serve` answers until `end` is called."""

    allow_reuse_address = os.name != "nt"  # Windows would share a port that another server has
    allow_reuse_port = False
    request_queue_size = 64  # a tab asks on several connections at once
    timeout = 0.2  # seconds between two looks at whether it is to end

    def __init__(self, explorer: Explorer, port: int | None) -> None:
        """`port` is 1 to 65,535; None is the usual one, or a free one where that is taken. Raises UsageError."""
        self.explorer = explorer
        self._is_to_end = False
        try:
            super().__init__((ADDRESS, USUAL_PORT if port is None else port), Handler)
        except OSError as error:
            if port is not None:
                raise UsageError(
                    f"cannot listen on port {port}: {error.strerror}; choose another --port, or leave it out for a "
                    "free one"
                ) from error
            super().__init__((ADDRESS, 0), Handler)

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/"

    def serve(self) -> None:
        while not self._is_to_end:
            self.handle_request()

    def end(self) -> None:
        """`serve` returns soon. For a signal's handler too, as what one raises can be lost."""
        self._is_to_end = True

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks the network for this machine's name
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is nothing to report, and `Handler` answers all else."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        try:
            answer = self._found()
        except RefusedError as refusal:
            self.send_error(refusal.status, str(refusal))
        except VaeGenError as error:
            self.send_error(HTTPStatus.BAD_REQUEST, str(error))
        except (ConnectionError, TimeoutError):
            raise
        except MemoryError:
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "there is not enough memory for this")
        except Exception as error:
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")
        else:
            self._send(HTTPStatus.OK, answer)

    def _found(self) -> Answer:
        """What is asked for. Raises RefusedError or VaeGenError."""
        host = self.headers.get("Host", "")
        if not OWN_HOST.fullmatch(host):
            raise RefusedError(HTTPStatus.FORBIDDEN, f"{host!r} is not this server's address; it is {self.server.url}")
        if self.headers.get("Origin", f"http://{host}") != f"http://{host}":
            raise RefusedError(HTTPStatus.FORBIDDEN, "only this server's own page may ask")
        explorer, target = self.server.explorer, urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(target.query).items()}
        match self.command, target.path:
            case "GET", path if path in FILES:
                name, kind = FILES[path]
                return Answer((PAGE / name).read_bytes(), kind)
            case "GET", "/model":
                return _json({**explorer.about(), "most_upload": MAX_UPLOAD})
            case "GET", "/draw":
                seed = _whole_number(query, "seed") if "seed" in query else None
                index = _whole_number(query, "index") if "index" in query else 0
                chosen, z = explorer.draw(seed, index)
                return _json({"seed": str(chosen), "index": str(index), "z": z})  # a script's numbers are too short
            case "GET", "/picture.png":
                return Answer(explorer.png(_parse_latents(query.get("z", ""))), "image/png")
            case "POST", "/pictures":
                asked = _parse_request(self._body(_most_bytes(explorer)))
                made = explorer.pictures(**asked)
                error = {} if made.squared_error is None else {"Squared-Error": repr(made.squared_error)}
                return Answer(made.pixels, "application/octet-stream", error)
            case "POST", "/encode":
                return _json(explorer.encode(self._body(MAX_UPLOAD), invert=query.get("invert") == "1"))
        raise RefusedError(HTTPStatus.NOT_FOUND, f"there is no {self.command} {target.path} here")

    def _body(self, most: int) -> bytes:
        """The request's content. Raises RefusedError if it is larger than that, or does not say how large it is."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,18}", length):
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "the request does not say how long it is")
        if int(length) > most:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{int(length):,} bytes are too many; at most {most:,} are taken"
            )
        content = self.rfile.read(int(length))
        if len(content) < int(length):
            raise ConnectionAbortedError
        return content

    def _send(self, status: HTTPStatus | int, answer: Answer) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.content)),
            "Model": self.server.explorer.model.decoder_sha256,  # by which a page notices that another one is served
            **HEADERS,
            **answer.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The reason as plain text, after which the connection is closed: what is left of the request is unread."""
        text = (message or HTTPStatus(code).phrase).encode("utf-8", "replace")
        self._send(code, Answer(text, "text/plain; charset=utf-8", {"Connection": "close"}))

    def version_string(self) -> str:
        return "vae-gen"

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def _json(values: object) -> Answer:
    return Answer(json.dumps(values).encode(), "application/json")


def _whole_number(query: Mapping[str, str], name: str) -> int:
    if not re.fullmatch("-?[0-9]{1,40}", query[name]):
        raise UsageError(f"{name} is {query[name]!r:.60}; it must be a whole number")
    return int(query[name])


def _parse_latents(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError as error:
        raise UsageError(f"z is {text!r:.60}; it must be numbers between commas") from error


def _most_bytes(explorer: Explorer) -> int:
    """Of a request for pictures: every latent and its number, and four bytes a pixel in base64."""
    _, height, width = explorer.model.image_shape
    return 1024 + 64 * explorer.model.latent_dim + 6 * height * width


def _parse_request(content: bytes) -> dict[str, Any]:
    """The arguments of Explorer.pictures, each of its type."""
    try:
        asked = json.loads(content, parse_int=lambda digits: int(digits) if len(digits) < 20 else float(digits))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the request is not JSON: {error}") from error
    kinds = {"z": (list, (int, float)), "dims": (list, (int,)), "target": (str, (str,))}
    if not (isinstance(asked, dict) and {"z", "dims"} <= asked.keys() <= kinds.keys()):
        raise UsageError("the request must be a JSON object with z, dims and maybe target")
    for name, value in asked.items():
        whole, each = kinds[name]
        if not (isinstance(value, whole) and all(type(item) in each for item in value)):
            raise UsageError(f"{name} is {value!r:.60}; it must be {'a list of numbers' if whole is list else 'text'}")
    return asked
