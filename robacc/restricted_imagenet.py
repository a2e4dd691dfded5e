"""Restricted ImageNet: nine super-classes made of 203 ImageNet classes, found in the user's own copy of ImageNet."""

import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import torch
from torch import Tensor

from robacc import image_trees
from robacc.files import whole

# The paper's Table 1, by ImageNet class index; label 0 is dog, label 8 is insect.
SUPER_CLASSES = {
    "dog": range(151, 269),
    "cat": range(281, 286),
    "frog": range(30, 33),
    "turtle": range(33, 38),
    "bird": range(80, 101),
    "primate": range(365, 383),
    "fish": range(389, 398),
    "crab": range(118, 122),
    "insect": range(300, 320),
}
# Their WordNet ids. ImageNet numbers its classes in the order of these ids, so the two sorted lists belong together.
_TABLE = """
n01641577 n01644373 n01644900 n01664065 n01665541 n01667114 n01667778 n01669191 n01795545 n01796340 n01797886
n01798484 n01806143 n01806567 n01807496 n01817953 n01818515 n01819313 n01820546 n01824575 n01828970 n01829413
n01833805 n01843065 n01843383 n01847000 n01855032 n01855672 n01860187 n01978287 n01978455 n01980166 n01981276
n02085620 n02085782 n02085936 n02086079 n02086240 n02086646 n02086910 n02087046 n02087394 n02088094 n02088238
n02088364 n02088466 n02088632 n02089078 n02089867 n02089973 n02090379 n02090622 n02090721 n02091032 n02091134
n02091244 n02091467 n02091635 n02091831 n02092002 n02092339 n02093256 n02093428 n02093647 n02093754 n02093859
n02093991 n02094114 n02094258 n02094433 n02095314 n02095570 n02095889 n02096051 n02096177 n02096294 n02096437
n02096585 n02097047 n02097130 n02097209 n02097298 n02097474 n02097658 n02098105 n02098286 n02098413 n02099267
n02099429 n02099601 n02099712 n02099849 n02100236 n02100583 n02100735 n02100877 n02101006 n02101388 n02101556
n02102040 n02102177 n02102318 n02102480 n02102973 n02104029 n02104365 n02105056 n02105162 n02105251 n02105412
n02105505 n02105641 n02105855 n02106030 n02106166 n02106382 n02106550 n02106662 n02107142 n02107312 n02107574
n02107683 n02107908 n02108000 n02108089 n02108422 n02108551 n02108915 n02109047 n02109525 n02109961 n02110063
n02110185 n02110341 n02110627 n02110806 n02110958 n02111129 n02111277 n02111500 n02111889 n02112018 n02112137
n02112350 n02112706 n02113023 n02113186 n02113624 n02113712 n02113799 n02113978 n02123045 n02123159 n02123394
n02123597 n02124075 n02165105 n02165456 n02167151 n02168699 n02169497 n02172182 n02174001 n02177972 n02190166
n02206856 n02219486 n02226429 n02229544 n02231487 n02233338 n02236044 n02256656 n02259212 n02264363 n02268443
n02480495 n02480855 n02481823 n02483362 n02483708 n02484975 n02486261 n02486410 n02487347 n02488291 n02488702
n02489166 n02490219 n02492035 n02492660 n02493509 n02493793 n02494079 n02514041 n02526121 n02536864 n02606052
n02607072 n02640242 n02641379 n02643566 n02655020
"""
WNIDS = tuple(_TABLE.split())
INDEX = dict(zip(WNIDS, sorted(index for indices in SUPER_CLASSES.values() for index in indices), strict=True))
LABELS = {
    wnid: label for wnid, index in INDEX.items() for label, of in enumerate(SUPER_CLASSES.values()) if index in of
}

SPLITS = {"train": "train", "test": "val"}  # ours -> ImageNet's
SOURCE = "user's ImageNet"


def labels_of(wnids: Iterable[str] | None) -> dict[str, int]:
    """Return wnid -> label for the chosen classes, for all 203 if None. ValueError for one that is none of them.

    The authors' own list files hold only 11 of the 118 dog classes; which ones, the paper does not say.
    """
    chosen = WNIDS if wnids is None else list(dict.fromkeys(wnids))
    if not chosen or (unknown := [wnid for wnid in chosen if wnid not in LABELS]):
        got = ", ".join(unknown[:5]) if chosen else "an empty list"
        raise ValueError(f"expected WordNet ids of Restricted ImageNet such as {WNIDS[0]}, got {got}; correct the list")
    return {wnid: LABELS[wnid] for wnid in chosen}


