"""One training job: exact steps, and the same bits whether or not it was interrupted."""

import copy
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from robacc.attack.norms import threat_model
from robacc.attack.pgd import cross_entropy
from robacc.balls import STANDARD, Ball
from robacc.images.augment import crop_and_flip
from robacc.images.batches import batch_indices, nested_subset
from robacc.images.in_memory import Images
from robacc.nets import model as nets
from robacc.nets.layers import Normalize
from robacc.params import Recipe
from robacc.seeding import generator
from robacc.training.jobs import Job
from robacc.training.train import Progress, adversarial_batch, learning_rate, n_steps, train, train_step
from tests.recipes_made_up import TINY, random_images, tiny

JOB, PLAIN = Job(Ball("l2", 1.0), n_train=20, seed=0), Job(STANDARD, n_train=20, seed=0)
NESTEROV = tiny(optimizer="sgd", momentum=0.9)
NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])


@pytest.fixture(scope="module")
def images() -> Images:
    return random_images(40)


@pytest.fixture
def batch(images: Images) -> tuple[Tensor, Tensor]:
    """The first eight images and their labels."""
    return images.first(8)


@pytest.fixture
def run(images: Images, tmp_path: Path) -> Callable[..., Progress]:
    """Give run(job, recipe): train to the end with a log row every step and a checkpoint every second one."""

    def to_end(job: Job = JOB, recipe: Recipe = TINY, *, resume: bool = False, **more) -> Progress:
        checkpoint = tmp_path / "job.running"
        if not resume:
            checkpoint.unlink(missing_ok=True)
        return train(job, images, recipe, checkpoint=checkpoint, **{"log_every": 1, "checkpoint_every": 2, **more})

    return to_end


