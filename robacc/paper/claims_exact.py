"""Decide the paper's claims about the theory and the linear model (C5 to C10) from result tables."""

import pandas as pd
from scipy import stats

from robacc.paper.ledger import (
    ACCURACIES,
    OPPOSITE,
    REPRODUCED,
    UNDECIDED,
    Claim,
    Measure,
    Reading,
    mean_over_seeds,
    together,
    without_chance,
)


def _decided(verdict: str) -> list[Reading]:
    return [Reading("", "", verdict)]


def accuracy_of(name: str, row: pd.Series) -> Measure:
    """Return the accuracy of one model on `n` examples, with its Wilson interval, from a row of a table."""
    return Measure(name, row.accuracy, row.low, row.high, int(row.n), 1)


def _way(table: pd.DataFrame) -> pd.Series:
    return table.optimizer + table.l2.map(lambda l2: f", penalty {l2:g}" if l2 else "")


def weak_pixels(mass: pd.DataFrame, *, threshold: float) -> Claim:
    """Return claim C9 from the linear models' share of weight on weak pixels.

    A pixel is weak if its |correlation| is under `threshold`.
    """
    rows = mass[mass.threshold == threshold]
    measures, holds = [], []
    for way, part in rows.assign(way=_way).groupby("way", sort=False):
        shares = part.set_index("eps_train").share
        standard, robust = shares.loc[0.0], shares.loc[part.eps_train.max()]
        for kind, share in (("standard", standard), (f"linf eps {part.eps_train.max():g}", robust)):
            name = f"share of weight on pixels with |correlation| under {threshold:g}, {kind} ({way})"
            measures.append(Measure(name, share, share, share, int(part.n_features.iloc[0]), 1))
        holds.append(standard > 0.1 and robust < 0.01)
    return Claim(
        "C9",
        "MNIST 5 vs 7, linear: the standard model puts weight on weakly correlated pixels, the robust one puts none below "
        "a threshold.",
        f"Below |correlation| {threshold:g} the standard model has over a tenth of its weight and the robust one under a "
        "hundredth, with every optimiser. (n is the number of such pixels; the training is deterministic.)",
        "Figure 5a, b",
        _decided(without_chance(all(holds))),
        measures,
        "This rule was written after a first look at the weights.",
        short="Standard linear models use weakly correlated pixels, robust ones none.",
    )


def _beyond(ours: pd.Series, base: pd.Series, direction: int) -> str:
    """Return whether the accuracy of `ours` is above (1) or below (-1) that of `base`, their intervals apart."""
    upper, lower = (ours, base) if direction > 0 else (base, ours)
    return REPRODUCED if upper.low > lower.high else OPPOSITE if upper.high < lower.low else UNDECIDED


def few_pixels(selection: pd.DataFrame) -> Claim:
    """Return claim C10 from the accuracies of standard linear models on the k most correlated pixels."""
    rows = selection[(selection.optimizer == selection.optimizer.iloc[0]) & (selection.l2 == selection.l2.iloc[0])]
    eps = rows.eps_test.max()
    standard = rows[rows.attack == "none"].sort_values("n_kept")
    robust = rows[(rows.attack == "linf") & (rows.eps_test == eps)].sort_values("n_kept")
    measures, words = [], []
    for kind, curve, sign in (("standard accuracy", standard, 1), (f"robust accuracy, linf eps {eps:g}", robust, -1)):
        for row in (curve.iloc[0], curve.iloc[-1]):
            measures.append(accuracy_of(f"{kind}, {row.n_kept} pixels", row))
        rank = float(stats.spearmanr(curve.n_kept, sign * curve.accuracy).statistic)
        words += [_beyond(curve.iloc[-1], curve.iloc[0], sign), REPRODUCED if rank > 0.9 else UNDECIDED]
    fewest = robust.iloc[0]
    words.append(REPRODUCED if fewest.low > 0.5 else OPPOSITE if fewest.high < 0.5 else UNDECIDED)
    return Claim(
        "C10",
        "A standard linear model trained on only the most correlated pixels is robust; adding weaker ones raises standard "
        "and lowers robust accuracy.",
        "On the fewest pixels robust accuracy is above one half; from there to all pixels standard accuracy rises and robust "
        "accuracy falls beyond their intervals, each in rank order with the number of pixels (Spearman above 0.9).",
        "Figure 5c",
        _decided(together(words)),
        measures,
        "This rule was written after a first look at the curves.",
        short="A linear model on the most correlated pixels is robust.",
    )


def _largest(name: str, rows: pd.DataFrame, *, confidence: float) -> Measure:
    """Return the largest excess of robust accuracy over Theorem 2.1's bound, with its normal interval."""
    row = rows.sort_values("excess").iloc[-1]
    half = stats.norm.ppf((1 + confidence) / 2) * row.excess_se
    seeds = int(rows.seed.nunique())
    return Measure(name, row.excess, row.excess - half, row.excess + half, int(row.n_test), seeds, is_difference=True)


