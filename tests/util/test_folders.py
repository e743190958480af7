"""Results of earlier runs in an output folder are kept."""

from __future__ import annotations

import pytest

from latentstem.util.folders import keep_earlier_results

NAMES = ("ae.ckpt", "tb_logs")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def leave_results(folder, text):
    (folder / "tb_logs").mkdir()
    (folder / "tb_logs" / "events").write_text(text)
    (folder / "ae.ckpt").write_text(text)
    (folder / "notes.txt").write_text("mine")


def test_earlier_results_are_moved_and_other_files_stay(tmp_path):
    leave_results(tmp_path, "first")
    said = []
    with keep_earlier_results(tmp_path, NAMES, said.append) as earlier:
        assert contents(tmp_path) == {
            "notes.txt": "mine",
            "earlier-1/ae.ckpt": "first",
            "earlier-1/tb_logs/events": "first",
        }
        assert earlier == tmp_path / "earlier-1"
        (tmp_path / "ae.ckpt").write_text("second")
    assert said == [f"Results of an earlier run were moved from {tmp_path} to {tmp_path / 'earlier-1'}."]
    with keep_earlier_results(tmp_path, NAMES, said.append) as earlier:
        (tmp_path / "ae.ckpt").write_text("third")
    assert earlier == tmp_path / "earlier-2"
    assert contents(tmp_path)["earlier-2/ae.ckpt"] == "second"
    assert contents(tmp_path)["earlier-1/ae.ckpt"] == "first"
    assert contents(tmp_path)["ae.ckpt"] == "third"


def test_the_next_number_is_above_all_that_are_there(tmp_path):
    leave_results(tmp_path, "new")
    for name in ("earlier-7", "earlier-x"):
        (tmp_path / name).mkdir()
    with keep_earlier_results(tmp_path, NAMES, print) as earlier:
        assert earlier.name == "earlier-8"


def test_nothing_happens_in_an_empty_folder(tmp_path):
    with keep_earlier_results(tmp_path, NAMES, pytest.fail) as earlier:
        assert earlier is None
    assert not list(tmp_path.iterdir())


def test_earlier_results_come_back_if_nothing_was_written(tmp_path):
    leave_results(tmp_path, "first")
    before = contents(tmp_path)
    with pytest.raises(KeyError, match="stop"), keep_earlier_results(tmp_path, NAMES, pytest.fail):
        raise KeyError("stop")
    assert contents(tmp_path) == before
    assert not (tmp_path / "earlier-1").exists()


def test_earlier_results_stay_aside_if_something_was_written(tmp_path):
    leave_results(tmp_path, "first")
    said = []

    def half_a_run():
        with keep_earlier_results(tmp_path, NAMES, said.append):
            (tmp_path / "ae.ckpt").write_text("half")
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        half_a_run()
    assert contents(tmp_path)["ae.ckpt"] == "half"
    assert contents(tmp_path)["earlier-1/ae.ckpt"] == "first"
    assert len(said) == 1
