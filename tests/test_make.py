"""The Makefile and what it calls: installation, two commands at once, a part of the balls, a failed data set."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stages import install, repro, share

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def _outside_of_make():
    """`make test` passes its own variables on to a `make` inside it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "PART"):
            patch.delenv(name, raising=False)
        yield


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder without git, whose environment is this one and whose DVC writes down how it was called."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for folder in ("robacc", "stages"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "requirements.lock").write_text("# nothing\n")
    monkeypatch.chdir(tmp_path)
    script(tmp_path / ".venv/bin/python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    script(
        tmp_path / ".venv/bin/dvc",
        '#!/bin/sh\necho "$SHELL: $*" >> calls\n'
        "[ \"$1\" = stage ] && printf 'code\\nfetch@mnist\\ntrain@mnist-standard\\nevaluate@mnist-standard\\n'\n"
        "[ ! -e dvc-fails ] || { sh dvc-fails; exit 255; }\n",
    )
    install.READY.write_text(install.described())
    return tmp_path


def make(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", f"PYTHON={sys.executable}", *words],
        cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip


# fault: make share with a wrong PART
@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "a/b", "2/0", "", "1/2/3", "-1/3", "1/2'"])
def test_a_wrong_part_is_refused_before_the_installation(checkout, part):
    shutil.rmtree(".venv")
    done = make(checkout, "share", f"PART={part}")
    assert done.returncode != 0
    assert f"expected a part and the number of parts, as in PART=2/3, got PART={part}\n" in done.stderr
    assert not Path(".venv").exists()


# fault: make share with a wrong PART
def test_every_stage_of_a_ball_is_in_exactly_one_part():
    stages = [f"{stage}@{ball}" for stage in ("train", "size_sweep_cifar10", "evaluate") for ball in "abcde"]
    parts = [share.of_part(["code", *stages, "summarize@mnist"], number, 3) for number in (1, 2, 3)]
    assert sorted(stage for part in parts for stage in part) == sorted(stages)
    assert {stage[-1] for stage in parts[0]} == {"a", "d"}
    assert share.of_part(stages, 1, 1) == stages


# fault: four make share at once in one checkout
@pytest.mark.parametrize("target", ["repro", "share", "cifar10", "own", "report"])
def test_a_second_run_in_one_checkout_says_so_and_touches_nothing(checkout, target):
    before = Path("params.yaml").read_bytes()
    with repro.alone():
        done = make(checkout, target)
    assert done.returncode != 0
    assert f"process {os.getpid()} on " in done.stderr
    assert "runs the pipeline in this checkout; wait for it, or use a second clone\n" in done.stderr
    assert Path("params.yaml").read_bytes() == before
    assert not Path("calls").exists()


# fault: four make share at once in one checkout
def test_dvc_holds_the_checkout_when_its_parent_is_killed(checkout):
    Path("dvc-fails").write_text("echo started; read word")
    words = [sys.executable, "-m", "stages.repro"]
    path = f"{checkout}/.venv/bin:{os.environ['PATH']}"
    with subprocess.Popen(words, env=os.environ | {"PATH": path}, stdin=-1, stdout=-1, text=True) as running:
        assert running.stdout is not None
        assert running.stdin is not None
        assert running.stdout.readline() == "started\n"
        running.kill()
        with pytest.raises(BlockingIOError, match=f"process {running.pid} on"), repro.alone():
            pass
        running.stdin.close()
        running.stdout.read()  # until DVC has ended


