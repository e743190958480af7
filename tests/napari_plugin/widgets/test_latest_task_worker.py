"""Work in a thread: the last request is always answered, failures are told, closing is quiet."""

from __future__ import annotations

import threading
import time

import pytest
from qtpy.QtCore import QObject

from latentstem.errors import ArgumentError
from napari_latentstem.widgets.latest_task_worker import LatestTaskWorker, error_message


@pytest.fixture
def parent(qapp):
    return QObject()


def test_of_many_requests_during_work_the_last_is_answered(qtbot, parent):
    go, results, threads = threading.Event(), [], []
    worker = LatestTaskWorker(parent, results.append)

    def work(value):
        def run():
            threads.append(threading.current_thread())
            assert go.wait(5)
            yield value

        return run

    for value in range(20):
        worker.submit(work(value), results.append)
    go.set()
    qtbot.waitUntil(lambda: 19 in results)
    qtbot.waitUntil(lambda: not worker.working)
    assert len(results) <= 2
    assert results[-1] == 19
    assert threading.main_thread() not in threads


def test_results_in_steps_are_left_when_something_else_is_asked_for(qtbot, parent):
    results = []
    worker = LatestTaskWorker(parent, results.append)

    def endless():
        while True:
            yield "step"

    worker.submit(endless, lambda result: results.append(result) if len(results) < 3 else None)
    qtbot.waitUntil(lambda: len(results) == 3)
    worker.submit(lambda: iter(["other"]), results.append)
    qtbot.waitUntil(lambda: "other" in results)
    qtbot.waitUntil(lambda: not worker.working)


def test_a_failure_is_told_and_the_next_request_works(qtbot, parent):
    results, failures = [], []
    worker = LatestTaskWorker(parent, failures.append)

    def failing():
        yield "first"
        raise ArgumentError("no good", expected="this", received="that", advice="Do so.")

    worker.submit(failing, results.append)
    qtbot.waitUntil(lambda: len(failures) == 1)
    assert error_message(failures[0]) == "no good: expected this; received that. Do so."
    worker.submit(lambda: iter(["second"]), results.append)
    qtbot.waitUntil(lambda: results == ["first", "second"])


def test_other_exceptions_are_told_by_kind():
    assert error_message(MemoryError("16 GiB")) == "MemoryError: 16 GiB"


def test_what_has_not_been_delivered_at_closing_never_is(qtbot, parent):
    results = []
    worker = LatestTaskWorker(parent, results.append)
    worker.submit(lambda: iter(["result"]), results.append)
    while worker.working:  # and the GUI's thread does not listen
        time.sleep(0.001)
    worker.close()
    qtbot.wait(20)
    assert results == []


def test_nothing_is_delivered_after_closing(qtbot, parent):
    go, results = threading.Event(), []
    worker = LatestTaskWorker(parent, results.append)

    def work():
        go.wait(5)
        yield "late"

    worker.submit(work, results.append)
    worker.close()
    go.set()
    worker.submit(work, results.append)
    qtbot.waitUntil(lambda: not worker.working)
    qtbot.wait(20)
    assert results == []
