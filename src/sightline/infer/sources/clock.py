"""Times of frames that never go back, whatever the timestamps of a stream do."""

from fractions import Fraction

__all__ = ["Clock"]

_JUMP_S = 0.5
"""Timestamps that are a little out of order are a muxer's rounding; further back begins another recording."""
_STEP_S = Fraction(1, 25)  # between two recordings, where nobody knows the frame rate


class Clock:
    """Reads timestamps one by one. After `read`, `jumped_s` is by how much they jumped back (0 mostly), `offset_s` what
    is added to them since, and `began_anew` whether this frame is the first of another recording or connection.
    """

    def __init__(self, fps: float | None) -> None:
        self.offset_s = Fraction(0)
        self.jumped_s = 0.0
        self.began_anew = False
        self._fps = fps
        self._step = Fraction(1 / fps).limit_denominator(1_000_000) if fps else _STEP_S
        self._start: Fraction | None = None
        self._last: Fraction | None = None
        self._broken = False

    def begin_anew(self) -> None:
        """The next timestamp may be anything: time goes on one frame behind the last one."""
        self._broken = True

    def read(self, stamp: Fraction | None, index: int) -> float | None:
        """Seconds since the first frame, never decreasing; counted in frames without timestamps, None without a rate.

        >>> clock = Clock(fps=10.0)
        >>> [clock.read(Fraction(t), i) for i, t in enumerate((5, 6, 2, 3))]
        [0.0, 1.0, 1.1, 2.1]
        """
        self.began_anew, self.jumped_s = self._broken and index > 0, 0.0
        if stamp is None:
            self._broken = False
            return None if self._fps is None else index / self._fps
        at = stamp + self.offset_s
        if self._last is not None and (self._broken or self._last - at > _JUMP_S):
            self.jumped_s = 0.0 if self._broken else float(self._last - at)
            self.offset_s += self._last + self._step - at
            at, self.began_anew = self._last + self._step, True
        self._broken = False
        self._start = at if self._start is None else self._start
        self._last = at if self._last is None else max(self._last, at)
        return float(self._last - self._start)
