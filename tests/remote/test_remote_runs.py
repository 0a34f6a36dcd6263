"""vae-gen sample and verify at URLs: the same files as on this machine, and whole ones only."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import fsspec
import pytest
from moto.server import ThreadedMotoServer
from vae_gen.cli import main
from vae_gen.stores.remote import RemoteStore

from tests import runs
from tests.remote.conftest import ENVIRONMENT, set_s3, uploads
from tests.runs import TINY, VAE_GEN, tree

pytestmark = pytest.mark.usefixtures("elsewhere")

sample = functools.partial(runs.sample, "--seed", 3)
RUNS = {
    "png": ("--n", 70, "--grid", "2x3"),
    "folders": ("--indices", "0-19,10000-10009,30000", "--format", "png"),
    "npy": ("--n", 500, "--format", "npy", "--shard-size", 120, "--latents", "--grid", "2x3"),
    "npz": ("--n", 50, "--format", "npz"),
    "tar": ("--n", 500, "--format", "tar", "--shard-size", 120, "--latents"),
    "zip": ("--n", 50, "--format", "zip", "--shard-size", 20),
    "idx": ("--n", 50, "--format", "idx", "--shard-size", 20),
}
# 60 bytes an image: each part is an upload of several, and the run of several of these.
LARGE = ("--n", 400_000, "--format", "npy", "--shard-size", 200_000, "--workers", 1)


@pytest.fixture(params=["s3", "memory"])
def root(request: pytest.FixtureRequest) -> Iterator[str]:
    """A URL at which there is nothing."""
    if request.param == "s3":
        s3 = request.getfixturevalue("s3")
        yield "s3://bucket/some/prefix"
        assert uploads(s3) == []
    else:
        yield f"memory://{uuid.uuid4().hex}/prefix"


def there(url: str) -> dict[str, bytes]:
    """Every file below a URL, by its path."""
    fs, top = fsspec.url_to_fs(url)
    fs.invalidate_cache()
    return {path.removeprefix(f"{top}/"): fs.cat_file(path) for path in fs.find(top)}


@pytest.mark.parametrize("what", RUNS)
def test_a_url_gets_what_a_folder_gets(root: str, what: str) -> None:
    sample(*RUNS[what], "--out", "local")
    sample(*RUNS[what], "--out", root)
    assert len(tree("local")) > 1
    assert there(root) == tree("local")
    assert main(["verify", root, "-q"]) == 0


def test_a_url_may_name_a_file(root: str) -> None:
    what = ("--n", 50, "--latents", "--grid", "2x3")
    sample(*what, "--out", "local/x.npy")
    sample(*what, "--out", f"{root}/x.npy")
    assert sorted(there(root)) == ["x.grid.png", "x.latents.npy", "x.npy", "x.npy.manifest.json"]
    assert there(root) == tree("local")
    assert main(["verify", f"{root}/x.npy", "-q"]) == 0


def test_a_bucket_may_be_the_folder(s3: fsspec.AbstractFileSystem) -> None:
    sample("--n", 5, "--out", "local")
    sample("--n", 5, "--out", "local/x.npy", "--grid", "1x1")
    for bucket in ("s3://bucket", "s3://bucket/"):
        sample("--n", 5, "--out", bucket, "--overwrite")
        sample("--n", 5, "--out", f"{bucket.rstrip('/')}/x.npy", "--grid", "1x1", "--overwrite")
        assert there("s3://bucket") == tree("local")


def test_shards_meet_at_a_url(root: str) -> None:
    for shard in ("1/2", "0/2"):
        for out in ("local", root):
            sample(*RUNS["tar"], "--out", out, "--shard", shard)
    assert there(root) == tree("local")
    assert main(["verify", root, "-q"]) == 0


def test_verify_finds_what_is_damaged_and_missing(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    sample(*RUNS["npy"], "--out", root)
    fs, top = fsspec.url_to_fs(root)
    fs.pipe_file(f"{top}/000001.npy", fs.cat_file(f"{top}/000001.npy")[:-1] + b"\0")
    fs.rm_file(f"{top}/000002.npy")
    assert main(["verify", root]) == 1
    found = capsys.readouterr()
    assert "000001.npy: its pixels are not those of the manifest\n" in found.out
    assert f"000002.npy: cannot read {root}/000002.npy: " in found.out
    assert f"Error: {root}: 2 problems; 240 of 500 images are in damaged parts" in found.err


def test_a_url_with_a_run_is_kept(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    sample(*RUNS["npy"], "--out", root)
    was = there(root)
    for arguments, message in (
        ((*RUNS["npy"],), f"{root} already holds this run, complete; --resume makes only what is gone"),
        ((*RUNS["tar"],), f"{root} already holds another run: format is npy there and tar here"),
        ((*RUNS["tar"], "--resume"), f"{root} already holds another run: format is npy there and tar here"),
    ):
        sample(*arguments, "--out", root, status=1)
        assert message in capsys.readouterr().err
        assert there(root) == was
    sample(*RUNS["npy"], "--out", root, "--resume")
    assert there(root) == was
    fs, top = fsspec.url_to_fs(root)
    fs.pipe_file(f"{top}/notes.txt", b"mine")
    sample(*RUNS["folders"], "--out", root, "--overwrite")
    sample(*RUNS["folders"], "--out", "local")
    assert there(root) == {**tree("local"), "notes.txt": b"mine"}


def test_an_upload_that_is_refused_ends_the_run_and_resuming_finishes_it(
    s3: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call, refused = type(s3).call_s3, []

    def refuse(self: object, method: str, *arguments: object, **options: object) -> object:
        if options.get("Key") == "run/000001.npy" and options.get("PartNumber") == 2:
            refused.append(method)
            raise PermissionError("Access Denied")
        return call(self, method, *arguments, **options)

    out = "s3://bucket/run"
    monkeypatch.setattr(type(s3), "call_s3", refuse)
    sample(*LARGE, "--out", out, status=1)
    assert refused == ["upload_part"]
    assert capsys.readouterr().err == (
        "Error: cannot write s3://bucket/run/000001.npy: Access Denied\n"
        "200,000 of 400,000 images are not made; the same command with --resume makes them\n"
    )
    monkeypatch.setattr(type(s3), "call_s3", call)
    assert uploads(s3) == []
    assert sorted(there(out)) == [".vae-gen/000000.json", ".vae-gen/run.json", "000000.npy"]
    assert main(["verify", out]) == 1
    assert f"{out} holds an unfinished run; sample --resume makes the rest" in capsys.readouterr().err
    modified = s3.modified("bucket/run/000000.npy")
    sample(*LARGE, "--out", out, "--resume")
    sample(*LARGE, "--out", "local")
    assert there(out) == tree("local")
    assert s3.modified("bucket/run/000000.npy") == modified


@pytest.mark.parametrize(
    "what",
    [("--n", 400), ("--n", 400, "--format", "npy", "--shard-size", 40, "--latents")],
    ids=["png", "npy"],
)
def test_a_server_that_goes_away_is_named_and_resuming_finishes_when_it_is_back(
    s3: fsspec.AbstractFileSystem,
    endpoint: str,
    what: tuple[object, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)  # with the buckets that the other one has
    server.start()
    host, port = server.get_host_and_port()
    find, found = RemoteStore._find, []

    def find_and_stop(self: RemoteStore, name: str) -> object:
        found.append(name)
        if found.count(name) == 5 or name == "000003.latents.npy":
            server.stop()
        return find(self, name)

    with monkeypatch.context() as patch:
        set_s3(patch, f"http://{host}:{port}")
        patch.setattr(type(s3), "retries", 1)
        patch.setitem(fsspec.config.conf["s3"], "config_kwargs", {"retries": {"max_attempts": 0}})
        patch.setattr(RemoteStore, "_find", find_and_stop)
        sample(*what, "--out", "s3://bucket/run", status=1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Error: cannot write ")
    assert "s3://bucket/run" in lines[0]
    assert f'Could not connect to the endpoint URL: "http://{host}:{port}/' in lines[0]
    assert lines[1].endswith("0 of 400 images are not made; the same command with --resume makes them")
    assert len(lines) == 2
    sample(*what, "--out", "local")
    left = {name: content for name, content in there("s3://bucket/run").items() if not name.startswith(".vae-gen")}
    assert left
    assert left == {name: content for name, content in tree("local").items() if name in left}
    sample(*what, "--out", "s3://bucket/run", "--resume")
    assert there("s3://bucket/run") == tree("local")


def test_several_processes_write_to_a_url(s3: fsspec.AbstractFileSystem, endpoint: str) -> None:
    settings = {**os.environ, **ENVIRONMENT, "AWS_ENDPOINT_URL": endpoint}
    command = [*VAE_GEN, "sample", "--model", TINY, "--seed", "3", *map(str, RUNS["tar"]), "--threads", "1"]
    found = subprocess.run(
        [*command, "--out", "s3://bucket/run", "--workers", "2"],
        env=settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (found.returncode, found.stderr) == (0, "500 images in s3://bucket/run\n")
    sample(*RUNS["tar"], "--out", "local")
    assert there("s3://bucket/run") == tree("local")


@pytest.mark.parametrize("missing", ["fsspec", "s3fs"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    block = f"import sys; sys.modules[{missing!r}] = None; from vae_gen.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", block, "sample", "--n", "5", "--out", "s3://bucket/x"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1] == (
        f"Error: writing to s3:// needs {missing}, and '{missing}' is not installed here; "
        'install them with: pip install "vae-gen[remote]"'
    )
