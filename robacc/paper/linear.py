"""Train the linear model on MNIST 5 vs 7 and attack it exactly (Section 3.1, Figure 5, Table 5), in l-infinity.

A model is sign(w.x + b). An adversary that may change every pixel by eps lowers the margin y(w.x + b) by eps ||w||_1.
Adversarial training minimises mean log(1 + exp(-margin)) with the lowered margin. This is exact, so no attack is run.
eps = 0 is standard training. The objective is convex. It is smooth in (w, b, ||w||_1), and every function here uses
that form.

A pixel has a weight in the robust optimum only if its gradient exceeds the pull of the adversary. The gradient is the
difference of the pixel's class means, weighted by the examples' losses, and must exceed eps. That is a threshold on
covariance. Claim C9 is about a threshold on correlation. It follows as far as strongly correlated pixels also vary
much.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from robacc.images.in_memory import Images
from robacc.images.sets import ImageSet
from robacc.seeding import derive

Array = NDArray[np.float64]
Rows = tuple[Array, Array]
TABLES = ("models", "accuracy", "features", "mass", "selection", "noise")


@dataclass(frozen=True)
class Model:
    """A linear model with weights `w` [D] and bias `b`.

    `iterations` is the length of its training. `objective` and `gradient_norm` are the values at its end.
    `gradient_norm` is 0 at the optimum and nowhere else (see `stationarity`).
    """

    w: Array
    b: float
    iterations: int
    objective: float
    gradient_norm: float


def binary(images: ImageSet, *, classes: list[int]) -> tuple[Array, Array]:
    """Return the images of two classes as rows x [N, D] in [0, 1], and their labels y [N].

    y is -1 for the first class and +1 for the second. Raises TypeError for images that are not in memory.
    """
    if not isinstance(images, Images):
        raise TypeError(f"expected images in memory, got {type(images).__name__}")
    negative, positive = classes
    keep = (images.y == negative) | (images.y == positive)
    x = images.x[keep].flatten(1).numpy().astype(np.float64) / 255  # [N, D]
    return x, np.where(images.y[keep].numpy() == positive, 1.0, -1.0)


def correlation(x: Array, y: Array) -> Array:
    """Return Pearson's correlation of each column of x [N, D] with y [N], as [D].

    It is 0 for a constant column.
    """
    varies = np.ptp(x, axis=0) > 0
    centred = (x - x.mean(0)) * varies
    spread = np.sqrt((centred**2).sum(0) * ((y - y.mean()) ** 2).sum())
    return (y - y.mean()) @ centred / np.where(varies, spread, 1.0)


def most_correlated(correlations: Array, k: int) -> NDArray[np.intp]:
    """Return the indices of the k largest |correlations|, largest first, ties in order of index.

    Raises ValueError unless 1 <= k <= D.
    """
    if not 1 <= k <= len(correlations):
        raise ValueError(f"expected a number of features between 1 and {len(correlations)}, got {k}")
    return np.argsort(-np.abs(correlations), kind="stable")[:k]


def margins(w: Array, b: float, x: Array, y: Array, *, eps: float) -> Array:
    """Return each example's smallest margin y(w.x' + b) over ||x' - x||_inf <= eps, [N].

    A positive margin is a correct prediction. As in the paper, x' may be outside [0, 1]. So this adversary is stronger
    than any real one.
    """
    return y * (x @ w + b) - eps * np.abs(w).sum()


def margins_in_box(w: Array, b: float, x: Array, y: Array, *, eps: float) -> Array:
    """Return each example's smallest margin over ||x' - x||_inf <= eps with x' in [0, 1], [N].

    A positive margin is a correct prediction. The minimum is exact, because pixels do not interact. Each pixel moves by
    eps, or to 0 or 1, in the direction that lowers the margin.
    """
    rise, fall = np.maximum(w, 0), np.maximum(-w, 0)
    down, up = np.minimum(x, eps), np.minimum(1 - x, eps)
    loss = np.where(y > 0, down @ rise + up @ fall, up @ rise + down @ fall)
    return y * (x @ w + b) - loss


def mean_loss(margin: Array) -> float:
    """Return the mean logistic loss log(1 + exp(-margin))."""
    return float(np.logaddexp(0, -margin).mean())


def gradient(margin: Array, x: Array, y: Array) -> tuple[Array, float, float]:
    """Return the derivatives of `mean_loss` with respect to w [D], b and r, for margin = y(w.x + b) - r.

    The adversary's reach r is eps ||w||_1. The loss is smooth if r is a separate variable.
    """
    share = expit(-margin) / len(y)  # [N]
    pull = share * y
    return -pull @ x, -float(pull.sum()), float(share.sum())


def stationarity(w: Array, b: float, x: Array, y: Array, *, eps: float, l2: float) -> tuple[float, float]:
    """Return the objective loss + l2/2 ||w||^2, and the largest entry of its proximal gradient.

    The proximal gradient is the change of (w, b) in one proximal step of length 1. For eps = 0 it is the gradient
    itself. It is 0 at the optimum and nowhere else. This holds even where weights are exactly zero and ||w||_1 has no
    gradient.
    """
    margin = margins(w, b, x, y, eps=eps)
    grad_w, grad_b, grad_reach = gradient(margin, x, y)
    target = w - grad_w - l2 * w
    moved = np.sign(target) * np.maximum(np.abs(target) - eps * grad_reach, 0)
    return mean_loss(margin) + l2 / 2 * float(w @ w), max(float(np.abs(w - moved).max()), abs(grad_b))


def fit_optimum(x: Array, y: Array, *, eps: float, l2: float, tolerance: float, max_iterations: int) -> Model:
    """Return the minimiser of loss + l2/2 ||w||^2, for rows x [N, D] and labels y [N] of -1 and +1.

    The penalty does not include b. With w = u - v and u, v >= 0, ||w||_1 is the sum of u and v. So the problem is
    smooth with bounds, and L-BFGS-B gives exact zeros. The optimum is finite if l2 > 0, or if no model has all training
    margins positive at this eps. At eps = 0 MNIST 5 vs 7 is separable, so the weights grow forever without l2. A
    smaller l2 gives a model nearer to the largest margin. Constant columns get weight 0. Raises FloatingPointError if
    the gradient norm stays above 2 * `tolerance`.
    """
    varies = np.ptp(x, axis=0) > 0
    used = np.ascontiguousarray(x[:, varies])
    d = used.shape[1]

    def objective(point: Array) -> tuple[float, Array]:
        w = point[:d] - point[d:-1]
        margin = y * (used @ w + point[-1]) - eps * point[:-1].sum()
        grad_w, grad_b, grad_reach = gradient(margin, used, y)
        grad_w, pull = grad_w + l2 * w, eps * grad_reach
        return mean_loss(margin) + l2 / 2 * float(w @ w), np.concatenate([grad_w + pull, pull - grad_w, [grad_b]])

    bounds = [(0, None)] * (2 * d) + [(None, None)]
    options = {"gtol": tolerance, "ftol": 0, "maxiter": max_iterations, "maxfun": 2 * max_iterations, "maxcor": 20}
    found = minimize(objective, np.zeros(2 * d + 1), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    w, b = np.zeros(x.shape[1]), float(found.x[-1])
    w[varies] = found.x[:d] - found.x[d:-1]
    value, gradient_norm = stationarity(w, b, x, y, eps=eps, l2=l2)
    if gradient_norm > 2 * tolerance:
        raise FloatingPointError(
            f"expected a gradient norm of at most {2 * tolerance} within {max_iterations} iterations, "
            f"got {gradient_norm:.2g} after {found.nit} at eps {eps}, l2 {l2}"
        )
    return Model(w, b, found.nit, value, gradient_norm)


def fit_sgd(x: Array, y: Array, *, eps: float, lr: float, batch_size: int, epochs: int, seed: int) -> Model:
    """Return the model after `epochs` of stochastic gradient descent from zero, as the paper trains it.

    Each step uses the gradient at the batch's worst-case images, x - eps y sign(w), a subgradient of the loss. The
    learning rate falls linearly from `lr` to 0. At a constant rate, weights that are zero at the optimum would jump
    around zero by about lr * eps forever. That would hide claim C9. A pixel that is 0 in every image keeps its initial
    weight, zero.
    """
    rng = np.random.default_rng(derive(seed, "linear-sgd"))
    w, b = np.zeros(x.shape[1]), 0.0
    x = np.ascontiguousarray(x)  # selected columns are not, which made batches 7 times slower
    starts = range(0, len(y), batch_size)
    n_steps = epochs * len(starts)
    for step in range(n_steps):
        if step % len(starts) == 0:
            order = rng.permutation(len(y))
        batch = order[starts[step % len(starts)] :][:batch_size]
        images, labels = x[batch], y[batch]
        grad_w, grad_b, grad_reach = gradient(margins(w, b, images, labels, eps=eps), images, labels)
        rate = lr * (1 - step / n_steps)
        w = w - rate * (grad_w + eps * grad_reach * np.sign(w))
        b -= rate * grad_b
    return Model(w, b, n_steps, *stationarity(w, b, x, y, eps=eps, l2=0.0))


def attack_counts(model: Model, x: Array, y: Array, eps_grid: list[float]) -> list[dict]:
    """Return the number of correct images without an attack, and at each eps without and with the box [0, 1].

    The columns are attack ("none", "linf", "linf-box"), eps_test, n, n_correct.
    """
    outcomes = {("none", 0.0): margins(model.w, model.b, x, y, eps=0.0)}
    for eps in eps_grid:
        outcomes["linf", eps] = margins(model.w, model.b, x, y, eps=eps)
        outcomes["linf-box", eps] = margins_in_box(model.w, model.b, x, y, eps=eps)
    return [
        {"attack": attack, "eps_test": eps, "n": len(y), "n_correct": int((margin > 0).sum())}
        for (attack, eps), margin in outcomes.items()
    ]


def select_features(
    fit: Callable[..., Model], train: Rows, test: Rows, *, n_kept: list[int], eps_grid: list[float]
) -> list[dict]:
    """Return the test counts of standard models on only the k most correlated training features (Figure 5c).

    Each k of `n_kept` has the rows of `attack_counts`. Two columns are added: n_kept, and lowest_kept, the smallest
    |correlation| of a kept feature.
    """
    correlations, rows = correlation(*train), []
    for k in n_kept:
        kept = most_correlated(correlations, k)
        model = fit(train[0][:, kept], train[1], eps=0.0)
        name = {"n_kept": k, "lowest_kept": abs(correlations[kept[-1]])}
        rows += [{**name, **row} for row in attack_counts(model, test[0][:, kept], test[1], eps_grid)]
    return rows


def describe(model: Model, correlations: Array, *, used: float) -> dict:
    """Return how the training of a model ended, and which features it uses.

    A feature is used if its |w| exceeds `used` times the largest. The keys are iterations, objective, gradient_norm,
    l1_norm, n_used and lowest_used. lowest_used is the smallest |correlation| of a used feature, or 1 if none is used.
    """
    size = np.abs(model.w)
    is_used = size > used * size.max()
    lowest = float(np.abs(correlations[is_used]).min(initial=1.0))
    reached = {"iterations": model.iterations, "objective": model.objective, "gradient_norm": model.gradient_norm}
    return {**reached, "l1_norm": float(size.sum()), "n_used": int(is_used.sum()), "lowest_used": lowest}


def mass_below(w: Array, correlations: Array, thresholds: list[float]) -> list[dict]:
    """Return the weight on features with |correlation| under each threshold (claim C9).

    The columns are threshold, n_features, share and largest. `share` is a share of ||w||_1. `largest` is the largest
    |w| on these features, relative to the largest of all.
    """
    share = np.abs(w) / (np.abs(w).sum() or 1.0)
    rows = []
    for threshold in thresholds:
        below = share[np.abs(correlations) < threshold]
        largest = float(below.max(initial=0.0) / (share.max() or 1.0))
        rows.append({"threshold": threshold, "n_features": len(below), "share": float(below.sum()), "largest": largest})
    return rows


def report(
    model: Model, train: Rows, test: Rows, *, eps_grid: list[float], used: float, thresholds: list[float]
) -> dict[str, list[dict]]:
    """Return the rows of four tables on one model of all features: models, accuracy, features, mass.

    Correlations are those of the training images.
    """
    correlations = correlation(*train)
    pixels = enumerate(zip(correlations, model.w, strict=True))
    counts = {split: attack_counts(model, x, y, eps_grid) for split, (x, y) in (("train", train), ("test", test))}
    return {
        "models": [describe(model, correlations, used=used)],
        "accuracy": [{"split": split, **row} for split, rows in counts.items() for row in rows],
        "features": [{"pixel": pixel, "correlation": c, "weight": w} for pixel, (c, w) in pixels],
        "mass": mass_below(model.w, correlations, thresholds),
    }


def noisy_sample(x: Array, y: Array, n: int, *, n_noise: int, seed: int) -> tuple[Array, Array]:
    """Return `n` random examples with `n_noise` added features, [n, D + n_noise], and their labels.

    The added features are independent of the label (Appendix E). By chance a sample correlates each of them with the
    label, by about 1/sqrt(n). They are fair coins, 0 or 1, and no feature in [0, 1] has a larger variance. Samples of
    one seed are nested. Raises ValueError unless 1 <= n <= N.
    """
    if not 1 <= n <= len(y):
        raise ValueError(f"expected a number of examples between 1 and {len(y)}, got {n}")
    rng = np.random.default_rng(derive(seed, "linear-noise"))
    rows = rng.permutation(len(y))[:n]
    noise = rng.integers(0, 2, size=(n, n_noise)).astype(np.float64)
    return np.hstack([x[rows], noise]), y[rows]


def weight_on_noise(
    fit: Callable[..., Model], x: Array, y: Array, *, n_noise: int, eps_grid: list[float], used: float
) -> list[dict]:
    """Return, for each training eps, the weight of a model of a `noisy_sample` on its last `n_noise` features.

    The columns are eps_train, noise_share, n_noise_used and noise_correlation. noise_share is a share of ||w||_1.
    n_noise_used counts noise features whose |w| exceeds `used` times the largest. noise_correlation is the mean
    |correlation| of the noise with the label in this sample.
    """
    by_chance = float(np.abs(correlation(x[:, -n_noise:], y)).mean())
    rows = []
    for eps in eps_grid:
        size = np.abs(fit(x, y, eps=eps).w)
        noise = size[-n_noise:]
        counts = {"noise_share": noise.sum() / size.sum(), "n_noise_used": (noise > used * size.max()).sum()}
        rows.append({"eps_train": eps, **counts, "noise_correlation": by_chance})
    return rows
