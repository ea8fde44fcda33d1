"""Feature extractors that need no download: pixels, a seeded random Inception, a digits classifier."""

from genplug import ExtractorSpec, hookimpl


@hookimpl
def register_extractors():
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
    ]
