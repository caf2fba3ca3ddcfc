# SPDX-License-Identifier: MIT
"""The rows of the table: what was measured, against what, its goal, and whether it was met."""

import dataclasses
import math
import statistics


@dataclasses.dataclass
class Row:
    """One measurement. `value` is a ratio to `against` or a count; quartiles only of a ratio that
    was measured in rounds. `exact`: the same on each run, whatever else the machine does."""

    part: str
    what: str
    against: str = ""
    value: float | None = None
    quartiles: tuple[float, float] | None = None
    control: tuple[float, float, float] | None = None  # `against` to itself: q1, median, q3
    rounds: int = 0
    unit: str = ""
    goal: str = ""  # "<= 1.03", ">= 0.99", "= 1" or none
    exact: bool = False
    note: str = ""
    why: str = ""  # what is known of why a goal can be missed
    skipped: str = ""

    @property
    def met(self):
        """True, False, or None where there is no goal or no value."""
        if not self.goal or self.value is None:
            return None
        sign, limit = self.goal.split()
        limit = float(limit)
        return {"<=": self.value <= limit, ">=": self.value >= limit, "=": self.value == limit}[sign]

    def cells(self):
        return (self.what, self.against, self._measured(), self._control(), self._goal(),
                self._verdict())

    def _measured(self):
        if self.value is None:
            return "-"
        if self.quartiles is None:
            text = f"{self.value:.3f}" if self.unit == "ratio" else f"{self.value:g}"
            return text if self.unit in ("", "ratio") else f"{text} {self.unit}"
        return f"{self.value:.3f} ({self.quartiles[0]:.3f} to {self.quartiles[1]:.3f})"

    def _control(self):
        if self.control is None:
            return "exact" if self.exact and self.value is not None else ""
        low, middle, high = self.control
        return f"{middle:.3f} ({low:.3f} to {high:.3f})"

    def _goal(self):
        sign, _, limit = self.goal.partition(" ")
        return {"<=": f"at most {limit}", ">=": f"at least {limit}", "=": limit, "": ""}[sign]

    def _verdict(self):
        if self.skipped:
            return f"skipped: {self.skipped}"
        if self.met is None:
            return self.note
        text = "yes" if self.met else "no"
        if not self.met and self.within_noise:
            text += ": less than what the same thing differs from itself here"
        elif not self.met and self.why:
            text += f": {self.why}"
        return text + (f" ({self.note})" if self.note else "")

    @property
    def within_noise(self):
        """Whether the median of as many rounds of two equal things differs from 1 as much, too. Not
        known where there was no control, or nobody said how many rounds there were."""
        if self.control is None or self.rounds == 0:
            return False
        low, _, high = self.control
        return abs(self.value - 1) < (high - low) / math.sqrt(self.rounds)


HEADER = ("what", "against", "measured", "itself", "goal", "met")


def table(rows, markdown):
    lines = [HEADER, *(row.cells() for row in rows)]
    if markdown:
        lines.insert(1, ("---",) * len(HEADER))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
                     for line in lines)


def as_json(row):
    return {**dataclasses.asdict(row), "met": row.met}


def paired(part, what, against, rounds, **more):
    """A row of rounds of (against, against again, measured); the ratios are to the first two."""
    ratios = [2 * each[2] / (each[0] + each[1]) for each in rounds]
    controls = [each[1] / each[0] for each in rounds]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Row(part, what, against, middle, (low, high),
               tuple(statistics.quantiles(controls, n=4)), len(rounds), unit="ratio", **more)
