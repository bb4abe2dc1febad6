"""How many bytes of pictures the front may hold: those that come in, those that wait, those that an engine reads."""

from __future__ import annotations

from collections.abc import Callable

from steadyocr.errors import QueueFull


class BodyBudget:
    """Counts what requests hold. Belongs to one event loop.

    A queue bounded by its length alone is not bounded in bytes: 64 small pictures are nothing, 64 of 32 MiB are more
    than many a machine has. Whoever does not fit is refused at once and told when to come back.

    Args:
        budget_bytes: For all requests together.
        expected_wait_s: When a retry is worth while.
        on_refusal: Told of each refusal.

    Attributes:
        held_bytes: What is held now.
    """

    def __init__(
        self,
        budget_bytes: int,
        expected_wait_s: Callable[[], float] = lambda: 1.0,
        on_refusal: Callable[[], None] = lambda: None,
    ) -> None:
        self.budget_bytes = budget_bytes
        self.held_bytes = 0
        self._expected_wait_s = expected_wait_s
        self._on_refusal = on_refusal

    def share(self) -> BodyShare:
        """Return an empty share for one request."""
        return BodyShare(self)

    def take(self, held: int, more: int) -> None:
        """Give a request that holds some bytes already some more.

        Raises:
            QueueFull: They do not fit. What is larger than the whole budget fits when nobody else holds any.
        """
        others = self.held_bytes - held
        if more and others and self.held_bytes + more > self.budget_bytes:
            self._on_refusal()
            raise QueueFull(
                "too many bytes of pictures are held already; try again later",
                retry_after_s=self._expected_wait_s(),
                budget_bytes=self.budget_bytes,
            )
        self.held_bytes += more


class BodyShare:
    """What one request holds of the budget."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.held_bytes = 0

    def grow_to(self, size: int) -> None:
        """Hold at least so many bytes.

        Raises:
            QueueFull: See :meth:`BodyBudget.take`.
        """
        more = max(0, size - self.held_bytes)
        self._budget.take(self.held_bytes, more)
        self.held_bytes += more

    def add(self, size: int) -> None:
        """Hold some bytes more, come what may: an answer that is there already. Newcomers are refused instead."""
        self._budget.held_bytes += size
        self.held_bytes += size

    def give_back(self) -> None:
        """Hold nothing any more. Safe to call twice."""
        self._budget.held_bytes -= self.held_bytes
        self.held_bytes = 0
