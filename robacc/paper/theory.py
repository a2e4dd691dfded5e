"""Compute accuracy and robustness in closed form on the distribution of Section 2.

On it, no classifier is both accurate and robust. The label y is +1 or -1 with equal probability. The first feature x1
is y with probability p, and -y otherwise. The features x2 .. x_{d+1} are independent N(eta y, 1). Each of them is weak.
Together they are strong. The adversary is l-infinity.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import norm

Numbers = float | np.ndarray
GRID = 2001  # angles before the search is refined; more change no digit of the optimum


@dataclass(frozen=True)
class Distribution:
    """The distribution D of Section 2.1, with d weak features.

    Raises ValueError, which names the value, for a value that is not allowed.
    """

    p: float
    d: int
    eta: float

    def __post_init__(self) -> None:
        if not 0.5 <= self.p <= 1:
            raise ValueError(f"expected p between 0.5 and 1, got {self.p}")
        if self.d < 1:
            raise ValueError(f"expected d to be at least 1, got {self.d}")
        if not (self.eta > 0 and math.isfinite(self.eta)):
            raise ValueError(f"expected eta to be a finite number above 0, got {self.eta}")


def pooled(*, p: float, d: int, strength: float) -> Distribution:
    """Return D with eta = strength / sqrt(d).

    The mean of its weak features is right with probability Phi(strength).
    """
    return Distribution(p, d, strength / math.sqrt(d))


def generator(seed: int, *path: int) -> np.random.Generator:
    """Return the random generator for `path` in the run with `seed`.

    Different paths give unrelated generators.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, *path]))


