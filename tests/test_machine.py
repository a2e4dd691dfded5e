"""What the operating system says: the cores that this process may use, and whether its parent lives."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robacc import machine
from stages import cli

V1, V2 = "4:memory:/pod\n3:cpuset:/\n2:cpu,cpuacct:{}\n", "0::{}\n"
QUOTAS = {
    "no groups": (None, {}, 8),
    "v2 without a quota": (V2.format("/"), {"cpu.max": "max 100000"}, 8),
    "v2, half a core": (V2.format("/"), {"cpu.max": "50000 100000"}, 1),
    "v2, two cores and a half": (V2.format("/"), {"cpu.max": "250000 100000"}, 3),
    "v2, of the group above": (V2.format("/a/b"), {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2),
    "v2, the lower of two": (V2.format("/a"), {"a/cpu.max": "400000 100000", "cpu.max": "150000 100000"}, 2),
    "v2, a folder of the host": (V2.format("/docker/1f"), {"cpu.max": "200000 100000"}, 2),
    "v2, above the cores": (V2.format("/"), {"cpu.max": "6400000 100000"}, 8),
    "v2, another form": (V2.format("/"), {"cpu.max": "a lot"}, 8),
    "v1 without a quota": (V1.format("/"), {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    "v1, half a core": (V1.format("/"), {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1),
    "v1, of a group": (V1.format("/a"), {"cpu/a/cpu.cfs_quota_us": "75", "cpu/a/cpu.cfs_period_us": "25"}, 3),
}


# fault: CPU quota of half a core, cgroup v1 and v2
@pytest.mark.parametrize(("groups", "files", "expected"), QUOTAS.values(), ids=QUOTAS)
def test_a_quota_counts_as_cores_rounded_up(groups, files, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in (files | ({"proc/self/cgroup": groups} if groups else {})).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.usable_cores(tmp_path) == expected


def test_the_stages_use_the_usable_cores(monkeypatch):
    monkeypatch.delenv("ROBACC_WORKERS", raising=False)
    monkeypatch.setattr(machine, "usable_cores", lambda: 5)
    assert cli.n_workers() == 5


# ---- Ends ---------------------------------------------------------------------------------------------------------

STAGE = """
import time
from pathlib import Path
from robacc import machine
machine.end_with_parent("DVC was killed")
Path("ready").touch()
time.sleep(600)
"""
# What DVC does: a shell runs the stage, in place of itself, or as a process of its own.
IN_PLACE = "exec {} stage.py"
BESIDE = "{} stage.py; true"
STARTER = "import subprocess, sys; subprocess.run(['/bin/sh', '-c', sys.argv[1]])"


# fault: kill -9 of dvc alone
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("line", [IN_PLACE, BESIDE], ids=["in place of the shell", "beside the shell"])
def test_a_stage_ends_when_what_started_it_is_killed(line, tmp_path):
    (tmp_path / "stage.py").write_text(STAGE)
    command = [sys.executable, "-c", STARTER, line.format(sys.executable)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as started:
        while not (tmp_path / "ready").exists():
            assert started.poll() is None
            time.sleep(0.05)
        started.send_signal(signal.SIGKILL)
        assert started.stderr.read() == "DVC was killed\n"  # the end of it: nobody is left who could write


KERNEL = """
import numba

@numba.njit(cache=True)
def double(x):
    return 2 * x

print(double(2), sum(double.stats.cache_hits.values()))
"""


@pytest.mark.parametrize(("ending", "share"), [("nbi", 0.5), ("nbc", 0.0)])
def test_half_a_file_of_compiled_code_is_compiled_again(ending, share, tmp_path):
    """Numba itself ends every later run with EOFError or UnpicklingError."""
    (tmp_path / "kernel.py").write_text(KERNEL)

    def run() -> tuple[int, str]:
        done = subprocess.run([sys.executable, tmp_path / "kernel.py"], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.strip()

    kept = tmp_path / "__pycache__"
    assert [run(), run()] == [(0, "4 0"), (0, "4 1")]
    machine.remove_half_written_kernels(kept)
    assert run() == (0, "4 1")
    (file,) = kept.glob(f"*.{ending}")
    os.truncate(file, int(share * file.stat().st_size))
    assert run()[0] == 1
    machine.remove_half_written_kernels(kept)
    assert [run(), run()] == [(0, "4 0"), (0, "4 1")]
    machine.remove_half_written_kernels(tmp_path / "not there")
