"""What the cells of a notebook show: figures, findings, tables, and the reader's guesses."""

import pandas as pd
from IPython.display import Markdown, display

from cnnlab import report
from cnnlab.figures import figure_view, save_figure
from cnnlab.studies import find_budget
from cnnlab.wording import capital, rounded


class Page:
    """What the cells of one notebook run share.

    `budget`: the run's `studies.Budget`, which decides where its figures go and how they are stamped; `record`: the
    `report.Record` whose figures and findings it shows beside its own (None: none).
    """

    def __init__(self, budget, record=None):
        self.budget, self.record, self._guesses = budget, record, {}

    def figure(self, figure, name, stamp=None):
        """Save `figure` as `name`, stamped with `stamp` (default: the budget's label), and return a view of it."""
        stamp, sharpness = stamp or self.budget.label, self.budget.dots_per_inch
        return figure_view(save_figure(figure, name, self.budget.images_folder, stamp, sharpness))

    def from_record(self, name):
        """The record's figure `name`, or None where the record cannot draw it yet."""
        draw = None if self.record is None else report.drawing(self.record, name)
        if draw is None:
            display(Markdown(f"The record has no rows for the figure `{name}` yet: run `python -m cnnlab record`."))
            return None
        return self.figure(draw(), name, find_budget("full").label)

    def say(self, *findings, source="this run"):
        """Show computed findings, and whether they are about this run or the record."""
        display(Markdown("\n\n".join(f"> **Finding, {source}.** {finding.sentence}" for finding in findings)))

    def quote(self, chapter):
        """Show the record's findings on `chapter`, a key of `report.CHAPTERS`, as in RESULTS.md."""
        asked = report.CHAPTERS[chapter]
        said = asked.findings(self.record)
        if not said:
            display(Markdown(f"The record has no rows of `{chapter}` yet: run `{asked.command}`."))
            return
        self.say(*said, source="the record")

    def table(self, chapter):
        """Show the record's tables on `chapter`, as in RESULTS.md."""
        for table in report.CHAPTERS[chapter].shown(self.record):
            display(Markdown(table))

    def guess(self, quantity, low=None, high=None):
        """Note the reader's guess of `quantity` (in words, with its unit): an interval, 90% sure to hold it.

        None: no guess. Raises ValueError for half an interval, or one that ends before it begins.
        """
        if (low is None) != (high is None) or (low is not None and not low <= high):
            raise ValueError(f"the guess is {low} to {high}; expected two numbers, the smaller first, or None twice")
        self._guesses[quantity] = {"low": low, "high": high, "measured": None}

    def reveal(self, quantity, measured):
        """Show the `measured` value of `quantity`, named as in `guess` and in the same unit, beside the guess."""
        if quantity not in self._guesses:
            known = ", ".join(map(repr, self._guesses)) or "none yet"
            raise ValueError(f"nobody guessed {quantity!r}; the guesses are: {known}")
        mine = self._guesses[quantity]
        mine["measured"] = float(measured)
        said = "no guess" if mine["low"] is None else f"you said {mine['low']:,g} to {mine['high']:,g}"
        display(Markdown(f"> **Your guess.** {capital(quantity)}: {said}; measured: {rounded(measured, 3)}."))

    def guesses(self):
        """The guesses beside the measured values, a DataFrame; shown above it, how many intervals hold them.

        Without a guess there is nothing to compare: returns None, and says how to make one.
        """
        table = pd.DataFrame(self._guesses, ["low", "high", "measured"], dtype="float64").T.dropna()
        if table.empty:
            display(Markdown("No guess was made: set `low` and `high` where `page.guess` asks, and run it again."))
            return None
        held = int(((table["low"] <= table["measured"]) & (table["measured"] <= table["high"])).sum())
        score = (
            f"**{held} of your {len(table)} intervals held the measured value.** If you are 90% sure of each, nine "
            "in ten should: with fewer, you are overconfident; with all, you could have made them narrower."
        )
        display(Markdown(score))
        return table.rename_axis("quantity").reset_index()
