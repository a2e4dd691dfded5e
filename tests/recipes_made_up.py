"""A recipe so small that a test trains with it; tests change what they are about with `dataclasses.replace`."""

from robacc.training import Recipe

TINY = Recipe(
    arch="small_cnn",
    mean=[0.13],
    std=[0.31],
    optimizer="adam",
    lr=[[0.0, 0.01], [1.0, 0.0]],
    weight_decay=0.001,
    momentum=0.0,
    batch_size=8,
    steps=[[1, 6]],
    attack_steps=2,
    attack_step_size=0.5,
    eps_warmup=0.0,
)
