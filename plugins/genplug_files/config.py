"""Options of the data set `files` and of the generator `folder`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from genplug.config import Config, GeneratorConfig

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug_files.dataset import FilesDataset
    from genplug_files.folder import Folder


class FilesConfig(Config):
    """Where the samples are and how many of them no training may see."""

    path: str = Field(description="folder of images, .zip, .npz or .npy")
    held_out_path: str = Field("", description="held-out samples, if they are apart")
    held_out: float = Field(0.2, gt=0, lt=1, description="share held out of `path`, by a fixed permutation")
    levels: int = Field(256, ge=2, le=256, description="grey levels of the images")

    def build(self, run: Run) -> FilesDataset:
        """Open the files."""
        from genplug_files.dataset import FilesDataset

        return FilesDataset(self, run)


class FolderConfig(GeneratorConfig):
    """Samples that were generated elsewhere."""

    path: str = Field(description="folder of generated images, .zip, .npz, or .npy of points")
    labels: bool = Field(
        False, description="use their labels (subfolders, dataset.json, arr_1): every class equally often"
    )

    def provides(self) -> frozenset[str]:
        """Return `class-conditional` where labels are used; there is no network to do more with."""
        return frozenset({"class-conditional"} if self.labels else ())

    def build(self, run: Run) -> Folder:
        """Open the samples."""
        from genplug_files.folder import Folder

        return Folder(self, run)
