"""Data that users bring: folders, zips and arrays as a data set with a held-out part."""

from genplug import DatasetSpec, hookimpl


@hookimpl
def register_datasets():
    return [
        DatasetSpec(
            name="files",
            summary="a folder, .zip, .npz or .npy of yours; part of it is held out",
            config="genplug_files.config:FilesConfig",
            modality="any",
            opens_paths=True,
        )
    ]
