"""PGD against closed forms, and the mistakes of earlier code bases."""

import math

import pytest
import torch
from torch import Tensor, nn

from robacc.attack.adversary import strongest
from robacc.attack.answers import margin
from robacc.attack.norms import Threat, threat_model
from robacc.attack.pgd import check_input, cross_entropy, feasible, input_gradient, pgd, random_start
from robacc.nets.layers import Normalize
from robacc.seeding import generator
from tests.made_up_attacks import asked, both_norms

EPS = {"linf": 0.1, "l2": 0.3}


def run(kind: str, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, start: Tensor, n_steps: int) -> Tensor:
    """Return the adversarial examples of either attack, with steps of 0.25 eps."""
    steps = {"start": start, "n_steps": n_steps, "step_size": 0.25 * threat.eps}
    if kind == "pgd":
        return pgd(model, x, y, threat, **steps)
    return strongest(model, x, y, threat, **steps)[0]


both_attacks = pytest.mark.parametrize("kind", ["pgd", "strongest"])


def linear_optimum(model: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float) -> Tensor:
    """Return the worst point of the ball for a two-class linear model, where the box is out of reach."""
    w = (model.weight[1] - model.weight[0]).detach().reshape(1, *x.shape[1:])
    direction = w.sign() if norm == "linf" else w / w.norm()
    sign = (2 * y - 1).reshape(-1, 1, 1, 1)
    return x - eps * sign * direction


# ---- Is it the right maximum? -------------------------------------------------------------------------------------


@both_norms
@pytest.mark.parametrize("eps_share", [0.1, 1.0])
def test_pgd_finds_the_linear_optimum(norm, eps_share, linear, pixels):
    # trap 19
    model, x, y, eps = linear(2), pixels(12, 0.4, 0.6), torch.arange(12) % 2, eps_share * EPS[norm]
    threat = threat_model(norm, eps)
    start = random_start(x, threat, generator(0))
    x_adv = pgd(model, x, y, threat, start=start, n_steps=60, step_size=0.25 * eps)
    optimum = linear_optimum(model, x, y, norm, eps)
    torch.testing.assert_close(x_adv, optimum, rtol=0, atol=2e-3 * eps)
    loss, best = (cross_entropy(model(points), y) for points in (x_adv, optimum))
    assert (loss - best).abs().max() < 1e-4


@both_norms
def test_strongest_finds_the_linear_optimum_margin(norm, linear, pixels):
    # trap 19
    model, x, y, eps = linear(2), pixels(12, 0.4, 0.6), torch.arange(12) % 2, EPS[norm]
    model.bias.data += torch.where(torch.tensor([True, False]), 50.0, -50.0)  # class 0 wins everywhere
    x, y = x[y == 0], y[y == 0]
    threat = threat_model(norm, eps)
    start = random_start(x, threat, generator(0))
    _, found = strongest(model, x, y, threat, start=start, n_steps=60, step_size=0.5 * eps)
    best = margin(model(linear_optimum(model, x, y, norm, eps)), y)
    torch.testing.assert_close(found, best, rtol=0, atol=1e-4)


@both_norms
def test_one_step_is_alpha_in_the_steepest_direction(norm, linear, pixels):
    # trap 18
    model, x, y = linear(2), pixels(6, 0.4, 0.6), torch.arange(6) % 2
    x_adv = pgd(model, x, y, threat_model(norm, EPS[norm]), start=x, n_steps=1, step_size=0.05)
    torch.testing.assert_close(x_adv, linear_optimum(model, x, y, norm, 0.05), rtol=0, atol=1e-6)


@both_norms
def test_the_attack_raises_the_loss_of_the_true_class(norm, linear, pixels):
    # trap 20
    model, x, y = linear(10), pixels(10, 0.4, 0.6), torch.arange(10)
    x_adv = pgd(model, x, y, threat_model(norm, EPS[norm]), start=x, n_steps=10, step_size=0.25 * EPS[norm])
    assert (cross_entropy(model(x_adv), y) > cross_entropy(model(x), y) + 0.01).all()


def test_eps_is_in_pixels_although_the_model_normalises(linear, pixels):
    # trap 22
    model, x, y = nn.Sequential(Normalize([0.13], [0.31]), linear(2)), pixels(4, 0.4, 0.6), torch.arange(4) % 2
    x_adv = pgd(model, x, y, threat_model("linf", 0.1), start=x, n_steps=8, step_size=0.025)
    torch.testing.assert_close((x_adv - x).abs(), torch.full_like(x, 0.1), rtol=0, atol=1e-6)


