from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
from vae_gen.errors import UsageError
from vae_gen.generator.indices import Indices
from vae_gen.generator.parts import IMAGES_PER_FOLDER, Layout, Parts


def cut(indices: Indices, format: str, part_size: int | None = None, **others: Any) -> Parts:
    """All parts of such a run."""
    return Layout(indices=indices, format=format, part_size=part_size, **others).all_parts


def named(parts: Parts) -> list[tuple[str, str]]:
    return [(part.name, str(part.indices)) for part in parts]


def test_up_to_ten_thousand_pictures_stand_in_the_folder_itself() -> None:
    assert named(cut(Indices.of(5, 10_000), "png")) == [("", "5-10004")]


def test_more_stand_in_folders_of_ten_thousand_by_their_index() -> None:
    expected = [("00000", "5000-9999"), ("00001", "10000-19999"), ("00002", "20000-25000")]
    assert named(cut(Indices.of(5000, 20_001), "png")) == expected
    scattered = Indices.parse("3,9999,10000-19998,50000,50002,123456789012")
    assert named(cut(scattered, "png")) == [
        ("00000", "3,9999"),
        ("00001", "10000-19998"),
        ("00005", "50000,50002"),
        ("12345678", "123456789012"),
    ]


def test_containers_hold_a_shard_size_or_a_share_each() -> None:
    assert named(cut(Indices.of(10, 25), "tar", 10)) == [
        ("000000.tar", "10-19"),
        ("000001.tar", "20-29"),
        ("000002.tar", "30-34"),
    ]
    assert named(cut(Indices.of(0, 10), "npy")) == [("000000.npy", "0-9")]
    assert named(cut(Indices.of(0, 10), "npy", shards=3)) == [
        ("000000.npy", "0-3"),
        ("000001.npy", "4-7"),
        ("000002.npy", "8-9"),
    ]
    for latents, beside in ((True, "digits.latents.npy"), (False, "")):
        (part,) = cut(Indices.of(0, 10), "npy", file="digits.NPY", latents=latents)
        assert (part.name, part.latents_name) == ("digits.NPY", beside)


def test_a_part_knows_its_files() -> None:
    for layout, files in (
        ({"format": "tar", "latents": True}, ["000000.tar", "000000.latents.npy"]),
        ({"format": "png"}, ["000000003.png", "000000004.png"]),
        ({"format": "png", "latents": True}, ["000000003.png", "000000004.png", "latents.npy"]),
    ):
        assert cut(Indices.of(3, 2), **layout)[0].files == files
    assert cut(Indices.of(5000, 10_001), "png", latents=True)[1].files == ["00001", "00001.latents.npy"]


def test_folders_of_scattered_images_are_those_of_a_list() -> None:
    dice = random.Random(0)
    for _ in range(30):
        numbers = sorted(dice.sample(range(7 * IMAGES_PER_FOLDER), dice.choice([10_001, 30_000, 69_000])))
        expected: dict[str, list[int]] = {}
        for index in numbers:
            expected.setdefault(f"{index // IMAGES_PER_FOLDER:05d}", []).append(index)
        parts = cut(Indices.parse(",".join(map(str, numbers))), "png")
        assert {part.name: list(part.indices) for part in parts} == expected
        assert [part.number for part in parts] == list(range(len(expected)))


@pytest.mark.parametrize("format", ["png", "npy"])
def test_a_billion_parts_cost_nothing(format: str) -> None:
    layout = Layout(
        indices=Indices.of(5_000, 10**13),
        format=format,
        part_size=None if format == "png" else 10_000,
        shard=999_999,
        shards=1_000_000,
    )
    last = pickle.loads(pickle.dumps(layout.parts))
    assert len(layout.all_parts) - len(last) == last[0].number == 10**9 * 999_999 // 1_000_000
    assert len(last) == 1000 + (format == "png")
    assert str(last[-1].indices).endswith(str(10**13 + 4_999))


def test_more_shards_than_images_cost_nothing() -> None:
    layout = Layout(indices=Indices.of(3, 20), shards=99_999_999)
    assert named(layout.all_parts[-2:]) == [("", "21"), ("", "22")]
    assert len(layout.parts) == 0


@pytest.mark.parametrize("format", ["png", "npy", "tar"])
@pytest.mark.parametrize(("count", "part_size"), [(1, None), (7, None), (10_000, None), (45_000, 4000), (45_000, None)])
@pytest.mark.parametrize("shards", [1, 2, 3, 8])
def test_shards_are_disjoint_and_together_complete(format: str, count: int, part_size: int | None, shards: int) -> None:
    size = None if format == "png" else part_size
    run = {"indices": Indices.of(3, count), "format": format, "part_size": size, "latents": True, "shards": shards}
    shares = [Layout(**run, shard=shard).parts for shard in range(shards)]
    assert [index for each in shares for part in each for index in part.indices] == list(range(3, 3 + count))
    parts = [part for each in shares for part in each]
    assert len({part.latents_name for part in parts}) == len({part.number for part in parts}) == len(parts)
    sizes = [len(each) for each in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("shard", "shards"), [(3, 3), (-1, 3), (0, 0)])
def test_a_shard_that_is_not_there_is_refused(shard: int, shards: int) -> None:
    with pytest.raises(UsageError, match=f"shard is {shard}/{shards}"):
        Layout(indices=Indices.of(0, 10), shard=shard, shards=shards)
