"""A run where something is already: it goes on, overwrites what a run made, or refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from vae_gen.cli import main
from vae_gen.containers.arrays import ArrayContainer
from vae_gen.containers.zip import ZipContainer
from vae_gen.errors import BundleError, OutputError
from vae_gen.generator import generate, jobs

from tests.runs import TINY, sample, tree

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_what_was_complete_is_not_made_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    what = ("--n", 50, "--seed", 3, "--format", "tar", "--shard-size", 10, "--threads", 1)
    sample(*what, "--out", "whole")
    made: list[int] = []
    write_part = generate.write_part

    def fail_at_the_fourth(store, run, part, *arguments):  # type: ignore[no-untyped-def]
        if part.number == 3 and len(made) == 3:
            raise BundleError("the decoder broke")
        made.append(part.number)
        return write_part(store, run, part, *arguments)

    monkeypatch.setattr(generate, "write_part", fail_at_the_fourth)
    sample(*what, "--out", "out", status=1)
    message = "Error: the decoder broke\n20 of 50 images are not made; the same command with --resume makes them\n"
    assert capsys.readouterr().err == message
    assert sorted(path.name for path in Path("out").glob("*.tar")) == [f"00000{number}.tar" for number in range(3)]
    assert not Path("out/manifest.json").exists()
    assert main(["verify", "out"]) == 1
    assert "unfinished" in capsys.readouterr().err
    made.append(-1)
    sample(*what, "--out", "out", "--resume")
    assert made == [0, 1, 2, -1, 3, 4]
    assert tree("out") == tree("whole")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            ("--seed", 3),
            ("--seed", 3),
            "holds this run, complete; --resume makes only what is gone, --overwrite repeats it",
        ),
        (("--seed", 3), ("--seed", 4), "already holds another run: seed is 3 there and 4 here; choose another --out"),
        (("--seed", 3), ("--seed", 4, "--resume"), "another run: seed is 3 there and 4 here"),
        (("--seed", 3), ("--seed", 3, "--n", 6), "indices is 0-4 there and 0-5 here, images is 5 there and 6 here"),
        (("--seed", 3), ("--seed", 3, "--temperature", 0.5), "temperature is 1.0 there and 0.5 here"),
        (("--seed", 3), ("--seed", 3, "--no-metadata", "--resume"), "metadata is True there and False here"),
        (("--seed", 3), ("--seed", 3, "--format", "npy"), "format is png there and npy here"),
        (("--seed", 3), ("--seed", 3, "--shard", "0/2"), "shards is 1 there and 2 here"),
    ],
    ids=str,
)
def test_a_folder_with_a_run_is_kept(
    before: tuple[object, ...], after: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sample("--n", 5, *before, "--out", "out")
    was = tree("out")
    sample("--n", 5, *after, "--out", "out", status=1)
    assert message in capsys.readouterr().err
    assert tree("out") == was


def test_another_version_does_not_go_on_with_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    sample("--n", 5, "--seed", 3, "--out", "out")
    manifest = json.loads(Path("out/manifest.json").read_text())
    manifest["versions"]["onnxruntime"] = "1.2.3"
    Path("out/manifest.json").write_text(json.dumps(manifest))
    sample("--n", 5, "--seed", 3, "--out", "out", "--resume", status=1)
    assert "another run: onnxruntime is 1.2.3 there and " in capsys.readouterr().err


def test_a_complete_run_is_resumed_by_doing_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for out in ("out", "a.npy"):
        sample("--n", 5, "--seed", 3, "--out", out)
        was = {name: Path(name).stat().st_mtime_ns for name in tree(".")}
        monkeypatch.setattr(generate, "make_part", None)
        sample("--n", 5, "--seed", 3, "--out", out, "--resume")
        sample("--n", 5, "--out", out, "--resume")  # without --seed it is the seed of what is there
        assert {name: Path(name).stat().st_mtime_ns for name in tree(".")} == was


def test_a_contact_sheet_that_is_gone_is_made_again_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for out, sheet in (("out", "out/grid.png"), ("a.npy", "a.grid.png")):
        sample("--n", 5, "--seed", 3, "--grid", "2x2", "--out", out)
        before = tree(".")
        Path(sheet).unlink()
        with monkeypatch.context() as patch:
            patch.setattr(jobs, "make_part", None)
            sample("--n", 5, "--seed", 3, "--grid", "2x2", "--out", out, "--resume")
        assert tree(".") == before


MINE = ("notes.txt", "2024/000.png", "20240/000.png", "12.png", "1700000000.png", "my.tar", "000003.tar", "latents.npy")


def write_mine(*names: str) -> None:
    for name in names:
        Path("out", name).parent.mkdir(parents=True, exist_ok=True)
        Path("out", name).write_text("mine")


def test_a_folder_with_something_else_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    write_mine("notes.txt")
    sample("--n", 3, "--seed", 4, "--out", "out", status=1)
    assert "out already holds something; choose another --out, or give --overwrite" in capsys.readouterr().err
    assert tree("out") == {"notes.txt": b"mine"}


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(
    "what", [("--n", 12, "--grid", "2x2"), ("--n", 10_001), ("--n", 9, "--format", "tar")], ids=str
)
def test_overwriting_removes_what_the_run_there_lists_and_nothing_else(
    what: tuple[object, ...], complete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        if not complete:
            patch.setattr(generate.Run, "command", property(lambda run: run.nothing))  # fails at the very end
            with pytest.raises(AttributeError):
                sample(*what, "--seed", 3, "--out", "out")
        else:
            sample(*what, "--seed", 3, "--out", "out")
    write_mine(*MINE)
    sample("--n", 3, "--seed", 4, "--out", "out", "--overwrite")
    assert set(tree("out")) == {"000000000.png", "000000001.png", "000000002.png", "manifest.json", *MINE}
    for name in MINE:
        assert Path("out", name).read_text() == "mine"


def test_what_somebody_has_put_into_a_part_s_folder_is_not_removed(capsys: pytest.CaptureFixture[str]) -> None:
    sample("--n", 10_001, "--seed", 3, "--out", "out")
    for mine in ("out/00000/notes.txt", "out/00001/000000001.png"):
        Path(mine).write_text("mine")
        Path("out/00000/000000001.png").unlink(missing_ok=True)
        was = tree("out")
        message = f"Error: {Path(mine).parent} would be removed, and {Path(mine).name} in it is none of its images; "
        sample("--n", 3, "--seed", 4, "--out", "out", "--overwrite", status=1)
        assert message in capsys.readouterr().err
        if "notes" in mine:
            assert main(["verify", "out", "--discard"]) == 1
            assert message in capsys.readouterr().err
        assert tree("out") == was
        Path(mine).unlink()
    Path("out/00000/.DS_Store").write_text("of a file manager")
    sample("--n", 3, "--seed", 4, "--out", "out", "--overwrite")
    assert not Path("out/00000").exists()


@pytest.mark.parametrize("before", ["nothing", "a smaller run", "an unfinished run"])
def test_a_folder_of_somebody_that_is_called_as_a_part_is_to_be_is_not_removed(
    before: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    way = "--resume" if before == "an unfinished run" else "--overwrite"
    whole = ("--n", 10_001, "--seed", 3, "--out", "out")
    if before == "a smaller run":
        sample("--n", 5, "--seed", 3, "--out", "out")
    if before == "an unfinished run":
        with monkeypatch.context() as patch:
            patch.setattr(jobs, "make_part", raising(BundleError("the decoder broke")))
            sample(*whole, status=1)
    write_mine("00000/precious.txt")
    was = tree("out")
    capsys.readouterr()
    sample(*whole, way, status=1)
    message = f"{Path('out/00000')} would be removed, and precious.txt in it is none of its images; nothing was removed"
    assert message in capsys.readouterr().err
    assert tree("out") == was
    Path("out/00000/precious.txt").unlink()
    sample(*whole, way)
    assert main(["verify", "out", "-q"]) == 0


def raising(error: Exception) -> Callable[..., None]:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("container", [ArrayContainer, ZipContainer])
@pytest.mark.parametrize("beside", [(), ("--latents",)], ids=str)
def test_a_file_that_could_not_be_written_leaves_what_was_there(
    container: type, beside: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fails at the last moment: a zip archive's directory comes after all images."""
    out = "a.npy" if container is ArrayContainer else "a.zip"
    fails = raising(OutputError("the disk is full"))
    with monkeypatch.context() as patch:
        patch.setattr(container, "close", fails)
        sample("--n", 5, "--seed", 1, *beside, "--out", out, status=1)
    assert tree(".") == {}
    sample("--n", 5, "--seed", 1, *beside, "--out", out)
    was = tree(".")
    with monkeypatch.context() as patch:
        patch.setattr(container, "close", fails)
        sample("--n", 5, "--seed", 2, *beside, "--out", out, "--overwrite", status=1)
    assert tree(".") == was
    capsys.readouterr()
    sample("--n", 5, "--seed", 2, *beside, "--out", out, "--resume", status=1)
    assert "another run: seed is 1 there and 2 here" in capsys.readouterr().err
    sample("--n", 5, "--seed", 2, *beside, "--out", out, "--overwrite")
    assert main(["verify", out, "-q"]) == 0


