"""Loss gradients, large-eps examples and interpolations."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from robacc.attack.norms import threat_model
from robacc.attack.pgd import cross_entropy
from robacc.paper import saliency
from robacc.seeding import generator
from tests.made_up_attacks import both_norms


def test_gradients_do_not_depend_on_the_batch(norm_net, pixels):
    # trap 2, trap 15, trap 34
    model, x, y = norm_net(), pixels(6), torch.arange(6) % 3
    together = saliency.loss_gradients(model, x, y)
    alone = torch.cat([saliency.loss_gradients(model, x[i : i + 1], y[i : i + 1]) for i in range(6)])
    assert together.abs().max() > 0
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert all(module.training for module in model.modules())


def test_gradient_of_the_linear_model_is_the_closed_form(linear, pixels):
    # trap 34: of the cross-entropy at the true label, not of a logit: W^T (softmax - onehot)
    model, x, y = linear(10), pixels(5), torch.arange(5)
    residual = model(x).softmax(1) - torch.nn.functional.one_hot(y, 10)
    expected = (residual @ model.weight).detach().reshape(x.shape)
    torch.testing.assert_close(saliency.loss_gradients(model, x, y), expected, rtol=1e-4, atol=1e-6)


@both_norms
def test_large_eps_examples_are_in_the_ball_and_raise_the_loss(norm, linear, edge_pixels):
    # trap 4, trap 20, trap 35
    model, y, eps = linear(10), torch.arange(8), {"linf": 0.3, "l2": 2.0}[norm]
    threat = threat_model(norm, eps)
    x_adv = saliency.large_eps_examples(model, edge_pixels, y, threat, n_steps=20, step_size=0.1)
    assert threat.size(x_adv.double() - edge_pixels.double()).max() <= eps * (1 + 1e-5)
    assert threat.size(x_adv - edge_pixels).min() > 0.3 * eps
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert (cross_entropy(model(x_adv), y) > cross_entropy(model(edge_pixels), y)).all()


@both_norms
def test_the_path_of_a_large_eps_example_goes_uphill(norm, linear, pixels):
    # trap 35
    model, x, y = linear(10), pixels(8, 0.3, 0.7), torch.arange(8)
    losses = []
    for n_steps in range(6):
        x_adv = saliency.large_eps_examples(model, x, y, threat_model(norm, 0.2), n_steps=n_steps, step_size=0.1)
        losses.append(cross_entropy(model(x_adv), y).detach())
    assert (torch.stack(losses).diff(dim=0) > -1e-6).all()
    assert torch.equal(saliency.large_eps_examples(model, x, y, threat_model(norm, 0.2), n_steps=0, step_size=0.1), x)


@pytest.mark.parametrize("function", [saliency.loss_gradients, None], ids=["gradients", "large_eps"])
def test_whole_numbers_and_unscaled_images_are_refused(function, linear):
    # trap 24, trap 30
    steps = {"threat": threat_model("l2", 1.0), "n_steps": 1, "step_size": 0.1}
    call = function or (lambda *args: saliency.large_eps_examples(*args, **steps))
    y = torch.zeros(2, dtype=torch.long)
    with pytest.raises(TypeError, match="expected x to be float"):
        call(linear(10), torch.ones(2, 1, 6, 6, dtype=torch.uint8), y)
    with pytest.raises(ValueError, match=r"expected x in \[0, 1\]"):
        call(linear(10), torch.full((2, 1, 6, 6), 255.0), y)


@pytest.mark.parametrize("n_points", [2, 3, 9])
def test_interpolation_is_a_line_with_exact_ends(n_points, pixels):
    # trap 35
    x, x_adv = pixels(4), pixels(4).flip(0) * 0.7
    path = saliency.interpolation(x, x_adv, n_points)
    assert path.shape == (4, n_points, 1, 6, 6)
    assert torch.equal(path[:, 0], x)
    assert torch.equal(path[:, -1], x_adv)
    expected = np.linspace(x.numpy(), x_adv.numpy(), n_points, axis=1)
    np.testing.assert_allclose(path.numpy(), expected, atol=1e-6)


def test_probabilities_are_the_softmax_in_evaluation_mode(norm_net, pixels):
    # trap 1
    model, x = norm_net(), pixels(5)
    first, again = saliency.probabilities(model, x), saliency.probabilities(model, x)
    assert torch.equal(first, again)
    torch.testing.assert_close(first.sum(1), torch.ones(5))
    assert model.training
    torch.testing.assert_close(first, model.eval()(x).softmax(1).detach())


# ---- Numbers beside the pictures ----------------------------------------------------------------------------------


def test_edge_strength_is_scipys_sobel(pixels):
    x = pixels(3)
    for image, strength in zip(x[:, 0].numpy(), saliency.edge_strength(x)[:, 0].numpy(), strict=True):
        expected = np.hypot(ndimage.sobel(image, 0, mode="nearest"), ndimage.sobel(image, 1, mode="nearest"))
        np.testing.assert_allclose(strength, expected, atol=1e-5)


def test_edge_alignment_is_one_on_the_edges_and_zero_off_them(pixels):
    x = torch.zeros(2, 1, 8, 8)
    x[:, :, :, 4:] = 1
    edges = saliency.edge_strength(x)
    torch.testing.assert_close(saliency.edge_alignment(-3 * edges, x), torch.ones(2))
    torch.testing.assert_close(saliency.edge_alignment((edges == 0).float(), x), torch.zeros(2))
    assert saliency.edge_alignment(torch.zeros_like(x), x).isfinite().all()  # trap 12


def test_a_colour_image_counts_as_its_grey_one_and_a_gradient_by_its_length(pixels):
    grey = pixels(3)
    tint = torch.tensor([0.5, 1.0, 1.5]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(saliency.edge_strength(0.6 * grey * tint), saliency.edge_strength(0.6 * grey))
    gradient = torch.randn(3, 3, 6, 6, generator=generator(0))
    length = (gradient[:, :1] ** 2 + gradient[:, 1:2] ** 2 + gradient[:, 2:] ** 2).sqrt()
    torch.testing.assert_close(
        saliency.edge_alignment(gradient, grey.expand(-1, 3, -1, -1)), saliency.edge_alignment(length, grey)
    )


def test_grey_images_give_the_same_bits_as_before_there_were_colours(pixels):
    gradient = torch.randn(3, 1, 6, 6, generator=generator(0)) * torch.tensor([1.0, 1e-12, 1e-30]).reshape(3, 1, 1, 1)
    x = pixels(3)
    before = torch.nn.functional.cosine_similarity(
        gradient.abs().flatten(1), saliency.edge_strength(x).flatten(1), dim=1
    )
    assert torch.equal(saliency.edge_alignment(gradient, x), before)


def test_only_grey_images_have_an_object(linear, pixels):
    y = torch.arange(4) % 2
    grey = saliency.gradient_numbers(linear(2), pixels(4), y)
    assert set(grey) == {"edge_alignment", "object_share", "low_frequency_share"}
    assert set(saliency.gradient_numbers(linear(2, 108), pixels(4).expand(-1, 3, -1, -1), y)) == set(grey) - {
        "object_share"
    }


def test_object_share_is_the_energy_where_the_image_is_not_black():
    x = torch.zeros(2, 1, 4, 4)
    x[:, :, :2] = 0.5
    gradient = torch.ones(2, 1, 4, 4)
    gradient[1, :, :2] = 3.0
    torch.testing.assert_close(saliency.object_share(gradient, x), torch.tensor([0.5, 0.9]))
    assert (saliency.object_share(torch.zeros_like(x), x) == 0).all()  # trap 12


@pytest.mark.parametrize(("cycles", "expected"), [(0, 1.0), (1, 1.0), (3, 1.0), (5, 0.0), (14, 0.0)])
def test_low_frequency_share_of_a_wave_is_one_or_zero(cycles, expected):
    wave = torch.cos(2 * torch.pi * cycles * torch.arange(28) / 28).expand(1, 1, 28, 28)
    assert saliency.low_frequency_share(wave).item() == pytest.approx(expected, abs=1e-5)


def test_low_frequency_share_of_white_noise_is_the_area_of_the_disc():
    noise = torch.randn(200, 1, 28, 28, generator=generator(0))
    assert saliency.low_frequency_share(noise).mean().item() == pytest.approx(torch.pi / 64, abs=0.005)


def test_judges_see_only_what_changed_the_attacked_models_mind(linear, pixels):
    model, judge, x, x_adv = linear(10), linear(10), pixels(40), pixels(40).flip(0)
    judge.weight.data[:5] *= 0.5
    y = model(x).argmax(1)
    numbers = saliency.large_eps_numbers(model, {"other": judge}, x, x_adv, y, n_points=3)
    new = model(x_adv).argmax(1)
    changed = new != y
    assert 0 < changed.sum() < 40
    assert torch.equal(numbers["changed"], changed)
    agrees = (judge(x_adv).argmax(1) == new)[changed]
    assert 0 < agrees.sum() < len(agrees)
    assert torch.equal(numbers["judged_other"], agrees)
    for point, images in enumerate([x, (x + x_adv) / 2, x_adv]):
        expected = judge(images).softmax(1).gather(1, new[:, None])[changed, 0].detach()
        torch.testing.assert_close(numbers["path_other"][:, point], expected)
    assert numbers["path_other"].shape == (len(agrees), 3)


def test_summaries_are_means_with_their_standard_errors():
    values = torch.tensor([[0.0, 1.0], [0.5, 1.0], [1.0, 0.0]])
    rows = saliency.summaries({"path": values, "flag": torch.tensor([True, False]), "none": torch.zeros(0, 2)})
    assert [(row["quantity"], row["position"], row["n"]) for row in rows] == [
        ("path", 0.0, 3),
        ("path", 1.0, 3),
        ("flag", 0.0, 2),
    ]
    assert [row["mean"] for row in rows] == pytest.approx([0.5, 2 / 3, 0.5])
    errors = [np.std(column, ddof=1) / np.sqrt(len(column)) for column in ([0, 0.5, 1], [1, 1, 0], [1, 0])]
    assert [row["standard_error"] for row in rows] == pytest.approx(errors)