class Watched(nn.Module):
    """A net that keeps what it is asked: in a step the iterates of the attack, then what is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.asked = net(), []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x.detach().clone())
        return self.net(x)


def net(seed: int = 0) -> nn.Module:
    return nets.build("narrow_cnn", mean=[0.13], std=[0.31], seed=seed)


def fresh(model: nn.Module, optimizer: Callable = SGD) -> Progress:
    """Return the beginning of a job with a copy of `model`."""
    model = copy.deepcopy(model)
    return Progress(model, optimizer(model.parameters(), lr=1.0), step=0, log=[])


def watched(batch: tuple[Tensor, Tensor], job: Job, recipe: Recipe, n: int = 1) -> list[list[Tensor]]:
    """Return what the net is asked in each of the first `n` steps on `batch`."""
    progress, asked = fresh(Watched()), []
    for _ in range(n):
        train_step(progress, *batch, job, recipe)
        asked.append(progress.model.asked[:])
        progress.model.asked.clear()
    return asked


def same(first: nn.Module, second: nn.Module) -> bool:
    """Say whether two models are equal bit for bit."""
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# ---- Repeating and resuming ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [TINY, NESTEROV], ids=["adam", "sgd"])
@pytest.mark.parametrize("stop_at", [1, 3, 4, 5])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(recipe, stop_at, run):
    # trap 26
    class Killed(Exception):
        pass

    whole, done = run(recipe=recipe), 0

    def kill(steps: int) -> None:
        nonlocal done
        done += steps
        if done == stop_at:
            raise Killed

    with pytest.raises(Killed):
        run(recipe=recipe, on_step=kill)
    counted: list[int] = []
    resumed = run(recipe=recipe, on_step=counted.append, resume=True)
    kept = (stop_at - 1) // 2 * 2  # the checkpoint before the step at which it was killed
    assert counted == [kept, *[1] * (6 - kept)]
    assert same(resumed.model, whole.model)
    assert resumed.log == whole.log
    states = (resumed.optimizer.state_dict()["state"], whole.optimizer.state_dict()["state"])
    for index, state in states[1].items():
        assert all(
            torch.equal(torch.as_tensor(value), torch.as_tensor(states[0][index][key])) for key, value in state.items()
        )


def test_two_runs_are_equal_and_another_seed_is_not(run):
    # trap 25
    results = []
    for seed, noise in [(0, 1), (0, 2), (1, 1)]:
        torch.manual_seed(noise)  # the global generator plays no part
        results.append(run(Job(JOB.ball, 20, seed)))
    assert same(results[0].model, results[1].model)
    assert results[0].log == results[1].log
    assert not same(results[0].model, results[2].model)


def test_the_starts_of_the_attack_differ_from_step_to_step_and_seed_to_seed(batch):
    # trap 25
    starts = [asked[0] - batch[0] for seed in (0, 1) for asked in watched(batch, Job(JOB.ball, 20, seed), TINY, n=2)]
    assert len(starts) == 4
    assert all(not torch.allclose(starts[i], starts[j]) for i in range(4) for j in range(i))


@pytest.mark.parametrize("augment", ["none", "crop_flip"])
def test_a_job_trains_on_the_batches_of_its_nested_subset_augmented_before_the_attack(augment, images, run):
    # trap 27, trap 29
    recipe = tiny(augment=augment, padding=2)
    subset = nested_subset(images.y, 20, seed=0)
    progress = fresh(net(), partial(Adam, weight_decay=0.001))
    for step in range(6):
        x, y = images.batch(batch_indices(subset, step, 8, seed=0))
        if augment == "crop_flip":
            x = crop_and_flip(x, 2, generator(0, "augment", step))
        train_step(progress, x, y, JOB, recipe)
    assert same(run(recipe=recipe).model, progress.model)


def test_an_augmentation_that_images_in_memory_lack_is_refused(run):
    with pytest.raises(ValueError, match="to be 'none' or 'crop_flip' for images in memory, got 'random_crop'"):
        run(recipe=tiny(augment="random_crop"))


# ---- The adversarial batch ----------------------------------------------------------------------------------------


def made(batch: tuple[Tensor, Tensor], norm: str, eps: float, natural: int = 0) -> Tensor:
    return adversarial_batch(net(), *batch, threat_model(norm, eps), TINY, natural=natural, noise=generator(0))


def test_eps_zero_is_standard_training(batch):
    # trap 13
    assert torch.equal(made(batch, "l2", 0.0), batch[0])
    (asked,) = watched(batch, PLAIN, TINY)
    assert len(asked) == 1
    assert torch.equal(asked[0], batch[0])


@NORMS
@pytest.mark.parametrize("natural", [0, 4, 7, 8])
def test_the_natural_share_of_a_batch_is_untouched_and_the_rest_is_not(natural, norm, batch):
    x, x_adv = batch[0], made(batch, norm, 0.3, natural)
    assert torch.equal(x_adv[:natural], x[:natural])
    assert all(not torch.equal(a, b) for a, b in zip(x_adv[natural:], x[natural:], strict=True))
    assert threat_model(norm, 0.3).size(x_adv.double() - x.double()).max() <= 0.3 * (1 + 1e-5)
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1


@NORMS
def test_the_adversarial_batch_has_a_larger_loss(norm, batch):
    # trap 20
    losses = [cross_entropy(net()(points), batch[1]).mean() for points in (batch[0], made(batch, norm, 0.3))]
    assert losses[1] > losses[0]


@pytest.mark.parametrize(("fraction", "untouched"), [(0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_natural_fraction_is_a_share_of_the_batch(fraction, untouched, batch):
    (asked,) = watched(batch, Job(JOB.ball, 20, 0, fraction), TINY)
    assert [len(x) for x in asked] == [8 - untouched] * (2 if untouched < 8 else 0) + [8]
    unchanged = [torch.equal(a, b) for a, b in zip(asked[-1], batch[0], strict=True)]
    assert unchanged == [True] * untouched + [False] * (8 - untouched)


# ---- The step -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [Adam, SGD])
def test_a_step_is_a_step_on_the_adversarial_examples_and_no_more(optimizer, batch):
    # trap 3: gradients left by the attack would change the step
    model, (x, y) = net(), batch
    attacked, plain = fresh(model, optimizer), fresh(model, optimizer)
    x_adv = adversarial_batch(model, x, y, threat_model("l2", 1.0), TINY, natural=0, noise=generator(0, "start", 0))
    first = train_step(attacked, x, y, JOB, TINY)
    second = train_step(plain, x_adv, y, PLAIN, TINY)
    assert same(attacked.model, plain.model)
    assert not same(attacked.model, model)
    assert first == second
    assert attacked.step == 1


@pytest.mark.parametrize(
    ("recipe", "optimizer"),
    [
        (TINY, partial(Adam, weight_decay=0.001)),
        (NESTEROV, partial(SGD, momentum=0.9, nesterov=True, weight_decay=0.001)),
        (tiny(optimizer="sgd"), partial(SGD, weight_decay=0.001)),
    ],
    ids=["adam", "nesterov", "sgd"],
)
def test_standard_training_is_pytorchs_own(recipe, optimizer, images, run):
    reference, rows = net(), []
    optimizer, subset = optimizer(reference.parameters(), lr=1.0), nested_subset(images.y, 20, seed=0)
    for step in range(6):
        x, y = images.batch(batch_indices(subset, step, 8, seed=0))
        lr = optimizer.param_groups[0]["lr"] = learning_rate(recipe, step / 6)
        optimizer.zero_grad()
        logits = reference(x)
        loss = nn.functional.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        accuracy = (logits.argmax(1) == y).float().mean()
        rows.append({"lr": lr, "loss": pytest.approx(loss.item()), "accuracy": pytest.approx(accuracy.item())})
    progress = run(PLAIN, recipe)
    assert same(progress.model, reference)
    about = {**PLAIN.columns(), "step": 0, "epoch": 0.0}
    assert progress.log == [about | row | {"step": n, "epoch": n * 8 / 20} for n, row in enumerate(rows, 1)]


def test_batch_norm_sees_the_trained_batch_once_and_the_attack_never(batch, norm_net):
    # trap 1
    model, (x, y) = nn.Sequential(Normalize([0.13], [0.31]), norm_net(28 * 28, 10)).eval(), batch
    x_adv = adversarial_batch(model, x, y, threat_model("l2", 1.0), TINY, natural=0, noise=generator(0, "start", 0))
    assert not any(module.training for module in model.modules())
    progress = fresh(model)
    convolution, statistics = progress.model[1].features[0], progress.model[1].features[1]
    with torch.no_grad():
        expected = 0.9 * statistics.running_mean + 0.1 * convolution(progress.model[0](x_adv)).mean((0, 2, 3))
    train_step(progress, x, y, JOB, TINY)
    assert statistics.num_batches_tracked == 1
    torch.testing.assert_close(statistics.running_mean, expected)
    assert all(module.training for module in progress.model.modules())


def test_a_loss_that_is_not_finite_ends_the_run(run):
    message = r"the training loss became (nan|inf) at step \d of l2-1.0, 20 images"
    with pytest.raises(FloatingPointError, match=message):
        run(recipe=tiny(lr=[[0.0, 1e30], [1.0, 1e30]]))


def test_a_batch_of_another_size_is_refused(images):
    with pytest.raises(ValueError, match="expected 8 examples, a share of batch_size 8, got 7"):
        train_step(fresh(net()), *images.first(7), JOB, TINY)


def test_unknown_optimizer_is_refused(run):
    with pytest.raises(ValueError, match="expected optimizer to be 'adam' or 'sgd', got 'lion'"):
        run(recipe=tiny(optimizer="lion"))


# ---- Schedules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("done", "expected"), [(0.0, 1.0), (0.25, 2.0), (0.5, 3.0), (0.75, 1.5), (1.0, 0.0)])
def test_learning_rate_is_linear_between_the_knots(done, expected):
    assert learning_rate(tiny(lr=[[0.0, 1.0], [0.5, 3.0], [1.0, 0.0]]), done) == pytest.approx(expected)


def test_every_step_uses_its_learning_rate(run):
    progress = run()
    assert [row["lr"] for row in progress.log] == pytest.approx([0.01 * (1 - step / 6) for step in range(6)])


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, [1.0] * 6), (0.5, [1 / 3, 2 / 3, 1, 1, 1, 1]), (1.0, [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])],
)
def test_eps_grows_over_its_share_of_the_steps(share, expected, batch):
    steps = watched(batch, Job(Ball("linf", 0.3), 20, 0), tiny(eps_warmup=share), n=6)
    radii = [(asked[-1] - batch[0]).abs().max().item() for asked in steps]
    assert radii == pytest.approx([0.3 * factor for factor in expected], rel=1e-5)


def test_the_attack_steps_are_those_of_the_recipe(batch):
    # trap 23: step sizes in shares of the eps of the moment
    recipe = tiny(eps_warmup=1 / 3, attack_steps=7, attack_step_size=0.4)
    (asked,) = watched(batch, Job(Ball("linf", 0.3), 20, 0), recipe)
    assert len(asked) == 7 + 1
    for before, after in pairwise(asked):
        assert (after - before).abs().max().item() == pytest.approx(0.4 * 0.3 / 2, rel=1e-5)


@pytest.mark.parametrize(("n_train", "expected"), [(1, 2), (9, 2), (10, 5), (99, 5), (100, 3), (10**6, 3)])
def test_the_step_budget_is_that_of_the_last_size_reached(n_train, expected):
    # trap 28
    assert n_steps(tiny(steps=[[1, 2], [10, 5], [100, 3]]), n_train) == expected


@pytest.mark.parametrize("n_train", [3, 20, 40])
def test_every_size_gets_its_steps_and_says_so(n_train, run):
    # trap 28: also where the set is smaller than a batch
    progress = run(Job(JOB.ball, n_train, 0))
    assert progress.step == 6
    last = progress.log[-1]
    assert (last["step"], last["n_train"], last["epoch"]) == (6, n_train, 6 * 8 / n_train)


def test_log_rows_are_means_and_the_last_step_is_logged(run):
    every, some = run().log, run(log_every=4, checkpoint_every=4).log
    assert [row["step"] for row in some] == [4, 6]
    assert some[0]["loss"] == pytest.approx(np.mean([row["loss"] for row in every[:4]]))
    assert some[1]["accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in every[4:]]))
    assert all(row.items() >= JOB.columns().items() for row in some)