def test_what_is_gone_of_an_unfinished_run_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    what = ("--n", 12, "--seed", 3, "--format", "npy", "--shard-size", 4, "--latents", "--out", "out")
    for gone in ("out/000001.npy", "out/000000.latents.npy"):
        with monkeypatch.context() as patch:
            patch.setattr(generate.Run, "command", property(lambda run: run.nothing))
            with pytest.raises(AttributeError):
                sample(*what, "--overwrite")
        Path(gone).unlink()
        sample(*what, "--resume")
        assert main(["verify", "out", "-q"]) == 0


def test_more_images_than_an_idx_file_counts_are_refused_before_anything_is_removed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sample("--n", 5, "--seed", 1, "--out", "out")
    was = tree("out")
    for way in ("--overwrite", "--resume"):
        sample("--n", 2**32, "--format", "idx", "--out", "out", way, status=2)
        assert capsys.readouterr().err.endswith("not 4,294,967,296; choose npy, or write several files\n")
        assert tree("out") == was
    sample("--n", 2**32, "--format", "idx", "--out", "new", status=2)
    assert not Path("new").exists()


@pytest.mark.parametrize("content", ["{}", "[", '{"name": "my web page", "icons": []}'])
def test_a_manifest_of_something_else_is_not_overwritten(content: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_mine("000000001.png")
    Path("out/manifest.json").write_text(content)
    was = tree("out")
    for command in (["sample", "--n", "3", "--seed", "4"], ["decode", "--z", "1,2,3"]):
        assert main([*command, "--model", TINY, "--out", "out", "--overwrite"]) == 1
        message = capsys.readouterr().err
        assert f"{Path('out/manifest.json')} is no manifest of a run, or a damaged one: " in message
        assert message.endswith("; choose another --out, or remove it yourself\n")
    assert tree("out") == was


def test_a_run_that_was_killed_before_it_said_what_it_makes_is_none() -> None:
    Path("out/.vae-gen").mkdir(parents=True)
    sample("--n", 3, "--seed", 3, "--out", "out")
    assert main(["verify", "out", "-q"]) == 0


def test_a_damaged_record_of_an_unfinished_run_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    what = ("--n", 12, "--seed", 3, "--format", "npy", "--shard-size", 4, "--out", "out")
    with monkeypatch.context() as patch:
        patch.setattr(generate.Run, "command", property(lambda run: run.nothing))
        with pytest.raises(AttributeError):
            sample(*what)
    Path("out/.vae-gen/000001.json").write_text('{"images": 4}')
    sample(*what, "--resume")
    assert main(["verify", "out", "-q"]) == 0


def test_overwriting_clears_away_what_a_killed_run_had_begun() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate.Run, "command", property(lambda run: run.nothing))
        with pytest.raises(AttributeError):
            sample("--n", 12, "--seed", 3, "--format", "tar", "--shard-size", 6, "--latents", "--out", "out")
    begun = [".000001.tar.17-0.partial", ".000001.latents.npy.17-1.partial", ".vae-gen/.000001.json.17-2.partial"]
    write_mine(*begun, ".000003.tar.17-3.partial", ".000001.tar.17-0.partial.txt")
    sample("--n", 3, "--seed", 4, "--out", "out", "--format", "npy", "--overwrite")
    there = {path.name for path in Path("out").iterdir()}
    assert there == {"000000.npy", "manifest.json", ".000003.tar.17-3.partial", ".000001.tar.17-0.partial.txt"}


