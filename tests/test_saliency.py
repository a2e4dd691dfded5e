"""Loss gradients, large-eps examples and interpolations."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from robacc.attack.adversary import smooth_margin
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


def test_the_gradient_of_a_confident_model_keeps_the_true_labels_part(linear, pixels):
    # In float32 the probability of the true label is 1 here. The cross-entropy's own gradient then lacks W_y.
    model, x, y = linear(3), pixels(1), torch.tensor([0])
    model.bias.data[0] += 30
    p = model.double()(x.double()).softmax(1)[0, 1:]
    expected = p @ (model.weight[1:] - model.weight[0])
    assert model.float()(x).softmax(1)[0, 0] == 1
    found = saliency.loss_gradients(model, x, y).flatten()
    torch.testing.assert_close(found, expected.detach().float(), rtol=1e-3, atol=0)


def test_log_odds_are_those_of_the_softmax_and_never_infinite():
    logits = torch.tensor([[1.0, 2.0, 0.5], [500.0, -500.0, 0.0], [-500.0, 500.0, 0.0]])
    y = torch.zeros(3, dtype=torch.long)
    p = logits[0].softmax(0)[0]
    odds = smooth_margin(logits, y)
    torch.testing.assert_close(odds, torch.stack([((1 - p) / p).log(), torch.tensor(-500.0), torch.tensor(1000.0)]))


@pytest.mark.parametrize(
    ("x", "error"),
    [(torch.ones(2, 1, 6, 6, dtype=torch.uint8), TypeError), (torch.full((2, 1, 6, 6), 255.0), ValueError)],
)
def test_whole_numbers_and_unscaled_images_are_refused(x, error, linear):
    # trap 24, trap 30
    with pytest.raises(error, match="expected x"):
        saliency.loss_gradients(linear(10), x, torch.zeros(2, dtype=torch.long))


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


def test_energy_share_is_the_energy_in_the_mask():
    x = torch.zeros(2, 1, 4, 4)
    x[:, :, :2] = 0.5
    gradient = torch.ones(2, 1, 4, 4)
    gradient[1, :, :2] = 3.0
    for scale in (1.0, 1e-30):  # whose square is 0 in float32
        share = saliency.energy_share(scale * gradient, x > 0)
        torch.testing.assert_close(share, torch.tensor([0.5, 0.9]).double())
    assert (saliency.energy_share(torch.zeros_like(x), x > 0) == 0).all()  # trap 12


def test_a_random_gradient_has_the_energy_share_of_the_mask_be_it_dense_or_sparse(pixels):
    mask = pixels(1).expand(20000, -1, -1, -1) > 0.7
    noise = torch.randn(20000, 1, 6, 6, generator=generator(0))
    for gradient in (noise, noise * (noise > 2)):
        share = saliency.energy_share(gradient, mask)[gradient.flatten(1).any(1)]
        assert share.mean().item() == pytest.approx(mask.float().mean().item(), abs=0.02)


def test_edge_pixels_reach_a_quarter_of_the_largest_strength(pixels):
    x = torch.zeros(1, 1, 4, 12)
    x[..., 4:] = 1.0
    x[..., 9:] = 0.77  # a step of 0.23 is no edge beside one of 1
    expected = torch.zeros(12, dtype=torch.bool)
    expected[3:5] = True
    assert torch.equal(saliency.edge_pixels(x)[0, 0], expected.expand(4, -1))


@both_norms
def test_alignment_of_a_linear_classifier_is_its_distance_to_the_boundary(norm, linear, closed_form, pixels):
    model, x = linear(2), pixels(8)
    model.bias.data.zero_()
    y = model(x).argmax(1)
    found = saliency.alignment(saliency.decision_gradients(model, x), x, norm)
    torch.testing.assert_close(found.float(), closed_form(model, x, y, norm), rtol=1e-5, atol=1e-6)
    assert (saliency.alignment(torch.zeros_like(x), x, norm) == 0).all()  # trap 12


def test_the_decisions_gradient_is_winner_minus_runner_up(linear, pixels):
    model, x = linear(10), pixels(5)
    first, second = model(x).argsort(1, descending=True)[:, :2].T
    expected = (model.weight[first] - model.weight[second]).detach().reshape(x.shape)
    torch.testing.assert_close(saliency.decision_gradients(model, x), expected)
    torch.testing.assert_close(saliency.logit_gradients(model, x, second), model.weight[second].detach().view(x.shape))


@pytest.mark.parametrize("n", [30, 60], ids=["fewer images than pixels", "more images than pixels"])
def test_principal_components_are_those_of_numpy_and_have_nine_tenths_of_the_variance(n):
    images = torch.tensor(np.random.default_rng(0).uniform(size=(n, 1, 6, 8)) * np.linspace(0.1, 3, 48).reshape(6, 8))
    found = saliency.principal_components(images)
    flat = images.flatten(1).numpy()
    _, sizes, components = np.linalg.svd(flat - flat.mean(0))
    explained = np.cumsum(sizes**2) / np.sum(sizes**2)
    k = found.shape[1]
    assert explained[k - 2] < 0.9 <= explained[k - 1]
    np.testing.assert_allclose(found @ found.T, components[:k].T @ components[:k], atol=1e-9)


def test_span_share_is_the_squared_cosine_with_the_span():
    components = torch.eye(12, dtype=torch.float64)[:, :3]
    gradient = torch.zeros(3, 3, 2, 2)
    gradient[0].flatten()[:3] = 1.0
    gradient[1].flatten()[2:4] = 1.0
    torch.testing.assert_close(saliency.span_share(gradient, components), torch.tensor([1.0, 0.5, 0.0]).double())
    noise = torch.randn(3000, 3, 2, 2, generator=generator(0))
    assert saliency.span_share(noise, components).mean().item() == pytest.approx(3 / 12, abs=0.01)


def test_agreement_ignores_signs_and_is_high_for_noise():
    ours, theirs = torch.randn(2, 400, 1, 28, 28, generator=generator(0))
    torch.testing.assert_close(saliency.agreement(ours, -2 * ours), torch.ones(400).double())
    assert saliency.agreement(ours, theirs).mean().item() == pytest.approx(2 / torch.pi, abs=0.01)
    assert (saliency.agreement(ours, torch.zeros_like(ours)) == 0).all()  # trap 12


def numbers(linear, x, *, components=None, other=True):
    model, n_pixels = linear(10, x[0].numel()), x[0].numel()
    way = (x.flip(0), torch.arange(len(x)) + 4)
    others = linear(10, n_pixels) if other else None
    return (
        model,
        way,
        saliency.gradient_numbers(model, x, torch.arange(len(x)), neighbours=way, components=components, other=others),
    )


def test_grey_images_have_an_object_and_colour_ones_a_span(linear, pixels):
    _, _, grey = numbers(linear, pixels(4))
    components = torch.eye(108, dtype=torch.float64)[:, :27]
    _, _, colour = numbers(linear, pixels(4).expand(-1, 3, -1, -1), components=components)
    assert set(grey["none"]) - set(colour["none"]) == {"object_share", "object_pixels"}
    assert set(colour["none"]) - set(grey["none"]) == {"span_share", "span_pixels"}
    assert (colour["none"]["span_pixels"] == 0.25).all()
    assert all(values.shape == (4,) for of in (grey, colour) for values in of["none"].values())


def test_each_gradient_number_is_of_its_gradient(linear, pixels):
    x, y = pixels(4), torch.arange(4)
    model, (image, label), found = numbers(linear, x)
    loss, decision = saliency.loss_gradients(model, x, y), saliency.decision_gradients(model, x)
    assert not torch.allclose(loss, decision)
    for norm in ("l2", "linf"):
        assert torch.equal(found[norm]["alignment"], saliency.alignment(decision, x, norm))
    assert torch.equal(found["none"]["edge_share"], saliency.energy_share(loss, saliency.edge_pixels(x)))
    way = (image - x).flatten(1)
    cosine = torch.nn.functional.cosine_similarity(model.weight[label].detach(), way)
    torch.testing.assert_close(found["none"]["class_way"].float(), cosine)
    torch.testing.assert_close(found["none"]["agreement"], torch.ones(4).double())
    elsewhere = saliency.agreement(loss, loss[[3, 0, 1, 2]])
    assert torch.equal(found["none"]["agreement_elsewhere"], elsewhere)
    assert "agreement" not in numbers(linear, x, other=False)[2]["none"]


@pytest.mark.parametrize(("cycles", "expected"), [(0, 1.0), (1, 1.0), (3, 1.0), (5, 0.0), (14, 0.0)])
def test_low_frequency_share_of_a_wave_is_one_or_zero(cycles, expected):
    wave = torch.cos(2 * torch.pi * cycles * torch.arange(28) / 28).expand(1, 1, 28, 28)
    assert saliency.low_frequency_share(wave).item() == pytest.approx(expected, abs=1e-5)


def test_low_frequency_share_of_white_noise_is_the_area_of_the_disc():
    noise = torch.randn(200, 1, 28, 28, generator=generator(0))
    assert saliency.low_frequency_share(noise).mean().item() == pytest.approx(torch.pi / 64, abs=0.005)


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
