"""The batch generator beside what bounds it: images a second, as ratios of one run.

python benchmarks/generator.py --folder /mnt/disk [--images 20000] [--rounds 5] [--threads 2]
python benchmarks/generator.py --folder /dev/shm --images 400000 --shard-size 20000 --rounds 2    # worth processes
python benchmarks/generator.py --folder /mnt/disk --memory    # the largest memory at 10,000 and at 1,000,000 images
python benchmarks/generator.py --folder /mnt/disk --start     # the whole process: 100 images beside two imports

In every round each takes its turn: a bare loop that only calls onnxruntime, one that only creates, writes and closes
files of the same sizes, the plain way (a PyTorch decoder of the same layers and Pillow's save), and the generator in
each format. What is printed is the median rate, and the median over the rounds of its ratio to the two bare loops.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from vae_gen.bundles import DEFAULT, find
from vae_gen.generator.generate import open_model, plan
from vae_gen.generator.indices import Indices
from vae_gen.generator.jobs import make_run
from vae_gen.generator.runs import Run
from vae_gen.manifest import DECODER

ROWS = 2048  # a run of the bare loop; of the sizes that decoders.py tries, the fastest
PLAIN_BATCH = 128
FORMATS = ("npy", "npz", "idx", "tar", "zip", "png")


def run_of(format: str, images: int, part_size: int | None = None) -> Run:
    """One file, or parts of that size."""
    container = format != "png"
    file = f"images.{format}" if container and part_size is None else ""
    return plan(DEFAULT, 0, Indices.of(0, images), format=format, file=file, part_size=part_size if container else None)


def generator(run: Run) -> Callable[[Path], None]:
    return lambda folder: make_run(run, str(folder)) and None


def bare_decoder(images: int, threads: int) -> Callable[[Path], None]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    path = find(DEFAULT) / DECODER
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    z = np.random.default_rng(0).standard_normal((ROWS, session.get_inputs()[0].shape[1]), np.float32)

    def loop(_folder: Path) -> None:
        for _ in range(0, images, ROWS):
            session.run(None, {"z": z})

    return loop


def bare_files(sizes: list[int]) -> Callable[[Path], None]:
    contents = [bytes(size) for size in sizes]

    def loop(folder: Path) -> None:
        for first in range(0, len(contents), 10_000):  # as many in a folder as the generator puts there
            place = f"{folder}/{first // 10_000:05d}"
            os.mkdir(place)  # noqa: PTH102
            for index, content in enumerate(contents[first : first + 10_000], first):
                file = os.open(f"{place}/{index:09d}.png", os.O_CREAT | os.O_WRONLY | os.O_EXCL)
                os.write(file, content)
                os.close(file)

    return loop


def plain_way(images: int, threads: int) -> Callable[[Path], None]:
    import torch
    from PIL import Image
    from vae_gen_train.config import TrainConfig
    from vae_gen_train.nets import build
    from vae_gen_train.prior import Prior

    torch.set_num_threads(threads)
    model, config = open_model(DEFAULT), TrainConfig.from_preset("mlp")
    vae = build(config.network, model.image_shape, config.latent_dim)
    decoder = Prior(config, vae).around(vae).decoder.eval()
    shown = torch.from_numpy(model.sample(images, seed=0))  # what is saved; the untrained decoder's are but noise

    def loop(folder: Path) -> None:
        with torch.inference_mode():
            for first in range(0, images, PLAIN_BATCH):
                decoder(torch.randn(PLAIN_BATCH, config.latent_dim))
                pixels = (shown[first : first + PLAIN_BATCH] * 255 + 0.5).to(torch.uint8).numpy()
                for index, image in enumerate(pixels, first):
                    Image.fromarray(image[0]).save(folder / f"{index:09d}.png")

    return loop


def timed(work: Callable[[Path], None], folder: Path) -> float:
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        begin = time.perf_counter()
        work(place)
        return time.perf_counter() - begin
    finally:
        shutil.rmtree(place)
        os.sync()  # so that nobody pays for another's writes


def compare(folder: Path, images: int, rounds: int, threads: int, part_size: int | None) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        make_run(run_of("png", images), place)
        sizes = [path.stat().st_size for path in sorted(Path(place).rglob("*.png"))]
    works = {
        "bare onnxruntime": bare_decoder(images, threads),
        "bare files": bare_files(sizes),
        "plain way": plain_way(images, threads),
        **{name: generator(run_of(name, images, part_size)) for name in FORMATS},
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            elapsed = timed(work, folder)
            if number:  # the first round warms up
                times[name].append(elapsed)
    print(f"{images:,} images, {threads} threads, {statistics.mean(sizes):.0f} bytes a PNG, {rounds} rounds")
    print(f"{'':18}{'images/s':>10}{'us/image':>10}{'to onnxruntime':>16}{'to files':>10}{'to plain':>10}{'to png':>8}")
    for name, found in times.items():
        median = statistics.median(found) / images
        ratios = (
            statistics.median(other / mine for other, mine in zip(times[reference], found, strict=True))
            for reference in ("bare onnxruntime", "bare files", "plain way", "png")
        )
        shown = "".join(f"{ratio:{width}.2f}" for ratio, width in zip(ratios, (16, 10, 10, 8), strict=True))
        print(f"{name:18}{1 / median:10,.0f}{1e6 * median:10.1f}{shown}")


def peak_memory(folder: Path) -> None:
    """The largest resident memory of the command, which runs in one process, by the kernel's account."""
    code = "import resource, sys; from vae_gen.cli import main; status = main(sys.argv[1:]); "
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(status)"
    for name in FORMATS:
        sizes = []
        for images in (10_000, 1_000_000):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                out = f"{place}/images" + (f".{name}" if name != "png" else "")
                command = ["sample", "--n", str(images), "--seed", "0", "--out", out, "--quiet", "--workers", "1"]
                found = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True)
                sizes.append(int(found.stdout) * 1024 / 1e6)
        small, large = sizes
        print(f"{name:5}{small:7.1f} MB at 10,000 images{large:7.1f} MB at 1,000,000, ratio {large / small:.3f}")


def start(folder: Path, rounds: int) -> None:
    ours = [str(Path(sys.executable).with_name("vae-gen")), "sample", "--n", "100", "--seed", "0", "--quiet", "--out"]
    theirs = [sys.executable, "-c", "import numpy, onnxruntime"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    pairs = []
    for _ in range(rounds + 1):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            pair = []
            for command in ([*ours, f"{place}/out"], theirs):
                begin = time.perf_counter()
                subprocess.run(command, check=True, env=environment)
                pair.append(time.perf_counter() - begin)
            pairs.append(pair)
    ours_median, theirs_median = (1e3 * statistics.median(times) for times in zip(*pairs[1:], strict=True))
    ratio = statistics.median(mine / other for mine, other in pairs[1:])
    print(
        f"100 images to PNG files {ours_median:.0f} ms, numpy and onnxruntime {theirs_median:.0f} ms, ratio {ratio:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where to write and remove")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of what the generator is compared with")
    parser.add_argument("--shard-size", type=int, help="images in a container; default: one file")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--start", action="store_true")
    arguments = parser.parse_args()
    if arguments.memory:
        peak_memory(arguments.folder)
    elif arguments.start:
        start(arguments.folder, arguments.rounds)
    else:
        compare(arguments.folder, arguments.images, arguments.rounds, arguments.threads, arguments.shard_size)


if __name__ == "__main__":
    main()
