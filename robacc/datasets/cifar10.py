"""CIFAR-10 (Krizhevsky 2009): colour images of ten classes, 50,000 for training and 10,000 for testing."""

from robacc.datasets.facts import DataSet

COUNTS = {"train": 50_000, "test": 10_000}
FACTS = DataSet(
    title="CIFAR-10",
    letter="b",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    channels=3,
    size=32,
    paper_eps={"l2": 80 / 255, "linf": 4 / 255},
    paper_recipe="cifar10-paper",
    eps_in_255=True,
    counts=COUNTS,
)
URL = "https://www.cs.toronto.edu/~kriz"
ARCHIVE = "cifar-10-python.tar.gz"  # MD5 c58f30108f718f92721af3b95e74349a, as torchvision checks it
SHA256 = {ARCHIVE: "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"}
