"""What the documentation says: its pages, their commands and their sentences."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Commands that are run by a test in other words: on fewer balls, with another remote.
ELSEWHERE = {
    "dvc exp run -S 'balls.mnist=[standard,l2-0.5,l2-1.5,l2-2.5,l2-3.5,linf-0.1,linf-0.2,linf-0.3]'": (
        "test_a_new_eps_costs_that_eps_and_an_old_one_leaves"
    ),
    "make compare": "test_a_new_eps_costs_that_eps_and_an_old_one_leaves",
    "dvc remote add -d shared /mnt/shared/robacc": "test_several_machines_share_the_work_and_one_finishes_the_report",
    "make share PART=1/3": "test_several_machines_share_the_work_and_one_finishes_the_report",
    "make collect": "test_several_machines_share_the_work_and_one_finishes_the_report",
}


@dataclass(frozen=True)
class Command:
    """A line of a shell block. `reason` says why no test runs it, None if one does."""

    page: str
    text: str
    reason: str | None


def commands() -> list[Command]:
    """Return every line of every shell block, which is a block without a language."""
    found = []
    for page in PAGES:
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
        for line in "".join(block for language, block in blocks if not language).splitlines():
            text, _, comment = line.partition(" # ")
            reason = re.search(r"(?i)not in the tests: (\S.*)", comment)
            found.append(Command(page.name, text.strip(), reason and reason[1]))
    return found


def to_run() -> list[str]:
    """Return the commands that run as they stand in a finished clone, each once."""
    texts = [command.text for command in commands() if command.reason is None and command.text not in ELSEWHERE]
    return list(dict.fromkeys(texts))


def prose(page: Path) -> list[str]:
    """Return the sentences of a page: no tables, blocks, headings, or what a program writes into it."""
    text = re.sub(
        r"^```.*?^```$|^<!-- made.*?^<!-- end.*?$", "\n", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    lines = [line if not re.match(r"\s*\||#|!\[", line) else "" for line in text.splitlines()]
    blocks = re.split(r"\n\s*\n|\n(?=\* |\d\. )", "\n".join(lines))
    return [" ".join(part.split()) for block in blocks for part in re.split(r"(?<=[.:;?])\W*\s", block)]
