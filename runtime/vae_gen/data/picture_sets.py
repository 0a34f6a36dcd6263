"""Pictures in a folder or an archive -> a data set: all are decoded once, and from then on the pixels are mapped."""

from __future__ import annotations

import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image, UnidentifiedImageError

from vae_gen.cpus import usable_cpus
from vae_gen.data.cache import Slot
from vae_gen.data.fitting import fit_picture, is_grey, shown_size
from vae_gen.data.options import DataOptions, Notify
from vae_gen.data.picture_files import NO_PICTURE, check_readable, is_figure, unreadable
from vae_gen.data.picture_sources import Listing, PictureFile, PictureSource
from vae_gen.data.splits import TEST_SHARE, VALIDATION_SHARE, DataSet, check_enough, sha256_of_images
from vae_gen.data.tones import Tones
from vae_gen.errors import DataError
from vae_gen.images import ByteImages, ImageShape, inverted

MAX_DEFAULT_SIDE = 128  # pixels, of an image size that nobody asked for
DEFAULT_SIDE = 64  # where the pictures differ in size
AT_ONCE = 64  # pictures that are decoded before the next are begun
WAITING_BYTES = 1 << 26  # that their pixels may have together
SECONDS_BETWEEN_MESSAGES = 10

DRAWN = "drawn by vae-gen"  # why a file is not used that can be read

KINDS = {1: "grey", 3: "colour", 4: "colour and alpha"}

Result = TypeVar("Result")


def load_picture_set(source: PictureSource, options: DataOptions, notify: Notify) -> DataSet:
    """The pictures that lie there, as images of one size and number of channels.

    `notify` is told what was chosen where the options leave it open, and what was left out.
    Raises OSError, DataError if there are too few pictures or, without `skip_bad`, if one cannot be read; OutputError
    if the cache cannot be written.
    """
    slot, known = _kept(source, options)
    if known is None or (known["bad"] and not options.skip_bad):
        with source.listing() as listing:
            if not listing.pictures:
                raise _no_pictures(source.path, listing.others)
            known = _fill(slot, source.path, listing, options, notify)
    for message in known["messages"]:
        notify(message)
    if known["bad"]:
        notify(f"left out {unreadable(known['bad'], f' in {source.path}')}")
    images = slot.open_images()
    test, validation = known["test"], known["test"] + known["validation"]
    return DataSet(
        known["sha256"],
        known["test_sha256"],
        images[validation:],
        images[test:validation],
        images[:test] if test else None,
    )


def _kept(source: PictureSource, options: DataOptions) -> tuple[Slot, dict[str, Any] | None]:
    """The place of these images in the cache, and what is known of them if they are there.

    They may be there as what was chosen when nothing was asked for: so `evaluate` finds what `train` has read.
    """
    asked = options.as_dict()
    del asked["skip_bad"]  # decides whether there are images, not which
    wanted = options.channels, options.image_size
    for unasked in ({}, {"channels": None}, {"image_size": None}, {"channels": None, "image_size": None}):
        slot = Slot.of([str(source.path.resolve()), asked | unasked], source.state)
        if (known := slot.read()) is not None:
            channels, *size = slot.open_images().shape[1:]
            if not unasked or (channels, tuple(size)) == wanted:
                return slot, known
    return Slot.of([str(source.path.resolve()), asked], source.state), None


def _fill(slot: Slot, path: Path, listing: Listing, options: DataOptions, notify: Notify) -> dict[str, Any]:
    """Read all pictures into the slot; what is known of them."""
    notify(f"reading the pictures in {path}, once; their pixels are kept in {slot.images}")
    counts: Counter[str] = Counter()
    others = Counter(listing.others)
    bad: list[str] = []
    brightest, where = 0.0, f" in {path}"
    # Pillow's warnings about odd files stay silent, in all threads.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(usable_cpus()) as pool:
        messages, shape = _choose_shape(pool, listing, options)

        def chunks() -> Iterator[ByteImages]:
            nonlocal brightest
            told = time.monotonic()
            read = partial(_read, listing, shape, options.tones)
            reads = _in_order(pool, read, listing.pictures, math.prod(shape))
            for number, (file, image) in enumerate(reads, 1):
                if time.monotonic() - told > SECONDS_BETWEEN_MESSAGES:
                    told = time.monotonic()
                    notify(f"read {number} of {len(listing.pictures)} pictures")
                if not isinstance(image, str):
                    counts[file.split] += 1
                    brightest = max(brightest, options.tones.brightest(image, 255))
                    yield image[None]
                elif image == DRAWN:
                    others[DRAWN] += 1
                elif image == NO_PICTURE and not file.sure:
                    others["without a suffix"] += 1
                else:
                    bad.append(f"{file.name}: {image if file.size else 'it is empty'}")
            check_readable(bad, options.skip_bad, where)
            if not counts and not bad:
                raise _no_pictures(path, others)
            if not counts:
                raise DataError(f"{path} holds no picture that can be read: {unreadable(bad, where)}")
            source = f"{path}/train" if len(counts) > 1 else str(path)
            check_enough(counts["train"], source)

        slot.write_images(shape, chunks())
    if hint := options.tones.hint_if_dark(brightest):
        messages.append(hint)
    if others:
        messages.append(f"{path} also holds files that are not used: {_listed(others)}")
    test, validation = counts["test"], counts["validation"]
    if len(counts) == 1:
        test = counts["train"] // TEST_SHARE
    if not validation:
        validation = counts["train"] // VALIDATION_SHARE
    images = slot.open_images()
    channels, height, width = shape
    parts = f"{len(images) - test - validation} to train with, {validation} for validation, {test} for testing"
    messages.insert(0, f"{len(images)} pictures as {height}x{width}, {KINDS[channels]}: {parts}")
    known = {
        "path": str(path.resolve()),
        "sha256": sha256_of_images(images[test:]),
        "test_sha256": sha256_of_images(images[:test]) if test else None,
        "test": test,
        "validation": validation,
        "messages": messages,
        "bad": bad,
    }
    slot.write(known, in_cache=True)
    return known


