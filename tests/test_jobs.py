"""The words for balls and jobs, and which jobs params.yaml asks for."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robacc import params, plan
from robacc.balls import NORMS, STANDARD, Ball, parse
from robacc.datasets import facts
from robacc.params import Dataset, Natural, Params, Seeds
from robacc.training.jobs import Job, model_name

EACH = pytest.mark.parametrize("dataset", facts.NAMES)


@pytest.fixture(scope="module")
def p() -> Params:
    """The committed params.yaml."""
    return params.load(Path(__file__).parent.parent / "params.yaml")


# ---- Balls --------------------------------------------------------------------------------------------------------


@EACH
def test_every_word_of_params_is_printed_back(dataset, p):
    words = [*p.balls[dataset], *p.autoattack[dataset].standard_in, p.visualize[dataset].judges.ball]
    assert [str(parse(word)) for word in words] == words
    assert plan.balls(p, dataset) == [parse(word) for word in p.balls[dataset]]


@given(norm=st.sampled_from(NORMS), eps=st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_every_ball_has_a_word_that_names_it(norm, eps):
    ball = Ball(norm, eps)
    assert parse(str(ball)) == ball
    assert not ball.is_standard


def test_standard_is_a_ball_that_holds_nothing_but_the_image():
    assert parse("standard") == STANDARD == Ball("l2", 0.0)
    assert STANDARD.is_standard
    assert str(STANDARD) == "standard"


@pytest.mark.parametrize(
    ("word", "right"),
    [
        ("l2-2", "l2-2.0"),
        ("l2-2.50", "l2-2.5"),
        ("linf-.3", "linf-0.3"),
        ("linf-3e-1", "linf-0.3"),
        ("l2- 1.5", "l2-1.5"),
        ("l2-0.0", "standard, or a norm"),
        ("l2--1.5", "standard, or a norm"),
        ("L2-1.5", "standard, or a norm"),
        ("linf-", "standard, or a norm"),
        ("l1-0.5", "standard, or a norm"),
        ("l2-nan", "standard, or a norm"),
        ("l2-1e400", "standard, or a norm"),
        ("l2-8/255", "standard, or a norm"),
        ("l2", "standard, or a norm"),
        ("", "standard, or a norm"),
        (1.5, "standard, or a norm"),
    ],
)
def test_another_spelling_is_refused_in_one_line_that_names_the_right_one(word, right):
    with pytest.raises(ValueError, match=r"expected .*, got .*") as caught:
        parse(word)
    message = str(caught.value)
    assert message.startswith(f"expected {right}")
    assert message.endswith(f", got {word!r}")
    assert "\n" not in message


# ---- Jobs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "text"),
    [
        (Job(STANDARD, 100, 2), "standard, 100 images, seed 2"),
        (Job(Ball("linf", 0.1), 5, 0, 0.5), "linf-0.1, 5 images, seed 0, natural 0.5"),
    ],
)
def test_a_job_says_what_it_is(job, text):
    assert str(job) == text


def test_a_job_is_a_row_and_a_name_of_a_file():
    job = Job(Ball("linf", 0.3), 5, 1, 0.5)
    assert job.columns() == {"norm": "linf", "eps": 0.3, "n_train": 5, "seed": 1, "natural_fraction": 0.5}
    assert job.name == model_name(1, 0.5) == "seed1-natural0.5"
    assert Job(STANDARD, 5, 0).columns() == {"norm": "l2", "eps": 0.0, "n_train": 5, "seed": 0, "natural_fraction": 0.0}


# ---- The plan -----------------------------------------------------------------------------------------------------


def dataset_of(**changes):
    natural = Natural(fractions=[0.0, 0.5], balls=["l2-1.5"])
    seeds = Seeds(**{"first": 7, "n": 2, "deciding": ["l2-1.5"], "n_deciding": 3, "n_attacked": 2, **changes})
    return Dataset(
        recipe="none", n_train=100, sizes=[[10, 3], [20, 2], [30, 1]], seeds=seeds, sample_seed=0, natural=natural
    )


def test_the_full_set_has_every_seed_and_shares_where_natural_says_so():
    settings, plain, mixed = dataset_of(), Ball("l2", 0.5), Ball("l2", 1.5)
    for ball in (STANDARD, plain):
        assert plan.full_set(settings, ball) == [Job(ball, 100, 7), Job(ball, 100, 8)]
    wanted = [Job(mixed, 100, seed, share) for seed in (7, 8) for share in (0.0, 0.5)]
    assert plan.full_set(settings, mixed) == [*wanted, Job(mixed, 100, 9)]  # the last is not attacked


def test_the_first_seeds_are_attacked():
    settings, ball = dataset_of(n_attacked=4), Ball("l2", 1.5)
    assert list(plan.seeds(settings.seeds, ball)) == list(plan.attacked(settings.seeds, ball)) == [7, 8, 9]
    assert list(plan.attacked(dataset_of().seeds, ball)) == [7, 8]
    assert list(plan.attacked(settings.seeds, STANDARD)) == [7, 8]


def test_smaller_sets_have_their_own_numbers_of_seeds_and_never_more_than_the_full_set():
    def found(ball):
        return [(job.n_train, job.seed) for job in plan.smaller_sets(dataset_of(), ball)]

    assert found(Ball("l2", 1.5)) == [(10, 7), (10, 8), (10, 9), (20, 7), (20, 8), (30, 7)]
    assert found(STANDARD) == [(10, 7), (10, 8), (20, 7), (20, 8), (30, 7)]


@EACH
def test_the_judges_are_two_that_no_other_stage_trains(dataset, p):
    settings, judges = p.datasets[dataset], p.visualize[dataset].judges
    found = plan.judges(judges, settings.n_train)
    robust = Job(parse(judges.ball), settings.n_train, judges.seed)
    assert found == {"standard": Job(STANDARD, settings.n_train, judges.seed), "robust": robust}
    others = [job for ball in plan.balls(p, dataset) for job in plan.full_set(settings, ball)]
    assert not set(found.values()) & set(others)


@EACH
def test_the_recipe_is_the_one_that_the_data_set_names(dataset, p):
    assert plan.recipe(p, dataset) is p.recipes[p.datasets[dataset].recipe]
