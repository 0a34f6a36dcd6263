"""What the server of `vae-gen explore` answers, against the formula of the tiny model and the other commands."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from vae_gen.bundles import shipped
from vae_gen.data.tones import Tones
from vae_gen.errors import UsageError
from vae_gen.explore.server import FILES, MAX_UPLOAD, PAGE, Server
from vae_gen.manifest import Description
from vae_gen.model import load
from vae_gen.reading import Reading

from tests.conftest import MODELS
from tests.runtime.commands import expected_pixels, run
from tests.runtime.explore_page import Site, rgba, serving
from tests.runtime.foreign import FOREIGN

pytestmark = pytest.mark.usefixtures("elsewhere")
Z = [0.5, -1.25, 2.0]
STRIP = (5, 28, 4)  # of tiny: 5 rows, seven pictures of 4 columns


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving(MODELS / "tiny") as site:
        yield site


def png(image: np.ndarray) -> bytes:
    """[H, W, C] as the content of a file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


PICTURE = png(np.random.default_rng(0).integers(0, 256, (11, 17, 3), np.uint8))  # of a size that is not the model's


def test_the_page_comes_whole_and_may_load_nothing_else(site: Site) -> None:
    names = set()
    for path, (name, kind) in FILES.items():
        reply = site.get(path)
        assert (reply.status, reply.headers["Content-Type"]) == (200, kind)
        assert reply.content == (PAGE / name).read_bytes()
        policy = reply.headers["Content-Security-Policy"].split("; ")
        assert "default-src 'none'" in policy
        assert not [rule for rule in policy if re.search("unsafe|https?:|[*]", rule)]
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Server"] == "vae-gen"
        names.add(name)
        elsewhere = re.findall(r"\w+://[^\"'\s]+", reply.text)
        assert elsewhere == (["http://www.w3.org/2000/svg"] if name == "icon.svg" else [])
    assert names == {path.name for path in PAGE.iterdir()}
    assert {f"/{name}" for name in re.findall(r"(?:src|href)=\"([^\"]+)\"", site.get("/").text)} == FILES.keys() - {"/"}


def test_the_model_is_described(site: Site) -> None:
    assert site.get("/model").json == {
        "name": "tiny",
        "licence": "MIT",
        "latent_dim": 3,
        "latent_kl": [2.0, 1.25, 0.5],
        "width": 4,
        "height": 5,
        "colors": "colour",
        "sweep": [-3, -2, -1, 0, 1, 2, 3],
        "strip": {"width": 28, "height": 5},
        "encodes": True,
        "options": "--model given",
        "most_upload": MAX_UPLOAD,
    }


def test_every_answer_says_which_model_it_is_of(site: Site) -> None:
    expected = sha256((MODELS / "tiny/decoder.onnx").read_bytes()).hexdigest()
    for path in ("/model", "/explore.js", "/nowhere"):
        assert site.get(path).headers["Model"] == expected


def test_a_decoder_alone_is_described_with_what_was_said_of_it(tmp_path: Path) -> None:
    reading = Reading(value_range=(-1.0, 1.0))
    with serving(FOREIGN / "signed.onnx", "my models/it's.onnx", reading) as site:
        about = site.get("/model").json
        posix = "--model 'my models/it'\"'\"'s.onnx' --value-range=-1,1"
        windows = """--model "my models/it's.onnx" "--value-range=-1,1\""""
        assert about["options"] == (windows if os.name == "nt" else posix)
        assert (about["encodes"], about["latent_kl"]) == (False, [])
        reply = site.ask("POST", "/encode", PICTURE)
        assert (reply.status, "this needs a bundle" in reply.text) == (400, True)


def test_a_picture_and_strips_are_the_formulas(site: Site) -> None:
    """Strips in the order of asking, each with its latent from -3 to 3 and the others where they are."""
    reply = site.pictures(Z, (2, 0))
    assert (reply.status, reply.headers["Squared-Error"]) == (200, None)
    found = np.frombuffer(reply.content, np.uint8)
    np.testing.assert_array_equal(found[:80].reshape(5, 4, 4), rgba(expected_pixels(np.array([Z]))[0]))
    for dim, strip in zip((2, 0), found[80:].reshape(2, *STRIP), strict=True):
        points = np.tile(Z, (7, 1))
        points[:, dim] = [-3, -2, -1, 0, 1, 2, 3]
        expected = np.concatenate([rgba(image) for image in expected_pixels(points)], axis=1)
        np.testing.assert_array_equal(strip, expected)


