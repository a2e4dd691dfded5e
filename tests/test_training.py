"""One training job: exact steps, and the same bits whether or not it was interrupted."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robacc import models, training
from robacc.attacks import random_start
from robacc.data import Images, batch_indices, content_hash, nested_subset
from robacc.norms import ball
from robacc.seeding import generator
from robacc.training import Job, Progress, Recipe, adversarial_batch, learning_rate, train, train_step
from tests.recipes_made_up import TINY

ADAM = TINY
SGD = replace(ADAM, optimizer="sgd", momentum=0.9)
JOB = Job("l2", 1.0, n_train=20, seed=0)


@pytest.fixture
def images() -> Images:
    """Forty random images with their labels."""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.integers(256, size=(40, 1, 28, 28)), dtype=torch.uint8)
    y = torch.arange(40) % 10
    return Images(x, y, content_hash(x, y))


@pytest.fixture
def run(images: Images, tmp_path: Path) -> Callable[..., Progress]:
    """Give run(job, recipe): train to the end with a log row every step and a checkpoint every second one."""

    def to_end(
        job: Job = JOB, recipe: Recipe = ADAM, *, log_every: int = 1, checkpoint_every: int = 2, **more
    ) -> Progress:
        settings = {"log_every": log_every, "checkpoint_every": checkpoint_every}
        return train(job, images, recipe, checkpoint=tmp_path / "job.running", **settings, **more)

    return to_end


def fresh(model: nn.Module, recipe: Recipe = ADAM) -> Progress:
    """Return the beginning of a job with a copy of `model`."""
    model = copy.deepcopy(model)
    return Progress(model, training._optimizer(model, recipe), step=0, log=[])


def same(first: nn.Module, second: nn.Module) -> bool:
    """Say whether two models are equal bit for bit."""
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][key], states[1][key]) for key in states[0]
    )


def net(seed: int = 0) -> nn.Module:
    return models.build("small_cnn", mean=[0.13], std=[0.31], seed=seed)


# ---- Repeating and resuming ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [ADAM, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("stop_at", [1, 3, 4, 5])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(recipe, stop_at, run, tmp_path):
    # trap 26
    whole = run(recipe=recipe)
    checkpoint = tmp_path / "job.running"
    checkpoint.unlink()

    class Killed(Exception):
        pass

    done = 0

    def kill(steps: int) -> None:
        nonlocal done
        done += steps
        if done == stop_at:
            raise Killed

    with pytest.raises(Killed):
        run(recipe=recipe, on_step=kill)
    counted: list[int] = []
    resumed = run(recipe=recipe, on_step=counted.append)
    kept = (stop_at - 1) // 2 * 2  # the checkpoint before the step at which it was killed
    assert counted == [kept, *[1] * (6 - kept)]
    assert same(resumed.model, whole.model)
    assert resumed.log == whole.log
    states = (resumed.optimizer.state_dict()["state"], whole.optimizer.state_dict()["state"])
    for index, state in states[1].items():
        assert all(
            torch.equal(torch.as_tensor(value), torch.as_tensor(states[0][index][key])) for key, value in state.items()
        )


def test_two_runs_are_equal_and_another_seed_is_not(run, tmp_path):
    # trap 25
    results = []
    for seed, noise in [(0, 1), (0, 2), (1, 1)]:
        (tmp_path / "job.running").unlink(missing_ok=True)
        torch.manual_seed(noise)  # the global generator plays no part
        results.append(run(replace(JOB, seed=seed)))
    assert same(results[0].model, results[1].model)
    assert results[0].log == results[1].log
    assert not same(results[0].model, results[2].model)


def test_the_starts_of_the_attack_differ_from_step_to_step_and_seed_to_seed(images, monkeypatch):
    # trap 25
    starts: list[Tensor] = []

    def record(x: Tensor, *more: object) -> Tensor:
        starts.append(random_start(x, *more) - x)
        return starts[-1] + x

    monkeypatch.setattr(training, "random_start", record)
    x, y = images.batch(torch.arange(8))
    for seed in (0, 1):
        progress = fresh(net())
        for _ in range(2):
            train_step(progress, x, y, replace(JOB, seed=seed), ADAM)
    assert len(starts) == 4
    assert all(not torch.allclose(starts[i], starts[j]) for i in range(4) for j in range(i))


def test_a_job_trains_on_its_nested_subset_alone(images, run, monkeypatch):
    # trap 27, trap 29
    seen: list[Tensor] = []

    def record(progress: Progress, x: Tensor, y: Tensor, *more: object) -> dict:
        seen.append(x.clone())
        return train_step(progress, x, y, *more)

    monkeypatch.setattr(training, "train_step", record)
    run()
    subset = nested_subset(images.y, 20, seed=0)
    for step, x in enumerate(seen):
        assert torch.equal(x, images.batch(batch_indices(subset, step, 8, seed=0))[0])
    allowed = {row.numpy().tobytes() for row in images.batch(subset)[0]}
    assert {row.contiguous().numpy().tobytes() for x in seen for row in x} == allowed


# ---- The adversarial batch ----------------------------------------------------------------------------------------


def make_batch(
    images: Images, eps: float, natural: int, recipe: Recipe = ADAM, norm: str = "l2"
) -> tuple[Tensor, Tensor]:
    x, y = images.batch(torch.arange(8))
    made = adversarial_batch(net(), x, y, ball(norm, eps), recipe, natural=natural, noise=generator(0))
    return x, made


def test_eps_zero_is_standard_training(images):
    # trap 13
    x, made = make_batch(images, eps=0.0, natural=0)
    assert torch.equal(made, x)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("natural", [0, 4, 7, 8])
def test_the_natural_share_of_a_batch_is_untouched_and_the_rest_is_not(natural, norm, images):
    x, made = make_batch(images, eps=0.3, natural=natural, norm=norm)
    assert torch.equal(made[:natural], x[:natural])
    assert all(not torch.equal(a, b) for a, b in zip(made[natural:], x[natural:], strict=True))
    assert ball(norm, 0.3).size(made.double() - x.double()).max() <= 0.3 * (1 + 1e-5)
    assert made.min() >= 0
    assert made.max() <= 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_adversarial_batch_has_a_larger_loss(norm, images):
    # trap 20
    model, (x, y) = net(), images.batch(torch.arange(8))
    made = adversarial_batch(model, x, y, ball(norm, 0.3), ADAM, natural=0, noise=generator(0))
    losses = [nn.functional.cross_entropy(model(points), y) for points in (x, made)]
    assert losses[1] > losses[0]


@pytest.mark.parametrize(("fraction", "untouched"), [(0.0, 0), (0.25, 2), (0.5, 4)])
def test_natural_fraction_is_a_share_of_the_batch(fraction, untouched, images, monkeypatch):
    counts: list[int] = []

    def record(model: nn.Module, x: Tensor, *_: object, natural: int, **__: object) -> Tensor:
        counts.append(natural)
        return x

    monkeypatch.setattr(training, "adversarial_batch", record)
    train_step(fresh(net()), *images.batch(torch.arange(8)), replace(JOB, natural_fraction=fraction), ADAM)
    assert counts == [untouched]


# ---- The step -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [ADAM, SGD], ids=["adam", "sgd"])
def test_a_step_is_a_step_on_the_adversarial_examples_and_no_more(recipe, images):
    # trap 3: gradients left by the attack would change the step
    model, (x, y) = net(), images.batch(torch.arange(8))
    attacked, plain = fresh(model, recipe), fresh(model, recipe)
    x_adv = adversarial_batch(model, x, y, ball("l2", 1.0), recipe, natural=0, noise=generator(0, "start", 0))
    first = train_step(attacked, x, y, JOB, recipe)
    second = train_step(plain, x_adv, y, replace(JOB, eps=0.0), recipe)
    assert same(attacked.model, plain.model)
    assert not same(attacked.model, model)
    assert first == second


def test_a_step_is_pytorchs_own(images):
    model, (x, y) = net(), images.batch(torch.arange(8))
    progress, reference = fresh(model), copy.deepcopy(model)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01, weight_decay=0.001)
    row = train_step(progress, x, y, replace(JOB, eps=0.0), ADAM)
    logits = reference(x)
    loss = nn.functional.cross_entropy(logits, y)
    loss.backward()
    optimizer.step()
    assert same(progress.model, reference)
    assert row == {
        "lr": 0.01,
        "loss": pytest.approx(loss.item()),
        "accuracy": pytest.approx((logits.argmax(1) == y).float().mean().item()),
    }
    assert progress.step == 1


def test_batch_norm_sees_the_trained_batch_once_and_the_attack_never(images, norm_net, monkeypatch):
    # trap 1
    monkeypatch.setitem(models.ARCHITECTURES, "norm_net", lambda: norm_net(28 * 28, 10))
    model = models.build("norm_net", mean=[0.13], std=[0.31], seed=0).eval()
    x, y = images.batch(torch.arange(8))
    x_adv = adversarial_batch(model, x, y, ball("l2", 1.0), ADAM, natural=0, noise=generator(0, "start", 0))
    assert not any(module.training for module in model.modules())
    progress = fresh(model)
    convolution, statistics = progress.model[1].features[0], progress.model[1].features[1]
    with torch.no_grad():
        expected = 0.9 * statistics.running_mean + 0.1 * convolution(progress.model[0](x_adv)).mean((0, 2, 3))
    train_step(progress, x, y, JOB, ADAM)
    assert statistics.num_batches_tracked == 1
    torch.testing.assert_close(statistics.running_mean, expected)
    assert all(module.training for module in progress.model.modules())


def test_a_loss_that_is_not_finite_ends_the_run(run):
    with pytest.raises(
        FloatingPointError, match=r"the training loss became (nan|inf) at step \d of l2 eps 1.0, 20 images"
    ):
        run(recipe=replace(ADAM, lr=[[0.0, 1e30], [1.0, 1e30]]))


# ---- Schedules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("done", "expected"), [(0.0, 1.0), (0.25, 2.0), (0.5, 3.0), (0.75, 1.5), (1.0, 0.0)])
def test_learning_rate_is_linear_between_the_knots(done, expected):
    recipe = replace(ADAM, lr=[[0.0, 1.0], [0.5, 3.0], [1.0, 0.0]])
    assert learning_rate(recipe, done) == pytest.approx(expected)


def test_every_step_uses_its_learning_rate(run):
    progress = run()
    assert [row["lr"] for row in progress.log] == pytest.approx([0.01 * (1 - step / 6) for step in range(6)])


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, [1.0] * 6), (0.5, [1 / 3, 2 / 3, 1, 1, 1, 1]), (1.0, [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])],
)
def test_eps_grows_over_its_share_of_the_steps(share, expected, run, monkeypatch):
    radii: list[float] = []

    def record(norm: str, eps: float) -> training.Ball:
        radii.append(eps)
        return ball(norm, eps)

    monkeypatch.setattr(training, "ball", record)
    run(replace(JOB, eps=0.3), replace(ADAM, eps_warmup=share))
    assert radii == pytest.approx([0.3 * factor for factor in expected])


def test_the_attack_steps_are_those_of_the_recipe(images, monkeypatch):
    # trap 23: step sizes in shares of the eps of the moment
    calls: list[dict] = []

    def record(model: nn.Module, x: Tensor, *_: object, **settings: object) -> Tensor:
        calls.append(settings)
        return x

    monkeypatch.setattr(training, "pgd", record)
    recipe = replace(ADAM, eps_warmup=1 / 3, attack_steps=7, attack_step_size=0.4)
    train_step(fresh(net()), *images.batch(torch.arange(8)), replace(JOB, eps=3.0), recipe)
    assert (calls[0]["n_steps"], calls[0]["step_size"]) == (7, pytest.approx(0.4 * 3.0 / 2))


@pytest.mark.parametrize(("n_train", "expected"), [(1, 2), (9, 2), (10, 5), (99, 5), (100, 3), (10**6, 3)])
def test_the_step_budget_is_that_of_the_last_size_reached(n_train, expected):
    # trap 28
    assert replace(ADAM, steps=[[1, 2], [10, 5], [100, 3]]).n_steps(n_train) == expected


@pytest.mark.parametrize("n_train", [3, 20, 40])
def test_every_size_gets_its_steps_and_says_so(n_train, run):
    # trap 28: also where the set is smaller than a batch
    progress = run(replace(JOB, n_train=n_train))
    assert progress.step == 6
    last = progress.log[-1]
    assert (last["step"], last["n_train"], last["epoch"]) == (6, n_train, 6 * 8 / n_train)


def test_log_rows_are_means_and_the_last_step_is_logged(run, tmp_path):
    every = run().log
    (tmp_path / "job.running").unlink()
    some = run(log_every=4, checkpoint_every=4).log
    assert [row["step"] for row in some] == [4, 6]
    assert some[0]["loss"] == pytest.approx(np.mean([row["loss"] for row in every[:4]]))
    assert some[1]["accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in every[4:]]))
    assert {key: some[0][key] for key in ("norm", "eps", "seed", "natural_fraction")} == {
        "norm": "l2",
        "eps": 1.0,
        "seed": 0,
        "natural_fraction": 0.0,
    }


def test_sgd_is_pytorchs_nesterov(images):
    model, (x, y) = net(), images.batch(torch.arange(8))
    progress, reference = fresh(model, SGD), copy.deepcopy(model)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.001)
    for step in range(2):
        train_step(progress, x, y, replace(JOB, eps=0.0), SGD)
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / 6)
        optimizer.zero_grad()
        nn.functional.cross_entropy(reference(x), y).backward()
        optimizer.step()
    assert same(progress.model, reference)


def test_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="expected optimizer to be 'adam' or 'sgd', got 'lion'"):
        training._optimizer(net(), replace(ADAM, optimizer="lion"))


@pytest.mark.parametrize(
    ("job", "text"),
    [
        (Job("l2", 0.0, 100, 2), "standard, 100 images, seed 2"),
        (Job("linf", 0.1, 5, 0, 0.5), "linf eps 0.1, 5 images, seed 0, natural 0.5"),
    ],
)
def test_a_job_says_what_it_is(job, text):
    assert str(job) == text


def test_sgd_without_momentum_is_plain_sgd(images):
    """Allowed by the schema of params.yaml (momentum at least 0), so it must train."""
    model, (x, y) = net(), images.batch(torch.arange(8))
    recipe = replace(SGD, momentum=0.0)
    progress, reference = fresh(model, recipe), copy.deepcopy(model)
    train_step(progress, x, y, replace(JOB, eps=0.0), recipe)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.01, weight_decay=0.001)
    nn.functional.cross_entropy(reference(x), y).backward()
    optimizer.step()
    assert same(progress.model, reference)
