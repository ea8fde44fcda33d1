"""Train the digits classifier on the train split: `python -m genplug_features.train_digits_classifier OUT`.

AdamW, 40 epochs of 100 images, cosine rate from 2e-3, random shifts by up to one pixel, seed 0.
The accuracy on held-out digits is stored in the file's metadata.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from genplug.checkpoints import save_weights
from genplug.samplesets import read_all
from genplug_digits.dataset import Digits
from genplug_features.digits_classifier import Network

EPOCHS, BATCH, RATE = 40, 100, 2e-3


def main(out: Path) -> float:
    """Train, write the weights, return held-out accuracy."""
    torch.manual_seed(0)
    train, held_out = Digits().split("train"), Digits().split("held-out")
    x_N188, labels_N = read_all(train) / 255, train.labels
    network = Network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.05)
    steps = EPOCHS * (len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        rows = torch.randint(len(train), (BATCH,))
        loss = F.cross_entropy(network(shifted(x_N188[rows])), labels_N[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        hits_N = network.eval()(read_all(held_out) / 255).argmax(1) == held_out.labels
    accuracy = float(hits_N.float().mean())
    save_weights(network.state_dict(), out, {"accuracy": f"{accuracy:.3f}", "n": str(len(held_out))})
    return accuracy


def shifted(x_N188: Tensor) -> Tensor:
    """Move each image by up to one pixel, filling with zeros."""
    padded = F.pad(x_N188, (1, 1, 1, 1))
    offsets = torch.randint(3, (len(x_N188), 2)).tolist()
    return torch.stack(
        [image[:, i : i + 8, j : j + 8] for image, (i, j) in zip(padded, offsets, strict=True)]
    )


if __name__ == "__main__":
    print(f"held-out accuracy {main(Path(sys.argv[1])):.3f}")
