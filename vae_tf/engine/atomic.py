"""Writing files whole: beside their place, then renamed into it.

Whoever reads, or is killed while it writes, finds the old file or the new one, never half of one.
"""

import contextlib
import os
import tempfile
import uuid
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nobody is kept out there
    fcntl = None


@contextlib.contextmanager
def replacing(path):
    """Yields a path beside `path`, with its ending, to write to; what is written takes its place.

    Raises:
        OSError: if the disk is full or the folder missing or read-only; it names `path`, and what
            was there is kept.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # or a crash of the machine may leave the name with no content
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None:
            error.filename, error.filename2 = str(path), None
        error.add_note(f"{path} was not written; what was there is as it was.")
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path):
    """Yields an empty folder beside `path` to write to; it takes that place, with all that it has.

    Raises:
        FileExistsError: if `path` is there, and is no empty folder: nothing is replaced.
        OSError: as `replacing`.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path} must be a new or empty folder; received one with content.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as beside:
        folder = Path(beside, path.name)  # inside, because the outer one is closed to others
        folder.mkdir()
        yield folder
        for temporary in folder.rglob("*"):
            if temporary.is_file():
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
        os.replace(folder, path)


def remove_leftovers(path):
    """Removes what killed writers of `path` left beside it; nobody may be writing it now."""
    path = Path(path)
    for left in path.parent.glob(f".{'[0-9a-f]' * 32}.{path.name}"):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path, wait=True):
    """Holds the lock file `path`, which is made and stays; it is freed when its holder ends.

    Args:
        path: of the lock file.
        wait: False raises BlockingIOError where another holds it.
    """
    with Path(path).open("w") as lock:
        if fcntl:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise
            except OSError:  # a file system without locks, as some mounted drives are
                pass
        yield