def _read(listing: Listing, shape: ImageShape, tones: Tones, file: PictureFile) -> ByteImages | str:
    """The picture [C, H, W], or why there is none."""
    try:
        with Image.open(listing.open(file.name)) as picture:
            if is_figure(picture):
                return DRAWN
            image = fit_picture(picture, shape, tones.white)
    except UnidentifiedImageError:
        return NO_PICTURE
    except Exception as error:  # what a decoder raises on damaged input can be anything
        return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return inverted(image, 255) if tones.invert else image


def _choose_shape(pool: ThreadPoolExecutor, listing: Listing, options: DataOptions) -> tuple[list[str], ImageShape]:
    """The shape of the images, and messages that say what was chosen."""
    messages: list[str] = []
    size, channels = options.image_size, options.channels
    looked_at = listing.pictures if size is None or channels is None else []
    headers = list(_in_order(pool, partial(_look, listing), looked_at))
    readable = [(file, *header) for file, header in headers if header is not None]
    if size is None:
        size, why = default_size([found for _, found, _ in readable])
        if why:
            messages.append(f"{why}: {size[0]}x{size[1]} was chosen; --image-size asks for another")
    if channels is None:
        # Colour files may hold nothing but greys. The first that does not settles it.
        others = [file for file, _, grey in readable if not grey]
        reads = _in_order(pool, partial(_read, listing, (3, *size), options.tones), others, 3 * math.prod(size))
        colour = any(not isinstance(image, str) and (image != image[:1]).any() for _, image in reads)
        channels = 3 if colour else 1
    return messages, (channels, *size)


def _look(listing: Listing, file: PictureFile) -> tuple[tuple[int, int], bool] | None:
    """The size of a picture and whether it is grey, from its header; None if that cannot be read or it is a figure."""
    try:
        with Image.open(listing.open(file.name)) as picture:
            return None if is_figure(picture) else (shown_size(picture), is_grey(picture))
    except Exception:  # it will be named when it is read
        return None


def default_size(sizes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], str]:
    """The image size for pictures of these (height, width), and why it is not simply theirs.

    The size that more than half of them have, unless it is large; otherwise a square.
    """
    if not sizes:
        return (DEFAULT_SIDE, DEFAULT_SIDE), ""
    (size, count), *_ = Counter(sorted(sizes)).most_common(1)
    if 2 * count > len(sizes) and max(size) <= MAX_DEFAULT_SIDE:
        return size, "" if count == len(sizes) else f"{count} of {len(sizes)} pictures have one size"
    shorter = sorted(min(each) for each in sizes)[len(sizes) // 2]
    side = min(DEFAULT_SIDE, shorter)
    side -= side % (16 if side >= 16 else 4) if side >= 4 else 0
    if count == len(sizes):
        return (side, side), f"the pictures are large ({size[0]}x{size[1]})"
    return (side, side), f"the pictures differ in size ({len(set(sizes))} sizes)"


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[PictureFile], Result], files: Sequence[PictureFile], size: int = 1
) -> Iterator[tuple[PictureFile, Result]]:
    """Each file and what the function makes of it, `size` bytes; few results wait, so that they need little memory."""
    at_once = max(1, min(AT_ONCE, WAITING_BYTES // size))
    for start in range(0, len(files), at_once):
        group = files[start : start + at_once]
        yield from zip(group, pool.map(function, group), strict=True)


def _listed(others: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))


def _no_pictures(path: Path, others: Counter[str]) -> DataError:
    found = f"only other files ({_listed(others)})" if others else "it is empty"
    return DataError(f"{path} holds no pictures: {found}; give --data a folder that does, or one file of arrays")
