"""What was found, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.faults.book import Verdict


@dataclass
class Row:
    """One kind of fault on one database."""

    database: str
    fault: str
    times: int
    verdict: Verdict
    figures: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.database} {self.fault} x {self.times}: {self.told}; {self.figures_told}"

    @property
    def told(self) -> str:
        """What was found that ought not to be."""
        found = ", ".join(f"{count} {name}" for name, count in self.verdict.faults.items()) or "0"
        return " / ".join([found, *self.verdict.examples])

    @property
    def figures_told(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.figures.items())


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| database | fault | times | runs | steps | found | figures |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
    ]
    for row in rows:
        told = row.told.replace("|", "\\|").replace("\n", " ")
        lines.append(
            f"| {row.database} | {row.fault} | {row.times} | {row.verdict.acknowledged} | {row.verdict.begun} | {told} "
            f"| {row.figures_told} |"
        )
    return "\n".join(lines) + "\n"


def spread(seconds: Sequence[float]) -> str:
    """Median, 95th percentile and most, in seconds."""
    if not seconds:
        return "-"
    sorted_s = sorted(seconds)
    p95 = sorted_s[min(len(sorted_s) - 1, round(0.95 * (len(sorted_s) - 1)))]
    return f"{sorted_s[len(sorted_s) // 2]:.2f} / {p95:.2f} / {sorted_s[-1]:.2f} s"
