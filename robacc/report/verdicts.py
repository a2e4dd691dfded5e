"""Make the README's tables of verdicts, and put them between its two marks."""

from collections.abc import Iterable

from robacc.report.page import by_number, count_verdicts

BEGIN = "<!-- made of results/ by `python -m stages.readme` -->"
END = "<!-- end of what is made -->"


def _table(heading: list[str], rows: Iterable[list[str]]) -> str:
    lines = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in (heading, ["---"] * len(heading), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _words(claim: dict) -> str:
    return claim["verdict"].replace("; ", "<br>")


def tables(exact: list[dict], trained: dict[str, list[dict]], not_run: list[str]) -> str:
    """Return the verdicts as Markdown: a table of trained nets, a column a data set, and one of the exact claims.

    `exact` and the values of `trained` are claims of a ledger. `not_run` are the titles of data sets without results.
    """
    by_set = {title: {claim["id"]: claim for claim in claims} for title, claims in trained.items()}
    every = by_number(list({claim["id"]: claim for claims in trained.values() for claim in claims}.values()))
    rows = []
    for claim in every:
        cells = [_words(of[claim["id"]]) if claim["id"] in of else "" for of in by_set.values()]
        rows.append([claim["id"], claim["statement"], *cells])
    counted = [f"{title}. {count_verdicts(claims)}." for title, claims in trained.items()]
    missing = [f"Not run in this clone: {', '.join(not_run)}."] if not_run else []
    return "\n\n".join(
        [
            *counted,
            _table(["claim", "the paper says of nets", *trained], rows),
            *missing,
            _table(
                ["claim", "the paper says of its distribution and of linear models", "verdict"],
                [[claim["id"], claim["statement"], _words(claim)] for claim in by_number(exact)],
            ),
        ]
    )


def fill(text: str, content: str, begin: str = BEGIN, end: str = END) -> str:
    """Return `text` with `content` between the two marks.

    Raises ValueError unless each mark is there once, in order.
    """
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"expected the line {begin} and after it {end}, each once; put them back")
    return f"{text.split(begin, maxsplit=1)[0]}{begin}\n\n{content}\n\n{end}{text.split(end)[1]}"
