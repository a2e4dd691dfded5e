"""Put the pictures of all models into one image, from which the page shows the one that a reader asks for."""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from robacc.datasets import facts
from robacc.report import curves, gallery, plotting

KINDS = ("gradient", "x_adv_l2", "x_adv_linf")  # the rows of each model


def _tile(kind: str, image: np.ndarray) -> np.ndarray:
    shown = plotting.gradient_picture(image) if kind == "gradient" else plotting.picture(image)
    rgb = np.repeat(shown[..., None], 3, axis=2) if shown.ndim == 2 else shown
    return (255 * rgb.clip(0, 1)).round().astype(np.uint8)


def encode(pixels: np.ndarray) -> str:
    """Return an image as a data URI of WebP, without losses where they would not make it much smaller."""
    found = []
    for lossless, quality in ((True, 80), (False, 80)):
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "WEBP", lossless=lossless, quality=quality, method=6)
        found.append(content.getvalue())
    best = found[0] if len(found[0]) < 1.5 * len(found[1]) or pixels.size < 2_000_000 else found[1]
    return f"data:image/webp;base64,{base64.b64encode(best).decode()}"


def explorer(folder: Path, models: pd.DataFrame, dataset: str) -> dict:
    """Return the pictures under `folder` as one image, and what a reader can choose.

    A column is an image that the figures show. The first row is the images. Each model has a row for each of `KINDS`.
    """
    found = gallery.load(folder, models, dataset)
    arrays, shown, classes = list(found.pictures.values()), found.shown, facts.of(dataset).classes
    rows = [("x", arrays[0])] + [(kind, of_model) for of_model in arrays for kind in KINDS if kind in of_model]
    tiles = [np.concatenate([_tile(kind, of[kind][i]) for i in shown.indices], axis=1) for kind, of in rows]
    return {
        "sprite": encode(np.concatenate(tiles)),
        "rows": len(rows),
        "classes": shown.classes,
        "norms": [norm for norm in curves.NAMES if norm in set(models.norm)],
        "models": [
            {
                "norm": norm,
                "name": curves.ball(norm, eps, dataset),
                "row": _rows_of(index, of_model),
                "read": {
                    attack: [classes[int(of_model[f"predicted_{attack}"][i])] for i in shown.indices]
                    for attack in ("l2", "linf")
                    if f"predicted_{attack}" in of_model
                },
            }
            for index, (norm, eps, of_model) in enumerate(zip(models.norm, models.eps, arrays, strict=True))
        ],
    }


def _rows_of(index: int, of_model: dict[str, np.ndarray]) -> dict[str, int]:
    kinds = [kind for kind in KINDS if kind in of_model]
    return {kind: 1 + index * len(kinds) + place for place, kind in enumerate(kinds)}
