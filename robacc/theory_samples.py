"""Classifiers trained on samples of Section 2's distribution, their robust accuracy, and transfer between them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.svm import LinearSVC

from robacc import theory
from robacc.theory import Distribution


@dataclass(frozen=True)
class Fit:
    """How classifiers are trained on `n_train` examples; the l2 penalty of an SVM is the theorem's own.

    `svm_eps` are training eps of adversarially trained SVMs, in units of eta.
    """

    n_train: int
    svm_eps: list[float]
    svm_smoothing: float
    svm_max_gap: float
    logistic_c: float
    net_hidden: int
    net_epochs: int
    net_penalty: float
    trees: int
    tree_leaves: int
    tree_rate: float


@dataclass(frozen=True)
class Classifier:
    """A trained classifier: `margin` maps x [N, d + 1] to [N], above 0 meaning +1.

    `weights` [d + 1] if it is linear; `gradient`, of the margin at x, if it has one. `gap` is what
    is proved about the convergence of an adversarially trained SVM: at most this far from the least loss.
    """

    kind: str
    margin: Callable[[np.ndarray], np.ndarray]
    eps_train: float = 0.0
    weights: np.ndarray | None = None
    gradient: Callable[[np.ndarray], np.ndarray] | None = None
    gap: float | None = None


def linear(kind: str, w: np.ndarray, *, eps_train: float = 0.0, gap: float | None = None) -> Classifier:
    """Return the classifier sign(w.x)."""
    return Classifier(kind, lambda x: x @ w, eps_train, w, lambda x: np.broadcast_to(w, x.shape), gap)


def adversarial_svm(
    x: np.ndarray, y: np.ndarray, *, eps: float, penalty: float, smoothing: float
) -> tuple[np.ndarray, float]:
    """Return w [d + 1] minimising mean max(0, 1 - y w.x + eps ||w||_1) + penalty / 2 ||w||^2, and its duality gap.

    The adversary of a linear classifier is exact, so this is adversarial training and it is convex. L-BFGS-B
    on w = positive - negative part, the hinge rounded off over `smoothing`. The gap bounds how far the true,
    not the rounded, loss is above its minimum; any a in [0, 1]^N gives a lower bound (see `dual` below).
    """
    n, size = x.shape
    signed = x * y[:, None]

    def objective(parts: np.ndarray) -> tuple[float, np.ndarray]:
        w = parts[:size] - parts[size:]
        slack = 1 - signed @ w + eps * parts.sum()
        active = np.clip(slack / smoothing, 0, 1)
        slope = active @ signed / n - penalty * w
        loss = (active * (slack - smoothing * active / 2)).mean() + penalty / 2 * w @ w
        return loss, eps * active.mean() + np.concatenate([-slope, slope])

    start = np.zeros(2 * size)
    options = {"maxiter": 5000, "maxfun": 10000, "ftol": 1e-12, "gtol": 1e-9}
    parts = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start), options=options).x
    w = parts[:size] - parts[size:]
    slack = 1 - signed @ w + eps * np.abs(w).sum()
    primal = np.maximum(0, slack).mean() + penalty / 2 * w @ w
    active = np.clip(slack / smoothing, 0, 1)
    pull = np.maximum(0, np.abs(active @ signed / n) - eps * active.mean())
    dual = active.mean() - pull @ pull / (2 * penalty)
    return w, float(primal - dual)


def svms(x: np.ndarray, y: np.ndarray, dist: Distribution, fit: Fit, *, seed: int) -> Iterator[Classifier]:
    """Yield the standard SVM and one adversarially trained at each of `fit.svm_eps`.

    The penalty is the one with which the SVM of unit norm is optimal on D itself, so that more examples
    lead to Theorem 2.2's optimum. ValueError where that SVM has no penalty (eps too large for p), and
    where the duality gap is above `fit.svm_max_gap`.
    """
    c = 1 / (theory.optimum(dist, eps=0.0).penalty * len(y))
    svc = LinearSVC(loss="hinge", C=c, fit_intercept=False, tol=1e-6, max_iter=100000, random_state=seed).fit(x, y)
    yield linear("SVM", svc.coef_[0])
    for share in fit.svm_eps:
        eps = share * dist.eta
        penalty = theory.optimum(dist, eps=eps).penalty
        if penalty <= 0:
            raise ValueError(f"expected svm_eps that leave a margin to learn at p = {dist.p}, got eps = {eps}")
        w, gap = adversarial_svm(x, y, eps=eps, penalty=penalty, smoothing=fit.svm_smoothing)
        if gap > fit.svm_max_gap:
            raise FloatingPointError(f"expected a duality gap of at most {fit.svm_max_gap}, got {gap} at eps {eps}")
        yield linear("adversarial SVM", w, eps_train=eps, gap=gap)


def net(x: np.ndarray, y: np.ndarray, fit: Fit, *, seed: int) -> Classifier:
    """Return a trained net with one hidden layer of ReLUs; its gradient is written out."""
    model = MLPClassifier((fit.net_hidden,), alpha=fit.net_penalty, batch_size=100, random_state=seed)
    for _ in range(fit.net_epochs):
        model.partial_fit(x, y, classes=[-1.0, 1.0])
    (w_in, w_out), (b_in, b_out) = model.coefs_, model.intercepts_

    def margin(x: np.ndarray) -> np.ndarray:
        return np.maximum(0, x @ w_in + b_in) @ w_out[:, 0] + b_out[0]

    def gradient(x: np.ndarray) -> np.ndarray:
        return ((x @ w_in + b_in > 0) * w_out[:, 0]) @ w_in.T

    return Classifier("neural net", margin, gradient=gradient)


def trained(dist: Distribution, fit: Fit, *, seed: int) -> list[Classifier]:
    """Return one classifier of every kind, all trained on the same examples; other seeds give other examples."""
    x, y = theory.sample(dist, fit.n_train, theory.generator(seed, 0))
    logistic = LogisticRegression(C=fit.logistic_c, fit_intercept=False, max_iter=1000).fit(x, y)
    trees = HistGradientBoostingClassifier(
        max_iter=fit.trees,
        max_leaf_nodes=fit.tree_leaves,
        learning_rate=fit.tree_rate,
        early_stopping=False,
        random_state=seed,
    ).fit(x, y)
    return [
        *svms(x, y, dist, fit, seed=seed),
        linear("logistic regression", logistic.coef_[0]),
        net(x, y, fit, seed=seed),
        Classifier("boosted trees", trees.decision_function),
    ]


def draws(dist: Distribution, n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x [2n, d + 1] and y [2n]: n draws of the weak features, first with x1 = y, then with x1 = -y.

    x1 has only two values, so its part of an expectation is taken exactly (see `over_x1`). With p near 1
    the bound of Theorem 2.1 multiplies errors by p / (1 - p): drawn x1 would drown it in noise.
    """
    x, y = theory.sample(dist, n, theory.generator(seed, 1))
    return np.concatenate([np.column_stack([x1, x[:, 1:]]) for x1 in (y, -y)]), np.concatenate([y, y])


