"""Time feature extraction from image files against torch-fidelity and pytorch-fid.

    pip install torch-fidelity pytorch-fid
    python benchmarks/extraction.py [IMAGES [ROUNDS]]

All sides read the same 256-pixel PNGs (128 unless told otherwise) in batches of 32 and hold the same random
weights of the FID Inception; loading the network and one batch to warm up are not counted. Each side has its
own processes, all take turns, ratios are formed within a round. Bounds: 1.3 times the images per CPU second
of either package, features within 1e-4 of the largest. The second table extracts with three networks in one
pass: it may take 1.1 times as long as their inference alone on images that are in memory already.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from measuring import Cost, interleaved, median, ratio, table
from PIL import Image

BATCH, SIDE = 32, 256
THREE_BATCH = 16  # the inputs of three networks take as much memory as those of one in a batch of 32
FASTER, CLOSE, ONE_PASS = 1.3, 1e-4, 1.1
INCEPTION, LITE, RESNET = "inception-fid", "efficientnet-lite0", "resnet50"
Options = Mapping[str, Mapping[str, Any]]


def run_with(options: Options, rows: int = BATCH) -> Any:
    """Return a run of genplug's whose extractors have these options, with a cache of its own."""
    os.environ["GENPLUG_CACHE"] = tempfile.mkdtemp()
    from genplug.layers import Layers
    from genplug.loading import light_run
    from genplug.presets import registry
    from genplug.registry import catalog
    from genplug.resolving import Resolver

    layers = Layers({"extractor": dict(options)}, {})
    parts = Resolver(catalog(), registry(catalog()), layers).extractors(list(options))
    light = light_run()
    settings = light.settings.model_copy(update={"batch_size": rows})
    run = dataclasses.replace(light, settings=settings, extractors={part.head: part for part in parts})
    for part in parts:
        extractor = run.extractor(part.head)
        one = extractor.preprocess(torch.zeros(3, SIDE, SIDE, dtype=torch.uint8))
        with torch.inference_mode():
            extractor(one.expand(rows, -1, -1, -1))
    return run


def genplug(folder: Path, weights: Path, resize: str) -> Callable[[], Any]:
    """Extract as every command of genplug's does."""
    from genplug.extraction import Want, extract
    from genplug.opening import open_samples

    run = run_with({INCEPTION: {"weights": str(weights), "resize": resize}})
    want = Want(INCEPTION)
    return lambda: extract(run, open_samples(run, str(folder)), [want])[want].numpy()


def torch_fidelity(folder: Path, weights: Path) -> Callable[[], Any]:
    """Extract with torch-fidelity, its data loader and defaults."""
    from torch_fidelity.datasets import ImagesPathDataset
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torch_fidelity.utils import get_featuresdict_from_dataset

    network = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(weights))
    with torch.no_grad():
        network(torch.zeros(BATCH, 3, SIDE, SIDE, dtype=torch.uint8))
    files = ImagesPathDataset([str(path) for path in sorted(folder.iterdir())])
    return lambda: get_featuresdict_from_dataset(files, network, BATCH, False, False, False)["2048"].numpy()


def pytorch_fid(folder: Path, weights: Path) -> Callable[[], Any]:
    """Extract with pytorch-fid, with as many workers as its command takes."""
    from pytorch_fid import fid_score, inception

    state = torch.load(weights, weights_only=True)
    with mock.patch.object(inception, "load_state_dict_from_url", return_value=state):
        network = inception.InceptionV3().eval()
    with torch.no_grad():
        network(torch.zeros(BATCH, 3, SIDE, SIDE))
    workers = min(len(os.sched_getaffinity(0)), 8)
    files = sorted(folder.iterdir())
    return lambda: fid_score.get_activations(files, network, BATCH, 2048, "cpu", workers)


