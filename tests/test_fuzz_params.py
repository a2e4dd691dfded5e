"""One random change to params.yaml: it is refused by name in one line, or jobs and graph can be made of it."""

import copy
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from robacc import plan
from robacc.params import Params, ParamsError
from tests import graph
from tests.test_pipeline import SMOKE

CONTENT = YAML(typ="safe", pure=True).load(Path(__file__).parent.parent / "params.yaml")
HOSTILE = [
    *(0, 1, -1, 5, 17, 255, 60001, 10**9, 10**30, -(10**9)),
    *(0.0, -0.5, 0.3, 1.0, 8.0, 76.5, 1e-320, 1e300, math.inf, -math.inf, math.nan),
    *(None, True, "", "1e-3", "8/255", "l2-0.5; touch x", "../x", "a\nb", "${run}", "standard", "l2-1.5", "linf-8.0"),
    *([], [[]], [None], [0.5], ["standard"], [1, 1], {}, {"x": 1}),
]
N_CHANGES = 3000
SAFE = re.compile(r"[A-Za-z0-9_.-]+")


def smoke() -> dict:
    """Return params.yaml with the settings of the smoke graph."""
    content = copy.deepcopy(CONTENT)
    for (*path, last), value in SMOKE.items():
        section = content
        for key in path:
            section = section[key]
        section[last] = copy.deepcopy(value)
    return content


def places(section: dict | list, at: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every value in `section`, of sections too."""
    for key in section if isinstance(section, dict) else range(len(section)):
        yield (*at, key)
        if isinstance(section[key], dict | list):
            yield from places(section[key], (*at, key))


def change(content: dict, draw: random.Random) -> tuple:
    """Change `content` at one place, and return its path."""
    *path, last = draw.choice(list(places(content)))
    section = content
    for key in path:
        section = section[key]
    kind = draw.choice(["replace", "replace", "replace", "remove", "add"])
    if kind == "remove":
        del section[last]
    elif kind == "replace":
        section[last] = draw.choice(HOSTILE)
    elif isinstance(section, list):
        section.insert(last, draw.choice(HOSTILE))
    else:
        last = draw.choice(["x", "eps", "a.b"])
        section[last] = draw.choice(HOSTILE)
    return (*path, last)


def commands(content: dict) -> list[str]:
    """Return the texts that dvc.yaml puts into commands and paths: data sets and balls."""
    names = [
        (dataset, word) for run in content["run"].values() for dataset in run for word in content["balls"][dataset]
    ]
    return [text for pair in names for text in pair]


def test_a_changed_file_is_refused_in_one_line_or_makes_jobs():
    draw, outcomes = random.Random(0), {"refused": 0, "accepted": 0}
    for _ in range(N_CHANGES):
        content = smoke()
        path = change(content, draw)
        try:
            p = Params(**content)
        except ParamsError as error:
            message = str(error)
            assert message.isprintable(), path
            assert len(message) < 500, path
            assert any(str(key) in message for key in path), (path, message)
            outcomes["refused"] += 1
            continue
        outcomes["accepted"] += 1
        for name in p.datasets:
            settings = p.datasets[name]
            for ball in plan.balls(p, name):
                jobs = [*plan.full_set(settings, ball), *plan.smaller_sets(settings, ball)]
                jobs += plan.judges(p.visualize[name].judges, settings.n_train).values()
                assert len({str(job) for job in jobs}) == len(jobs), path
            assert plan.recipe(p, name).steps
        assert all(SAFE.fullmatch(text) for text in commands(content)), path
    assert min(outcomes.values()) > N_CHANGES / 20


# fault: a command of dvc.yaml that is built from params.yaml
@pytest.mark.parametrize("word", ["l2-0.5; touch x", "l2-$(x)", "l2-0.5 ", "../x", "l2-1_0", "l2-٣.0", "`x`"])
def test_what_stands_in_commands_has_a_safe_alphabet(word):
    content = smoke()
    content["balls"]["mnist"].append(word)
    with pytest.raises(ParamsError, match=r"balls\.mnist\.3"):
        Params(**content)


def test_dvc_yaml_puts_only_names_of_data_sets_and_balls_into_commands():
    stages = graph.stages()
    assert len(stages) > 50
    for name, stage in stages.items():
        module, *options = stage["cmd"].removeprefix("python -m ").split(" ")
        assert all(SAFE.fullmatch(text) for text in (module, *options)), name
    text = (graph.ROOT / "dvc.yaml").read_text()
    used = {word for line in text.splitlines() if "cmd:" in line for word in re.findall(r"\$\{([^}]*)\}", line)}
    assert used == {"item.dataset", "item.ball"}


# fault: `dvc exp run -S` writes what it likes
def test_every_stage_waits_for_the_stage_that_reads_all_parameters():
    stages = graph.stages()
    assert {"params.yaml", "stages"} <= set(stages["code"]["deps"])
    waits = {name for name, stage in stages.items() if any(dep.split("/")[0] == "code" for dep in stage["deps"])}
    assert waits == set(stages) - {"code"}