@pytest.mark.parametrize(
    ("name", "reading"),
    [
        ("bytes", Reading()),
        ("fixed-batch", Reading()),
        ("grey", Reading()),
        ("half", Reading()),
        ("nhwc", Reading()),
        ("one-at-a-time", Reading()),
        ("signed", Reading(value_range=(-1.0, 1.0))),
    ],
)
def test_pictures_of_other_decoders_are_the_models(name: str, reading: Reading) -> None:
    model = load(FOREIGN / f"{name}.onnx", **vars(reading))
    points = np.tile(np.array(Z, np.float32), (8, 1))
    points[1:, 1] = range(-3, 4)
    first, *others = map(rgba, model.decode_bytes(points))
    with serving(model) as site:
        assert site.pictures(Z, (1,)).content == first.tobytes() + np.concatenate(others, axis=1).tobytes()


def test_large_pictures_are_small_in_strips() -> None:
    """Of 4 channels, 128 rows and 64 columns: the means of squares of 2 by 2, where alpha is one and the same."""
    image = np.random.default_rng(0).integers(0, 256, (4, 128, 64), np.uint8)
    image[3] = 200
    with serving(stub(lambda z: np.stack([image] * len(z)), image.shape)) as site:
        about = site.get("/model").json
        content = site.pictures([0.0, 0.0], (1,)).content
    assert (about["strip"], about["colors"]) == ({"width": 7 * 32, "height": 64}, "colour and alpha")
    assert content[: 128 * 64 * 4] == rgba(image).tobytes()
    strip = np.frombuffer(content[128 * 64 * 4 :], np.uint8).reshape(64, 7, 32, 4)
    means = image.reshape(4, 64, 2, 32, 2).mean(axis=(2, 4)).transpose(1, 2, 0)
    assert abs(strip.transpose(1, 0, 2, 3) - means).max() < 2


def stub(decode_bytes: object, shape: tuple[int, ...] = (3, 5, 4)) -> SimpleNamespace:
    """What Explorer needs of a model."""
    about = Description("stub", "", 2, shape, "MIT")
    return SimpleNamespace(
        check=lambda: None,
        name="stub",
        decoder_sha256="",
        latent_dim=2,
        image_shape=shape,
        directory=None,
        description=about,
        check_latents=lambda z: np.array(z, np.float32),
        decode_bytes=decode_bytes,
    )


@pytest.mark.parametrize(("seed", "index"), [("5", "7"), ("18446744073709551615", "9223372036854775807")])
def test_image_i_of_seed_s_is_the_one_that_sample_makes(site: Site, seed: str, index: str) -> None:
    drawn = site.get(f"/draw?seed={seed}&index={index}").json
    assert (drawn["seed"], drawn["index"]) == (seed, index)
    run("sample", "--model", MODELS / "tiny", "--seed", seed, "--start", index, "--n", 1, "--out", "a.npy", "--latents")
    (z,) = np.load("a.latents.npy")
    np.testing.assert_array_equal(np.array(drawn["z"], np.float32), z)
    assert site.pictures(drawn["z"]).content == rgba(np.load("a.npy")[0]).tobytes()


def test_without_a_seed_it_is_another_one_each_time(site: Site) -> None:
    first, second = site.get("/draw").json, site.get("/draw").json
    assert first["index"] == second["index"] == "0"
    assert first["seed"] != second["seed"]
    assert site.get(f"/draw?seed={first['seed']}").json == first


def test_the_file_to_save_is_the_picture(site: Site) -> None:
    reply = site.get("/picture.png?z=0.5,-1.25,2")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "image/png")
    with Image.open(io.BytesIO(reply.content)) as found:
        assert found.format == "PNG"
        np.testing.assert_array_equal(np.moveaxis(np.asarray(found), -1, 0), expected_pixels(np.array([Z]))[0])


