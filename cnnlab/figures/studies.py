"""Figures of studies and probes: every seed's point, the mean, and its interval.

Intervals are `intervals.t_interval` over seeds, and none for a single seed. Rows of one seed
(directions of a shift, splits of a table) are averaged first, for they are not independent.
"""

import textwrap

import pandas as pd

from cnnlab.figures.style import (
    COLOURS,
    GREY,
    LIGHT_GREY,
    LINES,
    MARKERS,
    SMALL,
    legend_below,
    new_figure,
    percent,
    styled,
)
from cnnlab.measures import LEVEL, t_interval
from cnnlab.wording import FAMILIES, plural, readable

METRIC = "test_accuracy_best"
_NAMES = {
    METRIC: "test accuracy",
    "accuracy": "test accuracy",
    "test_accuracy_last": "test accuracy after the last epoch",
    "val_accuracy_best": "validation accuracy",
}
# Characters of a name under an axis with a handful of variants.
_NAME_WIDTH = 16
# Between the seeds' points and the mean beside them, where a variant has the width 1.
_BESIDE = 0.1


@styled
def study_points(rows, title, metric=METRIC):
    """A study's variants side by side: each seed's point, joined by seed, the mean and interval beside them.

    `rows`: `studies.read`'s frame, with the columns label, model, seed and `metric`, a fraction
    0..1. Seeds are joined among variants of one model kind, which are paired.
    """
    labels = list(dict.fromkeys(rows["label"]))
    figure, axis = new_figure(height=4.2)
    places = rows["label"].map(labels.index) - _BESIDE
    for _, mine in rows.assign(place=places).groupby(["model", "seed"]):
        axis.plot(mine["place"], mine[metric], color=LIGHT_GREY, linewidth=1, zorder=1)
    axis.plot(places, rows[metric], "o", color=GREY, markersize=4, label="one seed")
    families = rows.groupby("model", sort=False)
    for index, (family, mine) in enumerate(families):
        means = _means(mine, "label", metric)
        name = f"{FAMILIES.get(family, family)}: " if families.ngroups > 1 else ""
        beside = [labels.index(label) + _BESIDE for label in means.index]
        _draw_means(axis, beside, means, index, name + _about_seeds(mine))
    axis.set(xlim=(-0.5, len(labels) - 0.5), ylabel=_name(metric), title=title)
    axis.set_xticks(range(len(labels)), [_wrapped(readable(label)) for label in labels])
    percent(axis.yaxis)
    legend_below(figure, axis, ncols=1 + families.ngroups)
    return figure


@styled
def performance_vs_parameters(rows, metric=METRIC):
    """Accuracy against the number of parameters (log axis), a colour and marker for each family of networks.

    `rows`: frames of `studies.read`, one or several concatenated: label, seed, parameters, `metric`.
    """
    rows = rows.drop_duplicates(["label", "seed"])
    figure, axis = new_figure(height=4.8)
    families = rows["label"].str.split("_").str[0]
    for index, (family, mine) in enumerate(rows.groupby(families, sort=False)):
        _draw_seeds(axis, mine["parameters"], mine[metric], index)
        means = _means(mine, "label", metric)
        parameters = mine.groupby("label", sort=False)["parameters"].first()
        _draw_means(axis, parameters, means, index, FAMILIES.get(family, family))
        tops = means["high"].fillna(means["mean"]).combine(mine.groupby("label")[metric].max(), max)
        for label, count in parameters.items():
            widths = label.removeprefix(f"{family}_").replace("_", "-")
            axis.annotate(
                widths, (count, tops[label]), (0, 6), textcoords="offset points", ha="center",
                fontsize=SMALL, color=COLOURS[index],
            )  # fmt: skip
    axis.set(xscale="log", xlabel="parameters (log scale)", ylabel=_name(metric))
    axis.set_title("Accuracy against size: the numbers are the widths of the layers")
    axis.margins(x=0.08, y=0.1)
    axis.grid(True)
    percent(axis.yaxis)
    legend_below(figure, axis, ncols=4, title=_small_and_large(rows), title_fontsize=SMALL)
    return figure


