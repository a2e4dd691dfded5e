"""The common entry of the stages: an error of the user's making, or of the machine's, is one line."""

import sys

import pytest

from stages import cli


def run(error: Exception, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a stage that ends with `error`; no graph knows the stage by this name."""
    monkeypatch.setattr(sys, "argv", [f"stages/{stage}.py"])
    monkeypatch.setattr(cli.identity, "every_stage", lambda: [])
    monkeypatch.delenv("ROBACC_TRACEBACK", raising=False)
    monkeypatch.delenv("DVC_STAGE", raising=False)

    def main(_: object) -> None:
        raise error

    cli.run(main, cli.parser(None))


# fault: no memory in a stage without workers
@pytest.mark.parametrize(
    ("error", "stage", "words"),
    [
        (MemoryError("Unable to allocate 3.64 TiB"), "theory", "got Unable to allocate 3.64 TiB; lower theory.d, "),
        (MemoryError(), "linear", "got none; lower linear.noise.n_features or"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "visualize", "lower visualize.<data set>.n_tr"),
        (MemoryError(), "report", "report: expected memory, got none; close other programs, and run again"),
    ],
)
def test_no_memory_is_one_line_that_names_what_to_lower(error, stage, words, monkeypatch):
    with pytest.raises(SystemExit) as ended:
        run(error, stage, monkeypatch)
    assert str(ended.value).startswith(f"{stage}: expected memory, got ")
    assert words in str(ended.value)
    assert "\n" not in str(ended.value)


def test_another_error_of_the_program_keeps_its_traceback(monkeypatch):
    with pytest.raises(RuntimeError, match="shapes"):
        run(RuntimeError("shapes cannot be multiplied"), "theory", monkeypatch)