@pytest.mark.parametrize("invert", [False, True])
def test_a_picture_goes_where_reconstruct_takes_it(
    site: Site, invert: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.png").write_bytes(PICTURE)
    options = ["--invert"] if invert else []
    run("encode", "a.png", "--model", MODELS / "tiny", "--out", "z.npy", *options)
    run("reconstruct", "a.png", "--model", MODELS / "tiny", "--json", *options)
    error = json.loads(capsys.readouterr().out)["mean_sse"]

    found = site.ask("POST", f"/encode?invert={int(invert)}", PICTURE).json
    np.testing.assert_array_equal(np.array(found["z"], np.float32), np.load("z.npy")[0])
    seen = site.pictures(found["z"], target=found["pixels"])
    assert float(seen.headers["Squared-Error"]) == pytest.approx(error, rel=1e-6)
    # The error is of the latents that are asked for, not of those that the encoder has found.
    target = np.frombuffer(base64.b64decode(found["pixels"]), np.uint8).reshape(5, 4, 4)[..., :3] / 255
    away = site.pictures(Z, target=found["pixels"])
    picture = np.frombuffer(away.content, np.uint8).reshape(5, 4, 4)[..., :3] / 255
    assert float(away.headers["Squared-Error"]) == pytest.approx(((picture - target) ** 2).sum(), rel=0.01)


def test_white_is_what_the_command_was_told(site: Site, tiny: Path) -> None:
    picture = io.BytesIO()
    values = np.array([[0, 1, 2, 3, 4]] * 5, np.float32).T[:, :4] * np.float32(0.5)
    Image.fromarray(values).save(picture, "TIFF")
    refused = site.ask("POST", "/encode", picture.getvalue())
    assert refused.status == 400
    assert b"--white must say which of them is white" in refused.content
    with serving(tiny, tones=Tones(white=2.0)) as told:
        pixels = base64.b64decode(told.ask("POST", "/encode", picture.getvalue()).json["pixels"])
    found = np.frombuffer(pixels, np.uint8).reshape(5, 4, 4)
    np.testing.assert_array_equal(found[..., 0], np.array([[0, 64, 128, 191, 255]] * 4, np.uint8).T)


def test_a_picture_the_wrong_way_round_is_noticed() -> None:
    digit = (load("mnist").sample(1, seed=1)[0, 0] * 255).astype(np.uint8)
    with serving(shipped()["mnist"]) as site:
        for image, invert, better in ((digit, 0, False), (255 - digit, 0, True), (255 - digit, 1, False)):
            found = site.ask("POST", f"/encode?invert={invert}", png(image)).json
            assert found["better_swapped"] is better
            pixels = np.frombuffer(base64.b64decode(found["pixels"]), np.uint8).reshape(28, 28, 4)
            np.testing.assert_array_equal(pixels[..., 1], 255 - image if invert else image)


def test_many_tabs_get_each_their_own(site: Site) -> None:
    wrong = []

    def tab(number: int) -> None:
        for step in range(10):
            z = [0.1 * number, -0.2 * step, 1.0]
            expected = rgba(load(MODELS / "tiny").decode_bytes([z])[0]).tobytes()
            if site.pictures(z, (0, 1)).content[:80] != expected:
                wrong.append((number, step))

    threads = [threading.Thread(target=tab, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_connection_serves_many_requests(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.server.server_port), timeout=20) as connection:
        for _ in range(3):
            connection.sendall(b"GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"</svg>" in receive(connection, b"</svg>")


def receive(connection: socket.socket, end: bytes) -> bytes:
    found = b""
    while end not in found and (part := connection.recv(65536)):
        found += part
    return found


def test_a_browser_that_goes_away_is_nothing_to_report(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    port = site.server.server_port
    head = f"POST /pictures HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 30\r\n\r\n"
    for sent in ("", "GET", f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n", head, head + '{"z": [1, 2, 3],'):
        for abrupt in (0, 1):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", abrupt, 0))
            connection.sendall(sent.encode())
            connection.close()
    assert site.get("/model").status == 200
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_taken_is_said_and_the_usual_one_is_none_that_must_be_free(site: Site) -> None:
    port = site.server.server_port
    with pytest.raises(UsageError, match=f"cannot listen on port {port}: .* choose another --port, or leave it out"):
        Server(site.server.explorer, port)
    servers = [Server(site.server.explorer, None) for _ in range(2)]
    assert len({port, *(server.server_port for server in servers)}) == 3
    for server in servers:
        assert server.server_address[0] == "127.0.0.1"
        server.server_close()
