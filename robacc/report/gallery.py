"""Read the pictures of every model of a data set, and give those that the figures show."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from robacc.datasets import facts
from robacc.files import must_exist, read_arrays
from robacc.report import plotting, selection


@dataclass(frozen=True)
class Gallery:
    """The pictures of each model, by its name, and the choice of those that are shown."""

    models: pd.DataFrame
    pictures: dict[str, dict[str, np.ndarray]]
    shown: selection.Shown
    dataset: str

    @property
    def rows_all(self) -> list[tuple[str, str]]:
        """The name and the label of every model."""
        return self._rows(self.models)

    @property
    def rows_strongest(self) -> list[tuple[str, str]]:
        """The name and the label of standard training and of the largest eps of each norm, as in the paper."""
        return self._rows(strongest(self.models))

    def _rows(self, models: pd.DataFrame) -> list[tuple[str, str]]:
        labels = [
            plotting.ball_label(norm, eps, self.dataset) for norm, eps in zip(models.norm, models.eps, strict=True)
        ]
        return list(zip(models.model, labels, strict=True))

    def images(self, columns: Iterable[int]) -> list[np.ndarray]:
        """Return the images that are shown, ready to draw."""
        return self.of_model(self.models.model.iloc[0], "x", columns)

    def of_model(self, model: str, array: str, columns: Iterable[int]) -> list[np.ndarray]:
        """Return an array of a model at the images that are shown, ready to draw."""
        draw = plotting.gradient_picture if array == "gradient" else plotting.picture
        return [draw(self.pictures[model][array][self.shown.indices[column]]) for column in columns]

    def said(self, model: str, norm: str, columns: Iterable[int]) -> list[str]:
        """Return what a model takes its large-eps examples in `norm` for."""
        predicted, classes = self.pictures[model][f"predicted_{norm}"], facts.of(self.dataset).classes
        return [f"\u201c{classes[predicted[self.shown.indices[column]]]}\u201d" for column in columns]

    def path(self, model: str, column: int) -> list[np.ndarray]:
        """Return the images on the line to the large-eps example in l2, ready to draw."""
        return [plotting.picture(image) for image in self.pictures[model]["path_l2"][self.shown.indices[column]]]


def strongest(models: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of standard training and of the largest eps of each norm."""
    return models.loc[models.groupby("norm", sort=False).eps.idxmax()]


def load(folder: Path | str, models: pd.DataFrame, dataset: str) -> Gallery:
    """Return the pictures under `folder` of the models that are the rows of a models.csv."""
    pictures = {model: read_arrays(must_exist(Path(folder) / model / "pictures.npz")) for model in models.model}
    return Gallery(models, pictures, selection.choose(pictures.values(), facts.of(dataset).classes), dataset)
