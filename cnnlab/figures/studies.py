"""Figures of scores with their intervals: studies and probes by seed, answers on Mars by groups of images.

Of studies and probes every seed's point, the mean, and its interval by `measures.t_interval`, none for a single seed.
Rows of one seed (directions of a shift, splits of a table) are averaged first, for they are not independent.
"""

import textwrap

import numpy as np
import pandas as pd
from adjustText import adjust_text

from cnnlab.figures import style
from cnnlab.measures import LEVEL, t_interval
from cnnlab.wording import FAMILIES, plural, readable

METRIC = "test_accuracy_best"
_NAMES = {
    METRIC: "test accuracy",
    "accuracy": "test accuracy",
    "test_accuracy_last": "test accuracy after the last epoch",
    "val_accuracy_best": "validation accuracy",
}
_SCORES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro-F1"}
# Characters of a name under an axis with a handful of variants, and beside one.
_NAME_WIDTH, _LABEL_WIDTH = 16, 22
# Between the seeds' points and the mean beside them, where a variant has the width 1.
_BESIDE = 0.1
# What this run adds to the record's picture.
_LIVE = {"marker": "*", "linestyle": "none", "color": "black", "markersize": 13, "zorder": 5}


@style.styled
def study_points(rows, title, metric=METRIC, live=None):
    """A study's variants side by side: each seed's point, joined by seed, the mean and interval beside them.

    `rows`: `studies.read`'s frame, with the columns label, model, seed and `metric`, a fraction 0..1. Seeds are joined
    among variants of one model kind, which are paired. `live`: likewise, of variants among these, from this run.
    """
    labels = list(dict.fromkeys(rows["label"]))
    figure, axis = style.new_figure(height=4.2)
    places = rows["label"].map(labels.index) - _BESIDE
    for _, mine in rows.assign(place=places).groupby(["model", "seed"]):
        axis.plot(mine["place"], mine[metric], color=style.LIGHT_GREY, linewidth=1, zorder=1)
    axis.plot(places, rows[metric], "o", color=style.GREY, markersize=4, label="one seed")
    families = rows.groupby("model", sort=False)
    for index, (family, mine) in enumerate(families):
        means = _means(mine, "label", metric)
        name = f"{FAMILIES.get(family, family)}: " if families.ngroups > 1 else ""
        beside = [labels.index(label) + _BESIDE for label in means.index]
        _draw_means(axis, beside, means, index, name + _about_seeds(mine))
    if live is not None:
        axis.plot(live["label"].map(labels.index) + 2 * _BESIDE, live[metric], label="this run", **_LIVE)
    axis.set(xlim=(-0.5, len(labels) - 0.5), ylabel=_name(metric), title=title)
    axis.set_xticks(range(len(labels)), [_wrapped(readable(label)) for label in labels])
    style.percent(axis.yaxis)
    style.legend_below(figure, axis, ncols=1 + families.ngroups + (live is not None))
    return figure


@style.styled
def performance_vs_parameters(rows, live=None):
    """Accuracy against the number of parameters (log axis), a colour and marker for each family of networks.

    `rows`: frames of `studies.read`, one or several concatenated; `live`: a frame of other networks, from this run.
    """
    rows = rows.drop_duplicates(["label", "seed"])
    figure, axis = style.new_figure(height=4.8)
    families, names = rows["label"].str.split("_").str[0], []
    for index, (family, mine) in enumerate(rows.groupby(families, sort=False)):
        _draw_seeds(axis, mine["parameters"], mine[METRIC], index)
        means = _means(mine, "label", METRIC)
        parameters = mine.groupby("label", sort=False)["parameters"].first()
        _draw_means(axis, parameters, means, index, FAMILIES.get(family, family))
        tops = means["high"].fillna(means["mean"]).combine(mine.groupby("label")[METRIC].max(), max)
        look = {"ha": "center", "va": "bottom", "fontsize": style.SMALL, "color": style.COLOURS[index]}
        names += [
            axis.text(count, tops[label] + 0.01, label.removeprefix(f"{family}_").replace("_", "-"), **look)
            for label, count in parameters.items()
        ]
    if live is not None:
        axis.plot(live["parameters"], live[METRIC], label="this run", **_LIVE)
    axis.set(xscale="log", xlabel="parameters (log scale)", ylabel=_name(METRIC))
    axis.margins(x=0.08, y=0.1)
    axis.grid(True)
    adjust_text(names, ax=axis, only_move="y", ensure_inside_axes=False)
    return _finished(figure, axis, rows, "Accuracy against size: the numbers are the widths of the layers")