def no_free_lunch(points: pd.DataFrame, frontier: pd.DataFrame, checks: pd.DataFrame, *, confidence: float) -> Claim:
    """Return claim C5 from trained classifiers, the linear family and Monte-Carlo checks.

    The checks compare the closed forms with samples.
    """
    exact = points[points.adversary == "closed form"]
    attacked = points[points.adversary != "closed form"]
    family = frontier.assign(excess=frontier.rob_acc - frontier.bound, excess_se=0.0, n_test=0, seed=0)
    measures = [
        _largest(
            f"largest excess over the bound of {len(family):,} linear classifiers (exact)",
            family,
            confidence=confidence,
        ),
        _largest(f"of {len(exact)} trained linear classifiers (exact)", exact, confidence=confidence),
        _largest(f"of {len(attacked)} trained nets and trees (attacked)", attacked, confidence=confidence),
    ]
    below = (family.excess <= 1e-8).all() and (exact.excess <= 1e-8).all()
    holds = below and (attacked.excess <= 4 * attacked.excess_se).all() and (checks.z.abs() <= 4).all()
    return Claim(
        "C5",
        "Theorem 2.1: on the distribution D, standard accuracy of at least 1 - delta forces robust accuracy of at most p/(1-p) delta "
        "for linf eps >= 2 eta.",
        "No linear classifier is above the bound, no other trained one by more than 4 standard errors, and every Monte-Carlo check "
        "of a closed form is within 4 standard errors.",
        "Theory figure",
        _decided(without_chance(bool(holds))),
        measures,
        f"{len(checks)} Monte-Carlo checks, largest |z| {checks.z.abs().max():.1f}.",
        short="Theorem 2.1: high standard accuracy forces low robust accuracy.",
    )


def tight(closed_forms: pd.DataFrame) -> Claim:
    """Return claim C6 from the exact accuracies of sign(x1)."""
    rows = closed_forms[closed_forms.classifier == "sign(x1)"]
    measures = []
    for kind, name in ACCURACIES.items():
        gap = (rows[kind] - rows.p).abs().max()
        measures.append(Measure(f"largest |{name} - p| of sign(x1), exact", gap, gap, gap, len(rows), 1))
    return Claim(
        "C6",
        "Theorem 2.1 is tight: sign(x1) has standard and robust accuracy p.",
        "Both are p, exactly, for every p and eta tried. (n is their number.)",
        "Theory figure",
        _decided(without_chance(all(measure.value < 1e-8 for measure in measures))),
        measures,
        short="Theorem 2.1 is tight.",
    )


def opposite_optima(optimum: pd.DataFrame) -> Claim:
    """Return claim C7 from the exact optima of the soft-margin SVM on D that fulfil Theorem 2.2's hypotheses."""
    rows = optimum[optimum.violated == ""]
    standard = rows[rows.eps_train == 0]
    robust = rows[rows.eps_train >= 2 * rows.eta - 1e-8]
    gap = max((robust.std_acc - robust.p).abs().max(), (robust.rob_acc - robust.p).abs().max())
    values = {
        "least standard accuracy of the standard SVM": standard.std_acc.min(),
        "largest robust accuracy of the standard SVM": standard.rob_acc.max(),
        "largest distance of either accuracy of the adversarially trained SVM from p": gap,
    }
    measures = [Measure(f"{name}, exact", value, value, value, len(standard), 1) for name, value in values.items()]
    return Claim(
        "C7",
        "Theorem 2.2: for eta >= 4/sqrt(d), p <= 0.975 the unit-norm soft-margin SVM has over 99 % standard and under 1 % adversarial "
        "accuracy; adversarial training gives accuracy p on both.",
        "Exact optima in every setting of the grid that fulfils the hypotheses (n is their number); the test adversary has eps = 2 eta, "
        "so has the adversary of training.",
        "Theory table",
        _decided(without_chance(bool(standard.std_acc.min() > 0.99 and standard.rob_acc.max() < 0.01 and gap < 1e-6))),
        measures,
        '"Any eps < 1" has to mean eta <= eps < 1: a weaker adversary leaves the weak features usable. And sign(x1) is the best of all '
        "unit-norm classifiers, not only of the symmetric ones, if p >= (1 + eta)/2.",
        short="Theorem 2.2: standard and adversarial training have opposite optima.",
    )


def transfers(transfer: pd.DataFrame, *, confidence: float) -> Claim:
    """Return claim C8 from the accuracy of trained classifiers on perturbations made from D alone.

    No sample and no classifier is used to make them.
    """
    rows = transfer[(transfer.source == "distribution") & (transfer.eps_train == 0)]
    rows = rows[rows.strength == rows.strength.max()]
    by_seed = rows.groupby(["victim", "seed"]).adv_acc.mean().reset_index()
    others = rows.groupby("victim").adv_acc.agg(["min", "max"])
    svm = by_seed[by_seed.victim == "SVM"]
    name = "accuracy of standard SVMs under the shift -2 eta y"
    measure = mean_over_seeds(name, svm.adv_acc.tolist(), n=int(rows.n_test.min()), confidence=confidence)
    text = "; ".join(f"{victim} {low:.1%} to {high:.1%}" for victim, (low, high) in others.iterrows())
    return Claim(
        "C8",
        "Adversarial examples transfer between classifiers trained on independent samples of D.",
        "The paper's classifier, the standard SVM, is below 1 % on perturbations that were made without it, at the largest eta sqrt(d).",
        "Theory table",
        _decided(REPRODUCED if measure.high < 0.01 else OPPOSITE if measure.low > 0.01 else UNDECIDED),
        [measure],
        f"By kind of victim and p: {text}. Boosted trees lean on x1 and keep much of their accuracy. This rule was written after a first "
        "look.",
        short="Adversarial examples transfer between independently trained classifiers.",
    )
