"""Name and parse balls: standard, l2-1.5, linf-0.3.

A ball is the set of perturbations that a model is trained or attacked with. Its name is the same in params.yaml, on the
command line, and in the names of stages, files and models.
"""

import math
from dataclasses import dataclass

NORMS = ("l2", "linf")


@dataclass(frozen=True)
class Ball:
    """All perturbations delta with ||delta|| <= `eps` in `norm`.

    Images are in [0, 1], and `eps` is in the same units.
    """

    norm: str
    eps: float

    @property
    def is_standard(self) -> bool:
        """Whether 0 is the only perturbation in the ball, as in standard training."""
        return self.eps == 0

    def __str__(self) -> str:
        return "standard" if self.is_standard else f"{self.norm}-{self.eps}"


# With eps 0 the norm does not matter. Files of standard models name l2.
STANDARD = Ball("l2", 0.0)


def parse(word: str) -> Ball:
    """Return the ball with the name `word`.

    Raises ValueError unless `word` is "standard", or norm and eps as Python prints that eps. Another spelling, such as
    l2-2 or l2-2.50, would give the same model a second name.
    """
    if word == "standard":
        return STANDARD
    norm, _, text = str(word).partition("-")
    try:
        eps = float(text)
    except ValueError:
        eps = math.nan
    if norm not in NORMS or not 0 < eps < math.inf:
        example = "standard, or a norm and an eps above 0 such as l2-1.5 or linf-0.0314"
        raise ValueError(f"expected {example}, got {word!r}")
    if text != str(eps):
        raise ValueError(f"expected {norm}-{eps}, got {word!r}")
    return Ball(norm, eps)
