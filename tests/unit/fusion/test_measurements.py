"""What was measured is there at the next start, whatever happens to its file."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.measurements import FORMAT, KEPT, HotGroup, Measurements

DEVICE = "a processor, torch 2"
TIMES = st.dictionaries(st.text(min_size=1), st.floats(1e-9, 1e3))


@given(
    st.dictionaries(st.text(), st.dictionaries(st.integers(1, 64), TIMES)),
    st.dictionaries(st.text(), TIMES),
    st.lists(st.tuples(st.lists(st.tuples(st.text(), st.integers(1, 64))), st.integers(0, 9))),
)
def test_what_was_noted_is_read_again(tmp_path_factory, tiers, groups, hot):
    """Whole, by another process."""
    path = tmp_path_factory.mktemp("measured") / "sub" / "cpu.json"
    first = Measurements(path, DEVICE)
    for architecture, measured in tiers.items():
        first.note_tiers(architecture, measured)
    for key, seconds in groups.items():
        first.note_group(key, seconds)
    first.note_hot([HotGroup(tuple(members), runs) for members, runs in hot])
    first.save()
    second = Measurements(path, DEVICE)
    assert second.problem == ""
    assert all(second.tiers(name) == measured for name, measured in tiers.items())
    assert all(second.group(key) == seconds for key, seconds in groups.items())
    assert second.hot() == [HotGroup(tuple(members), runs) for members, runs in hot]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        json.dumps({"format": FORMAT, "device": "another", "tiers": {}, "groups": {}, "hot": []}),
        json.dumps({"format": 0, "device": DEVICE, "tiers": {}, "groups": {}, "hot": []}),
        json.dumps({"format": FORMAT, "device": DEVICE, "tiers": 7, "groups": {}, "hot": []}),
    ],
)
def test_a_file_that_cannot_be_used_is_measured_anew(tmp_path, text):
    """It says why; the next save replaces it."""
    path = tmp_path / "cpu.json"
    path.write_text(text)
    measurements = Measurements(path, DEVICE)
    assert str(path) in measurements.problem
    assert measurements.tiers("a") == {}
    measurements.note_tiers("a", {1: {"generated": 1.0}})
    measurements.save()
    assert Measurements(path, DEVICE).tiers("a") == {1: {"generated": 1.0}}


def test_two_workers_keep_what_both_have_measured(tmp_path):
    """The later writer adds its own."""
    path = tmp_path / "cpu.json"
    first, second = Measurements(path, DEVICE), Measurements(path, DEVICE)
    first.note_group("a", {"serial": 1.0})
    second.note_group("b", {"serial": 2.0})
    first.save()
    second.save()
    third = Measurements(path, DEVICE)
    assert (third.group("a"), third.group("b")) == ({"serial": 1.0}, {"serial": 2.0})


def test_nothing_new_is_not_written(tmp_path):
    """The file stays as it is."""
    path = tmp_path / "cpu.json"
    measurements = Measurements(path, DEVICE)
    measurements.save()
    assert not path.exists()
    measurements.note_group("a", {"serial": 1.0})
    measurements.save()
    before = path.stat().st_mtime_ns
    measurements.note_group("a", {"serial": 1.0})
    measurements.save()
    assert path.stat().st_mtime_ns == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_oldest_is_forgotten(tmp_path):
    """The file stays small."""
    path = tmp_path / "cpu.json"
    measurements = Measurements(path, DEVICE)
    for number in range(KEPT + 3):
        measurements.note_group(str(number), {"serial": 1.0})
    measurements.save()
    again = Measurements(path, DEVICE)
    assert (again.group("2"), again.group("3")) == ({}, {"serial": 1.0})


def test_a_ceiling_of_rows_only_falls(tmp_path):
    """Kept over restarts, and the lower of two workers' that share a file holds for both."""
    path = tmp_path / "cpu.json"
    first, second = Measurements(path, DEVICE), Measurements(path, DEVICE)
    first.note_ceiling("a", 4)
    first.note_ceiling("a", 8)
    second.note_ceiling("a", 2)
    second.note_ceiling("b", 16)
    first.save()
    second.save()
    first.note_ceiling("c", 1)
    first.save()
    found = Measurements(path, DEVICE)
    assert {"a": 2, "b": 16, "c": 1} == found.ceilings() == first.ceilings()
    assert (found.ceiling("b"), found.ceiling("d")) == (16, None)


def test_files_from_before_there_were_ceilings_are_read(tmp_path):
    """What they measured holds; no number of rows has failed."""
    path = tmp_path / "cpu.json"
    record = {"format": FORMAT, "device": DEVICE, "groups": {}, "hot": []}
    path.write_text(json.dumps(record | {"tiers": {"a": {"1": {"generated": 1.0}}}}))
    found = Measurements(path, DEVICE)
    assert (found.problem, found.ceilings()) == ("", {})
    assert found.tiers("a") == {1: {"generated": 1.0}}