def test_what_decode_has_made_is_another_run_than_any_sample_goes_on_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "--model", TINY, "--z", "1,2,3", "--out", "out"]) == 0
    was = tree("out")
    sample("--n", 3, "--out", "out", "--resume", status=1)
    assert "out already holds another run: seed is None there and " in capsys.readouterr().err
    assert tree("out") == was


@pytest.mark.parametrize("z", ["out/latents.npy", "z.npy", "out/z.csv"])
def test_decode_does_not_overwrite_the_latents_that_it_reads(z: str, capsys: pytest.CaptureFixture[str]) -> None:
    sample("--n", 3, "--seed", 4, "--out", "out", "--latents")
    Path("out/z.csv").write_text("1,2,3\n")
    np.save("z.npy", np.zeros((2, 3)))
    was = tree(".")
    out = "z.npy" if z == "z.npy" else "../" + Path.cwd().name + "/out"
    for place in (out, f"file:///{Path(out).resolve().as_posix().lstrip('/')}"):
        assert main(["decode", "--model", TINY, "--z", z, "--out", place, "--overwrite"]) == 2
        message = f"Error: --out {place} --overwrite may remove what is read: {z} is there; choose another --out\n"
        assert capsys.readouterr().err == message
        assert tree(".") == was
    assert main(["decode", "--model", TINY, "--z", "1,2,3", "--out", out, "--overwrite"]) == 0


