"""Options of the extractors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from genplug.config import Config

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug.specs import Preset
    from genplug_features.digits_classifier import DigitsClassifier
    from genplug_features.inception import RandomInception
    from genplug_features.inception_fid import InceptionFid
    from genplug_features.pixels import Pixels
    from genplug_features.timm_models import TimmModel
    from genplug_features.vae import StableVae


class PixelsConfig(Config):
    """Pixels have no options."""

    def build(self, run: Run) -> Pixels:
        """Return the extractor."""
        from genplug_features.pixels import Pixels

        return Pixels()


class RandomInceptionConfig(Config):
    """Options of the random Inception."""

    seed: int = Field(42, ge=0, description="seed of the weights")
    size: int = Field(299, ge=75, description="images are resized to this, bilinear with antialiasing")

    def build(self, run: Run) -> RandomInception:
        """Return the extractor on the run's device."""
        from genplug_features.inception import RandomInception

        return RandomInception(self, run.device)


class DigitsClassifierConfig(Config):
    """The classifier has no options."""

    def build(self, run: Run) -> DigitsClassifier:
        """Return the extractor on the run's device."""
        from genplug_features.digits_classifier import DigitsClassifier

        return DigitsClassifier(run.device)


class InceptionFidConfig(Config):
    """Options of the FID Inception. Scores are called FID and so on only with the defaults."""

    size: int = Field(299, ge=75, le=4096, description="images are resized to this")
    resize: Literal["tensorflow", "half-pixel"] = Field(
        "tensorflow",
        description="bilinear without antialiasing: as TensorFlow 1 and torch-fidelity, or as pytorch-fid",
    )
    seed: int = Field(0, ge=0, description="seed of the weights if there are none")

    def build(self, run: Run) -> InceptionFid:
        """Return the extractor on the run's device."""
        from genplug_features.inception_fid import InceptionFid

        return InceptionFid(self, run.device)


class TimmConfig(Config):
    """Options of a timm model. What is not given is read from the model's own configuration."""

    model: str = Field(
        "resnet50.a1_in1k", pattern=r"[A-Za-z0-9_.-]+", description="timm's name of architecture and weights"
    )
    features: Literal["penultimate", "cls", "patch-mean", "spatial", "logits", "embedding"] = Field(
        "penultimate", description="the output that comes first; embedding is the projection of CLIP models"
    )
    size: int | None = Field(None, ge=8, le=4096, description="side of the input in pixels")
    crop: float | None = Field(
        None, gt=0, le=1, description="share of the resized image that the crop keeps, by side"
    )
    mode: Literal["center", "squash", "border"] | None = Field(
        None, description="resize the shorter side and crop, both sides, or the longer side and fill up"
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = Field(
        None, description="the filter, antialiased as Pillow does it"
    )
    mean: tuple[float, float, float] | None = Field(None, description="mean of the channels, in [0, 1]")
    std: tuple[float, float, float] | None = Field(None, description="deviation of the channels, in [0, 1]")
    rounded: bool = Field(True, description="resize to 8 bits with Pillow; otherwise in float32 with torch")
    positions: Literal["timm", "dinov2"] = Field(
        "timm", description="how positions are resampled for another size: as timm or as the code of DINOv2"
    )
    head: bool = Field(True, description="keep the classifier, for logits")
    layout: Literal["timm", "dinov2", "moco-v3", "swav", "haiku", "data2vec", "efficientnet-lite"] = Field(
        "timm", description="whose names the tensors of the published file have"
    )
    architecture: dict[str, Any] = Field(
        {}, description="arguments of the architecture, where they are not those of the name"
    )
    seed: int = Field(0, ge=0, description="seed of the weights if there are none")

    def build(self, run: Run) -> TimmModel:
        """Return the extractor on the run's device."""
        from genplug_features.timm_models import TimmModel

        return TimmModel(self, run.device)

    def preset(self) -> Preset | None:
        """Return where timm's weights of this model are published; None if there are none that fit."""
        from genplug_features.timm_presets import preset_of

        return None if self.architecture else preset_of(self.model)


class VaeConfig(Config):
    """Options of the encoder of Stable Diffusion's autoencoder."""

    size: int = Field(256, ge=16, le=2048, description="images are resized to this, bicubic")
    channels: tuple[int, ...] = Field((128, 256, 512, 512), description="widths of its levels")
    blocks: int = Field(2, ge=1, le=4, description="residual blocks in a level")
    seed: int = Field(0, ge=0, description="seed of the weights if there are none")

    def build(self, run: Run) -> StableVae:
        """Return the extractor on the run's device."""
        from genplug_features.vae import StableVae

        return StableVae(self, run.device)