def three(folder: Path, weights: Path) -> Callable[[], tuple[float, float]]:
    """Return what gives CPU seconds of one pass of three networks, over those of their inference alone."""
    from genplug.extraction import Want, extract
    from genplug.opening import open_samples
    from genplug.samplesets import read_all

    options = {INCEPTION: {"weights": str(weights)}, LITE: {}, RESNET: {"weights": "none"}}
    run = run_with(options, THREE_BATCH)
    wants = [Want(name) for name in options]

    def work() -> tuple[float, float]:
        samples = open_samples(run, str(folder))
        started, wall = time.process_time(), time.perf_counter()
        extract(run, samples, wants)
        whole = time.process_time() - started, time.perf_counter() - wall
        images, alone = read_all(samples), [0.0, 0.0]
        for name in options:
            extractor = run.extractor(name)
            for some in images.split(THREE_BATCH):
                batch = torch.stack([extractor.preprocess(image) for image in some])
                started, wall = time.process_time(), time.perf_counter()
                with torch.inference_mode():
                    extractor(batch)
                alone[0] += time.process_time() - started
                alone[1] += time.perf_counter() - wall
        return whole[0] / alone[0], whole[1] / alone[1]

    return work


def make_weights(path: Path) -> None:
    """Write random weights under the published names, as torch writes them."""
    from genplug.loading import light_run
    from genplug_features.config import InceptionFidConfig

    state = InceptionFidConfig().build(light_run()).state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            value.uniform_(0.7, 1.3)
        elif name.endswith(("bias", "running_mean")):
            value.normal_(0, 0.1)
    torch.save(state, path)


def make_images(folder: Path, count: int) -> None:
    """Write PNGs of coarse colours with noise."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 256, (8, 8, 3)).repeat(SIDE // 8, 0).repeat(SIDE // 8, 1)
        noisy = np.clip(coarse + random.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:05}.png")


def verdict(name: str, costs: Mapping[str, list[Cost]], ours: str, theirs: str) -> bool:
    """Print how much faster one side is and how far its features are; return whether that is enough."""
    faster = ratio(costs[theirs], costs[ours], "cpu_s")
    found, expected = (np.asarray(costs[side][0].result) for side in (ours, theirs))
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    good = faster >= FASTER and error <= CLOSE
    print(
        f"{name:16}{faster:6.2f} times the images per CPU second, features off by {error:.1e}: {word(good)}"
    )
    return good


def word(good: bool) -> str:
    """Return how a bound was met."""
    return "met" if good else "NOT met"


def main(count: int, rounds: int) -> int:
    """Measure and print; return 1 if a bound was not met."""
    with tempfile.TemporaryDirectory() as place:
        folder, weights = Path(place) / "images", Path(place) / "weights.pth"
        folder.mkdir()
        make_weights(weights)
        make_images(folder, count)
        sides = {
            "genplug": (genplug, folder, weights, "tensorflow"),
            "torch-fidelity": (torch_fidelity, folder, weights),
            "genplug, half-pixel": (genplug, folder, weights, "half-pixel"),
            "pytorch-fid": (pytorch_fid, folder, weights),
        }
        costs = interleaved(sides, rounds)
        together = interleaved({"three": (three, folder, weights)}, rounds)["three"]
    print(f"{count} PNGs of {SIDE} pixels, {rounds} rounds, {torch.get_num_threads()} threads")
    print(table(costs, against="genplug"))
    for name, cost in costs.items():
        print(f"{name:24}{count / median(cost, 'cpu_s'):7.2f} images per CPU second")
    passed = [
        verdict("torch-fidelity", costs, "genplug", "torch-fidelity"),
        verdict("pytorch-fid", costs, "genplug, half-pixel", "pytorch-fid"),
    ]
    cpu, wall = (statistics.median(cost.result[field] for cost in together) for field in (0, 1))
    passed.append(cpu <= ONE_PASS)
    print(
        f"one pass of three networks: {cpu:.3f} times the CPU seconds of their inference, "
        f"{wall:.3f} times the wall time: {word(passed[-1])}"
    )
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(*(int(given) for given in [*sys.argv[1:], "128", "3"][:2])))
