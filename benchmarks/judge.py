"""A second opinion on samples: Frechet distances in the features of a small classifier, which saw no model's images.

python benchmarks/judge.py --data FOLDER_WITH_MNIST models/mnist models/notebook

The classifier (two convolutions, 64 features) is trained for three epochs on MNIST's labels, with a fixed seed; about
a minute. For each model: the distance to the test images of their reconstructions, of decoded draws from the training
images' posteriors, which no prior can better, and of samples; the share of samples of which the classifier is sure;
and how many it calls by each digit. The distances are of 10,000 images each and compare with each other only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import vae_gen
from torch import Tensor, nn
from vae_gen.data.datasets import load_data_set
from vae_gen.evaluation.components import evenly_spaced
from vae_gen.evaluation.sample_quality import frechet_distance
from vae_gen.idx import read_idx_file
from vae_gen.images import to_float, to_uint8
from vae_gen.latents import draw

COUNT = 10_000
SURE = 0.95


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 64, 3, padding=1)
        self.third = nn.Linear(3136, 64)
        self.last = nn.Linear(64, 10)

    def features(self, image: Tensor) -> Tensor:
        image = F.max_pool2d(F.relu(self.first(image)), 2)
        image = F.max_pool2d(F.relu(self.second(image)), 2)
        return F.relu(self.third(image.flatten(1)))

    def forward(self, image: Tensor) -> Tensor:
        return self.last(F.dropout(self.features(image), 0.3, self.training))


def trained(images: np.ndarray, labels: Tensor) -> Classifier:
    torch.manual_seed(1)
    classifier = Classifier()
    optimiser = torch.optim.Adam(classifier.parameters(), 1e-3)
    for _ in range(3):
        for rows in torch.randperm(len(images)).split(128):
            loss = F.cross_entropy(classifier(torch.from_numpy(to_float(images[rows]))), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return classifier.eval()


def judged(classifier: Classifier, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images -> the classifier's features as doubles, and its probabilities."""
    with torch.inference_mode():
        parts = [classifier.features(torch.from_numpy(to_float(part))) for part in np.array_split(images, 20)]
        features = torch.cat(parts)
        return features.double().numpy(), classifier.last(features).softmax(1).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()

    data = load_data_set(arguments.data)
    assert data.test is not None
    names = {path.name.split("-")[0]: path for path in arguments.data.glob("*-labels-idx1-ubyte*")}
    labels = torch.from_numpy(read_idx_file(names["train"], 1)[len(data.validation) :].astype(np.int64))
    classifier = trained(data.train, labels)
    real, verdict = judged(classifier, data.test)
    right = verdict.argmax(1) == read_idx_file(names["t10k"], 1)
    print(f"the classifier knows {right.mean():.2%} of the test images, and is sure of {sure(verdict):.1%}")
    chosen = data.train[evenly_spaced(len(data.train), COUNT)]
    print(f"training images: {frechet_distance(real, judged(classifier, chosen)[0]):.2f}")
    for name in arguments.models:
        model = vae_gen.load(name)
        mean, _ = model.encode(to_float(data.test))
        posterior, log_var = model.encode(to_float(chosen))
        drawn = posterior + np.exp(log_var / 2) * draw(1, 0, len(posterior), model.latent_dim)
        sets = {
            "reconstructions": model.decode(mean),
            "reconstructed training images": model.decode(posterior),
            "drawn from their posteriors": model.decode(drawn),
            "samples": model.sample(COUNT, seed=0),
        }
        print(name)
        for kind, images in sets.items():
            features, verdict = judged(classifier, to_uint8(images))
            counts = " ".join(map(str, np.bincount(verdict.argmax(1), minlength=10)))
            distance = frechet_distance(real, features)
            print(f"  {kind:32} {distance:8.2f}   sure of {sure(verdict):5.1%}   0 to 9: {counts}")


def sure(verdict: np.ndarray) -> float:
    return float((verdict.max(1) > SURE).mean())


if __name__ == "__main__":
    main()
