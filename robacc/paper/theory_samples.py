"""Train classifiers on samples of Section 2's distribution, attack them, and transfer attacks between them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.svm import LinearSVC

from robacc.paper import theory
from robacc.paper.theory import Distribution
from robacc.params import Fit


@dataclass(frozen=True)
class Classifier:
    """A trained classifier, whose `margin` maps x [N, d + 1] to [N].

    A positive margin means the label +1. A linear classifier has `weights` [d + 1]. `gradient` is that of the margin at
    x, if there is one. `gap` is the duality gap of an adversarially trained SVM. Its loss exceeds the minimum by at
    most `gap`.
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
    """Return the weights w [d + 1] of an adversarially trained SVM, and its duality gap.

    w minimises mean max(0, 1 - y w.x + eps ||w||_1) + penalty / 2 ||w||^2. The adversary of a linear classifier is
    exact, so this is adversarial training. It is convex. L-BFGS-B runs on the positive and the negative part of w, with
    the hinge smoothed over the width `smoothing`.

    The true loss, without smoothing, exceeds its minimum by at most the gap. Any a in [0, 1]^N gives a lower bound on
    the minimum (see `dual` below).
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
    """Yield the standard SVM, and one adversarially trained SVM for each of `fit.svm_eps`.

    With their penalty, the SVM of unit norm is optimal on D itself. So more examples lead to Theorem 2.2's optimum.
    Raises ValueError if no such penalty exists, because eps is too large for p. Raises FloatingPointError if the
    duality gap exceeds `fit.svm_max_gap`.
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
    """Return a trained net with one hidden layer of ReLUs.

    Its gradient is a formula, not autograd.
    """
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
    """Return one classifier of every kind, all trained on the same examples.

    Another seed gives other examples.
    """
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

    x1 has only two values, so `over_x1` takes the expectation over it exactly. For p near 1 the bound of Theorem 2.1
    multiplies errors by p / (1 - p). The noise of a sampled x1 would exceed the result.
    """
    x, y = theory.sample(dist, n, theory.generator(seed, 1))
    return np.concatenate([np.column_stack([x1, x[:, 1:]]) for x1 in (y, -y)]), np.concatenate([y, y])


def over_x1(dist: Distribution, outcome: np.ndarray) -> np.ndarray:
    """Return the expectation over x1 of `outcome` [2n] on `draws`, for each of the n draws."""
    same, opposite = np.split(outcome, 2)
    return dist.p * same + (1 - dist.p) * opposite


def shifted(x: np.ndarray, y: np.ndarray, *, eps: float) -> np.ndarray:
    """Return the paper's adversarial examples: every weak feature moved by -eps y, with x1 unchanged.

    They come from D, without any classifier. With eps = 2 eta, the weak features look like those of the other label.
    """
    x_adv = x - eps * y[:, None]
    x_adv[:, 0] = x[:, 0]
    return x_adv


def pgd(classifier: Classifier, x: np.ndarray, y: np.ndarray, *, eps: float, n_steps: int) -> Iterator[np.ndarray]:
    """Yield the iterates of linf PGD on the margin from x, with step size 2.5 eps / n_steps."""
    assert classifier.gradient is not None
    x_adv = x
    for _ in range(n_steps):
        step = 2.5 * eps / n_steps * np.sign(classifier.gradient(x_adv))
        x_adv = np.clip(x_adv - y[:, None] * step, x - eps, x + eps)
        yield x_adv


def attack(classifier: Classifier, x: np.ndarray, y: np.ndarray, *, eps: float, n_steps: int) -> np.ndarray:
    """Return for each example the linf adversarial example with the smallest margin.

    It is the optimum if `classifier` is linear. Otherwise it is the worst of several: `x` itself, the paper's shift
    without and with x1, and each iterate of PGD.
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
    """Return standard and linf-robust accuracy on `draws`.

    The latter is an upper bound, because an attack is no proof.
    """
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
    """Return a row on one classifier: its accuracies, and the excess of robust accuracy over Theorem 2.1's bound.

    `x` and `y` are `draws`. A linear classifier has closed forms, with standard errors of 0, and does not use them.
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
    """Return a row for each source and victim, with the victim's accuracy on examples made against the source.

    The first source is no classifier but the paper's shift, which depends on D only.
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

    The sources are the standard classifiers with a gradient. Raises ValueError for a single seed, because `transfer`
    needs two.
    """
    if n_seeds < 2:
        raise ValueError(f"expected n_seeds of at least 2, got {n_seeds}")
    setting = {"p": dist.p, "d": dist.d, "strength": dist.eta * math.sqrt(dist.d), "eta": dist.eta}
    classifiers = [trained(dist, fit, seed=seed) for seed in range(n_seeds)]
    points, transfers = [], []
    for seed, own in enumerate(classifiers):
        columns = {**setting, "seed": seed, "n_train": fit.n_train}
        x, y = draws(dist, n_test, seed=seed)
        points += [{**columns, **point(dist, each, x, y, eps=eps, n_steps=n_steps)} for each in own]
        sources = [each for each in own if each.gradient is not None and each.eps_train == 0]
        other = (seed + 1) % n_seeds
        rows = transfer(dist, sources, classifiers[other], x, y, eps=eps, n_steps=n_steps)
        transfers += [{**columns, "seed_victim": other, **row} for row in rows]
    return points, transfers
