from __future__ import annotations

import random

import pytest
from vae_gen.errors import UsageError
from vae_gen.generator.indices import Indices


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("5,17,100-120", [5, 17, *range(100, 121)], "5,17,100-120"),
        (" 3 - 5 , 1", [1, 3, 4, 5], "1,3-5"),
        ("7,7,6-8,9", [6, 7, 8, 9], "6-9"),
        ("0", [0], "0"),
        (f"{2**63 - 1}", [2**63 - 1], f"{2**63 - 1}"),
    ],
)
def test_what_people_write_is_a_set_in_order(text: str, expected: list[int], shown: str) -> None:
    indices = Indices.parse(text)
    assert list(indices) == expected
    assert str(indices) == shown
    assert indices.count == len(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no index"),
        ("1,", "'' is no index"),
        ("-1", "'-1' is no index"),
        ("1-2-3", "'1-2-3' is no index"),
        ("x", "write, for example, 5,17,100-120"),
        ("5-4", "the range 5-4 ends before it begins"),
        (f"{2**63}", r"indices run from 0 to 2\*\*63 - 1"),
    ],
)
def test_what_is_no_set_of_indices_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Indices.parse(text)


@pytest.mark.parametrize(
    ("start", "count", "message"), [(0, 0, "n is 0"), (-1, 2, "indices run"), (2**63 - 1, 2, "run"), (0, 10**23, "run")]
)
def test_a_range_out_of_range_is_refused(start: int, count: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Indices.of(start, count)


def test_slices_and_batches_are_those_of_a_list() -> None:
    dice = random.Random(0)
    for _ in range(50):
        numbers = sorted(dice.sample(range(60), dice.randint(1, 40)))
        indices = Indices.parse(",".join(map(str, numbers)))
        first, stop = sorted((dice.randint(0, len(numbers) - 1), dice.randint(1, len(numbers) + 3)))
        if first < min(stop, len(numbers)):
            assert list(indices.slice(first, stop)) == numbers[first:stop]
        first, last = sorted(dice.choices(numbers, k=2))
        among = [number for number in numbers if first <= number <= last]
        assert list(indices.between(first, last + 1)) == among
        assert [index for index in range(-1, 62) if indices.any_between(index, index + 1)] == numbers
        assert list(indices.between(max(0, first - 1), last + 1))[-len(among) :] == among
        size = dice.randint(1, 45)
        assert [list(batch) for batch in indices.batches(size)] == [
            numbers[begin : begin + size] for begin in range(0, len(numbers), size)
        ]


def test_a_billion_costs_nothing() -> None:
    indices = Indices.of(7, 10**12)
    assert str(indices.slice(10**11, 10**11 + 5)) == "100000000007-100000000011"
    assert Indices.of(0, 2**63).count == 2**63
