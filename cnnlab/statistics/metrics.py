"""The columns of a result row that are compared: how they are called, written, and which way is better."""

import dataclasses

from cnnlab.sentences import wording

HEADLINE = "test_accuracy_best"
SELECTION = "val_accuracy_best"
SPLITS = {"test": "test ", "val": "validation ", "train": "training "}


@dataclasses.dataclass(frozen=True)
class Metric:
    """One column. Shares are written in percent, their differences in percentage points.

    `decimals` and `unit` are for what is no share: losses (natural logarithm) and seconds.
    """

    name: str
    is_share: bool
    higher_is_better: bool
    decimals: int = 3
    unit: str = ""

    @classmethod
    def of(cls, column):
        """The Metric of a column of the store's rows, such as test_accuracy_best or val_loss_last."""
        split = SPLITS.get(column.split("_")[0], "")
        epoch = " at the last epoch" if column.endswith("_last") else ""
        if "accuracy" in column:
            return cls(f"{split}accuracy{epoch}", is_share=True, higher_is_better=True)
        if "loss" in column:
            return cls(f"{split}loss{epoch}", is_share=False, higher_is_better=False)
        if column in ("seconds", "cpu_seconds"):
            return cls("training time", is_share=False, higher_is_better=False, decimals=1, unit=" s")
        raise ValueError(f"{column!r} cannot be compared; expected a column of accuracies, losses or seconds")

    def write(self, value):
        """A value: '73.2%', '0.786', '98.0 s'."""
        return wording.percent(value) if self.is_share else f"{value:.{self.decimals}f}{self.unit}"

    def write_size(self, difference):
        """The size of a difference: '2.71 percentage points', '0.264'."""
        return wording.points(difference) if self.is_share else f"{abs(difference):.{self.decimals}f}{self.unit}"

    def write_signed(self, difference):
        """A difference, its unit left to the sentence: '+2.71', '-0.264'."""
        return wording.signed_points(difference) if self.is_share else f"{difference:+.{self.decimals}f}"

    def write_change(self, difference):
        """A difference with sign and unit: '+2.71 percentage points'."""
        return self.write_signed(difference) + (" percentage points" if self.is_share else self.unit)
