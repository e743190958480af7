"""Work in a thread: the last request is always answered, failures are told, closing is quiet."""

from __future__ import annotations

import threading
import time

import pytest
from qtpy.QtCore import QObject

from latentstem.errors import ArgumentError
from napari_latentstem.background import Latest, message_of


@pytest.fixture
def parent(qapp):
    return QObject()


def test_of_many_requests_during_work_the_last_is_answered(qtbot, parent):
    go, results, threads = threading.Event(), [], []
    latest = Latest(parent, results.append)

    def work(value):
        def run():
            threads.append(threading.current_thread())
            assert go.wait(5)
            yield value

        return run

    for value in range(20):
        latest.ask(work(value), results.append)
    go.set()
    qtbot.waitUntil(lambda: 19 in results)
    qtbot.waitUntil(lambda: not latest.working)
    assert len(results) <= 2
    assert results[-1] == 19
    assert threading.main_thread() not in threads


def test_results_in_steps_are_left_when_something_else_is_asked_for(qtbot, parent):
    results = []
    latest = Latest(parent, results.append)

    def endless():
        while True:
            yield "step"

    latest.ask(endless, lambda result: results.append(result) if len(results) < 3 else None)
    qtbot.waitUntil(lambda: len(results) == 3)
    latest.ask(lambda: iter(["other"]), results.append)
    qtbot.waitUntil(lambda: "other" in results)
    qtbot.waitUntil(lambda: not latest.working)


def test_a_failure_is_told_and_the_next_request_works(qtbot, parent):
    results, failures = [], []
    latest = Latest(parent, failures.append)

    def failing():
        yield "first"
        raise ArgumentError("no good", expected="this", received="that", advice="Do so.")

    latest.ask(failing, results.append)
    qtbot.waitUntil(lambda: len(failures) == 1)
    assert message_of(failures[0]) == "no good: expected this; received that. Do so."
    latest.ask(lambda: iter(["second"]), results.append)
    qtbot.waitUntil(lambda: results == ["first", "second"])


def test_other_exceptions_are_told_by_kind():
    assert message_of(MemoryError("16 GiB")) == "MemoryError: 16 GiB"


def test_what_has_not_been_delivered_at_closing_never_is(qtbot, parent):
    results = []
    latest = Latest(parent, results.append)
    latest.ask(lambda: iter(["result"]), results.append)
    while latest.working:  # and the GUI's thread does not listen
        time.sleep(0.001)
    latest.close()
    qtbot.wait(20)
    assert results == []


def test_nothing_is_delivered_after_closing(qtbot, parent):
    go, results = threading.Event(), []
    latest = Latest(parent, results.append)

    def work():
        go.wait(5)
        yield "late"

    latest.ask(work, results.append)
    latest.close()
    go.set()
    latest.ask(work, results.append)
    qtbot.waitUntil(lambda: not latest.working)
    qtbot.wait(20)
    assert results == []
