"""Chooses a configuration from what was measured."""

from collections.abc import Iterable

from lab.records import Measurement


def choose(measurements: Iterable[Measurement], slo_ms: float) -> Measurement | None:
    """The measurement with the most goodput among those whose p95 keeps the SLO (p95_ms <= slo_ms).

    If several have the same goodput, it is the one with the fewest workers, and then with the fewest threads: each
    costs memory. None where no measurement keeps the SLO.

    >>> small, large = Measurement(1, 40, 500, 380, 180), Measurement(4, 40, 500, 380, 120)
    >>> choose([large, small], slo_ms=200) == small
    True
    """
    kept = [measured for measured in measurements if measured.p95_ms <= slo_ms]
    return min(kept, key=lambda measured: (-measured.goodput, measured.workers, measured.threads), default=None)