@pytest.mark.parametrize("before", [True, False])
def test_a_file_that_is_not_finished_leaves_no_contact_sheet_of_its_own(
    before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before:
        sample("--n", 4, "--seed", 3, "--out", "a.npy", "--grid", "2x2")
    there = tree(".")

    def fail(*arguments: object) -> None:
        raise OutputError("no space")

    with monkeypatch.context() as broken:
        broken.setattr(ArrayContainer, "write", fail)
        sample("--n", 4, "--seed", 4, "--out", "a.npy", "--grid", "2x2", "--overwrite", status=1)
    assert tree(".") == there
    sample("--n", 4, "--seed", 4, "--out", "a.npy", "--grid", "2x2", *["--overwrite"] * before)
    assert len(tree(".")) == 3


def test_a_shard_of_another_run_is_not_told_to_overwrite(capsys: pytest.CaptureFixture[str]) -> None:
    what = ("--n", 20, "--format", "npy", "--shard-size", 5, "--out", "out", "--shard")
    sample(*what, "0/2", "--seed", 3)
    capsys.readouterr()
    sample(*what, "1/2", "--seed", 4, status=1)
    assert capsys.readouterr().err.endswith("another run: seed is 3 there and 4 here; choose another --out\n")


def test_files_beside_a_file_are_kept_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.latents.npy").write_text("mine")
    sample("--n", 3, "--seed", 4, "--out", "a.npy", "--latents", status=1)
    assert "already holds something" in capsys.readouterr().err
    assert tree(".") == {"a.latents.npy": b"mine"}
    sample("--n", 3, "--seed", 4, "--out", "a.npy", "--latents", "--overwrite")
    assert np.load("a.latents.npy").shape == (3, 3)


def test_overwriting_a_file_leaves_nothing_beside_it_that_was_of_the_old_one() -> None:
    sample("--n", 3, "--seed", 3, "--latents", "--grid", "1x3", "--out", "a.npy")
    Path("a.csv").write_text("mine")
    sample("--n", 3, "--seed", 4, "--grid", "1x3", "--out", "a.npy", "--overwrite")
    assert set(tree(".")) == {"a.npy", "a.npy.manifest.json", "a.grid.png", "a.csv"}
    sample("--n", 3, "--seed", 5, "--out", "a.npy", "--overwrite")
    assert set(tree(".")) == {"a.npy", "a.npy.manifest.json", "a.csv"}
    Path("a.latents.npy").write_text("mine")  # of which the manifest does not speak
    sample("--n", 3, "--seed", 6, "--out", "a.npy", "--overwrite")
    assert Path("a.latents.npy").read_text() == "mine"


def test_decode_does_not_overwrite_the_file_whose_latents_it_reads(capsys: pytest.CaptureFixture[str]) -> None:
    sample("--n", 3, "--seed", 3, "--latents", "--out", "a.npy")
    was = tree(".")
    assert main(["decode", "--model", TINY, "--z", "a.latents.npy", "--out", "a.npy", "--overwrite"]) == 2
    assert "--out a.npy --overwrite may remove what is read: a.latents.npy is there" in capsys.readouterr().err
    assert tree(".") == was
