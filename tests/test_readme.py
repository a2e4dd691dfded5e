"""The example in the README runs as it stands."""

import re
from pathlib import Path

import torch
from torch import nn

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_example_runs_on_any_model(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    x = torch.rand(30, 3, 4, 4)
    names = {"model": net, "x": x, "y": net(x).argmax(1)}
    exec(compile(example, "README.md", "exec"), names)
    assert "'n_correct': 30" in capsys.readouterr().out
    assert [row["eps"] for row in names["outcomes"].counts()] == [0.0, 0.0, 2 / 255, 8 / 255]
