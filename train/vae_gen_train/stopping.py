"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

TO_STOP = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # as far as a system has them


@contextmanager
def stop_signals(notice: Callable[[int], None], insist: bool) -> Iterator[Callable[[], int]]:
    """Within it, the first signal to stop is only noted, and `notice` called with it at once.

    A second one acts as it always does, or not at all if `insist` is False. What is yielded gives the number of the
    first signal, or 0. Signals that are ignored (nohup) stay so.
    """
    if threading.current_thread() is not threading.main_thread():  # only there can signals be received
        yield lambda: 0
        return
    received: list[int] = []
    numbers = [getattr(signal, name) for name in TO_STOP if hasattr(signal, name)]
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def note(number: int, _frame: FrameType | None) -> None:
        first = not received
        received.append(number)
        if insist:
            signal.signal(number, before[number])
        if first:
            notice(number)

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
