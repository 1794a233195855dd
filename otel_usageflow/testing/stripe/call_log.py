"""The last calls, as many as memory should hold."""

from collections import deque

from otel_usageflow.testing.stripe.message import Call

MOST_NAMES = 200_000
"""In the forms of all calls together: ten thousand meter events, or five hundred full batches of the stream."""


class CallLog(deque[Call]):
    """Forgets the oldest calls when there are more than `most`, or when their forms get large; keeps the last."""

    def __init__(self, most: int) -> None:
        super().__init__(maxlen=most)
        self._names = 0

    def append(self, call: Call, /) -> None:
        """Remember one more."""
        if not self.maxlen:
            return
        if len(self) == self.maxlen:
            self._drop()
        super().append(call)
        self._names += len(call.form)
        while self._names > MOST_NAMES and len(self) > 1:
            self._drop()

    def clear(self) -> None:
        """Forget all."""
        super().clear()
        self._names = 0

    def _drop(self) -> None:
        self._names -= len(self.popleft().form)