def balanced_size(y: Tensor) -> int:
    """Return up to which n `data.nested_subset(y, n, seed=...)` has each super-class that is there equally often.

    Balanced sampling is a training set of this size: seeded, nested, and no copy of the data.
    """
    counts = torch.bincount(y)
    return int(counts[counts > 0].min()) * int((counts > 0).sum())


def missing(paths: Iterable[str], wnids: Iterable[str] | None) -> list[str]:
    """Return the chosen classes of which no path "<split>/<wnid>/<image>" is, in ImageNet's order."""
    return sorted(labels_of(wnids).keys() - {path.split("/")[1] for path in paths})


def user_copy() -> Path:
    """Return the folder or archive that ROBACC_IMAGENET names. ValueError if it is not set."""
    place = os.environ.get("ROBACC_IMAGENET")
    if not place:
        raise ValueError(
            "expected ROBACC_IMAGENET to name a folder or .tar.gz archive with {train,val}/<wnid>/*.JPEG, got nothing; "
            "ImageNet asks each user to agree to its terms, so set it to your own copy"
        )
    return Path(place).expanduser()


def small_images(
    source: Path, wnids: Iterable[str] | None, *, size: int, n_workers: int, report: Callable[[str], None]
) -> dict[str, image_trees.Split]:
    """Return the splits "train" and "test", shorter side brought to `size`, centre cut out: uint8 [N, 3, size, size].

    Labels are those of `LABELS`, also when a super-class is not there. Errors: see `image_trees.read`.
    """
    chosen = labels_of(wnids)
    read = image_trees.read(
        source, chosen, splits=SPLITS.values(), size=size, resize=True, n_workers=n_workers, report=report
    )
    return {ours: read[theirs] for ours, theirs in SPLITS.items()}


def unpack(archive: Path, folder: Path, wnids: Iterable[str] | None) -> None:
    """Write the chosen images of an archive to `folder`/{train,val}/<wnid>/, without those already there."""
    for entry in image_trees.entries(archive, SPLITS.values(), labels_of(wnids)):
        file = folder / entry.path
        assert isinstance(entry.content, bytes)
        if not file.exists() or file.stat().st_size != len(entry.content):
            with whole(file) as partial:
                partial.write_bytes(entry.content)


def provide(folder: Path, wnids: Iterable[str] | None) -> Path:
    """Make `folder` hold {train,val}/<wnid>/: a link to the user's own folder, or what is unpacked of an archive.

    Returns `folder`. FileExistsError if another folder is there already.
    """
    place = user_copy()
    if folder.is_symlink():
        folder.unlink()
    if not place.is_dir():
        unpack(place, folder, wnids)
        return folder
    root = image_trees.root(place, SPLITS.values()).resolve()
    if folder.exists():
        raise FileExistsError(f"expected nothing or a link at {folder}, which is to lead to {root}; move it away")
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(root, target_is_directory=True)
    return folder


def index(root: Path, split: str, wnids: Iterable[str] | None) -> dict:
    """Return the images of "train" or "test" in columns: path from `root`, wnid, label, size of the file in bytes.

    In the order of `image_trees.order`; nothing is decoded. Beside the columns, `source` and `missing` as in
    `data.Images`. ValueError if there are no images.
    """
    chosen = labels_of(wnids)
    found = list(image_trees.entries(root, [SPLITS[split]], chosen))
    if not found:
        raise ValueError(f"expected images in {root}/{SPLITS[split]}/<wnid>/, got none of the {len(chosen)} classes")
    rows = [found[place] for place in image_trees.order([entry.path for entry in found])]
    return {
        "source": SOURCE,
        "missing": missing((entry.path for entry in rows), wnids),
        "path": [entry.path for entry in rows],
        "wnid": [entry.folder for entry in rows],
        "label": [chosen[entry.folder] for entry in rows],
        "bytes": [(root / entry.path).stat().st_size for entry in rows],
    }


def summary(split: str, y: Tensor | list[int], absent: Collection[str]) -> str:
    """Return the line that says how many images of which super-classes there are, and which classes are not."""
    y = torch.as_tensor(y)
    counts = torch.bincount(y, minlength=len(SUPER_CLASSES)).tolist()
    each = ", ".join(f"{name} {n}" for name, n in zip(SUPER_CLASSES, counts, strict=True))
    gone = f"{len(absent)} classes are not in it: {' '.join(absent)}" if absent else "no class is missing"
    return f"{split}: {len(y)} images ({each}), balanced up to {balanced_size(y)}; {gone}"
