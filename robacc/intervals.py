"""How sure a measured share is."""

from math import sqrt
from statistics import NormalDist


def wilson(correct: int, n: int, *, confidence: float) -> tuple[float, float]:
    """Return the Wilson score interval (1927) of a proportion; `confidence` in (0, 1).

    Unlike the normal interval it stays in [0, 1] and is right near 0 and 1.
    """
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"expected 0 <= correct <= n and n > 0, got {correct} of {n}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = correct / n
    centre = share + z * z / (2 * n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
