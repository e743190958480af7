"""Errors carry data, keep it in another process, and can be printed with the names of options."""

from __future__ import annotations

import pickle

from latentstem.errors import ArgumentText, FileError, ScanShapeError


def spelling(name, value):
    return f"<{name}|{value}>"


def test_arguments_are_spelled_as_in_python_or_otherwise():
    text = ArgumentText(
        "give {overwrite}, {init_from} or {crop}", overwrite=True, init_from=None, crop=(1, 2)
    )
    assert text == "give overwrite=True, init_from or crop=(1, 2)"
    assert text.with_spelling(spelling) == "give <overwrite|True>, <init_from|None> or <crop|(1, 2)>"
    assert ArgumentText("{scan_shape}", scan_shape=[(5, 7), (7, 5)]) == "scan_shape=(5, 7), (7, 5)"


def test_values_with_braces_are_text():
    assert ArgumentText("use {resume_from}.", resume_from="a/{b}.ckpt") == "use resume_from='a/{b}.ckpt'."


def test_an_error_keeps_its_data_in_another_process():
    advice = ArgumentText("give {overwrite}", overwrite=True)
    error = FileError("a", expected="b", received="c", advice=advice, argument="overwrite")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "a: expected b; received c. give overwrite=True"
    assert again.argument == "overwrite"
    assert again.advice.with_spelling(spelling) == "give <overwrite|True>"


def test_a_changed_copy_keeps_the_rest():
    error = ScanShapeError("a", expected="b", received="c", advice="d", candidates=((5, 7),))
    changed = error.with_fields(what="a, in scan 1")
    assert str(changed) == "a, in scan 1: expected b; received c. d"
    assert changed.candidates == ((5, 7),)
