"""Pictures of one ball's first model: loss gradients, large-eps examples, interpolations, as arrays."""

import argparse
from pathlib import Path

from stages import cli


def main(args: argparse.Namespace) -> None:
    """Write results/visualize/<id>.npz for the first test images of each class."""
    import torch

    from robacc import data, models, params, saliency
    from robacc.evaluation import predict
    from robacc.files import write_arrays
    from robacc.norms import ball

    torch.set_num_threads(1)
    p = params.load()
    settings = p.visualize[args.dataset]
    name = params.model_id(args.dataset, args.norm, args.eps)
    model, _ = models.load(Path("models") / name / "seed0-natural0.0.safetensors")
    test = data.load(Path("data") / args.dataset / "test.safetensors")
    index = torch.cat([(test.y == label).nonzero()[: settings.n_per_class, 0] for label in test.y.unique()])
    x, y = test.batch(index)
    gradient = saliency.loss_gradients(model, x, y)
    arrays = {"index": index, "x": x, "y": y, "predicted": predict(model, x), "gradient": gradient}
    for norm in ("l2", "linf"):
        threat = ball(norm, getattr(settings.large_eps, norm))
        steps = {"n_steps": settings.n_steps, "step_size": settings.step_size}
        x_adv = saliency.large_eps_examples(model, x, y, threat, **steps)
        path = saliency.interpolation(x, x_adv, settings.n_points)
        arrays |= {f"x_adv_{norm}": x_adv, f"predicted_{norm}": predict(model, x_adv), f"path_{norm}": path}
    write_arrays({key: value.numpy() for key, value in arrays.items()}, Path("results/visualize") / f"{name}.npz")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", "norm", "eps"))
