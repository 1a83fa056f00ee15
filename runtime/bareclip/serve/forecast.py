"""How long work will take, learned from how long work took."""

import threading

# What a batch counts that came n batches ago is this to the power of n.
_MEMORY = 0.93
# A batch that took more than so many times what was expected counts as that many times: one
# picture in a thousand that is made to take long must not get the others refused.
_SURPRISE = 4.0


class Forecast:
    """Seconds = fixed + each * cost, fitted to recent batches by least squares.

    May be used by many threads at once.

    Examples:
        >>> forecast = Forecast()
        >>> for cost in (1, 8, 4):
        ...     forecast.learn(cost, 0.010 + 0.005 * cost)
        >>> round(forecast.seconds(batches=2, cost=16), 3)
        0.1
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._weight = self._x = self._y = self._xx = self._xy = 0.0
        self._fixed = self._each = 0.0

    def learn(self, cost: float, seconds: float) -> None:
        """Takes a batch into account."""
        with self._lock:
            if self._weight:
                expected = self.seconds(batches=1, cost=cost)
                seconds = min(seconds, _SURPRISE * max(expected, 1e-4))
            self._weight = _MEMORY * self._weight + 1
            self._x = _MEMORY * self._x + cost
            self._y = _MEMORY * self._y + seconds
            self._xx = _MEMORY * self._xx + cost * cost
            self._xy = _MEMORY * self._xy + cost * seconds
            spread = self._weight * self._xx - self._x * self._x
            ratio = self._y / self._x if self._x else 0.0
            # Costs that are all alike say nothing about what is fixed.
            if spread > 1e-6 * self._x * self._x:
                each = (self._weight * self._xy - self._x * self._y) / spread
                each = min(max(each, 0.0), ratio)
            else:
                each = ratio
            self._each = each
            self._fixed = max((self._y - each * self._x) / self._weight, 0.0)

    def seconds(self, *, batches: float, cost: float) -> float:
        """What so many batches of so much cost altogether will take; 0 before any was seen."""
        return batches * self._fixed + cost * self._each
