"""The balls against numpy, and what every attack relies on."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from robacc.attack.norms import L2, Linf, threat_model, whole_box
from robacc.seeding import generator
from tests.made_up_attacks import both_norms

ORDER = {"linf": np.inf, "l2": 2}
perturbations = hnp.arrays(np.float32, (3, 1, 2, 4), elements=st.floats(-2, 2, width=32))
radii = st.floats(0, 3, width=32)


def noise(n: int = 5, scale: float = 1.0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(0).normal(size=(n, 1, 4, 5)) * scale, dtype=torch.float32)


def numpy_size(delta: np.ndarray, norm: str) -> np.ndarray:
    return np.array([np.linalg.norm(row.ravel().astype(np.float64), ORDER[norm]) for row in delta])


def numpy_projection(delta: np.ndarray, norm: str, eps: float) -> np.ndarray:
    if norm == "linf":
        return np.maximum(np.minimum(delta, eps), -eps)
    sizes = numpy_size(delta, norm)
    return np.stack([row * eps / size if size > eps else row for row, size in zip(delta, sizes, strict=True)])


@both_norms
def test_size_is_numpys_norm_of_each_example(norm):
    # trap 14
    delta = noise()
    np.testing.assert_allclose(threat_model(norm, 1.0).size(delta).numpy(), numpy_size(delta.numpy(), norm), rtol=1e-6)


@both_norms
@given(delta=perturbations, eps=radii)
def test_projection_is_numpys(norm, delta, eps):
    # trap 5, trap 6
    projected = threat_model(norm, eps).project(torch.from_numpy(delta)).numpy()
    np.testing.assert_allclose(projected, numpy_projection(delta, norm, eps), rtol=2e-5, atol=1e-7)


@both_norms
@given(delta=perturbations, eps=radii)
def test_projection_is_inside_and_idempotent(norm, delta, eps):
    # trap 4, trap 5
    threat = threat_model(norm, eps)
    once = threat.project(torch.from_numpy(delta))
    assert (threat.size(once.double()) <= eps * (1 + 1e-5) + 1e-12).all()
    torch.testing.assert_close(threat.project(once), once, rtol=1e-6, atol=1e-9)


@both_norms
@given(delta=perturbations, eps=st.floats(0.125, 3, width=32))
def test_projection_leaves_interior_points_unchanged_bit_for_bit(norm, delta, eps):
    # trap 6
    threat, delta = threat_model(norm, eps), torch.from_numpy(delta)
    inside = threat.size(delta.double()) < 0.999 * eps
    assume(inside.any())
    assert torch.equal(threat.project(delta)[inside], delta[inside])


@both_norms
def test_projection_is_the_nearest_point(norm):
    threat, delta = threat_model(norm, 0.7), noise(1)
    distance = (threat.project(delta) - delta).norm()
    others = threat.random(delta.expand(2000, -1, -1, -1), generator(0))
    assert (distance <= (others - delta).flatten(1).norm(dim=1)).all()


def test_l2_step_is_the_unit_gradient():
    # trap 18
    grad = noise()
    expected = np.stack([0.3 * row / np.linalg.norm(row) for row in grad.numpy()])
    np.testing.assert_allclose(L2(1.0).step(grad, 0.3).numpy(), expected, rtol=1e-5, atol=1e-8)


def test_linf_step_is_the_sign_of_the_gradient():
    # trap 18
    grad = noise()
    grad[0, 0, 0, 0] = 0
    assert torch.equal(Linf(1.0).step(grad, 0.25), torch.from_numpy(0.25 * np.sign(grad.numpy())))


@both_norms
@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e-20, 1e-10, 1e10, 1e18])
def test_step_has_its_length_whatever_the_scale_of_the_gradient(norm, scale):
    # trap 11, trap 15: a very confident model has tiny gradients; only their direction counts
    threat = threat_model(norm, 1.0)
    step = threat.step(noise(scale=scale), 0.3)
    torch.testing.assert_close(threat.size(step), torch.full((5,), 0.3), rtol=1e-4, atol=0)


@both_norms
@pytest.mark.parametrize("step_size", [0.0, 0.5, 4.0, 100.0])
def test_zero_gradient_does_not_move_and_gives_no_nan(norm, step_size):
    # trap 10, trap 12
    grad = noise()
    grad[2] = 0
    step = threat_model(norm, 200.0).step(grad, step_size)
    assert torch.equal(step[2], torch.zeros_like(step[2]))
    assert step.isfinite().all()


@both_norms
@pytest.mark.parametrize("eps", [0.0, 0.5, 8.0])
def test_projection_of_zero_is_zero(norm, eps):
    # trap 12
    zero = torch.zeros(2, 1, 4, 5)
    assert torch.equal(threat_model(norm, eps).project(zero), zero)


@both_norms
def test_ball_of_radius_zero_holds_only_zero(norm):
    # trap 13
    threat, delta = threat_model(norm, 0.0), noise()
    for result in (threat.project(delta), threat.random(delta, generator(0))):
        assert (result == 0).all()


@both_norms
def test_each_example_is_treated_alone(norm):
    # trap 14
    threat, delta = threat_model(norm, 0.5), noise()
    delta[1] *= 1000
    for function in (threat.project, threat.size, lambda rows: threat.step(rows, 0.2)):
        alone = torch.cat([function(row[None]) for row in delta])
        assert torch.equal(function(delta), alone)


@both_norms
@pytest.mark.parametrize("shape", [(400, 1, 1, 1), (400, 1, 28, 28), (400, 3)])
def test_random_point_is_inside_the_ball(norm, shape):
    # trap 16, trap 17
    threat = threat_model(norm, 0.3)
    delta = threat.random(torch.zeros(shape), generator(0))
    assert delta.shape == shape
    assert threat.size(delta.double()).max() <= 0.3 * (1 + 1e-5)


@pytest.mark.parametrize("dimension", [1, 3, 16])
def test_l2_random_radius_is_uniform_in_the_ball(dimension):
    # trap 16: P(radius <= r) = (r / eps)^d
    radius = L2(2.0).size(L2(2.0).random(torch.zeros(4000, dimension), generator(0)))
    assert stats.kstest(radius.numpy() / 2, lambda r: r**dimension).pvalue > 0.01


def test_l2_random_direction_has_no_preferred_axis():
    # trap 16: the first coordinate of a uniform point on the circle follows the arcsine law
    delta = L2(1.0).random(torch.zeros(4000, 2), generator(1))
    cosine = (delta[:, 0] / L2(1.0).size(delta)).numpy()
    assert stats.kstest((cosine + 1) / 2, stats.arcsine.cdf).pvalue > 0.01


def test_linf_random_coordinates_are_uniform():
    delta = Linf(0.3).random(torch.zeros(500, 8), generator(0)).numpy().ravel()
    assert stats.kstest(delta, stats.uniform(-0.3, 0.6).cdf).pvalue > 0.01


@both_norms
def test_random_is_a_function_of_its_generator(norm):
    # trap 25
    x = torch.zeros(3, 1, 4, 5)
    first, again, other = (threat_model(norm, 1.0).random(x, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf")])
def test_impossible_radius_is_refused(eps):
    with pytest.raises(ValueError, match="expected eps to be a finite number >= 0, got"):
        threat_model("l2", eps)


@pytest.mark.parametrize("norm", ["l1", "Linf", "", None])
def test_unknown_norm_is_refused(norm):
    with pytest.raises(ValueError, match="expected norm to be 'linf' or 'l2', got"):
        threat_model(norm, 0.1)


def test_ball_is_the_one_asked_for():
    assert threat_model("linf", 0.1) == Linf(0.1)
    assert threat_model("l2", 0.1) == L2(0.1)


@both_norms
def test_the_whole_box_around_any_image_holds_every_image_and_no_more(norm):
    corners = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, 4, 5)
    box = whole_box(norm, corners)
    assert box.norm == norm
    np.testing.assert_allclose(box.eps, numpy_size((corners[1:] - corners[:1]).numpy(), norm)[0], rtol=1e-12)
