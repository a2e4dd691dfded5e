"""Write the hash of each stage's code, on which the stage depends; or list what one stage is made of."""

import argparse

from stages import cli, identity


def main(args: argparse.Namespace) -> None:
    """Write code/<stage>[-<dataset>], a hash each; with `--list`, only print modules and libraries of one."""
    from robacc import params, provenance
    from robacc.files import write_text

    p = params.load()
    stages = {identity.name(stage, dataset): (stage, dataset) for stage, dataset in identity.every_stage()}
    if args.list:
        if args.list not in stages:
            raise ValueError(f"expected one of {', '.join(stages)}, got {args.list!r}")
        made_of = identity.modules(*stages[args.list], p)
        print(*made_of, *provenance.libraries(*made_of), sep="\n")
        return
    for name, (stage, dataset) in stages.items():
        write_text(identity.stage_hash(stage, dataset, p) + "\n", identity.FOLDER / name)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("--list", metavar="STAGE", help="print what a stage is made of, and write nothing")
    cli.run(main, arguments)
