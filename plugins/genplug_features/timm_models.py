"""Any timm model as an extractor: its own preprocessing, several outputs, weights of several layouts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genplug.errors import ConfigError, nearest, shown
from genplug.registry import one_line
from genplug_features.config import TimmConfig
from genplug_features.layouts import LAYOUTS
from genplug_features.preprocessing import Recipe
from genplug_features.pretrained import Pretrained, in_parts, seeded, without, without_counters

POSITIONS = "pos_embed"


class TimmModel(Pretrained):
    """Outputs `penultimate` (pooled, before the classifier), `cls`, `patch-mean`, `spatial`, `logits`.

    A network for another input size than the published one keeps the published table of positions as
    its state and resamples it when it is loaded: files fit whatever the size is.
    """

    def __init__(self, config: TimmConfig, device: torch.device) -> None:
        self.config = config
        with seeded(config.seed):
            network = created(config)
        self.table = resized_(network, config.size)
        self.image = recipe(config, network)
        described = config.model_dump(exclude={"seed"})  # which is in the weights
        super().__init__(f"timm model {config.model!r}", network.to(device), f"1:{self.image}:{described}")

    def preprocess(self, sample: Tensor) -> Tensor:
        """Return a uint8 image CHW as the network takes it."""
        return self.image(sample)

    def __call__(self, batch: Tensor) -> dict[str, Tensor]:
        """Return the outputs that this model has, the chosen one first."""
        return in_parts(self._see, batch)

    def _see(self, batch: Tensor) -> dict[str, Tensor]:
        network: Any = self.network
        maps = network.forward_features(batch)
        if not isinstance(maps, Tensor):
            raise ConfigError(f"{self.what} gives no single tensor of features; choose another model")
        found = {"penultimate": network.forward_head(maps, pre_logits=True)} | _views(network, maps)
        if network.num_classes:
            found["logits"] = network.forward_head(maps)
        return self._ordered({name: value.flatten(1).to(torch.float32) for name, value in found.items()})

    def _ordered(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        first = self.config.features
        if first == "embedding" and "logits" in found:  # the projection into the space shared with text
            found["embedding"] = found.pop("logits")
        if first not in found:
            raise ConfigError(f"{self.what} has no output {first!r} (it has {', '.join(found)})")
        return {first: found[first]} | found

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights by name, positions as published."""
        state = super().state_dict()
        return state if self.table is None else {**state, POSITIONS: self.table}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load weights, all of them and no others."""
        if self.table is not None and POSITIONS in state and state[POSITIONS].shape == self.table.shape:
            table = state[POSITIONS]
            state = {**state, POSITIONS: positions(self.network, table, self.config.positions)}
            self.table = table
        super().load_state_dict(state)

    def adapt(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a published file under the network's names."""
        state, own = LAYOUTS[self.config.layout](without_counters(tensors)), self.state_dict().keys()
        network: Any = self.network
        if not network.num_classes:
            classifier = network.pretrained_cfg.get("classifier") or ()
            heads = (classifier,) if isinstance(classifier, str) else classifier
            state = without(state, *(f"{head}." for head in heads))
        theirs = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
        if state.keys() == own or theirs is None or self.table is not None:
            return state
        found: dict[str, Tensor] = theirs(state, network)  # files by the models' authors, as timm reads them
        return without_counters(found)


def created(config: TimmConfig) -> nn.Module:
    """Build the network of a configuration with random weights."""
    import timm

    check_name(config.model)
    try:
        network: Any = timm.create_model(config.model, pretrained=False, **config.architecture)
    except (TypeError, ValueError, RuntimeError, AssertionError, IndexError) as error:
        asked = f"{config.model!r} with architecture {shown(config.architecture)}"
        raise ConfigError(f"timm cannot make {asked} ({one_line(error)[:200]})") from None
    if not config.head:
        network.reset_classifier(0)
    if config.layout == "haiku":
        pad_as_tensorflow_(network)
    if config.layout == "data2vec":
        normalise_as_transformers_(network)
    module: nn.Module = network
    return module


def check_name(model: str) -> None:
    """Refuse a name that timm does not have, with the nearest that it has."""
    import timm

    architecture, _, tag = model.partition(".")
    if not timm.is_model(architecture):
        raise ConfigError(f"timm has no model {shown(model)}{nearest(model, timm.list_models())}")
    tagged = timm.list_pretrained(f"{architecture}.*") if tag else [model]
    if model not in tagged:
        listing = ", ".join(tagged) or "none"
        raise ConfigError(f"timm has no weights {shown(model)}{nearest(model, tagged)} (it has {listing})")


