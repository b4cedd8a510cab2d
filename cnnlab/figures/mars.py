"""Figures of scores on the Mars images, with intervals over groups of images taken together."""

import textwrap

import numpy as np

from cnnlab.figures import style
from cnnlab.measures import SCORE_NAMES
from cnnlab.wording import percent, plural, readable

# Characters per line of a name beside an axis.
_LABEL_WIDTH = 22


@style.in_style()
def group_scores(table, published):
    """Accuracy, balanced accuracy and macro-F1 of networks and baselines, with intervals over groups.

    `table`: the scores of `measures.evaluate_mars`: label, score, value, low, high; `published`: {who: accuracy} of
    others, for dotted lines.
    """
    labels = list(dict.fromkeys(table["label"]))
    figure, axes = style.new_figure(height=0.4 * len(labels) + 1.2, columns=len(SCORE_NAMES), sharey=True)
    for index, (axis, (score, name)) in enumerate(zip(axes, SCORE_NAMES.items(), strict=True)):
        mine = table[table["score"] == score].set_index("label").loc[labels]
        look = {"color": style.COLOURS[index], "marker": style.MARKERS[index], "markersize": 7, "capsize": 4}
        style.error_bars(axis, np.arange(len(labels)), mine, "value", across=True, **look)
        axis.set(title=name, xlim=(-0.02, 1.0))
        style.percent(axis.xaxis)
        axis.grid(True, axis="y")
    axes[0].set_yticks(np.arange(len(labels)), [textwrap.fill(readable(label), _LABEL_WIDTH) for label in labels])
    axes[0].invert_yaxis()
    for accuracy in published.values():
        axes[0].axvline(accuracy, color=style.GREY, linestyle=":", linewidth=1.2)
    others = ", ".join(f"{who} {percent(accuracy)}" for who, accuracy in published.items())
    about = "on the test images, with intervals over groups of images taken together"
    axes[1].set_xlabel(f"{about}\ndotted: published, {others}", fontsize=style.SMALL)
    return figure


@style.in_style()
def class_recalls(table):
    """Recall of each class with its interval, one mark per network: label, class, images, groups, value, low, high.

    Classes are ordered by the recall of the network with the highest mean recall, the hardest at the bottom.
    """
    table = table[table["images"] > 0].assign(**{end: table[end].fillna(table["value"]) for end in ("low", "high")})
    labels = list(dict.fromkeys(table["label"]))
    best = table.groupby("label")["value"].mean().idxmax()
    first = table[table["label"] == best].sort_values("value", kind="stable")
    places = np.arange(len(first))
    figure, axis = style.new_figure(height=0.3 * len(first) + 1.2)
    for index, label in enumerate(labels):
        mine = table[table["label"] == label].set_index("class").loc[first["class"]]
        look = {"color": style.COLOURS[index], "marker": style.MARKERS[index], "markersize": 6, "linewidth": 1.2}
        beside = places + 0.3 * (index - (len(labels) - 1) / 2)
        style.error_bars(axis, beside, mine, "value", across=True, capsize=2, label=readable(label), **look)
    sizes = zip(first["class"], first["images"], first["groups"], strict=True)
    names = [f"{name} ({plural(images, 'image')}, {plural(groups, 'group')})" for name, images, groups in sizes]
    axis.set_yticks(places, names, fontsize=style.SMALL)
    axis.set(xlim=(-0.02, 1.02), xlabel="recall: share of the class's test images answered correctly")
    axis.set_title("Recall of each class in the test split")
    axis.margins(y=0.02)
    style.percent(axis.xaxis)
    axis.grid(True, axis="y")
    style.legend_below(figure, axis, ncols=len(labels))
    return figure


@style.in_style()
def accuracy_by_sol(table):
    """Accuracy in spans of Martian days: label, first_sol, last_sol, images, accuracy, low, high (over groups)."""
    figure, axis = _over_sols({readable(label): mine for label, mine in table.groupby("label", sort=False)}, "accuracy")
    axis.set(ylabel="accuracy", title="Accuracy by the day the image was taken")
    style.legend_below(figure, axis, ncols=3)
    return figure


@style.in_style()
def coverage_by_sol(rows):
    """How often sets hold the true class, in spans of Martian days: `measures.conformal_coverage` for Mars."""
    spans = rows.dropna(subset=["first_sol"])
    names = {"validation": "days of the fit (each half judged by the other)", "test": "later days"}
    series = {name: spans[spans["split"] == split] for split, name in names.items()}
    figure, axis = _over_sols(series, "coverage")
    promised = rows["promised"].iloc[0]
    axis.axhline(promised, color=style.GREY, linestyle=":", label=f"promised: {promised:.0%}")
    axis.set(ylabel="sets that hold the true class", title="Coverage on the days of the fit and on later days")
    style.legend_below(figure, axis, ncols=3)
    return figure


def _over_sols(series, value):
    """(figure, axis) with `value` of {name: rows with first_sol, last_sol, low, high}, shares, over spans of sols."""
    figure, axis = style.new_figure(height=4.2)
    for index, (name, rows) in enumerate(series.items()):
        colour, middle = style.COLOURS[index], (rows["first_sol"] + rows["last_sol"]) / 2 + 3 * index
        axis.hlines(rows[value], rows["first_sol"], rows["last_sol"], color=colour, alpha=0.4, linewidth=4)
        look = {"color": colour, "marker": style.MARKERS[index], "capsize": 3, "label": name}
        style.error_bars(axis, middle, rows, value, **look)
    axis.set(xlabel="sol (Martian day of the mission); bars are spans of equal length")
    axis.set_ylim(-0.03, 1.03)  # keeps marks at either end whole
    axis.grid(True)
    style.percent(axis.yaxis)
    return figure, axis
