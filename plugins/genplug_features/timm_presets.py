"""Where timm's weights are published: presets made from timm's own table."""

from __future__ import annotations

from typing import Any

from genplug.specs import Preset
from genplug_features.timm_models import check_name

HUB_FILE = "model.safetensors"


def preset_of(model: str) -> Preset | None:
    """Return the preset of a model: its file on the Hugging Face hub, or its author's; None without one."""
    import timm

    check_name(model)
    known: Any = timm.get_pretrained_cfg(model, allow_unregistered=False)
    if known is None or not (known.hf_hub_id or known.url):
        return None
    name = f"{known.architecture}.{known.tag}" if known.tag else known.architecture
    hub = known.hf_hub_id
    repository = f"{hub}{name}" if hub and hub.endswith("/") else hub
    address = f"hf:{repository}/{known.hf_hub_filename or HUB_FILE}" if repository else known.url
    if not repository and not address.endswith((".pth", ".pt", ".safetensors")):
        return None
    return Preset(
        name=f"timm.{name.lower().replace('_', '-')}",
        kind="extractor",
        summary=f"{name}, as timm publishes it",
        values={"model": model},
        address=address,
        format="safetensors" if address.endswith(".safetensors") else "torch",
        licence=known.license,
        reference=f"timm:{model}",
        origin="timm",
    )
