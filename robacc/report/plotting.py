"""Define the style of the figures, and save them.

This module uses matplotlib only. It reads no data and computes no result.
"""

from math import ceil
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from robacc.balls import NORMS
from robacc.files import whole
from robacc.report import legends
from robacc.report.legends import eps_text

# The palette of Okabe & Ito 2008 is safe for the colour-blind. Black is standard training in every figure.
STANDARD = "#000000"
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
NORM_LABELS = {norm: rf"$\ell_{norm[1:]}$".replace("inf", r"\infty") for norm in NORMS}


def use_style() -> None:
    """Set fonts, lines and grid for all figures, whatever a user's matplotlibrc says.

    SVG files are the same in every run.
    """
    matplotlib.rcdefaults()
    plt.rcParams.update(
        {
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "lines.linewidth": 1.6,
            "lines.markersize": 5,
            "legend.frameon": False,
            "figure.dpi": 100,
            "savefig.dpi": 125,
            "svg.hashsalt": "robacc",
            "svg.fonttype": "path",
        }
    )


def save(fig: Figure, name: str, folder: Path | str) -> None:
    """Write `fig` as `name`.png and `name`.svg in `folder`, without times or versions.

    A tick label that would touch the one beside it is left out; its tick stays.
    Raises OSError if one cannot be written. What was there before stays then.
    """
    part_labels(fig)
    metadata: dict[str, dict[str, str | None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    for kind, without in metadata.items():
        with whole(Path(folder) / f"{name}.{kind}") as partial:
            fig.savefig(partial, format=kind, bbox_inches="tight", metadata=without)


def part_labels(fig: Figure, gap: float = 2.0) -> None:
    """Hide tick labels until no two of an axis are nearer than `gap` pixels, from the largest value down."""
    fig.canvas.draw()
    for axis in (side for axes in fig.axes for side in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()) if low <= tick.get_loc() <= high]
        kept: list[Bbox] = []
        for tick in sorted(ticks, key=lambda tick: -tick.get_loc()):
            label = tick.label1
            if not (label.get_visible() and label.get_text()):
                continue
            box = label.get_window_extent().padded(gap / 2)
            if any(box.overlaps(other) for other in kept):
                label.set_visible(False)
            else:
                kept.append(box)


def legend_below(fig: Figure, title: str = "") -> None:
    """Put one legend for all axes under the figure, where it covers no curve."""
    entries: dict[str, Artist] = {}
    for axes in fig.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    fig.legend(
        list(entries.values()),
        list(entries),
        title=title or None,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        borderaxespad=0.0,
        ncols=ceil(len(entries) / ceil(len(entries) / 4)),  # rows of at most four, about equal
    )


def look(index: int) -> dict[str, str]:
    """Return colour and marker of the look `index`: 0 is standard training.

    Markers repeat later than colours, so balls of one colour have other markers.
    """
    return {"color": (STANDARD, *COLOURS)[legends.colour(index)], "marker": MARKERS[index % len(MARKERS)]}


def ball_label(norm: str, eps: float, dataset: str | None = None) -> str:
    """Return the name of a training ball in legends."""
    return "standard" if eps == 0 else f"{NORM_LABELS[norm]}, $\\varepsilon$ = {eps_text(eps, dataset)}"


def picture(image: np.ndarray) -> np.ndarray:
    """Return an image [C, H, W] in [0, 1] for matplotlib: grey [H, W] or colour [H, W, 3]."""
    return image[0] if len(image) == 1 else np.moveaxis(image, 0, -1).clip(0, 1)


def gradient_picture(gradient: np.ndarray) -> np.ndarray:
    """Return a gradient [C, H, W] as colours [H, W, 3], by the paper's rule for grey or for colour images."""
    return signed_rgb(gradient[0]) if len(gradient) == 1 else gradient_rgb(gradient)


def signed_rgb(gradient: np.ndarray) -> np.ndarray:
    """Return a grey-scale gradient [H, W] as colours [H, W, 3]: blue positive, red negative, white zero.

    Values are clipped to 3 standard deviations of the image (the paper's Section 3.1). A constant gradient is white.
    """
    limit = 3 * gradient.std()
    scaled = np.clip(gradient / limit, -1, 1) if limit > 0 else np.zeros_like(gradient)
    return matplotlib.colormaps["RdBu"]((scaled + 1) / 2)[..., :3]


def gradient_rgb(gradient: np.ndarray) -> np.ndarray:
    """Return the gradient [3, H, W] of a colour image as colours [H, W, 3], where 0.5 is zero.

    Values are clipped to 3 standard deviations over all channels, and mapped to [0, 1] (the paper's Section 3.1). Each
    channel keeps its sign. A constant gradient is mid-grey.
    """
    limit = 3 * gradient.std(dtype=np.float64)
    flat = np.ptp(gradient) == 0 or limit == 0
    scaled = np.zeros_like(gradient) if flat else np.clip(gradient / limit, -1, 1)
    return np.moveaxis((scaled + 1) / 2, 0, -1)


def picture_grid(
    rows: list[tuple[str, list[np.ndarray]]], *, titles: list[str], subtitles: list[list[str]] | None = None
) -> Figure:
    """Draw labelled rows of images [H, W] in [0, 1] or [H, W, 3], with `titles` over the columns.

    `subtitles` [rows][columns] are drawn under the images.
    """
    n_columns, n_rows = max(len(images) for _, images in rows), len(rows)
    side, gap = 0.82, 0.05  # of an image, and beside it, in inches
    below = gap + (0.2 if subtitles else 0.0)
    size = (n_columns * (side + gap) - gap, n_rows * (side + below) - below)
    fig, axes = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False)
    for i, (label, images) in enumerate(rows):
        for j, image in enumerate(images):
            axis = axes[i, j]
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if i == 0 and titles:
                axis.set_title(titles[j], fontsize=9)
            if subtitles and subtitles[i][j]:
                axis.set_xlabel(subtitles[i][j], fontsize=8, labelpad=2)
        axes[i, 0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9, labelpad=6)
    fig.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=gap / side, hspace=below / side)
    return fig


def count_axis(axis: Axes, counts: list[int]) -> None:
    """Show a logarithmic x axis with a tick at each of `counts`, such as 300 and 60k."""
    axis.xaxis.set_major_locator(matplotlib.ticker.FixedLocator(counts))
    axis.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axis.xaxis.set_major_formatter(lambda count, _: f"{count / 1000:g}k" if count >= 1000 else f"{count:g}")


def percent_axis(axis: Axes) -> None:
    """Show shares on the y axis as percentages."""
    axis.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=None))