def over_x1(dist: Distribution, outcome: np.ndarray) -> np.ndarray:
    """Return the expectation over x1 of outcomes [2n] on `draws`, for each of the n draws."""
    same, opposite = np.split(outcome, 2)
    return dist.p * same + (1 - dist.p) * opposite


def shifted(x: np.ndarray, y: np.ndarray, *, eps: float) -> np.ndarray:
    """Return the paper's adversarial examples: every weak feature moved by -eps y, x1 left alone.

    Made from D, without any classifier. With eps = 2 eta the weak features look like those of the other label.
    """
    x_adv = x - eps * y[:, None]
    x_adv[:, 0] = x[:, 0]
    return x_adv


def pgd(classifier: Classifier, x: np.ndarray, y: np.ndarray, *, eps: float, n_steps: int) -> Iterator[np.ndarray]:
    """Yield the iterates of linf PGD on the margin from x, in steps of 2.5 eps / n_steps."""
    assert classifier.gradient is not None
    x_adv = x
    for _ in range(n_steps):
        step = 2.5 * eps / n_steps * np.sign(classifier.gradient(x_adv))
        x_adv = np.clip(x_adv - y[:, None] * step, x - eps, x + eps)
        yield x_adv


def attack(classifier: Classifier, x: np.ndarray, y: np.ndarray, *, eps: float, n_steps: int) -> np.ndarray:
    """Return for each example the linf perturbation with the smallest margin: the optimum if `classifier` is linear.

    Otherwise the worst of no perturbation, the paper's shift without and with x1, and each iterate of PGD.
    """
    if classifier.weights is not None:
        return x - eps * y[:, None] * np.sign(classifier.weights)
    tries = [shifted(x, y, eps=eps), x - eps * y[:, None]]
    if classifier.gradient is not None:
        tries.extend(pgd(classifier, x, y, eps=eps, n_steps=n_steps))
    worst, least = x.copy(), y * classifier.margin(x)
    for x_adv in tries:
        margin = y * classifier.margin(x_adv)
        better = margin < least
        worst[better], least[better] = x_adv[better], margin[better]
    return worst


