"""Feature extractors: the FID Inception, any timm model, ready names with pinned weights, and others."""

from pathlib import Path

from genplug import ExtractorSpec, hookimpl, presets_from

TIMM = "genplug_features.config:TimmConfig"
_VIT = {"depth": 1, "embed_dim": 32, "num_heads": 2, "num_classes": 0}
_RESNET = {"layers": [1, 1, 1, 1], "channels": [4, 8, 16, 32], "num_classes": 10}


@hookimpl
def register_presets():
    return presets_from(Path(__file__).with_name("registry.toml"))


@hookimpl
def register_extractors():
    return [*_own(), *_transformers(), *_convolutional()]


def _own():
    return [
        ExtractorSpec(
            name="pixels",
            summary="the values themselves: images / 255 as one row, points as they are",
            config="genplug_features.config:PixelsConfig",
            modality="any",
        ),
        ExtractorSpec(
            name="random-inception",
            summary="pool features (2048) of an Inception-v3 with seeded random weights",
            config="genplug_features.config:RandomInceptionConfig",
            tiny={"size": 75},
        ),
        ExtractorSpec(
            name="digits-classifier",
            summary="penultimate features (64) of a small classifier trained on the digits",
            config="genplug_features.config:DigitsClassifierConfig",
            outputs=("features", "logits"),
        ),
        ExtractorSpec(
            name="inception-fid",
            summary="pool features (2048) of the Inception network of FID, resized as TensorFlow 1 does",
            config="genplug_features.config:InceptionFidConfig",
            outputs=("features", "logits", "spatial", "pool64", "pool192", "pool768"),
            preset="inception-fid.2015-12-05",
            tiny={"size": 75},
        ),
        ExtractorSpec(
            name="vae",
            summary="latent means of Stable Diffusion's autoencoder (extra: diffusers)",
            config="genplug_features.config:VaeConfig",
            preset="vae.ft-mse",
            tiny={"size": 16, "channels": [8, 8], "blocks": 1},
        ),
        ExtractorSpec(
            name="timm",
            summary="any model of timm, as timm:MODEL, with its own preprocessing",
            config=TIMM,
            outputs=("penultimate", "cls", "patch-mean", "spatial", "logits"),
            argument="model",
            tiny={"model": "test_resnet.r160_in1k", "size": 64, "architecture": {"num_classes": 10}},
        ),
    ]


def _transformers():
    return [
        _ready(
            "dinov2", "class token of DINOv2, sizes s to g, with and without registers", "cls", "dinov2.l",
            "vit_small_patch14_dinov2.lvd142m", size=28, positions="dinov2", layout="dinov2",
            architecture={**_VIT, "img_size": 42},
        ),
        _ready(
            "clip", "image embedding of OpenAI's CLIP", "embedding", "clip.b32",
            "vit_base_patch32_clip_quickgelu_224.openai", crop=1.0,
            architecture={**_VIT, "img_size": 64, "num_classes": 16},
        ),
        _ready(
            "mae", "class token of MAE, sizes b to h", "cls", "mae.l",
            "vit_base_patch16_224.mae", architecture={**_VIT, "img_size": 32},
        ),
        _ready(
            "moco-v3", "class token of MoCo v3's ViT-B", "cls", "moco-v3.b",
            "vit_base_patch16_224", layout="moco-v3", head=False, architecture={**_VIT, "img_size": 32},
        ),
        _ready(
            "data2vec", "class token of data2vec's vision transformer, sizes b and l", "cls", "data2vec.l",
            "beit_base_patch16_224", layout="data2vec", head=False,
            architecture={
                **_VIT, "img_size": 32, "use_shared_rel_pos_bias": True, "use_rel_pos_bias": False,
                "global_pool": "token",
            },
        ),
        _ready(
            "vit-s", "class token of a supervised ViT-S", "cls", "vit-s.augreg",
            "vit_small_patch16_224.augreg_in21k_ft_in1k",
            architecture={**_VIT, "img_size": 32, "num_classes": 10},
        ),
    ]  # fmt: skip


def _convolutional():
    return [
        _ready(
            "convnext", "pooled features of ConvNeXt, XL on ImageNet-22k unless told otherwise",
            "penultimate", "convnext.xlarge", "convnext_tiny.fb_in1k", size=64,
            architecture={"depths": [1, 1, 1, 1], "dims": [4, 8, 16, 32], "num_classes": 10},
        ),
        _ready(
            "resnet50", "pooled features (2048) of a supervised ResNet-50", "penultimate", "resnet50.tv",
            "resnet50.tv_in1k", size=64, architecture=_RESNET,
        ),
        _ready(
            "swav", "pooled features (2048) of SwAV's ResNet-50", "penultimate", "swav.800ep",
            "resnet50.tv_in1k", size=64, head=False, layout="swav", architecture=_RESNET,
        ),
        _ready(
            "byol", "pooled features (2048) of BYOL's ResNet-50", "penultimate", "byol.r50",
            "resnet50.tv_in1k", size=64, head=False, layout="haiku", architecture=_RESNET,
        ),
        _ready(
            "efficientnet-lite0", "pooled features (1280) of EfficientNet-lite0 (extra: offline)",
            "penultimate", "efficientnet-lite0.imagenet", "tf_efficientnet_lite0.in1k", size=64,
            layout="efficientnet-lite", architecture={"num_classes": 10},
        ),
    ]  # fmt: skip


def _ready(name, summary, features, preset, model, **tiny):
    """Describe a timm model under a name of its own; its presets hold the options."""
    others = ("penultimate", "cls", "patch-mean", "spatial", "logits")
    return ExtractorSpec(
        name=name,
        summary=summary,
        config=TIMM,
        outputs=(features, *(output for output in others if output != features)),
        preset=preset,
        tiny={"model": model, "features": features, **tiny},
    )
