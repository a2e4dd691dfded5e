"""The names of data sets and classes, and the rule that chooses the images of the picture figures."""

from typing import get_args

import numpy as np

from robacc import cifar10, claims, panels, params, restricted_imagenet

CLASSES = ("a", "b", "c")


def models(*predicted):
    y = np.array([0, 0, 1, 1, 2, 2])
    return [{"y": y, "predicted": np.array(of_model)} for of_model in predicted]


def test_classes_are_those_of_the_data():
    assert panels.CLASSES["cifar10"] == cifar10.CLASSES
    assert panels.CLASSES["restricted_imagenet_64"] == tuple(restricted_imagenet.SUPER_CLASSES)
    assert panels.CLASSES["restricted_imagenet"] == tuple(restricted_imagenet.SUPER_CLASSES)
    assert [int(name) for name in panels.CLASSES["mnist"]] == list(range(10))


def test_every_data_set_has_its_names():
    assert set(get_args(params.DatasetName)) <= set(panels.NAMES)
    assert panels.NAMES.keys() == panels.LETTERS.keys() == panels.CLASSES.keys() == claims.PAPER_EPS.keys()
    assert panels.LETTERS == {"mnist": "a", "cifar10": "b", "restricted_imagenet_64": "c", "restricted_imagenet": "d"}


def test_of_each_class_the_first_that_every_model_gets_right():
    shown = panels.choose(models([0, 0, 2, 1, 2, 2], [1, 0, 1, 1, 2, 2]), CLASSES)
    assert shown.places == [1, 3, 4]
    assert shown.classes == ["a", "b", "c"]
    assert shown.rule == (
        "Of each class the first test image that every model classifies correctly; "
        "the same images for every model; seed 0."
    )


def test_a_class_that_no_image_qualifies_for_is_left_out_and_named():
    shown = panels.choose(models([0, 0, 0, 0, 2, 2], [0, 1, 1, 1, 0, 2]), CLASSES)
    assert shown.places == [0, 5]
    assert shown.classes == ["a", "c"]
    assert shown.rule.endswith("Left out, as none of the first 2 test images of the class is such: b.")


def test_without_any_the_first_of_each_class_and_the_rule_says_so():
    shown = panels.choose(models([0, 0, 1, 1, 2, 2], [1, 1, 0, 0, 0, 0]), CLASSES)
    assert shown.places == [0, 2, 4]
    assert shown.classes == ["a", "b", "c"]
    assert shown.rule.startswith("Of each class the first test image, as every model classifies none of the first 2")


def test_a_class_that_the_data_lacks_moves_no_name():
    arrays = [{"y": np.array([0, 2]), "predicted": np.array([0, 2])}]
    assert panels.choose(arrays, CLASSES).classes == ["a", "c"]