@style.styled
def accuracy_vs_samples(rows):
    """Accuracy against the number of training images (log axis): `studies.read`'s frame of `sample_size`."""
    figure, axis = style.new_figure(height=4.2)
    for index, (network, mine) in enumerate(rows.groupby(_network(rows), sort=False)):
        _draw_curve(axis, mine, "train_images", METRIC, index, network)
    sizes = sorted(rows["train_images"].unique())
    axis.set(xscale="log", xlabel="training images (log scale)", ylabel=_name(METRIC))
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.set_xticks([], minor=True)
    axis.grid(True)
    return _finished(figure, axis, rows, "Accuracy against the number of training images")


@style.styled
def shift_curve(rows):
    """Accuracy against the shift of the test images, moved and held in place.

    `rows`: of the probe `shift`: label, seed, shift, direction, treatment, accuracy; the directions are averaged.
    """
    figure, axis = style.new_figure(height=4.2)
    for index, (network, mine) in enumerate(rows.groupby(_network(rows), sort=False)):
        for line, (treatment, curve) in enumerate(mine.groupby("treatment", sort=False)):
            look = {"linestyle": style.LINES[line], "markerfacecolor": "white" if line else style.COLOURS[index]}
            _draw_curve(axis, curve, "shift", "accuracy", index, f"{network}, {treatment}", **look)
    axis.set(xlabel="shift of the image (pixels; mean over directions)", ylabel=_name("accuracy"))
    axis.grid(True)
    return _finished(figure, axis, rows, "Accuracy on shifted images (held: the same strip lost, nothing moved)")


@style.styled
def tabular_points(rows):
    """Accuracy of each model on a table, its columns in two orders: label, order, seed, accuracy."""
    rows = _each_seed(rows, ["label", "order"], "accuracy")
    labels, orders = list(dict.fromkeys(rows["label"])), list(dict.fromkeys(rows["order"]))
    figure, axis = style.new_figure(height=4)
    for index, order in enumerate(orders):
        mine = rows[rows["order"] == order]
        offset = 0.4 * (index - (len(orders) - 1) / 2)
        _draw_seeds(axis, mine["label"].map(labels.index) + offset - _BESIDE / 2, mine["accuracy"], index)
        means = _means(mine, "label", "accuracy")
        beside = [labels.index(label) + offset + _BESIDE / 2 for label in means.index]
        _draw_means(axis, beside, means, index, f"columns {order}")
    axis.set(xlim=(-0.5, len(labels) - 0.5), ylabel=_name("accuracy"))
    axis.set_xticks(range(len(labels)), [readable(label).replace("_", " ") for label in labels])
    return _finished(figure, axis, rows, "Accuracy on a table, its columns in two orders", ncols=2)


@style.styled
def group_scores(table, published=None):
    """Accuracy, balanced accuracy and macro-F1 of networks and baselines, with intervals over groups and over seeds.

    `table`: the scores of `measures.evaluate_mars`: label, score, value, low, high, seed_low, seed_high; `published`:
    {who: accuracy} of others, for dotted lines.
    """
    labels = list(dict.fromkeys(table["label"]))
    figure, axes = style.new_figure(height=0.4 * len(labels) + 1.2, columns=len(_SCORES), sharey=True)
    for index, (axis, (score, name)) in enumerate(zip(axes, _SCORES.items(), strict=True)):
        mine = table[table["score"] == score].set_index("label").loc[labels]
        look = {"color": style.COLOURS[index], "marker": style.MARKERS[index], "markersize": 7, "capsize": 4}
        style.error_bars(axis, np.arange(len(labels)), mine, "value", across=True, **look)
        thick = {"color": style.COLOURS[index], "alpha": 0.4, "linewidth": 7}
        axis.hlines(np.arange(len(labels)), mine["seed_low"], mine["seed_high"], **thick)
        axis.set(title=name, xlim=(-0.02, 1.0))
        style.percent(axis.xaxis)
        axis.grid(True, axis="y")
    axes[0].set_yticks(np.arange(len(labels)), [textwrap.fill(readable(label), _LABEL_WIDTH) for label in labels])
    axes[0].invert_yaxis()
    best = max((published or {"": 0}).values())
    for who, accuracy in (published or {}).items():
        axes[0].axvline(accuracy, color=style.GREY, linestyle=":", linewidth=1.2)
        look = {"va": "top", "rotation": 90, "fontsize": style.SMALL, "color": style.GREY}
        side = "left" if accuracy == best else "right"
        axes[0].annotate(who, (accuracy, 0.98), xycoords=("data", "axes fraction"), ha=side, **look)
    about = "on the test images; thin bars: intervals over groups of images taken together, thick: over seeds"
    axes[1].set_xlabel(about, fontsize=style.SMALL)
    return figure


