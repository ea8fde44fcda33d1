"""Every preset of the registry can be planned, is complete, and is told as published."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import genplug
from genplug.addresses import parse
from genplug.networks import shapes
from genplug.presets import presets_from, registry
from genplug.registry import Package, catalog, discover
from genplug.specs import Preset

ROOT = Path(__file__).parents[2]
PRESETS = registry(catalog()).presets
#: Generators for presets that do not fit `edm2`: likelihoods over tokens, a scale that can be changed.
FITTING = {
    "ddo.var-imagenet256": "fake-tokens",
    "flow.cifar10": "edm2.img64-s-autog-fid",
    "flow.cifar10-flow": "edm2.img64-s-autog-fid",
}
#: What a preset's source does not tell: any value will do for a plan.
TOLD = {
    "alpha|sweep": ("alpha", 4.0),
    "beta|sweep": ("beta", 0.05),
    "alpha": ("alpha", 10.0),
    "pool": ("pool", 100),
}
TOLD |= {
    f"train.{key}": (f"train.{key}", value) for key, value in (("steps", 10), ("lr", 1e-4), ("warmup", 0.1))
}
TOLD["network.features"] = ("network.features", "classifier.pt")
TOLD["train.batch_size"] = ("train.batch_size", 32)


def published() -> list[Preset]:
    return [preset for preset in PRESETS.values() if "genplug_edm2" in preset.origin]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_can_be_planned(name: str) -> None:
    preset = PRESETS[name]
    if preset.kind == "generator":
        resolved = genplug.resolve(generator=name, objectives=["none"])
    elif preset.kind == "extractor":
        generator = "fake-points" if name.startswith("fake") else "edm2"
        resolved = genplug.resolve(
            generator=generator, objectives=["none"], extractors=[name], evaluators=["frechet"]
        )
    else:
        sets = [(f"objective.{TOLD[key][0]}", TOLD[key][1]) for key in preset.unset]
        resolved = genplug.resolve(generator=FITTING.get(name, "edm2"), objectives=[name], sets=sets)
    plan = genplug.plan(resolved)
    remote = preset.address is not None and not preset.address.startswith("package:")
    if preset.kind == "extractor":
        assert remote == plan["extractor_weights"][name].endswith(f"genplug fetch {name}")
        assert preset.licence
    if preset.kind == "generator" and remote:
        assert plan["generator"]["weights"].endswith(f"genplug fetch {name}")
        assert plan["generator"]["licence"]


def test_published_presets_say_what_is_known_of_them() -> None:
    assert len(published()) == 55
    guides = {preset.values["guide"] for preset in published() if "guide" in preset.values}
    for preset in published():
        assert preset.licence == "CC BY-NC-SA 4.0"
        assert preset.format == "nvlabs-pickle"
        assert bool(preset.published) == (preset.name not in guides)
        size = re.search(r"edm2-img(\d+)-(\w+?)-", preset.address or "")
        assert size is not None
        assert size[2] == preset.values["size"]
        assert (size[1] == "512") == preset.values.get("latent", False)
        assert ("uncond" in str(preset.address)) == (preset.values.get("num_classes") == 0)
    assert len({(p.address, p.values.get("guidance")) for p in published()}) == 55


def test_scores_are_those_of_the_published_table() -> None:
    """A few rows, written here from the publications a second time."""
    table = {
        "edm2.img512-xs": 3.53, "edm2.img512-l": 2.06, "edm2.img512-xxl": 1.91, "edm2.img512-xxl-dino": 42.84,
        "edm2.img64-s": 1.58, "edm2.img64-xl": 1.33, "edm2.img512-xs-guid-fid": 2.91,
        "edm2.img512-xxl-guid-fid": 1.81, "edm2.img512-xxl-autog-fid": 1.25, "edm2.img64-s-autog-fid": 1.01,
        "edm2.img64-s-ddo": 0.97, "edm2.img512-l-ddo": 1.26, "edm2.img512-l-ddo-autog": 1.21,
    }  # fmt: skip
    assert {name: PRESETS[name].published[0].value for name in table} == table
    pairs = {
        "edm2.img512-xxl-autog-fid": ("edm2-img512-m-0268435-0.155.pkl", 2.05),
        "edm2.img512-xs-guid-fid": ("edm2-img512-xs-uncond-2147483-0.045.pkl", 1.4),
        "edm2.img512-l-ddo-autog": ("edm2-img512-xs-0134217-0.165.pkl", 1.1),
    }
    for name, (file, guidance) in pairs.items():
        values = PRESETS[name].values
        assert (parse(PRESETS[values["guide"]].address or "").filename, values["guidance"]) == (
            file,
            guidance,
        )


def test_the_documentation_lists_every_published_preset_with_its_score() -> None:
    page = (ROOT / "docs" / "weights.md").read_text()
    rows = dict(re.findall(r"^\| `(edm2\.\S+)` \|.*?\| ([^|]*) \|$", page, re.M))
    assert rows == {
        preset.name: "; ".join(f"{p.score} {p.value:g}" for p in preset.published) or "-"
        for preset in published()
    }


@pytest.mark.parametrize(("name", "million"), [("edm2.img64-s", 280), ("edm2.img512-xxl-guid-fid", 1523)])
def test_networks_have_the_published_sizes(name: str, million: int) -> None:
    """Shapes alone, without the memory: parameters as the papers count them, buffers aside."""
    count = sum(
        torch_size(shape) for key, shape in shapes(name).items() if not key.endswith(("freqs", "phases"))
    )
    assert round(count / 1e6) == pytest.approx(million, rel=0.01)


def torch_size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def test_a_bad_entry_of_a_plugin_disables_itself_alone(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('[preset."x.good"]\n[preset."x.bad"]\naddress = "gopher://x/y"\n')

    class Plugin:
        @genplug.hookimpl
        def register_presets(self):
            return presets_from(file)

    class Point:
        name = "some"

        def load(self):
            return Plugin()

    found = discover([(Point(), Package("some-package", "1.0"))])
    assert [[preset.name for preset in presets] for _, presets in found.preset_sources] == [["x.good"]]
    (broken,) = found.broken
    assert broken.package.name == "some-package"
    assert f"{file}:2: preset.x.bad: ValueError: unknown address 'gopher://x/y'" in broken.error


@pytest.mark.parametrize(
    ("address", "url", "filename"),
    [
        ("https://x.org/a/b.pkl?download=1", "https://x.org/a/b.pkl?download=1", "b.pkl"),
        ("hf:o/r/d/f.pth", "https://huggingface.co/o/r/resolve/main/d/f.pth", "f.pth"),
        ("hf:o/r@abc/f.pth", "https://huggingface.co/o/r/resolve/abc/f.pth", "f.pth"),
        ("file:///m/x y.pt", "file:///m/x y.pt", "x_y.pt"),
        ("package:m/f.safetensors", "", "f.safetensors"),
    ],
)
def test_addresses(address: str, url: str, filename: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert (parse(address).url, parse(address).filename) == (url, filename)


@pytest.mark.parametrize(
    "address",
    [
        "s3://b/f",
        "x.pkl",
        "https://",
        "https://x.org/",
        "file://host/f",
        "hf:r/f",
        "package:m",
        "",
        "hf:o/r/",
    ],
)
def test_addresses_that_lead_nowhere_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        parse(address)
