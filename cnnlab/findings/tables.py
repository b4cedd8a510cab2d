"""Tables of a study for people: the README's and the notebook's."""

import pandas as pd

from cnnlab.findings.finding import HEADLINE
from cnnlab.measures import t_interval
from cnnlab.wording import duration, from_to, percent, readable


def study_table(frame, metric=HEADLINE):
    """A row a variant of a tidy frame, in its order.

    Columns: label, parameters, n (seeds), accuracy (mean of `metric`) with the 95% t-interval
    low and high (NaN for one seed), loss (mean of the same epoch), seconds of
    processor time (median; all cores together, which other programs on the machine disturb less
    than the time on the clock).
    """
    if frame.empty:
        raise ValueError("the frame has no rows; run the study first")
    rows = []
    for label, runs in frame.groupby("label", sort=False):
        interval = t_interval(runs[metric])
        rows.append(
            {
                "label": label,
                "parameters": int(runs["parameters"].iloc[0]),
                "n": interval.n,
                "accuracy": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "loss": runs[metric.replace("accuracy", "loss")].mean(),
                "seconds": runs["cpu_seconds"].median(),
            }
        )
    return pd.DataFrame(rows)


def presentable(table):
    """`study_table` as text, with the headings that people read."""
    # Few seeds far apart have an interval that reaches beyond where shares end.
    ends = table[["low", "high"]].clip(0, 1)
    spans = [from_to(row.low, row.high, percent) or "one run" for row in ends.itertuples()]
    return pd.DataFrame(
        {
            "Variant": table["label"].map(readable),
            "Parameters": table["parameters"].map("{:,}".format),
            "Seeds": table["n"].astype(str),
            "Test accuracy": table["accuracy"].map(percent),
            "95% interval": spans,
            "Test loss": table["loss"].map("{:.3f}".format),
            "Processor time": table["seconds"].map(duration),
        }
    )


def to_markdown(table):
    """Any DataFrame as a Markdown table, without its index."""
    rows = [table.columns, ["---"] * table.shape[1], *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows)


def _cell(value):
    # A bar or a line break would end the cell.
    return str(value).replace("|", "\\|").replace("\n", " ")
