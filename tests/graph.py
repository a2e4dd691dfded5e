"""dvc.yaml as DVC itself resolves it, with the stages of every data set."""

import json
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
RESOLVE = """
import json
from dvc.repo import Repo

def about(stage):
    files = [dep.def_path for dep in stage.deps if not hasattr(dep, "params")]
    params = [key for dep in stage.deps if hasattr(dep, "params") for key in dep.params]
    return {"cmd": stage.cmd, "deps": files, "params": params, "outs": [out.def_path for out in stage.outs]}

print(json.dumps({stage.addressing: about(stage) for stage in Repo().index.stages}))
"""


@cache
def stages() -> dict[str, dict]:
    """Return every stage by name: its command, the files and parameters it depends on, its outputs."""
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["run"] = {dataset: [dataset] for dataset in params["run"]}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / "dvc.yaml", folder)
        yaml.dump(params, Path(folder) / "params.yaml")
        init = [sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"]
        subprocess.run(init, cwd=folder, check=True)
        done = subprocess.run([sys.executable, "-c", RESOLVE], cwd=folder, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)
