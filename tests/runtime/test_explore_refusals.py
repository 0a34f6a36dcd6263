"""What the server of `vae-gen explore` refuses: other sites' requests, and what cannot be answered."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from vae_gen.explore.server import MAX_UPLOAD

from tests.conftest import MODELS
from tests.runtime.explore_page import Site, serving
from tests.runtime.test_explore_server import PICTURE, stub

GOOD = json.dumps({"z": [0, 0, 0], "dims": []}).encode()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving(MODELS / "tiny") as site:
        yield site


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1"}, 200),
        ({"Host": "localhost:9000"}, 200),  # at the other end of a tunnel
        ({"Host": "[::1]:9000"}, 200),
        ({"Host": None}, 403),
        ({"Host": ""}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:80"}, 403),
        ({"Host": "evil.example#127.0.0.1"}, 403),
        ({"Host": "127.0.0.1:80:80"}, 403),
        ({"Host": "localhost:9000", "Origin": "http://localhost:9000"}, 200),
        ({"Host": "localhost:9000", "Origin": "http://localhost:9001"}, 403),
        ({"Host": "localhost:9000", "Origin": "https://localhost:9000"}, 403),
        ({"Host": "localhost:9000", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost:9000", "Origin": "null"}, 403),
    ],
)
@pytest.mark.parametrize(("method", "path", "body"), [("GET", "/model", None), ("POST", "/pictures", GOOD)])
def test_only_this_machine_and_the_own_page_may_ask(
    site: Site, method: str, path: str, body: bytes | None, headers: dict[str, str | None], status: int
) -> None:
    reply = site.ask(method, path, body, **headers)
    assert reply.status == status
    assert "Access-Control-Allow-Origin" not in reply.headers
    if status != 200:
        assert site.url in reply.text or reply.text == "only this server's own page may ask"


def asking(**changes: object) -> bytes:
    return json.dumps({"z": [0, 0, 0], "dims": [], **changes}).encode()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/nowhere", None, 404, "there is no GET /nowhere here"),
        ("GET", "/../server.py", None, 404, "there is no GET"),
        ("GET", "/pictures", None, 404, "there is no GET"),
        ("POST", "/model", b"", 404, "there is no POST /model"),
        ("DELETE", "/model", None, 501, "Unsupported method ('DELETE')"),
        ("POST", "/pictures", None, 411, "does not say how long it is"),
        ("POST", "/pictures", asking(target="A" * 10_000), 413, "bytes are too many; at most 1,336 are taken"),
        ("POST", "/pictures", b"", 400, "the request is not JSON"),
        ("POST", "/pictures", b"\xff\xfe", 400, "the request is not JSON"),
        ("POST", "/pictures", b"[" * 1000, 400, "the request is not JSON"),
        ("POST", "/pictures", b"[]", 400, "must be a JSON object with z, dims"),
        ("POST", "/pictures", b'{"z": [0, 0, 0]}', 400, "must be a JSON object with z, dims"),
        ("POST", "/pictures", asking(more=1), 400, "must be a JSON object with z, dims"),
        ("POST", "/pictures", asking(z="0,0,0"), 400, "z is '0,0,0'; it must be a list of numbers"),
        ("POST", "/pictures", asking(z=[[0, 0, 0]]), 400, "it must be a list of numbers"),
        ("POST", "/pictures", asking(z=[0, None, 0]), 400, "it must be a list of numbers"),
        ("POST", "/pictures", asking(z=[0, 0]), 400, "the latents have shape (1, 2); tiny needs [n, 3]"),
        ("POST", "/pictures", asking(z=[0, float("nan"), 0]), 400, "latent 1 of point 0 is nan, which is not finite"),
        ("POST", "/pictures", asking(z=[0, 0, 1e39]), 400, "latent 2 of point 0 is 1e+39, which is not finite"),
        ("POST", "/pictures", b'{"z": [0, 0, 1%s], "dims": []}' % (b"0" * 400), 400, "latent 2 of point 0 is inf"),
        ("POST", "/pictures", asking(dims=[3]), 400, "dim is 3; the model has 3 latents"),
        ("POST", "/pictures", asking(dims=[0] * 4), 400, "4 dims are asked for; the model has 3 latents"),
        ("POST", "/pictures", asking(dims=[-1]), 400, "dim is -1; the model has 3 latents"),
        ("POST", "/pictures", asking(dims=[0.5]), 400, "dims is [0.5]; it must be a list of numbers"),
        ("POST", "/pictures", asking(dims=[True]), 400, "dims is [True]; it must be a list of numbers"),
        ("POST", "/pictures", asking(z=[0, False, 0]), 400, "z is [0, False, 0]; it must be a list of numbers"),
        ("POST", "/pictures", asking(target=[1]), 400, "target is [1]; it must be text"),
        ("POST", "/pictures", asking(target="~"), 400, "the target is not 4 by 5 pixels of four bytes, in base64"),
        ("POST", "/pictures", asking(target="AAAA"), 400, "the target is not 4 by 5 pixels"),
        ("POST", "/encode", b"", 400, "it is not in a picture format that Pillow can read"),
        ("POST", "/encode", b"a picture", 400, "it is not in a picture format that Pillow can read"),
        ("POST", "/encode", PICTURE[:-200], 400, "it cannot be read as a picture: image file is truncated"),
        ("GET", "/draw?seed=x", None, 400, "seed is 'x'; it must be a whole number"),
        ("GET", "/draw?seed=1e3", None, 400, "seed is '1e3'; it must be a whole number"),
        ("GET", "/draw?seed=-1", None, 400, "seed is -1; it must be between 0 and 2**64 - 1"),
        ("GET", "/draw?seed=0&index=9223372036854775808", None, 400, "indices run from 0 to 2**63 - 1"),
        ("GET", "/picture.png", None, 400, "z is ''; it must be numbers between commas"),
        ("GET", "/picture.png?z=1,x,2", None, 400, "z is '1,x,2'; it must be numbers between commas"),
        ("GET", "/picture.png?z=1,2", None, 400, "the latents have shape (1, 2)"),
        ("GET", "/picture.png?z=/etc/passwd", None, 400, "it must be numbers between commas"),
    ],
)
def test_what_cannot_be_answered_gets_the_reason_as_text(
    site: Site, method: str, path: str, body: bytes | None, status: int, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    reply = site.ask(method, path, body)
    assert words in reply.text
    assert (reply.status, reply.headers["Content-Type"]) == (status, "text/plain; charset=utf-8")
    assert "Traceback" not in reply.text
    for answer in (reply, site.ask("GET", "/")):
        policy = answer.headers["Content-Security-Policy"]
        assert {"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} <= {*policy.split("; ")}
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
    assert site.pictures([0, 0, 0]).status == 200
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("length", [str(MAX_UPLOAD + 1), "9" * 18, "9" * 30, "-1", "1x"])
def test_an_upload_that_is_too_large_is_refused_before_it_is_read(site: Site, length: str) -> None:
    reply = site.ask("POST", "/encode", None, Content_Length=length)
    assert reply.status == (413 if length.isdigit() and len(length) < 20 else 411)
    assert reply.headers["Connection"] == "close"


def test_what_nobody_foresaw_is_an_answer_too(capfd: pytest.CaptureFixture[str]) -> None:
    for error, words in ((RuntimeError("boom"), "RuntimeError: boom"), (MemoryError(), "there is not enough memory")):

        def fail(z: object, error: BaseException = error) -> None:
            raise error

        with serving(stub(fail)) as site:
            reply = site.pictures([0, 0])
        assert reply.status == 500
        assert words in reply.text
    assert capfd.readouterr() == ("", "")
