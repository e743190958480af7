"""Base class of the docks that run jobs on a scan: progress bar, state and error message."""

from __future__ import annotations

from qtpy.QtWidgets import QProgressBar

from latentstem.util.formatting import format_duration

from ..model.events import Event, Progress
from .dock import Dock, Note, TextLabel
from .job import Job
from .latest_task_worker import error_message
from .scan_selector import ScanSelector

__all__ = ["JobDock"]


class JobDock(Dock):
    """A dock that runs jobs on the selected scan; see `Dock`."""

    def _build(self) -> None:
        self.job, self.scan = Job(self._viewer, self), ScanSelector(self._viewer)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setVisible(False)
        self.state, self.message = TextLabel(), Note()
        self._build_form()
        self.scan.changed.connect(self._refresh)
        self.job.reported.connect(self._on_event)
        self.job.ended.connect(self._on_ended)
        self._refresh()

    def stop(self) -> None:
        """Cancel the job, and disconnect from the viewer."""
        self.job.close()
        self.scan.detach()

    def _build_form(self) -> None:
        """Create the other widgets and the layout."""

    def _refresh(self) -> None:
        """Enable what the user can do now."""

    def _on_event(self, event: Event) -> None:
        """An event of the job."""

    def _on_ended(self) -> None:
        """The job has ended."""
        self.progress.setVisible(False)
        self._refresh()

    def _show_busy(self, state: str) -> None:
        """Show what is going on when the remaining time is unknown."""
        self.progress.setVisible(True)
        self.progress.setRange(0, 0)
        self.state.setText(state)

    def _show_progress(self, event: Progress) -> None:
        self.progress.setRange(0, event.steps)
        self.progress.setValue(event.step)
        left = format_duration(event.seconds_left)
        self.state.setText(f"Step {event.step:,} of {event.steps:,}, {left} left")

    def _on_error(self, error: BaseException) -> None:
        self.message.setText(f"⚠ {error_message(error)}")
