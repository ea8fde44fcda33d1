"""Real handwritten digits, 8x8, shipped in the package: the data of the embedded default.

1,797 images of 17 grey levels (0 to 16) of the UCI set "Optical Recognition of Handwritten
Digits", as scikit-learn ships them; see ATTRIBUTION.md. 500 are held out, stratified by class.
At 16 or 28 pixels they are interpolated, for larger networks.
"""

from genplug import DatasetSpec, hookimpl


@hookimpl
def register_datasets():
    return [
        DatasetSpec(
            name="digits",
            summary="1,797 handwritten digits, 8x8 grey (or enlarged), 10 classes; 500 held out",
            config="genplug_digits.config:DigitsConfig",
        )
    ]
