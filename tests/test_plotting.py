"""The display rule of gradients, and that figures are the same bytes in every run."""

import errno
from itertools import combinations

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


def touching(fig) -> list[tuple[str, str]]:
    """Return every two tick labels of one axis whose boxes overlap where they are drawn."""
    fig.canvas.draw()
    found = []
    for axis in (side for axes in fig.axes for side in (axes.xaxis, axes.yaxis)):
        drawn = [label for label in axis.get_ticklabels(which="both") if label.get_visible() and label.get_text()]
        low, high = sorted(axis.get_view_interval())
        places = {label: label.get_position()[axis.axis_name == "y"] for label in drawn}
        shown = [label for label in drawn if low <= places[label] <= high]
        boxes = [(label.get_text(), label.get_window_extent()) for label in shown]
        found += [(one, other) for (one, a), (other, b) in combinations(boxes, 2) if a.overlaps(b)]
    return found


def test_no_two_tick_labels_touch_and_the_largest_stays(tmp_path):
    fig, (left, right) = plt.subplots(1, 2, figsize=(4, 2))
    counts = [100, 300, 1000, 2000, 2500, 3000, 10000, 11500, 60000]
    left.plot(counts, np.linspace(0, 1, 9))
    left.set_xscale("log")
    plotting.count_axis(left, counts)
    right.set_yticks(np.linspace(0, 1, 40))
    assert len(touching(fig)) > 10
    plotting.save(fig, "figure", tmp_path)
    assert touching(fig) == []
    shown = [label.get_text() for label in left.get_xticklabels() if label.get_visible()]
    assert shown[-1] == "60k"
    assert len(shown) >= 4
    assert len(left.get_xticks()) == len(counts)


def test_the_legend_below_names_each_curve_once_and_covers_no_axes():
    fig, axes = plt.subplots(1, 2)
    for axis, names in zip(axes, ("ab", "ac"), strict=True):
        for name in names:
            axis.plot([0, 1], label=name)
    plotting.legend_below(fig, "training")
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "c"]
    fig.canvas.draw()
    assert legend.get_window_extent().y1 <= min(axis.get_window_extent().y0 for axis in axes)


def test_every_training_has_a_look_of_its_own_and_black_is_standard_training():
    found = [tuple(plotting.look(index).values()) for index in range(15)]
    assert len(set(found)) == 15
    assert [index for index, (colour, _) in enumerate(found) if colour == plotting.STANDARD] == [0]


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
    fig.canvas.draw()
    first, second, _, below = (axis.get_window_extent() for axis in fig.axes[:4])
    assert second.x0 - first.x1 == pytest.approx(5, abs=1)  # a twentieth of an inch
    assert first.y0 - below.y1 > second.x0 - first.x1  # room for the words


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