@style.styled
def class_recalls(table):
    """Recall of each class with its interval, one mark a network: label, class, images, groups, value, low, high."""
    table = table[table["images"] > 0].assign(**{end: table[end].fillna(table["value"]) for end in ("low", "high")})
    labels = list(dict.fromkeys(table["label"]))
    first = table[table["label"] == labels[-1]].sort_values("value", kind="stable")
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
    axis.set(xlim=(-0.02, 1.02), xlabel="recall: share of the class's test images that are answered correctly")
    axis.set_title("Recall of each class in the test split")
    axis.margins(y=0.02)
    style.percent(axis.xaxis)
    axis.grid(True, axis="y")
    style.legend_below(figure, axis, ncols=len(labels))
    return figure


@style.styled
def accuracy_by_sol(table):
    """Accuracy in spans of Martian days: label, first_sol, last_sol, images, accuracy, low, high (over groups)."""
    figure, axis = _over_sols({readable(label): mine for label, mine in table.groupby("label", sort=False)}, "accuracy")
    axis.set(ylabel="accuracy", title="Accuracy against the day the image was taken")
    style.legend_below(figure, axis, ncols=3)
    return figure


@style.styled
def coverage_by_sol(rows):
    """How often sets hold the true class, in spans of Martian days: `measures.conformal_coverage` of Mars."""
    spans = rows.dropna(subset=["first_sol"])
    names = {"validation": "days of the fit (each half by the other)", "test": "later days"}
    series = {name: spans[spans["split"] == split] for split, name in names.items()}
    figure, axis = _over_sols(series, "coverage")
    promised = rows["promised"].iloc[0]
    axis.axhline(promised, color=style.GREY, linestyle=":", label=f"promised: {promised:.0%}")
    axis.set(ylabel="sets that hold the true class", title="A promise made on some days, and asked for on later ones")
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
    axis.set(xlabel="sol (Martian day of the mission); a bar is a span of sols, all of them equally long", ylim=(0, 1))
    axis.grid(True)
    style.percent(axis.yaxis)
    return figure, axis


def _finished(figure, axis, rows, title, ncols=4):
    """`figure` with what all have whose points are seeds and means: title, percent, and the legend below."""
    axis.set_title(title)
    style.percent(axis.yaxis)
    about = f"small: one seed; large: {_about_seeds(rows)}"
    style.legend_below(figure, axis, ncols=ncols, title=about, title_fontsize=style.SMALL)
    return figure


def _draw_curve(axis, rows, x, metric, index, name, **look):
    """The means of `metric` over seeds against `x`, joined by a line, and each seed's point."""
    rows = _each_seed(rows, [x], metric)
    means = _means(rows, x, metric)
    _draw_means(axis, means.index, means, index, name, **{"linestyle": style.LINES[index % len(style.LINES)], **look})
    _draw_seeds(axis, rows[x], rows[metric], index)


def _draw_seeds(axis, places, values, index):
    """A small open dot for each seed, in front of the mean that it may fall on."""
    axis.plot(places, values, "o", color=style.COLOURS[index], markerfacecolor="white", markersize=3.5, zorder=4)


def _draw_means(axis, places, means, index, name, **look):
    mark = {"color": style.COLOURS[index], "marker": style.MARKERS[index], "markersize": 8, "capsize": 4}
    style.error_bars(axis, places, means, "mean", label=name, zorder=3, **{**mark, **look})


def _means(rows, key, metric):
    """Mean and interval for each value of `key`: a frame with mean, low, high."""
    found = {value: t_interval(mine) for value, mine in rows.groupby(key, sort=False)[metric]}
    return pd.DataFrame({value: (i.mean, i.low, i.high) for value, i in found.items()}, ["mean", "low", "high"]).T


def _each_seed(rows, keys, metric):
    return rows.groupby([*keys, "seed"], sort=False, as_index=False)[metric].mean()


def _network(rows):
    """The name of each row's network without the quantity that is varied."""
    return rows["label"].map(lambda label: readable(label).split(",")[0])


def _name(metric):
    return _NAMES.get(metric, metric.replace("_", " "))


def _wrapped(name):
    """`name` over several lines, first broken at its commas, to stand below an axis."""
    return "\n".join(textwrap.fill(part, _NAME_WIDTH, break_on_hyphens=False) for part in name.split(", "))


def seed_count(counts):
    """How many seeds there are, by the number of each thing that is drawn: "5 seeds", "3 to 5 seeds"."""
    few, many = int(min(counts)), int(max(counts))
    return plural(many, "seed") if few == many else f"{few} to {many} seeds"


def _about_seeds(rows):
    """What the large marks are: "mean of 5 seeds, 95% interval"."""
    counts = rows.groupby("label")["seed"].nunique()
    return f"mean of {seed_count(counts)}" + (f", {LEVEL:.0%} interval" if counts.max() > 1 else "")