# ---- Is it feasible, and is each example alone? -------------------------------------------------------------------


@both_norms
@both_attacks
@pytest.mark.parametrize("eps", [1e-3, 0.1, 0.3, 1.0, 2.5])
def test_every_iterate_is_in_the_ball_and_in_the_box(norm, kind, eps, linear, edge_pixels):
    # trap 4, trap 5, trap 6: seen from inside the model, with pixels that are exactly 0 and 1
    model, x, threat = linear(10), edge_pixels, threat_model(norm, eps)
    model.bias.data[0] += 60  # never fooled, so that no example leaves the batch; the gradient is not yet zero
    y = torch.zeros(len(x), dtype=torch.long)
    seen = asked(model)
    x_adv = run(kind, model, x, y, threat, start=random_start(x, threat, generator(0)), n_steps=12)
    assert len(seen) == (12 if kind == "pgd" else 13)
    assert not torch.equal(seen[0], seen[-1])  # it does move
    tolerance = 1e-6 if norm == "linf" else 1e-5 * eps
    for iterate in [*seen, x_adv]:
        assert iterate.min() >= 0
        assert iterate.max() <= 1
        assert threat.size(iterate.double() - x.double()).max() <= eps + tolerance


@both_norms
def test_feasible_leaves_a_feasible_point_unchanged(norm, edge_pixels):
    # trap 6
    threat = threat_model(norm, 0.4)
    inside = random_start(edge_pixels, threat_model(norm, 0.3), generator(0))
    torch.testing.assert_close(feasible(inside, edge_pixels, threat), inside, rtol=0, atol=1e-7)


@both_norms
@pytest.mark.parametrize("eps", [0.0, 0.01, 0.5, 3.0])
def test_random_start_is_in_the_ball_and_in_the_box(norm, eps, edge_pixels):
    # trap 16, trap 17
    threat = threat_model(norm, eps)
    start = random_start(edge_pixels, threat, generator(0))
    assert start.min() >= 0
    assert start.max() <= 1
    assert threat.size(start.double() - edge_pixels.double()).max() <= eps * (1 + 1e-5) + 1e-7
    assert eps == 0 or not torch.equal(start, edge_pixels)


@both_norms
@both_attacks
@pytest.mark.parametrize("size", [1, 5, 12])
def test_the_batch_size_changes_nothing(norm, kind, size, smooth_net, pixels):
    # trap 14, trap 15
    model, x, y, threat = smooth_net(), pixels(12, dtype=torch.float64), torch.arange(12) % 3, threat_model(norm, 1.0)
    start = random_start(x, threat, generator(0))
    whole = run(kind, model, x, y, threat, start=start, n_steps=6)
    parts = zip(x.split(size), y.split(size), start.split(size), strict=True)
    pieces = torch.cat([run(kind, model, a, b, threat, start=c, n_steps=6) for a, b, c in parts])
    torch.testing.assert_close(whole, pieces, rtol=0, atol=1e-12)


@both_norms
@both_attacks
def test_permuting_the_batch_permutes_the_result(norm, kind, smooth_net, pixels):
    # trap 14
    model, x, y, threat = smooth_net(), pixels(9, dtype=torch.float64), torch.arange(9) % 3, threat_model(norm, 1.0)
    start, order = random_start(x, threat, generator(0)), torch.randperm(9, generator=generator(1))
    plain = run(kind, model, x, y, threat, start=start, n_steps=6)
    permuted = run(kind, model, x[order], y[order], threat, start=start[order], n_steps=6)
    torch.testing.assert_close(permuted, plain[order], rtol=0, atol=1e-12)


@both_norms
@both_attacks
def test_eps_zero_gives_the_images_back_bit_for_bit(norm, kind, linear, edge_pixels):
    # trap 13
    model, x, y, threat = linear(10), edge_pixels, torch.arange(8), threat_model(norm, 0.0)
    start = random_start(x, threat, generator(0))
    assert torch.equal(start, x)
    assert torch.equal(run(kind, model, x, y, threat, start=start, n_steps=5), x)


