"""Two hosts, made of network namespaces, train one model while one of them dies: tests/two_hosts.sh."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

from robacc.nets import model as nets
from tests.recipes_made_up import ROOT, write_project

N_STEPS = 300


def hindrance() -> str | None:
    """Return why two hosts cannot be made here, None if they can."""
    if sys.platform != "linux" or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root on Linux"
    if shutil.which("ip") is None or shutil.which("setsid") is None:
        return "no `ip` (apt-get install iproute2) or no `setsid`"
    name = f"rob-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"`ip netns add` is not allowed: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


def test_a_host_dies_and_the_model_is_the_same(tmp_path):
    if reason := hindrance():
        print(reason)
        pytest.skip(reason)
    recipe = {"batch_size": 32, "steps": [[1, N_STEPS]], "optimizer": "sgd", "lr": [[0.0, 0.05], [1.0, 0.0]]}
    write_project(tmp_path / "project", 200, recipe=recipe, training={"log_every": 10, "checkpoint_every": 50})
    done = subprocess.run(
        [ROOT / "tests" / "two_hosts.sh", sys.executable, tmp_path / "project", tmp_path],
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    print(done.stdout)
    files = {run: list((tmp_path / run / "checkpoints").glob("[!.]*")) for run in ("calm", "relaunched", "shrunk")}
    assert {len(found) for found in files.values()} == {1}
    assert len({found[0].name for found in files.values()}) == 1  # the same key
    states, processes = {}, {}
    for run, (file,) in files.items():
        model, spec = nets.load(file)
        states[run], processes[run] = model.state_dict(), spec["processes"]
        assert spec["log"][-1]["step"] == N_STEPS
    assert processes == {"calm": 2, "relaunched": 2, "shrunk": 1}
    for run in ("relaunched", "shrunk"):
        lines = "".join(file.read_text() for file in (tmp_path / run).glob("*.log"))
        assert lines.count(f"[10/{N_STEPS}]") == 1  # gone on, not begun again
        assert lines.count(f"[{N_STEPS}/{N_STEPS}]") == 1
        assert "Traceback" in lines  # of the process whose partner is gone
    differences = [(states["shrunk"][name] - value).abs().max().item() for name, value in states["calm"].items()]
    print(f"shrunk: weights differ from calm's by at most {max(differences):.1e}")
    assert max(differences) < 0.02  # rounding, grown over the steps that one process did alone
    for name, value in states["calm"].items():
        assert torch.equal(states["relaunched"][name], value), name
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert "rob-" not in left
