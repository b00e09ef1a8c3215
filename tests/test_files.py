"""Files are written whole or not at all, and errors say which was not."""

import ast
import errno
import os
import re
import resource
import threading
from pathlib import Path

import pytest

import vae_tf
from vae_tf.engine import atomic


def write(path, content):
    with atomic.replacing(path) as temporary:
        temporary.write_text(content)


def test_what_is_written_takes_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "model.keras"
    for content in ("old", "new"):
        with atomic.replacing(str(path)) as temporary:
            assert temporary.suffix == ".keras"
            assert temporary.parent == tmp_path
            temporary.write_text(content)
            assert not path.exists() or path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_content_reaches_the_disk_before_the_name(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr("os.fsync", lambda file: calls.append("fsync") or fsync(file))
    monkeypatch.setattr("os.replace", lambda *paths: calls.append("replace") or replace(*paths))
    write(tmp_path / "file", "content")
    assert calls == ["fsync", "replace"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    write(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"os.{step}", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*file'") as error:
        write(path, "new")
    assert "as it was" in error.value.__notes__[0]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_really_takes_no_more(tmp_path):
    path = tmp_path / "file"
    write(path, "old")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*file'"):
            write(path, "new" * 1_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    write(path, "old")
    with pytest.raises(TypeError, match="str"):
        write(path, b"not text")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("folder", "error"), [("missing", FileNotFoundError), ("file", NotADirectoryError)]
)
def test_folders_that_are_none(tmp_path, folder, error):
    (tmp_path / "file").write_text("old")
    with pytest.raises(error, match="results"):
        write(tmp_path / folder / "results", "new")
    assert (tmp_path / "file").read_text() == "old"


def test_writers_at_once_leave_one_of_their_files(tmp_path):
    path = tmp_path / "file"
    contents = [str(i) * 100_000 for i in range(8)]
    writers = [threading.Thread(target=write, args=(path, content)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_text() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    path = tmp_path / "state.npz"
    kept = [path, tmp_path / "other.npz", tmp_path / ".state.npz", tmp_path / ".a.state.npz"]
    for file in kept:
        file.write_text("kept")
    left = atomic.replacing(path)
    left.__enter__().write_text("half")  # and never ended
    assert len(list(tmp_path.iterdir())) == 5
    atomic.remove_leftovers(path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_lock_has_one_holder_at_a_time(tmp_path):
    path = tmp_path / ".lock"
    with atomic.locked(path), pytest.raises(BlockingIOError), atomic.locked(path, wait=False):
        pass
    with atomic.locked(path, wait=False):
        pass


def test_the_rest_of_the_package_writes_to_what_replacing_yields():
    found = []
    package = Path(vae_tf.__file__).parent
    for path in sorted(package.rglob("*.py")):
        part = path.relative_to(package).parts[0].removesuffix(".py")
        nodes = ast.walk(ast.parse(path.read_text()))
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        for call in calls:
            on, _, name = ast.unparse(call.func).rpartition(".")
            first = ast.unparse(call.args[0]) if call.args else ""
            if name in ("save", "savez", "savefig", "write_text", "write_bytes"):
                found.append((part, on if "write" in name else first))
            elif name == "open" and re.search("[wax+]", first if on else ast.unparse(call)):
                found.append((part, on))
    assert len(found) >= 10
    others = [(part, to) for part, to in found if to not in ("temporary", "buffer")]
    assert [part for part, to in others if to != "*args"] == ["engine"]  # the lock
    assert [part for part, to in others if to == "*args"] == ["figures"]  # `Figure.savefig`
