"""Say how a training ball is named and which look it has, the same in every figure and on the page."""

from collections.abc import Iterable

from robacc.balls import NORMS
from robacc.datasets import facts

N_COLOURS = 6  # beside that of standard training


def eps_text(eps: float, dataset: str | None) -> str:
    """Return an eps as legends show it.

    It is a multiple of 1/255 if the data set's legends have these, and if this eps is one.
    """
    steps = round(255 * eps)
    in_255 = dataset is not None and facts.of(dataset).eps_in_255
    return f"{steps}/255" if in_255 and steps and abs(255 * eps - steps) <= 0.02 else f"{eps:g}"


def looks(norms: Iterable[str], eps: Iterable[float]) -> dict[tuple[str, float], int]:
    """Return the look of each ball among those of a run, in order: 0 is standard training, then by norm and eps."""
    balls = set(zip(norms, eps, strict=True))
    robust = sorted((ball for ball in balls if ball[1]), key=lambda ball: (NORMS.index(ball[0]), ball[1]))
    return {ball: 0 for ball in balls if not ball[1]} | {ball: index for index, ball in enumerate(robust, start=1)}


def colour(look: int) -> int:
    """Return which colour a look has: 0 is that of standard training alone."""
    return (look - 1) % N_COLOURS + 1 if look else 0
