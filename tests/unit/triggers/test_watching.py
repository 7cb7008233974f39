"""Which files are new and finished."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import InvalidInput, PayloadTooLarge
from gateway.triggers.places import FolderUnreadable, check_place, list_files, read_file
from gateway.triggers.watching import Found, Waiting, existing, look

SETTLE_S = 2.0
# per look: seconds since the one before, and the size of each file that is there
histories = st.lists(
    st.tuples(st.floats(0.1, 3), st.dictionaries(st.sampled_from("abc"), st.integers(0, 3))),
    max_size=20,
)


def found(name: str, size: int) -> Found:
    """A file whose size tells its contents apart."""
    return Found(name, str(size), 0.0, size)


@given(histories)
def test_a_file_is_taken_once_and_only_when_it_has_not_changed_for_the_settle_time(
    history: list[tuple[float, dict[str, int]]],
) -> None:
    """Whatever writers do between the looks."""
    done: dict[str, str] = {}
    waiting: dict[str, Waiting] = {}
    since: dict[str, tuple[int, float]] = {}
    now_s = 0.0
    for step_s, sizes in history:
        now_s += step_s
        since = {
            name: since[name] if since.get(name, (-1,))[0] == size else (size, now_s)
            for name, size in sizes.items()
        }
        files = [found(name, size) for name, size in sizes.items()]
        seen = look(done, waiting, files, now_s, SETTLE_S)
        expected = {
            name
            for name, (size, since_s) in since.items()
            if now_s - since_s >= SETTLE_S and done.get(name) != str(size)
        }
        # a file that was dealt with, changed and changed back within two looks is as it was
        assert {file.name for file in seen.ready} == expected
        assert set(seen.gone) == done.keys() - sizes.keys()
        waiting = seen.waiting
        for name in seen.gone:
            del done[name]
        for file in seen.ready:
            done[file.name] = file.signature


def test_files_that_are_ready_come_oldest_first() -> None:
    """Then by name."""
    files = [Found("b", "1", 5.0, 1), Found("c", "1", 4.0, 1), Found("a", "1", 5.0, 1)]
    assert [file.name for file in look({}, {}, files, 0.0, 0.0).ready] == ["c", "a", "b"]


def test_files_from_before_the_trigger_are_passed_over() -> None:
    """By their time of change."""
    files = [Found("old", "1", 9.0, 1), Found("new", "1", 11.0, 1)]
    assert existing(files, 10.0) == {"old": "1"}


def test_a_folder_is_listed_without_links_hidden_and_unfinished_files(tmp_path: Path) -> None:
    """Names match a pattern."""
    for name in ("a.json", "b.json", ".c.json", "d.json.part", "e.txt"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "f.json").symlink_to(tmp_path / "a.json")
    (tmp_path / "g.json").mkdir()
    assert sorted(file.name for file in list_files(str(tmp_path), "*.json")) == ["a.json", "b.json"]
    with pytest.raises(FolderUnreadable, match="nowhere"):
        list_files(str(tmp_path / "nowhere"), "*")


def test_a_url_of_fsspec_is_listed_and_read(tmp_path: Path) -> None:
    """As `s3://` is; `local://` is its plainest file system."""
    (tmp_path / "a.json").write_text("[1]")
    url = f"local://{tmp_path}"
    [file] = list_files(url, "*")
    assert (file.name, file.size) == ("a.json", 3)
    assert file.modified_s == pytest.approx((tmp_path / "a.json").stat().st_mtime, abs=1)
    assert read_file(url, file, 10) == b"[1]"


def test_a_file_that_changes_after_it_was_listed_is_not_read(tmp_path: Path) -> None:
    """Nor one that has gone, or has become something else."""
    path = tmp_path / "a"
    path.write_text("1")
    [file] = list_files(str(tmp_path), "*")
    assert read_file(str(tmp_path), file, 10) == b"1"
    with pytest.raises(PayloadTooLarge, match=r"^a: expected at most 0 bytes"):
        read_file(str(tmp_path), file, 0)
    path.write_text("12")
    assert read_file(str(tmp_path), file, 10) is None
    path.unlink()
    assert read_file(str(tmp_path), file, 10) is None
    os.mkfifo(path)
    assert read_file(str(tmp_path), file, 10) is None
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(FolderUnreadable):
        read_file(str(tmp_path), file, 10)


def test_only_places_inside_those_that_the_operator_named_may_be_watched(tmp_path: Path) -> None:
    """Whatever the name looks like, and wherever links lead."""
    root = tmp_path / "in"
    (root / "a").mkdir(parents=True)
    (tmp_path / "inner").mkdir()
    (root / "out").symlink_to(tmp_path / "inner")
    watched = [str(root), "s3://bucket/x"]
    assert check_place(str(root / "a"), watched) == str(root / "a")
    assert check_place(f"file://{root}/a/", watched) == str(root / "a")
    assert check_place("s3://bucket/x/y/", watched) == "s3://bucket/x/y"
    for url in (
        "/etc", "a", "", "/", str(tmp_path), str(tmp_path / "inner"), str(root / "out"),
        str(root / ".." / "inner"), f"file://{root}/../inner", "s3://bucket", "s3://bucket/xy",
        "s3://bucket/x/../z", "s3://bucket/x//y", "s3://bucket/x::file:///etc", "http://host/x",
        "simplecache::s3://bucket/x", "s3://bucket/x?y", f"{root}\0",
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match=r"^watch.url: expected"):
            check_place(url, watched)
    with pytest.raises(InvalidInput, match="FUSEBOX_WATCH"):
        check_place(str(root), [])