@styled
def accuracy_vs_samples(rows, metric=METRIC):
    """Accuracy against the number of training images (log axis): label, seed, train_images, `metric`."""
    figure, axis = new_figure(height=4.2)
    for index, (network, mine) in enumerate(rows.groupby(_network(rows), sort=False)):
        _draw_curve(axis, mine, "train_images", metric, index, network)
    sizes = sorted(rows["train_images"].unique())
    axis.set(xscale="log", xlabel="training images (log scale)", ylabel=_name(metric))
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.set_xticks([], minor=True)
    return _finished(figure, axis, rows, "Accuracy against the number of training images")


@styled
def shift_curve(rows):
    """Accuracy against the shift of the test images, moved and held in place.

    `rows`: label, seed and the columns of `shift.shift_accuracy`; the directions are averaged.
    """
    figure, axis = new_figure(height=4.2)
    for index, (network, mine) in enumerate(rows.groupby(_network(rows), sort=False)):
        for line, (treatment, curve) in enumerate(mine.groupby("treatment", sort=False)):
            look = {"linestyle": LINES[line], "markerfacecolor": "white" if line else COLOURS[index]}
            _draw_curve(axis, curve, "shift", "accuracy", index, f"{network}, {treatment}", **look)
    axis.set(xlabel="shift of the image (pixels; mean over directions)", ylabel=_name("accuracy"))
    return _finished(figure, axis, rows, "Accuracy on shifted images (held: the same strip lost, nothing moved)")


@styled
def tabular_points(rows):
    """Accuracy of each model on a table, its columns in two orders: label, order, seed, accuracy."""
    rows = _each_seed(rows, ["label", "order"], "accuracy")
    labels, orders = list(dict.fromkeys(rows["label"])), list(dict.fromkeys(rows["order"]))
    figure, axis = new_figure(height=4)
    for index, order in enumerate(orders):
        mine = rows[rows["order"] == order]
        offset = 0.4 * (index - (len(orders) - 1) / 2)
        _draw_seeds(axis, mine["label"].map(labels.index) + offset - _BESIDE / 2, mine["accuracy"], index)
        means = _means(mine, "label", "accuracy")
        beside = [labels.index(label) + offset + _BESIDE / 2 for label in means.index]
        _draw_means(axis, beside, means, index, f"columns {order}")
    axis.set(xlim=(-0.5, len(labels) - 0.5), ylabel=_name("accuracy"))
    axis.set_title("Accuracy on a table, its columns in two orders")
    axis.set_xticks(range(len(labels)), [readable(label).replace("_", " ") for label in labels])
    percent(axis.yaxis)
    legend_below(figure, axis, ncols=2, title=_small_and_large(rows), title_fontsize=SMALL)
    return figure


def _finished(figure, axis, rows, title):
    """`figure` of curves with what all of them have: title, grid, percent, and the legend below."""
    axis.set_title(title)
    axis.grid(True)
    percent(axis.yaxis)
    legend_below(figure, axis, ncols=4, title=_small_and_large(rows), title_fontsize=SMALL)
    return figure


def _draw_curve(axis, rows, x, metric, index, name, **look):
    """The means of `metric` over seeds against `x`, joined by a line, and each seed's point."""
    rows = _each_seed(rows, [x], metric)
    means = _means(rows, x, metric)
    _draw_means(axis, means.index, means, index, name, **{"linestyle": LINES[index % len(LINES)], **look})
    _draw_seeds(axis, rows[x], rows[metric], index)


def _draw_seeds(axis, places, values, index):
    """A small open dot for each seed, in front of the mean that it may fall on."""
    axis.plot(places, values, "o", color=COLOURS[index], markerfacecolor="white", markersize=3.5, zorder=4)


def _draw_means(axis, places, means, index, name, **look):
    reach = [means["mean"] - means["low"], means["high"] - means["mean"]]
    style = {"color": COLOURS[index], "marker": MARKERS[index], "markersize": 8, "linestyle": "none", "capsize": 4}
    axis.errorbar(places, means["mean"], reach, label=name, zorder=3, **{**style, **look})


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


def _about_seeds(rows):
    """What the large marks are: "mean of 5 seeds, 95% interval"."""
    seeds = rows.groupby("label")["seed"].nunique()
    few, many = seeds.min(), seeds.max()
    return f"mean of {plural(many, 'seed') if few == many else f'{few} to {many} seeds'}" + (
        f", {LEVEL:.0%} interval" if many > 1 else ""
    )


def _small_and_large(rows):
    return f"small: one seed; large: {_about_seeds(rows)}"
