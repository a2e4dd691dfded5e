"""AutoAttack's package, wrapped: few classes, closed forms, and that a success is one."""

import pytest
import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from robacc.attack.autoattack import ATTACKS, autoattack, n_targets
from robacc.nets.model import predict
from tests.made_up_attacks import Answers, both_norms

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pyautoattack")
EPS = {"linf": 0.05, "l2": 0.23}


@pytest.mark.parametrize(("n_classes", "expected"), [(4, 3), (9, 8), (10, 9), (100, 9)])
def test_the_targets_are_never_more_than_the_other_classes(n_classes, expected):
    # trap 33: nine targets of nine classes, as in Restricted ImageNet, would be one too many
    assert n_targets(n_classes) == expected


@pytest.mark.parametrize("n_classes", [2, 3])
def test_two_or_three_classes_are_refused(n_classes, linear, pixels):
    # trap 33
    with pytest.raises(ValueError, match=f"expected at least 4 classes, got {n_classes}; use an exact adversary"):
        autoattack(linear(n_classes), pixels(4), torch.zeros(4, dtype=torch.long), "linf", 0.1, seed=0)


def smallest_fooling_eps(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """Return the closed form for a linear model: the least margin to another class over the dual norm of its w."""
    logits = model(x).detach()
    w = model.weight.detach()[None] - model.weight.detach()[y][:, None]  # [B, K, d]
    dual = w.abs().sum(2) if norm == "linf" else w.norm(dim=2)
    ratio = (logits.gather(1, y[:, None]) - logits) / dual
    return ratio.scatter(1, y[:, None], torch.inf).amin(1).clamp_min(0)


@both_norms
@pytest.mark.parametrize("n_classes", [4, 9, 10])
def test_robust_accuracy_of_a_linear_model_is_the_closed_form(norm, n_classes, linear, pixels):
    # trap 33, trap 19
    model, x = linear(n_classes), pixels(40, 0.4, 0.6)
    y = predict(model, x)
    y[:3] = (y[:3] + 1) % n_classes
    threshold = smallest_fooling_eps(model, x, y, norm)
    assert ((threshold - EPS[norm]).abs() > 1e-3 * EPS[norm]).all()  # no example is on the border
    fooled_by = autoattack(model, x, y, norm, EPS[norm], attacks=ATTACKS[:2], seed=0)  # the rest repeats it at length
    assert fooled_by[:3] == ["misclassified"] * 3
    assert [name != "none" for name in fooled_by] == (threshold <= EPS[norm]).tolist()
    assert 5 < fooled_by.count("none") < 35


def test_a_tie_at_the_top_is_an_error(linear, pixels):
    model = Answers(linear(4), lambda logits: 0 * logits).eval()
    fooled_by = autoattack(model, pixels(4), torch.arange(4), "linf", 0.1, seed=0)
    assert fooled_by == ["misclassified"] * 4


def test_every_attack_of_the_standard_set_runs_on_what_is_left(linear, pixels, monkeypatch):
    seen = []
    run = AutoAttack.run_standard_evaluation

    def watched(self: AutoAttack, x: Tensor, y: Tensor, **settings: int) -> tuple[Tensor, Tensor]:
        seen.append((*self.attacks_to_run, len(x)))
        return run(self, x, y, **settings)

    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", watched)
    model, x = linear(4), pixels(8, 0.4, 0.6)
    y = predict(model, x)
    eps = smallest_fooling_eps(model, x, y, "linf").sort().values[-3:].mean().item()  # fools all but one or two
    fooled_by = autoattack(model, x, y, "linf", eps, seed=0)
    left = fooled_by.count("none")
    assert set(fooled_by) == {"apgd-ce", "none"}
    assert seen == [("apgd-ce", 8), ("apgd-t", left), ("fab-t", left), ("square", left)]
    assert tuple(name for name, _ in seen) == ATTACKS


def test_a_success_outside_the_ball_does_not_count(linear, pixels, monkeypatch):
    # trap 5
    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", lambda self, x, y, batch_size: (1 - x, None))
    model, x = linear(10), pixels(20)
    y = predict(model, x)
    wrong = predict(model, 1 - x) != y
    assert wrong.any()
    assert set(autoattack(model, x, y, "linf", 0.01, seed=0)) == {"none"}
    assert autoattack(model, x, y, "linf", 1.0, seed=0) == ["apgd-ce" if away else "none" for away in wrong]


def test_the_global_generator_and_the_model_are_as_before(linear, pixels):
    # trap 25, trap 1
    model, x = linear(10).train(), pixels(10)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = autoattack(model, x, predict(model, x), "l2", 0.1, attacks=ATTACKS[:1], seed=0)
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert autoattack(model, x, predict(model, x), "l2", 0.1, attacks=ATTACKS[:1], seed=0) == first
