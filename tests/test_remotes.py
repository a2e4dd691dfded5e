"""Two machines share a graph of three balls through S3 and through SSH, and a third collects."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GRAPH = """
stages:
  code: {cmd: mkdir -p code && cp given code/fetch, deps: [given], outs: [code: {cache: false}]}
  fetch:
    matrix: {dataset: [mnist]}
    cmd: cp code/fetch data.txt
    deps: [code/fetch]
    outs: [data.txt]
  train:
    matrix: {ball: [standard, l2-1.5, linf-0.3]}
    cmd: echo ${item.ball} >> trained && echo ${item.ball} > ${item.ball}.model
    deps: [data.txt]
    outs: ['${item.ball}.model']
  report: {cmd: cat *.model > page, deps: [standard.model, l2-1.5.model, linf-0.3.model], outs: [page: {cache: false}]}
"""
BALLS = ["l2-1.5", "linf-0.3", "standard"]


def need(*modules: str) -> None:
    """Skip without one of these."""
    for module in modules:
        if find_spec(module) is None:
            name = module.replace("_", "-").replace("moto", "'moto[server]'")
            pytest.skip(f"no {name} (.venv/bin/pip install -c requirements-remotes.lock {name})")


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def served():
    """Give served(command, port): run a server until the test ends; returns when it listens."""
    running = []

    def start(command: list[str | Path], port: int) -> None:
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        while True:
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            assert running[-1].poll() is None, f"{command[0]} ended"
            time.sleep(0.1)

    yield start
    for server in running:
        server.terminate()
        server.wait()


@pytest.fixture
def s3(served, monkeypatch):
    """A bucket of moto's server."""
    need("dvc_s3", "moto")
    port = free_port()
    served([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port)
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")).close()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return "s3://bucket/robacc", {"endpointurl": f"http://127.0.0.1:{port}"}


@pytest.fixture
def ssh(served, tmp_path):
    """A folder behind an OpenSSH server that knows one key."""
    need("dvc_ssh")
    server = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if server is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd and ssh-keygen (apt-get install openssh-server)")
    if os.geteuid() == 0 and not Path("/run/sshd").is_dir():
        pytest.skip("sshd needs /run/sshd (mkdir /run/sshd)")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    port = free_port()
    (tmp_path / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
        "StrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n"
    )
    served([server, "-D", "-f", tmp_path / "sshd_config"], port)
    return f"ssh://127.0.0.1:{port}{tmp_path}/shared", {"keyfile": f"{tmp_path}/user"}


# fault: dvc remote add s3 or ssh as the README prints
@pytest.mark.parametrize("kind", ["s3", "ssh"])
def test_each_ball_is_computed_once_and_collected(kind, request, tmp_path, monkeypatch):
    url, options = request.getfixturevalue(kind)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    trained = {}
    for words in (["share", "1/2"], ["share", "2/2"], ["repro", "--pull"]):
        machine = tmp_path / words[-1].replace("/", "of")
        machine.mkdir()
        (machine / "dvc.yaml").write_text(GRAPH)
        (machine / "given").write_text("data")
        shutil.copy(ROOT / "params.yaml", machine)
        commands = [
            ["dvc", "init", "-q", "--no-scm"],
            ["dvc", "remote", "add", "-q", "-d", "shared", url],
            *(["dvc", "remote", "modify", "-q", "shared", *option] for option in options.items()),
            [sys.executable, "-m", f"stages.{words[0]}", *words[1:]],
        ]
        for command in commands:
            done = subprocess.run(command, cwd=machine, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        count = machine / "trained"
        trained[words[-1]] = sorted(count.read_text().split()) if count.exists() else []
    assert trained == {"1/2": ["linf-0.3", "standard"], "2/2": ["l2-1.5"], "--pull": []}
    assert (machine / "page").read_text().split() == BALLS
