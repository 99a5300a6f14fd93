"""How long work tells how far it is: the library reports here, the command draws."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of one task at a time."""

    def start(self, label: str, total: int) -> None:
        """A task of ``total`` units begins."""

    def advance(self, units: int = 1, **figures: float) -> None:
        """Some units are done; ``figures`` are current numbers worth showing, for example a loss."""

    def finish(self) -> None:
        """The task has ended."""

    def note(self, text: str) -> None:
        """One line worth keeping."""


class Silent:
    """Shows nothing."""

    def start(self, label: str, total: int) -> None:
        """Ignored."""

    def advance(self, units: int = 1, **figures: float) -> None:
        """Ignored."""

    def finish(self) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""