def sample(dist: Distribution, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` examples x [n, d + 1] and their labels y [n], -1.0 or 1.0."""
    y = rng.choice([-1.0, 1.0], n)
    x1 = np.where(rng.random(n) < dist.p, y, -y)
    weak = rng.standard_normal((n, dist.d)) + dist.eta * y[:, None]
    return np.column_stack([x1, weak]), y


class Weights(NamedTuple):
    """The properties of a linear classifier sign(w.x) that decide its accuracy on D.

    They are w1, and the sum, l1 norm and l2 norm of the other weights. The fields may be arrays, for many classifiers.
    """

    first: Numbers
    total: Numbers
    l1: Numbers
    l2: Numbers


def weights(w: np.ndarray) -> Weights:
    """Return the `Weights` of any weight vector w [d + 1]."""
    return Weights(w[0], w[1:].sum(), np.abs(w[1:]).sum(), float(np.linalg.norm(w[1:])))


def symmetric(dist: Distribution, first: Numbers, weak: Numbers) -> Weights:
    """Return the `Weights` of w = (first, weak, ..., weak).

    (0, 1) is the mean of the weak features, and (1, 0) is sign(x1).
    """
    size = np.abs(weak)
    return Weights(first, np.multiply(dist.d, weak), dist.d * size, math.sqrt(dist.d) * size)


def unit(dist: Distribution, angle: Numbers) -> Weights:
    """Return the `Weights` of the unit-norm w = (cos angle, sin angle / sqrt(d), ...).

    The angle 0 is sign(x1), and pi / 2 is the mean of the weak features, whose first weight is exactly 0.
    """
    first = np.where(np.equal(angle, np.pi / 2), 0.0, np.cos(angle))
    return symmetric(dist, first, np.sin(angle) / math.sqrt(dist.d))


def _margins(dist: Distribution, w: Weights, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of the margin y w.x - eps ||w||_1 where x1 = y, and where x1 = -y.

    Its standard deviation is `w.l2`. For every x, the strongest linf perturbation of a linear classifier is -eps y
    sign(w).
    """
    rest = np.multiply(dist.eta, w.total) - np.multiply(eps, np.abs(w.first) + np.asarray(w.l1))
    return rest + w.first, rest - w.first


def _standardized(value: np.ndarray, deviation: Numbers) -> np.ndarray:
    """Return value / deviation, or its limit for a deviation of 0, clipped to 1e9 in size.

    A value of 0 with deviation 0 counts as negative, because a tie is an error. The clip changes no probability and
    keeps squares finite.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.divide(value, deviation)
    return np.clip(np.where(np.isnan(ratio), -np.inf, ratio), -1e9, 1e9)


def accuracy(dist: Distribution, w: Weights, *, eps: float) -> np.ndarray:
    """Return the exact accuracy of a linear classifier under the strongest linf adversary.

    eps = 0 gives standard accuracy.
    """
    same, opposite = (norm.cdf(_standardized(mean, w.l2)) for mean in _margins(dist, w, eps))
    return dist.p * same + (1 - dist.p) * opposite


def hinge(dist: Distribution, w: Weights, *, eps: float) -> np.ndarray:
    """Return the exact expected hinge loss E max(0, 1 - y w.x + eps ||w||_1).

    eps = 0 gives the standard loss. Let a = 1 - mean margin, and s the margin's deviation.

    The margin is normal, so the loss is a Phi(a / s) + s phi(a / s) for each value of y x1.
    """
    losses = []
    for mean in _margins(dist, w, eps):
        slack = _standardized(1 - mean, w.l2)
        losses.append((1 - mean) * norm.cdf(slack) + w.l2 * norm.pdf(slack))
    return dist.p * losses[0] + (1 - dist.p) * losses[1]


def _scale_penalty(dist: Distribution, w: Weights, eps: float) -> float:
    """Return -(d/dt) hinge(t w) at t = 1.

    It is the expected margin over the examples whose margin is at most 1.
    """
    parts = []
    for mean in _margins(dist, w, eps):
        slack = _standardized(1 - mean, w.l2)
        active = norm.cdf(slack) if w.l2 else float(mean <= 1)
        parts.append(mean * active - w.l2 * norm.pdf(slack))
    return float(dist.p * parts[0] + (1 - dist.p) * parts[1])


def robust_bound(dist: Distribution, std_acc: Numbers, *, eps: float) -> np.ndarray:
    """Return Theorem 2.1's bound p / (1 - p) * (1 - std_acc) on the linf-robust accuracy of any classifier.

    The only conditions are p in [0.5, 1) and eps >= 2 eta. Raises ValueError, which names the condition that fails.
    Robust accuracy never exceeds standard accuracy. So the bound implies that no classifier has a robust accuracy above
    p.
    """
    if dist.p >= 1:
        raise ValueError(f"expected p below 1 for Theorem 2.1, got {dist.p}")
    if eps < 2 * dist.eta:
        raise ValueError(f"expected eps of at least 2 eta = {2 * dist.eta} for Theorem 2.1, got {eps}")
    return dist.p / (1 - dist.p) * (1 - np.asarray(std_acc))


class Optimum(NamedTuple):
    """The unit-norm soft-margin SVM w = (first, weak, ..., weak), its expected hinge loss and its `penalty`.

    If penalty >= 0, w also minimises hinge + penalty / 2 * ||w||^2, which is convex. Then no other w of norm at most 1
    has a smaller loss, symmetric or not. Otherwise w is the best symmetric one.
    """

    first: float
    weak: float
    hinge: float
    penalty: float


def optimum(dist: Distribution, *, eps: float) -> Optimum:
    """Return the exact unit-norm SVM of Theorem 2.2, trained against linf `eps` (0 for standard training).

    It is w = (cos t, sin t / sqrt(d), ...) with t in [0, pi / 2]. No negative weight is needed. For p >= 0.5 and eta >
    0, making a weight positive never raises the loss. For p = 1 and eps = 0 it is sign(x1), whose loss is 0. Raises
    FloatingPointError if another loss is too small for a float.
    """

    def loss(angle: Numbers) -> np.ndarray:
        return hinge(dist, unit(dist, angle), eps=eps)

    angles = np.linspace(0, np.pi / 2, GRID)
    best = int(loss(angles).argmin())
    around = angles[max(best - 1, 0)], angles[min(best + 1, GRID - 1)]
    refined = minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": 1e-12}).x
    angle = min(0.0, np.pi / 2, refined, key=loss)  # the search never tries the ends of its interval
    if angle and loss(angle) == 0:
        raise FloatingPointError(f"expected eta * sqrt(d) below 37, got {dist.eta * math.sqrt(dist.d)}")
    w = unit(dist, angle)
    return Optimum(float(w.first), float(w.total / dist.d), float(loss(angle)), _scale_penalty(dist, w, eps))


def violated_hypothesis(dist: Distribution, *, eps: float) -> str:
    """Return the first hypothesis of Theorem 2.2 that fails for test and training `eps`, or "" if all hold.

    The last hypothesis is ours: E[y x1] >= E[y x_i]. Without it, the paper's adversarial optimum sign(x1) is still the
    best symmetric classifier. But for large eps, one weak feature alone can have less loss.
    """
    hypotheses = {
        "eta >= 4 / sqrt(d)": dist.eta >= 4 / math.sqrt(dist.d),
        "p <= 0.975": dist.p <= 0.975,
        "eps >= 2 eta": eps >= 2 * dist.eta,
        "eps < 1": eps < 1,
        "p >= (1 + eta) / 2": dist.p >= (1 + dist.eta) / 2,
    }
    return next((name for name, holds in hypotheses.items() if not holds), "")


def _setting(dist: Distribution) -> dict[str, float]:
    return {"p": dist.p, "d": dist.d, "strength": dist.eta * math.sqrt(dist.d), "eta": dist.eta}


def row(dist: Distribution, w: Weights, *, eps: float) -> dict[str, float]:
    """Return a row on a linear classifier on D: standard and robust accuracy at `eps`, and Theorem 2.1's bound."""
    std_acc, rob_acc = (float(accuracy(dist, w, eps=radius)) for radius in (0.0, eps))
    bound = float(robust_bound(dist, std_acc, eps=eps))
    return {**_setting(dist), "eps_test": eps, "std_acc": std_acc, "rob_acc": rob_acc, "bound": bound}


def closed_forms(dist: Distribution, *, eps: float) -> list[dict]:
    """Return a row for the mean of the weak features, for sign(x1) and for the unit-norm SVM.

    None of them is trained.
    """
    svm = optimum(dist, eps=0.0)
    named = {"mean": (0.0, 1 / dist.d), "sign(x1)": (1.0, 0.0), "SVM": (svm.first, svm.weak)}
    return [{"classifier": name, **row(dist, symmetric(dist, *w), eps=eps)} for name, w in named.items()]


def frontier(dist: Distribution, n: int, *, eps: float) -> list[dict]:
    """Return a row for each of `n` unit-norm classifiers, from sign(x1) to the mean of the weak features.

    They are (cos t, sin t / sqrt(d), ...) with t in [0, pi / 2].
    """
    angles = np.linspace(0, np.pi / 2, n)
    return [{"angle": float(angle), **row(dist, unit(dist, angle), eps=eps)} for angle in angles]


def optimum_row(dist: Distribution, *, eps_train: float, eps: float) -> dict:
    """Return a row on the exact SVM trained against `eps_train`.

    Its column `violated` is the hypothesis of Theorem 2.2 that fails at the test `eps`.
    """
    best = optimum(dist, eps=eps_train)
    violated = violated_hypothesis(dist, eps=eps)
    columns = {"eps_train": eps_train, **best._asdict(), "violated": violated}
    return {**row(dist, symmetric(dist, best.first, best.weak), eps=eps), **columns}


def monte_carlo(dist: Distribution, w: np.ndarray, *, eps: float, n: int, seed: int) -> list[dict]:
    """Return exact value, sampled value and z-score of the accuracy and the hinge loss of w [d + 1], at 0 and `eps`.

    The sampled value is that of perturbed examples, and uses no closed form. The standard error of an accuracy is that
    of its exact value. Raises ValueError if a standard error is zero.
    """
    x, y = sample(dist, n, generator(seed, 2))
    rows = []
    for radius in (0.0, eps):
        margin = y * ((x - radius * y[:, None] * np.sign(w)) @ w)
        exact_acc, exact_hinge = (float(f(dist, weights(w), eps=radius)) for f in (accuracy, hinge))
        loss = np.maximum(0, 1 - margin)
        checks = {
            "accuracy": (exact_acc, float((margin > 0).mean()), math.sqrt(exact_acc * (1 - exact_acc) / n)),
            "hinge": (exact_hinge, float(loss.mean()), float(loss.std() / math.sqrt(n))),
        }
        for quantity, (exact, sampled, error) in checks.items():
            if not error:
                raise ValueError(
                    f"expected {quantity} at eps {radius} to vary in a sample of n = {n}, got {exact} always"
                )
            columns = {"quantity": quantity, "eps_test": radius, "n": n, "seed": seed}
            z = (sampled - exact) / error
            rows.append({**_setting(dist), **columns, "exact": exact, "sampled": sampled, "se": error, "z": z})
    return rows


def checks(dist: Distribution, *, eps: float, n: int, seed: int) -> list[dict]:
    """Return the rows of `monte_carlo` for the mean, Theorem 2.2's SVM and a random linear classifier."""
    svm = optimum(dist, eps=0.0)
    random = generator(seed, 3).normal(1, 1, dist.d) / math.sqrt(dist.d)
    named = {
        "mean": np.append(0.0, np.full(dist.d, 1 / dist.d)),
        "SVM": np.append(svm.first, np.full(dist.d, svm.weak)),
        "random": np.append(0.3, random),
    }
    return [
        {"classifier": name, **row}
        for name, w in named.items()
        for row in monte_carlo(dist, w, eps=eps, n=n, seed=seed)
    ]
