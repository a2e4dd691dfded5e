"""Check params.yaml before any work; `make repro` calls this first."""

from robacc import params
from stages import cli


def main(_) -> None:  # noqa: ANN001
    params.load()


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__))