@both_norms
@both_attacks
@pytest.mark.parametrize("eps", [0.0, 0.5, 8.0])
def test_a_model_without_gradient_gives_no_nan(norm, kind, eps, edge_pixels):
    # trap 10, trap 12
    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0 * x.flatten(1)[:, :3] + torch.tensor([1.0, 0.0, 0.0])

    threat, y = threat_model(norm, eps), torch.zeros(8, dtype=torch.long)
    start = random_start(edge_pixels, threat, generator(0))
    x_adv = pgd(Flat(), edge_pixels, y, threat, start=start, n_steps=3, step_size=eps)
    torch.testing.assert_close(x_adv, start, rtol=0, atol=1e-6)  # a random start has moved already, and stays
    assert run(kind, Flat(), edge_pixels, y, threat, start=start, n_steps=3).isfinite().all()


# ---- Does it leave the model alone? -------------------------------------------------------------------------------


@both_attacks
def test_mode_and_buffers_are_as_before(kind, norm_net, pixels):
    # trap 1, trap 2
    model, x, y, threat = norm_net(), pixels(6), torch.arange(6) % 3, threat_model("linf", 0.1)
    model.features[1].eval()  # a frozen layer inside a net in training mode
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    modes = [module.training for module in model.modules()]
    assert True in modes
    assert False in modes
    first = run(kind, model, x, y, threat, start=x, n_steps=3)
    again = run(kind, model, x, y, threat, start=x, n_steps=3)
    assert torch.equal(first, again)  # dropout was off
    assert [module.training for module in model.modules()] == modes
    for name, value in model.named_buffers():
        assert torch.equal(value, buffers[name]), name


@both_attacks
def test_mode_is_restored_when_the_model_fails(kind, norm_net, pixels):
    # trap 1
    model, x, y, threat = norm_net(), pixels(6), torch.arange(6) % 3, threat_model("linf", 0.1)
    model.features[3].eval()
    modes = [module.training for module in model.modules()]

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    model.head.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(kind, model, x, y, threat, start=x, n_steps=3)
    assert [module.training for module in model.modules()] == modes


@both_attacks
@pytest.mark.parametrize("before", [None, 3.0])
def test_parameter_gradients_are_untouched(kind, before, linear, pixels):
    # trap 3
    model, x, y, threat = linear(10), pixels(6), torch.arange(6), threat_model("l2", 0.5)
    for p in model.parameters():
        p.grad = None if before is None else torch.full_like(p, before)
    run(kind, model, x, y, threat, start=x, n_steps=3)
    for p in model.parameters():
        assert p.requires_grad
        assert p.grad is None if before is None else (p.grad == before).all()


@both_attacks
def test_inputs_are_not_written_to_and_the_result_has_no_graph(kind, linear, pixels):
    model, x, y, threat = linear(10), pixels(6), torch.arange(6), threat_model("l2", 0.5)
    start = random_start(x, threat, generator(0))
    x_before, start_before = x.clone(), start.clone()
    x_adv = run(kind, model, x, y, threat, start=start, n_steps=3)
    assert torch.equal(x, x_before)
    assert torch.equal(start, start_before)
    assert not (x.requires_grad or start.requires_grad or x_adv.requires_grad)


def test_cross_entropy_is_per_example():
    # trap 15
    logits, y = torch.randn(6, 4, generator=generator(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    expected = logits.logsumexp(1) - logits[torch.arange(6), y]
    torch.testing.assert_close(cross_entropy(logits, y), expected)


def test_input_gradient_is_the_linear_models_and_needs_no_grad_mode(linear, pixels):
    # trap 15: not divided by the size of the batch
    model, x, y = linear(2), pixels(5), torch.ones(5, dtype=torch.long)
    with torch.no_grad():
        grad, logits = input_gradient(model, x, y, margin)
    torch.testing.assert_close(grad.flatten(1), (model.weight[0] - model.weight[1]).detach().expand(5, -1))
    torch.testing.assert_close(logits, model(x).detach())


# ---- What it is given ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_whole_numbers_are_refused(dtype):
    # trap 24
    with pytest.raises(TypeError, match="expected x to be float"):
        check_input(torch.ones(2, 1, 3, 3).to(dtype))


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, math.nan, math.inf])
def test_images_outside_the_box_are_refused(value):
    # trap 22, trap 30
    x = torch.full((2, 1, 3, 3), 0.5)
    x[1, 0, 2, 2] = value
    with pytest.raises(ValueError, match=r"expected x in \[0, 1\]"):
        check_input(x)


def test_images_in_the_box_are_accepted(edge_pixels):
    check_input(edge_pixels)
    check_input(edge_pixels[:0])
