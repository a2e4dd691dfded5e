"""The facts of the data sets: each has all of them, params.yaml agrees, and they are true of what is fetched."""

import json
from argparse import Namespace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from robacc import params
from robacc.balls import NORMS
from robacc.datasets import facts, own
from robacc.datasets.restricted_imagenet import SUPER_CLASSES
from robacc.images import loading
from robacc.images.in_memory import Images
from robacc.images.on_disk import ImageFiles
from robacc.sources import own as own_source
from stages import fetch
from tests.images_made_up import cifar10, imagenet, put

ROOT = Path(__file__).parent.parent
every_set = pytest.mark.parametrize("name", facts.NAMES)


@every_set
def test_every_data_set_has_sensible_facts(name):
    of = facts.of(name)
    assert of.title
    assert len(of.letter) == 1
    assert of.letter.islower()
    assert len(of.classes) == len(set(of.classes)) > 1
    assert of.channels in (1, 3)
    assert of.size > 0
    assert set(of.paper_eps) == set(NORMS)
    for norm, eps in of.paper_eps.items():
        assert 0 < eps < {"linf": 1, "l2": of.channels**0.5 * of.size}[norm]  # of the whole box
        assert not of.eps_in_255 or 255 * eps == pytest.approx(round(255 * eps))
    assert of.stored in get_args(get_type_hints(facts.DataSet)["stored"])
    assert all(here != there for _, here, there in of.differences)


def test_no_two_data_sets_have_one_title_or_letter_and_panels_are_in_its_order():
    every = [facts.of(name) for name in facts.NAMES]
    assert len({of.title for of in every}) == len({of.letter for of in every}) == len(every)
    assert facts.in_order() == ["mnist", "cifar10", "restricted_imagenet_64", "restricted_imagenet", "own"]


def test_classes_are_in_the_order_of_the_labels():
    assert [int(name) for name in facts.of("mnist").classes] == list(range(10))
    assert facts.of("restricted_imagenet").classes == facts.of("restricted_imagenet_64").classes == tuple(SUPER_CLASSES)


def test_other_names_are_refused():
    with pytest.raises(ValueError, match=r"expected a data set of cifar10, mnist, .*, got 'facts'"):
        facts.of("facts")


@every_set
def test_params_yaml_has_the_papers_recipe_and_nets_that_fit_the_images(name):
    p, of = params.load(ROOT / "params.yaml"), facts.of(name)
    for recipe in (p.recipes[of.paper_recipe], p.recipes[p.datasets[name].recipe]):
        assert recipe.n_classes == len(of.classes)
        assert len(recipe.mean) == len(recipe.std) == of.channels


@every_set
def test_what_is_fetched_is_what_the_facts_say(name, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBACC_WORKERS", "1")
    monkeypatch.setenv("ROBACC_CIFAR10", str(put(cifar10(), tmp_path / "cifar10")))
    monkeypatch.setenv("ROBACC_IMAGENET", str(put(imagenet(), tmp_path / "imagenet")))
    if name == "own":
        monkeypatch.setattr(own, "FILE", tmp_path / "own.json")
        found, said = own_source.read(put(cifar10(n=3), tmp_path / "mine"), "auto", n_workers=1, report=print)
        own.FILE.write_text(json.dumps(said))
        own_source.keep(found, "mine", Path("data/incoming/own"))
    if name == "mnist":
        folder = request.getfixturevalue("mnist")
    else:
        folder = Path("data") / name
        fetch.main(Namespace(dataset=name))
    for split in ("train", "test"):
        images, of = loading.load(folder / f"{split}.safetensors"), facts.of(name)
        assert type(images) is {"in_memory": Images, "on_disk": ImageFiles}[of.stored]
        assert images.first(1)[0].shape == (1, of.channels, of.size, of.size)
        assert 0 <= images.y.min() <= images.y.max() < len(of.classes)
