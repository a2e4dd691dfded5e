"""Get the raw files of a data set from the source that the user named, or from the first that works, and check them."""

import gzip
import hashlib
import http.client
import io
import os
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from robacc.files import whole

STALL = 20  # seconds without a byte, for each request
SLOWEST = 10_000  # bytes a second on average, after the first `STALL` seconds
LARGEST = 2**29  # bytes of one raw file, so that a packed one cannot fill the memory

Source = Callable[
    [], Iterable[tuple[str, bytes]]
]  # yields raw files, name and content, or raises OSError or ValueError
Places = Mapping[str, Sequence[str]]  # raw file -> the paths under which a mirror may have it


def fetch(
    folder: Path,
    sha256: Mapping[str, str],
    places: Places,
    public: Mapping[str, Source],
    *,
    advice: str = "",
    report: Callable[[str], None],
) -> str:
    """Put the files with these hashes into `folder`; return the name of their source.

    1. If the user set ROBACC_MIRROR, that is the only source.
    2. Files in `folder` are next, under any of their `places`.
    3. Then come the `public` sources in their order. `report` gets a line for each that failed.

    A file in `folder` with other content is an error, and is never replaced. Raises OSError or ValueError for that, if
    the mirror does not have the files, and if no source works.
    """
    mirror, own = os.environ.get("ROBACC_MIRROR"), f"files in {folder}"
    with users_choice(own, "replace or remove it"):
        for name in sha256:
            if (folder / name).is_file():
                _check(name, _read(folder / name), sha256)
    if mirror:
        with users_choice(f"ROBACC_MIRROR={mirror}", "correct it or unset it"):
            _fill(folder, from_mirror(mirror, places), sha256)
            return f"ROBACC_MIRROR={mirror}"
    with users_choice(own, "replace or remove it"):
        try:
            _fill(folder, from_mirror(str(folder), places), sha256)
            return own
        except FileNotFoundError as error:
            failures = [f"{own}: {reason(error)}"]
            if others := sorted(file.name for file in folder.glob("[!.]*")):
                report(f"tried in vain: {failures[0]}; there are {', '.join(others[:9])}")
    for name, source in public.items():
        try:
            _fill(folder, source, sha256)
            return name
        except (OSError, ValueError) as error:
            failures.append(f"{name}: {reason(error)}")
            report(f"tried in vain: {failures[-1]}")
    raise OSError(
        f"expected {', '.join(sha256)} from one of these, got: {'; '.join(failures)}; put the files into {folder} by "
        f"hand, or set ROBACC_MIRROR to a folder or URL that has them{advice}, and run again"
    )


@contextmanager
def users_choice(name: str, advice: str) -> Iterator[None]:
    """Name the user's own source in each OSError and ValueError of the block, as no other source replaces it."""
    try:
        yield
    except (OSError, ValueError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{name}: {reason(error)}; {advice}") from error


def reason(error: Exception) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _check(name: str, content: bytes, sha256: Mapping[str, str]) -> None:
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256[name]:
        came = f"{len(content):,} bytes with {actual[:12]}..., another file or a damaged one"
        raise ValueError(f"expected {name} with SHA-256 {sha256[name][:12]}..., got {came}")


def _fill(folder: Path, source: Source, sha256: Mapping[str, str]) -> None:
    """Write the files of a source to `folder`, after all of them were checked."""
    contents = dict[str, bytes]()
    for name, content in source():
        _check(name, content, sha256)
        contents[name] = content
    for name, content in contents.items():
        if not (folder / name).exists():  # what is there has this content
            with whole(folder / name) as partial:
                partial.write_bytes(content)


def from_mirror(mirror: str, places: Places) -> Source:
    """Return a source that reads each file from the first of its `places` in a folder or under a URL.

    A place may have the suffix .gz, where the name of the file has none.
    """
    at = urlsplit(mirror)
    local = "://" not in mirror or at.scheme == "file"
    base = urllib.request.url2pathname(at.path) if at.scheme == "file" else mirror.rstrip("/")

    def content(place: str) -> bytes:
        return _read(Path(base).expanduser() / place) if local else download(f"{base}/{place}")

    def get() -> Iterable[tuple[str, bytes]]:
        for name in places:
            yield name, first(name)

    def first(name: str) -> bytes:
        missing: FileNotFoundError | None = None
        for place in places[name]:
            try:
                found = content(place)
            except FileNotFoundError as error:
                missing = missing or error
                continue
            packed = place.endswith(".gz") and not name.endswith(".gz")
            return _unpacked(found, f"{base}/{place}") if packed else found
        raise FileNotFoundError(f"expected {name} in {base}, got {missing and reason(missing)}") from missing

    return get


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return _bounded(opened.read(LARGEST + 1), file)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise FileNotFoundError(
            f"no file {file.name}" if file.parent.is_dir() else f"no folder {file.parent}"
        ) from None


def _unpacked(content: bytes, name: object) -> bytes:
    try:
        return _bounded(gzip.GzipFile(fileobj=io.BytesIO(content)).read(LARGEST + 1), name)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"expected a whole .gz file at {name}, got: {reason(error)}") from error


def _bounded(content: bytes, name: object) -> bytes:
    if len(content) > LARGEST:
        raise ValueError(f"expected at most {LARGEST:,} bytes in {name}, got more")
    return content


def download(url: str) -> bytes:
    """Return the content at a URL.

    Raises FileNotFoundError if the server does not have it, OSError if the server does not answer, is too slow, or
    breaks off. No wait is longer than `STALL`.
    """
    begin, parts, n_bytes = time.monotonic(), list[bytes](), 0
    try:
        with urllib.request.urlopen(url, timeout=STALL) as answer:
            while part := answer.read1(1 << 20):  # what has come, at once
                parts.append(part)
                n_bytes += len(part)
                if n_bytes > LARGEST:
                    raise ValueError(f"expected at most {LARGEST:,} bytes from {url}, got more")
                if time.monotonic() - begin > STALL + n_bytes / SLOWEST:
                    raise OSError(f"expected {SLOWEST:,} bytes a second from {url}, got {n_bytes:,} and gave up")
            expected = answer.headers.get("Content-Length", str(n_bytes))
    except HTTPError as error:
        absent = error.code in (403, 404, 410)
        error.close()
        raise (FileNotFoundError if absent else OSError)(f"HTTP {error.code} {error.reason} at {url}") from None
    except TimeoutError:
        raise OSError(f"no answer from {url} in {STALL} s") from None
    except URLError as error:
        late = isinstance(error.reason, TimeoutError)
        raise OSError(f"no answer from {url} in {STALL} s" if late else f"{error.reason} at {url}") from error
    except http.client.HTTPException as error:
        raise OSError(f"no proper answer from {url}: {reason(error) or type(error).__name__}") from error
    if str(n_bytes) != expected:
        raise OSError(f"expected {expected} bytes from {url}, got {n_bytes}")
    return b"".join(parts)
