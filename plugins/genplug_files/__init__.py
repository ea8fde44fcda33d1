"""Samples that users bring: as a data set with a held-out part, or as a generator without a network."""

from genplug import DatasetSpec, GeneratorSpec, hookimpl


@hookimpl
def register_datasets() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="files",
            summary="a folder, .zip, .npz or .npy of yours; part of it is held out",
            config="genplug_files.config:FilesConfig",
            modality="any",
            opens_paths=True,
        )
    ]


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    return [
        GeneratorSpec(
            name="folder",
            summary="generated samples of yours (folder, .zip, .npz, .npy): can only be postprocessed",
            config="genplug_files.config:FolderConfig",
            modality="any",
            provides=("class-conditional",),
        )
    ]
