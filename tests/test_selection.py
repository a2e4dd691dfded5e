"""The rule that chooses the images of the picture figures."""

import numpy as np

from robacc.report import selection

CLASSES = ("a", "b", "c")


def models(*predicted):
    y = np.array([0, 0, 1, 1, 2, 2])
    return [{"y": y, "predicted": np.array(of_model)} for of_model in predicted]


def test_of_each_class_the_first_that_every_model_gets_right():
    shown = selection.choose(models([0, 0, 2, 1, 2, 2], [1, 0, 1, 1, 2, 2]), CLASSES)
    assert shown.indices == [1, 3, 4]
    assert shown.classes == ["a", "b", "c"]
    assert shown.rule == (
        "Of each class the first in the sample of test images that every model classifies correctly; "
        "the same images for every model; models of the first seed."
    )


def test_a_class_that_no_image_qualifies_for_is_left_out_and_named():
    shown = selection.choose(models([0, 0, 0, 0, 2, 2], [0, 1, 1, 1, 0, 2]), CLASSES)
    assert shown.indices == [0, 5]
    assert shown.classes == ["a", "c"]
    assert shown.rule.endswith("Left out, as none of the first 2 of the class is such: b.")


def test_without_any_the_first_of_each_class_and_the_rule_says_so():
    shown = selection.choose(models([0, 0, 1, 1, 2, 2], [1, 1, 0, 0, 0, 0]), CLASSES)
    assert shown.indices == [0, 2, 4]
    assert shown.classes == ["a", "b", "c"]
    assert shown.rule.startswith(
        "Of each class the first in the sample of test images, as every model gets none of the first 2"
    )


def test_a_class_that_the_data_lacks_moves_no_name():
    arrays = [{"y": np.array([0, 2]), "predicted": np.array([0, 2])}]
    assert selection.choose(arrays, CLASSES).classes == ["a", "c"]
