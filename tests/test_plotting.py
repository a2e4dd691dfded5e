"""The display rule of gradients, and that figures are the same bytes in every run."""

import errno

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from robacc.report import plotting


@pytest.fixture(autouse=True)
def _style():
    mpl.use("agg")
    with mpl.rc_context():
        plotting.use_style()
        yield
    plt.close("all")


def test_blue_is_positive_red_is_negative_white_is_zero():
    # trap 34
    red, white, blue = plotting.signed_rgb(np.array([[-1.0, 0.0, 1.0]]))[0]
    assert red[0] > red[2] + 0.2
    assert blue[2] > blue[0] + 0.2
    assert white == pytest.approx([0.97, 0.97, 0.97], abs=0.01)


def test_each_image_is_clipped_at_its_own_three_deviations():
    # trap 34
    gradient = np.random.default_rng(0).normal(size=(28, 28))
    outlier = gradient.copy()
    outlier[0, 0] = 50.0
    assert plotting.signed_rgb(gradient) == pytest.approx(plotting.signed_rgb(1e-9 * gradient))
    assert plotting.signed_rgb(outlier)[0, 0] == pytest.approx(mpl.colormaps["RdBu"](1.0)[:3])


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_constant_gradient_is_finite_and_white(value):
    # trap 34
    picture = plotting.signed_rgb(np.full((4, 4), value))
    assert np.isfinite(picture).all()
    assert picture == pytest.approx(np.full((4, 4, 3), mpl.colormaps["RdBu"](0.5)[:3]))


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_constant_colour_gradient_is_mid_grey(value):
    # trap 34
    picture = plotting.gradient_rgb(np.full((3, 4, 4), value, dtype=np.float32))
    assert picture == pytest.approx(np.full((4, 4, 3), 0.5))


def test_each_colour_gradient_is_clipped_at_its_own_three_deviations_and_zero_is_mid_grey():
    # trap 34
    gradient = np.random.default_rng(0).normal(size=(3, 32, 32))
    gradient[:, 0, 0] = 0.0
    picture = plotting.gradient_rgb(gradient)
    assert picture == pytest.approx(plotting.gradient_rgb(1e-9 * gradient))
    assert picture[0, 0] == pytest.approx([0.5] * 3)
    inside = np.abs(gradient) < 3 * gradient.std()
    expected = 0.5 + gradient / (6 * gradient.std())
    assert np.moveaxis(picture, -1, 0)[inside] == pytest.approx(expected[inside])
    gradient[1, 5, 5] = -50.0
    assert plotting.gradient_rgb(gradient)[5, 5, 1] == 0.0


def test_grey_and_colour_images_are_shown_as_they_are():
    colour = np.random.default_rng(0).random((3, 4, 5))
    assert plotting.picture(colour)[1, 2].tolist() == colour[:, 1, 2].tolist()
    assert plotting.picture(colour[:1]).shape == (4, 5)
    assert plotting.gradient_picture(colour - 0.5).tolist() == plotting.gradient_rgb(colour - 0.5).tolist()
    assert plotting.gradient_picture(colour[:1] - 0.5).tolist() == plotting.signed_rgb(colour[0] - 0.5).tolist()


def test_eps_of_cifar_is_told_in_steps_of_its_pixels():
    assert [plotting.eps_text(eps, "cifar10") for eps in (0.0157, 0.3137, 1.2549, 0.0001, 0.0171)] == [
        "4/255",
        "80/255",
        "320/255",
        "0.0001",
        "0.0171",
    ]
    assert plotting.eps_text(0.0157, "restricted_imagenet_64") == "0.0157"
    assert "4/255" in plotting.ball_label("linf", 0.0157, "cifar10")
    assert "0.0157" in plotting.ball_label("linf", 0.0157)
    assert plotting.ball_label("l2", 0.0, "cifar10") == "standard"


def test_the_same_figure_is_the_same_bytes(tmp_path):
    # trap 38
    for folder in ("one", "two"):
        fig, axis = plt.subplots()
        axis.plot([0, 1], [0.2, 0.9], label="x")
        axis.legend()
        plotting.percent_axis(axis)
        plotting.save(fig, "figure", tmp_path / folder)
    for name in ("figure.png", "figure.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_grid_has_every_image_title_and_subtitle():
    images = [np.zeros((4, 4))] * 3
    rows = [("first", images), ("second", images)]
    fig = plotting.picture_grid(rows, titles=["a", "b", "c"], subtitles=[[""] * 3, ["x", "y", "z"]])
    assert len(fig.axes) == 6
    assert [axis.get_title() for axis in fig.axes[:3]] == ["a", "b", "c"]
    assert [axis.get_xlabel() for axis in fig.axes[3:]] == ["x", "y", "z"]
    assert [axis.get_ylabel() for axis in fig.axes[::3]] == ["first", "second"]


# fault: a full disk at every folder that is written
def test_a_figure_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    fig, _ = plt.subplots()
    plotting.save(fig, "curve", tmp_path)
    before = (tmp_path / "curve.svg").read_bytes()

    def full(file, **_):
        file.write_bytes(b"<svg")
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    monkeypatch.setattr(fig, "savefig", full)
    with pytest.raises(OSError, match=r"cannot write .*curve\.png: No space left on device; nothing is lost"):
        plotting.save(fig, "curve", tmp_path)
    assert (tmp_path / "curve.svg").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curve.png", "curve.svg"]