# fault: .venv half made by two commands at once
def test_who_comes_second_waits_for_the_environment(checkout):
    install.READY.unlink()
    install.LOCK.parent.mkdir()
    with install.LOCK.open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        words = ["make", f"PYTHON={sys.executable}", "environment"]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as second:
            assert second.stderr is not None
            assert second.stderr.readline() == "waiting for another make, which sets up .venv\n"
            install.READY.write_text(install.described())  # the first one's last step
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert second.stderr.read() == ""
    assert second.returncode == 0


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A real environment, set up by make from a lock with one small package."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "stages").symlink_to(ROOT / "stages")
    (folder / ".dvc").mkdir()
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\ntiny-1.0.dist-info/METADATA,,\n")
    (folder / "requirements.lock").write_text("./tiny-1.0-py3-none-any.whl\n")
    elsewhere = folder / "elsewhere"
    (folder / "pip.conf").write_text(f"[install]\nuser = true\ntarget = {elsewhere}\n")
    (elsewhere / "pip").mkdir(parents=True)
    (elsewhere / "pip" / "__init__.py").write_text("raise SystemExit('not the pip of .venv')")
    # fault: PIP_USER, PIP_TARGET and others move the installation
    done = make(
        folder, "environment", PIP_CONFIG_FILE=str(folder / "pip.conf"), PIP_PREFIX=str(elsewhere), PIP_USER="1",
        PIP_ROOT=str(elsewhere), PIP_REQUIRE_VIRTUALENV="1", PYTHONPATH=str(elsewhere), PYTHONSAFEPATH="1",
        PYTHONHOME="/nowhere", PYTHONUSERBASE=str(elsewhere),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def packages(folder: Path) -> list[Path]:
    return list(folder.glob(".venv/lib/python*/site-packages/tiny.py"))


# fault: PIP_USER, PIP_TARGET and others move the installation
def test_the_environment_is_ours_whatever_pip_and_python_are_told(installed):
    assert len(packages(installed)) == 1
    assert [path.name for path in (installed / "elsewhere").iterdir()] == ["pip"]


# fault: .venv moved or its Python gone
def test_a_moved_a_half_made_and_a_broken_environment_are_known(installed, tmp_path, monkeypatch):
    monkeypatch.chdir(installed)
    assert install.up_to_date()
    install.LOCK.write_text("unfinished\n")
    assert not install.usable()
    install.LOCK.write_text("")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(installed / ".venv", ".venv", symlinks=True)
    assert not install.usable()
    install.READY.unlink()
    assert install.usable()
    python = install.PYTHON
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert not install.usable()


# fault: .venv moved or its Python gone
def test_a_moved_environment_is_set_up_anew(installed, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(installed, moved, symlinks=True)
    packages(moved)[0].unlink()
    done = make(moved, "environment")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(packages(moved)) == 1
    assert str(moved) in (moved / ".venv/bin/pip").read_text()


# fault: .venv moved or its Python gone
def test_an_environment_behind_a_link_is_never_cleared(checkout):
    Path(".venv").rename("theirs")
    Path(".venv").symlink_to("theirs")
    Path("theirs/bin/python").unlink()
    done = make(checkout, "environment")
    assert done.returncode != 0
    assert re.match(r"\.venv is a link to .*theirs, no environment of this project; remove the link\n", done.stderr)
    assert Path("theirs/bin/dvc").exists()


# fault: SHELL of a service account
def test_stages_run_with_a_shell_whatever_the_users_is(checkout):
    assert make(checkout, "repro", SHELL="/usr/sbin/nologin").returncode == 0
    assert Path("calls").read_text() == "/bin/sh: repro\n"


# fault: an archive without .git
def test_a_folder_without_git_is_said_to_dvc_and_its_configuration_stays(checkout):
    Path(".dvc/config.local").write_text("['remote \"shared\"']\n    url = /shared\n")
    assert make(checkout, "environment").returncode == 0
    listed = subprocess.run([sys.executable, "-m", "dvc", "remote", "list"], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == ["shared", "/shared"]


# fault: an archive without .git
def test_what_needs_git_says_so_before_the_installation(checkout):
    shutil.rmtree(".venv")
    done = make(checkout, "test")
    assert done.returncode != 0
    assert "the tests need git's list of files" in done.stderr
    assert not Path(".venv").exists()


# fault: a failed make cifar10 leaves params.yaml changed
@pytest.mark.parametrize("ends", ["exit 1", "kill -INT $PPID", "kill -TERM $PPID; exec sleep 60"])
def test_params_are_as_they_were_after_a_run_that_failed(checkout, ends):
    text = Path("params.yaml").read_text().replace("cifar10: []", "cifar10:  [ ]  # mine")
    Path("params.yaml").write_text(text)
    Path("dvc-fails").write_text(f"cp params.yaml during; {ends}")
    done = make(checkout, "cifar10")
    assert done.returncode != 0
    assert Path("params.yaml").read_text() == text
    assert "cifar10: [cifar10] # mine" in Path("during").read_text()


# fault: a failed make cifar10 leaves params.yaml changed
def test_what_was_edited_in_params_meanwhile_stays(checkout):
    Path("dvc-fails").write_text("echo '# mine' >> params.yaml")
    assert make(checkout, "cifar10").returncode != 0
    assert Path("params.yaml").read_text().endswith("# mine\n")


# fault: a failed make cifar10 leaves params.yaml changed
def test_a_run_that_succeeds_leaves_its_values_and_every_comment(checkout):
    before = Path("params.yaml").read_text()
    assert make(checkout, "cifar10").returncode == 0
    after = Path("params.yaml").read_text()
    assert "  cifar10: [cifar10]\n" in after
    assert re.findall("#.*", after) == re.findall("#.*", before)


def name_remote(url: str) -> None:
    Path(".dvc/config").write_text(f"[core]\n    remote = shared\n['remote \"shared\"']\n    url = {url}\n")


# fault: dvc remote add s3 or ssh as the README prints
@pytest.mark.parametrize("target", ["share", "collect"])
def test_a_missing_remote_or_package_is_named_before_any_work(checkout, target):
    shutil.copy(ROOT / "dvc.yaml", checkout)
    assert "expected a DVC remote, found none" in make(checkout, target).stderr
    name_remote("gs://bucket/robacc")
    assert "run `.venv/bin/pip install -c requirements-remotes.lock dvc-gs`\n" in make(checkout, target).stderr
    assert not Path("calls").exists()


# fault: dvc remote add s3 or ssh as the README prints
@pytest.mark.parametrize(("target", "url"), [("share", "{}/params.yaml/robacc"), ("collect", "{}/no-such-folder")])
def test_a_remote_that_cannot_be_used_is_one_line_before_any_work(checkout, target, url):
    shutil.copy(ROOT / "dvc.yaml", checkout)
    name_remote(url.format(checkout))
    done = make(checkout, target)
    assert done.returncode != 0
    (said,) = (line for line in done.stderr.splitlines() if not line.startswith("make"))
    assert re.match(r"\w+: DVC's remote \S+ cannot be used; \w+: .", said)
    assert not Path("calls").exists()


# fault: dvc remote add s3 or ssh as the README prints
def test_a_remote_that_was_tried_is_left_as_it_was(checkout):
    shutil.copy(ROOT / "dvc.yaml", checkout)
    install.do_without_git()
    name_remote(f"{checkout}/shared")
    repro.must_have_remote(to_write=True)
    assert Path("shared").is_dir()
    assert not list(Path("shared").iterdir())
    repro.must_have_remote(to_write=False)


# fault: no audit of the locked packages
@pytest.mark.parametrize(
    ("audit", "code", "said"),
    [
        ("echo Traceback >&2; echo no route to OSV >&2; exit 1", 2, "make audit: nothing was checked"),
        ("echo tiny PYSEC-1; exit 1", 2, "tiny PYSEC-1"),
        ("echo none found >&2", 0, "none found"),
    ],
)
def test_the_audit_ends_as_it_should(checkout, audit, code, said):
    script(checkout / ".venv/audit/bin/pip-audit", f"#!/bin/sh\n{audit}\n")
    done = make(checkout, "audit")
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