def recipe(config: TimmConfig, network: nn.Module) -> Recipe:
    """Return the model's own preprocessing, with what the configuration says instead."""
    from timm.data import resolve_model_data_config

    own = resolve_model_data_config(network)
    interpolation = config.interpolation or own["interpolation"]
    if not config.rounded and interpolation not in ("bilinear", "bicubic"):
        raise ConfigError(f"rounded=false needs interpolation bilinear or bicubic, not {interpolation!r}")
    side = getattr(getattr(network, "patch_embed", None), "img_size", None) or own["input_size"][1:]
    return Recipe(
        size=config.size or int(side[0]),
        crop_pct=config.crop or float(own["crop_pct"]),
        mode=config.mode or own["crop_mode"],
        interpolation=interpolation,
        mean=tuple(config.mean or own["mean"]),
        std=tuple(config.std or own["std"]),
        rounded=config.rounded,
    )


def _views(network: Any, maps: Tensor) -> dict[str, Tensor]:
    """Return what the last map of features holds: class token, mean and map of the patches or pixels."""
    if maps.ndim == 4:
        x_NCHW = maps if maps.shape[1] == network.num_features else maps.permute(0, 3, 1, 2)
        return {"patch-mean": x_NCHW.mean((2, 3)), "spatial": x_NCHW}
    if maps.ndim != 3:
        return {}
    first = getattr(network, "num_prefix_tokens", 0)
    found = {"patch-mean": maps[:, first:].mean(1), "spatial": maps[:, first:].transpose(1, 2)}
    return found | ({"cls": maps[:, 0]} if getattr(network, "cls_token", None) is not None else {})


# --- positions ----------------------------------------------------------------------------------------


def resized_(network: Any, size: int | None) -> Tensor | None:
    """Make a network of fixed size take another; return its table of positions if that had to change."""
    own = getattr(getattr(network, "patch_embed", None), "img_size", None)
    if size is None or own is None or tuple(own) == (size, size) or not hasattr(network, "set_input_size"):
        return None
    table = getattr(network, POSITIONS, None)
    kept = None if table is None else table.detach().clone()
    network.set_input_size(img_size=(size, size))
    return kept


def positions(network: Any, table: Tensor, method: str) -> Tensor:
    """Resample a published table of positions, 1 T D, to the network's grid.

    `dinov2` is what its code does: bicubic, no antialiasing, a scale of (grid + 0.1) / side that was meant
    to avoid a rounding error and moves every sample a little.
    """
    from timm.layers import resample_abs_pos_embed

    grid = network.patch_embed.grid_size
    prefix = 0 if getattr(network, "no_embed_class", False) else network.num_prefix_tokens
    if method == "timm":
        resampled: Tensor = resample_abs_pos_embed(table, new_size=list(grid), num_prefix_tokens=prefix)
        return resampled
    side, width = round((table.shape[1] - prefix) ** 0.5), table.shape[2]
    square = table[:, prefix:].reshape(1, side, side, width).permute(0, 3, 1, 2).to(torch.float32)
    scale = tuple((cells + 0.1) / side for cells in grid)
    found = F.interpolate(square, scale_factor=scale, mode="bicubic", antialias=False)
    return torch.cat([table[:, :prefix], found.permute(0, 2, 3, 1).reshape(1, -1, width)], 1)


# --- what else differs ---------------------------------------------------------------------------------


def normalise_as_transformers_(network: nn.Module) -> None:
    """Add to variances what transformers adds for data2vec, 1e-12; timm's transformers add 1e-6."""
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-12


def pad_as_tensorflow_(network: nn.Module) -> None:
    """Pad what halves the image as Haiku and TensorFlow do ('SAME'): the odd pixel comes last, not first."""
    from timm.layers import Conv2dSame
    from timm.layers.pool2d_same import MaxPool2dSame

    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, MaxPool2dSame(child.kernel_size, child.stride, padding=0))
            elif isinstance(child, nn.Conv2d) and child.stride[0] > 1 and child.kernel_size[0] > 1:
                padded = Conv2dSame(
                    child.in_channels, child.out_channels, child.kernel_size, child.stride, bias=False
                )
                padded.weight = child.weight
                setattr(module, name, padded)