def exact(dist: Distribution, w: np.ndarray, *, eps: float) -> dict:
    """Return standard and linf-robust accuracy of the linear classifier `w`, from the closed form."""
    std_acc, rob_acc = (float(theory.accuracy(dist, theory.weights(w), eps=radius)) for radius in (0.0, eps))
    excess = rob_acc - float(theory.robust_bound(dist, std_acc, eps=eps))
    errors = {"std_se": 0.0, "rob_se": 0.0, "excess_se": 0.0}
    return {"n_test": 0, "std_acc": std_acc, "rob_acc": rob_acc, "excess": excess, **errors}


def measured(
    dist: Distribution, classifier: Classifier, x: np.ndarray, y: np.ndarray, *, eps: float, n_steps: int
) -> dict:
    """Return standard and linf-robust accuracy on `draws`, the latter an upper limit: an attack is no proof."""
    std = over_x1(dist, y * classifier.margin(x) > 0)
    rob = over_x1(dist, y * classifier.margin(attack(classifier, x, y, eps=eps, n_steps=n_steps)) > 0)
    over = rob - theory.robust_bound(dist, std, eps=eps)
    columns = {"std_acc": std.mean(), "rob_acc": rob.mean(), "excess": over.mean()}
    columns |= {"std_se": _error(std), "rob_se": _error(rob), "excess_se": _error(over)}
    return {"n_test": len(std)} | {name: float(value) for name, value in columns.items()}


def _error(values: np.ndarray) -> float:
    return float(values.std() / math.sqrt(len(values)))


def point(
    dist: Distribution, classifier: Classifier, x: np.ndarray, y: np.ndarray, *, eps: float, n_steps: int
) -> dict:
    """Return a row about one classifier: both accuracies, and how far robust accuracy exceeds Theorem 2.1's bound.

    `x`, `y` are `draws`, used unless the classifier is linear. Standard errors are 0 for a closed form.
    """
    if classifier.weights is not None:
        adversary, accs = "closed form", exact(dist, classifier.weights, eps=eps)
    else:
        adversary = f"attack: shifts, PGD-{n_steps}" if classifier.gradient is not None else "attack: shifts"
        accs = measured(dist, classifier, x, y, eps=eps, n_steps=n_steps)
    columns = {"kind": classifier.kind, "eps_train": classifier.eps_train, "gap": classifier.gap}
    return {**columns, "adversary": adversary, "eps_test": eps, **accs}


def transfer(
    dist: Distribution,
    sources: list[Classifier],
    victims: list[Classifier],
    x: np.ndarray,
    y: np.ndarray,
    *,
    eps: float,
    n_steps: int,
) -> list[dict]:
    """Return a row for each source and victim: the victim's accuracy on examples made against the source alone.

    The first source is no classifier but the paper's shift, which knows D only.
    """
    crafted = {"distribution": shifted(x, y, eps=eps)}
    crafted |= {source.kind: attack(source, x, y, eps=eps, n_steps=n_steps) for source in sources}
    rows = []
    for name, x_adv in crafted.items():
        for victim in victims:
            std, adv = (over_x1(dist, y * victim.margin(z) > 0) for z in (x, x_adv))
            accs = {"std_acc": float(std.mean()), "adv_acc": float(adv.mean()), "adv_se": _error(adv)}
            columns = {"source": name, "victim": victim.kind, "eps_train": victim.eps_train, "eps": eps}
            rows.append({**columns, "n_test": len(std), **accs})
    return rows


def study(
    dist: Distribution, fit: Fit, *, n_seeds: int, n_test: int, eps: float, n_steps: int
) -> tuple[list[dict], list[dict]]:
    """Return the rows of `point` for classifiers of every seed, and those of `transfer` from each seed to the next.

    Sources are the standard classifiers with a gradient. ValueError for a single seed, which has no other.
    """
    if n_seeds < 2:
        raise ValueError(f"expected n_seeds of at least 2, got {n_seeds}")
    place = {"p": dist.p, "d": dist.d, "strength": dist.eta * math.sqrt(dist.d), "eta": dist.eta}
    classifiers = [trained(dist, fit, seed=seed) for seed in range(n_seeds)]
    points, transfers = [], []
    for seed, own in enumerate(classifiers):
        columns = {**place, "seed": seed, "n_train": fit.n_train}
        x, y = draws(dist, n_test, seed=seed)
        points += [{**columns, **point(dist, each, x, y, eps=eps, n_steps=n_steps)} for each in own]
        sources = [each for each in own if each.gradient is not None and each.eps_train == 0]
        other = (seed + 1) % n_seeds
        rows = transfer(dist, sources, classifiers[other], x, y, eps=eps, n_steps=n_steps)
        transfers += [{**columns, "seed_victim": other, **row} for row in rows]
    return points, transfers
