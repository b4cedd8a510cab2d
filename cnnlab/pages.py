"""How a notebook shows a figure or a finding, and says which run it comes from."""

from IPython.display import Markdown, display

from cnnlab import plotting, report


class Page:
    """What the cells of one notebook run share.

    `budget`: the run's `budgets.Budget`, which decides where its figures go and how they are
    stamped; `recorded`: {figure name: Figure} of the record, by `report.figures`.
    """

    def __init__(self, budget, recorded=None):
        self.budget, self.recorded = budget, recorded or {}

    def figure(self, figure, name, stamp=None):
        """Write `figure` to its one place, and return the view of it; `stamp` (default: the budget's label)."""
        path = plotting.save_figure(figure, name, self.budget.images_folder, stamp or self.budget.label)
        return plotting.figure_view(path)

    def from_record(self, name):
        """The record's figure `name`, or None where the record cannot draw it yet."""
        if name not in self.recorded:
            display(Markdown(f"The record has no rows for the figure `{name}` yet: `python -m cnnlab record`."))
            return None
        return self.figure(self.recorded[name], name, report.RECORD.label)

    def say(self, *findings, source="this run"):
        """Show computed sentences, and whether they speak of this run or of the record."""
        display(Markdown("\n\n".join(f"> **Finding, {source}.** {finding.sentence}" for finding in findings)))
