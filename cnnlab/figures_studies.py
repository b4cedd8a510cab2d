"""Figures of studies and probes: every seed's point, the mean, and its interval.

Intervals are `intervals.t_interval` over seeds: 95%, and none for a single seed. Rows of one seed
(directions of a shift, splits of a table) are averaged first, for they are not independent.
"""

import pandas as pd

from cnnlab.figures_style import (
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
from cnnlab.intervals import t_interval
from cnnlab.wording import FAMILIES, readable

METRIC = "test_accuracy_best"
_NAMES = {METRIC: "test accuracy", "accuracy": "test accuracy", "val_accuracy_best": "validation accuracy"}
_INTERVAL = {"capsize": 4, "linestyle": "none", "markersize": 8, "zorder": 3}


@styled
def study_points(rows, title, metric=METRIC):
    """A study's variants side by side: each seed's point, joined by seed, the mean and interval beside them.

    `rows`: `studies.read`'s frame, with the columns label, model, seed and `metric`, a fraction
    0..1. Seeds are joined among variants of one model kind, which are paired.
    """
    labels = list(dict.fromkeys(rows["label"]))
    figure, axis = new_figure(height=4.2)
    places = rows["label"].map(labels.index)
    for _, mine in rows.assign(place=places).groupby(["model", "seed"]):
        axis.plot(mine["place"] - 0.08, mine[metric], color=LIGHT_GREY, linewidth=1, zorder=1)
    axis.plot(places - 0.08, rows[metric], "o", color=GREY, markersize=4, label="one seed")
    for model, (colour, marker) in _looks(rows["model"]).items():
        means = _means(rows[rows["model"] == model], "label", metric)
        _draw_means(axis, [labels.index(label) + 0.12 for label in means.index], means, colour, marker)
    axis.set(xlim=(-0.5, len(labels) - 0.5), ylabel=_NAMES.get(metric, metric.replace("_", " ")), title=title)
    axis.set_xticks(range(len(labels)), [_broken(readable(label)) for label in labels])
    percent(axis.yaxis)
    _legend(figure, axis, rows)
    return figure


@styled
def performance_vs_parameters(rows, metric=METRIC):
    """Accuracy against the number of parameters (log axis), a colour and marker for each family of networks.

    `rows`: frames of `studies.read`, one or several concatenated: label, seed, parameters, `metric`.
    """
    rows = rows.drop_duplicates(["label", "seed"])
    family = rows["label"].map(lambda label: label.split("_")[0])
    figure, axis = new_figure(height=4.8)
    for name, (colour, marker) in _looks(family).items():
        mine = rows[family == name]
        axis.plot(mine["parameters"], mine[metric], "o", color=colour, alpha=0.35, markersize=4, markeredgewidth=0)
        means = _means(mine, "label", metric)
        parameters = mine.groupby("label", sort=False)["parameters"].first()
        _draw_means(axis, parameters, means, colour, marker, FAMILIES.get(name, name))
        for label, count in parameters.items():
            highest = mine.loc[mine["label"] == label, metric].max()
            top = max(highest, means.loc[label, ["mean", "high"]].max())
            axis.annotate(
                label.split("_", 1)[1].replace("_", "-"), (count, top), (0, 6), textcoords="offset points",
                ha="center", fontsize=SMALL, color=colour,
            )  # fmt: skip
    axis.set(xscale="log", xlabel="parameters", ylabel=_NAMES.get(metric, metric.replace("_", " ")))
    axis.set_title("Accuracy against size: numbers name the width of each layer")
    axis.margins(x=0.08, y=0.1)
    axis.grid(True)
    percent(axis.yaxis)
    _legend(figure, axis, rows)
    return figure


@styled
def accuracy_vs_samples(rows, metric=METRIC):
    """Accuracy against the number of training images (log axis): label, seed, train_images, `metric`."""
    network = rows["label"].map(lambda label: readable(label).split(",")[0])
    figure, axis = new_figure(height=4.2)
    _draw_curves(axis, rows.assign(network=network), "network", "train_images", metric)
    axis.set(xscale="log", xlabel="training images (log scale)", ylabel=_NAMES.get(metric, metric.replace("_", " ")))
    axis.set_title("Accuracy against the number of training images")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.grid(True)
    percent(axis.yaxis)
    _legend(figure, axis, rows)
    return figure


@styled
def shift_curve(rows):
    """Accuracy against the shift of the test images, shifted and held in place.

    `rows`: label, seed and the columns of `shift.shift_accuracy`; the four directions are averaged.
    """
    figure, axis = new_figure(height=4.2)
    series = rows["label"].map(lambda label: readable(label).split(",")[0]) + ", " + rows["treatment"]
    _draw_curves(axis, rows.assign(series=series), "series", "shift", "accuracy")
    axis.set(xlabel="shift of the image (pixels, mean of four directions)", ylabel="test accuracy")
    axis.set_title("Accuracy on shifted images (held: the same pixels lost, nothing moved)")
    axis.grid(True)
    percent(axis.yaxis)
    _legend(figure, axis, rows)
    return figure


@styled
def tabular_points(rows):
    """Accuracy of each model on a table, its columns in two orders: label, order, seed, accuracy."""
    labels, orders = list(dict.fromkeys(rows["label"])), list(dict.fromkeys(rows["order"]))
    figure, axis = new_figure(height=4)
    rows = _each_seed(rows, ["label", "order"], "accuracy")
    for index, order in enumerate(orders):
        mine = rows[rows["order"] == order]
        offset = 0.24 * (index - (len(orders) - 1) / 2)
        places = mine["label"].map(labels.index) + offset
        axis.plot(places - 0.05, mine["accuracy"], "o", color=GREY, markersize=4, label="_" if index else "one seed")
        means = _means(mine, "label", "accuracy")
        _draw_means(
            axis, [labels.index(label) + offset + 0.05 for label in means.index], means,
            COLOURS[index], MARKERS[index], f"columns {order}",
        )  # fmt: skip
    axis.set(
        xlim=(-0.5, len(labels) - 0.5), ylabel="test accuracy", title="Accuracy on a table, its columns in two orders"
    )
    axis.set_xticks(range(len(labels)), [readable(label).replace("_", " ") for label in labels])
    percent(axis.yaxis)
    _legend(figure, axis, rows)
    return figure


def _draw_curves(axis, rows, series, x, metric):
    """For each `series`: a dot for each seed, and a line through the means with their intervals."""
    rows = _each_seed(rows, [series, x], metric)
    for index, (name, mine) in enumerate(rows.groupby(series, sort=False)):
        colour = COLOURS[index]
        axis.plot(mine[x], mine[metric], "o", color=colour, alpha=0.35, markersize=4, markeredgewidth=0)
        means = _means(mine, x, metric)
        _draw_means(axis, means.index, means, colour, MARKERS[index], name, linestyle=LINES[index % len(LINES)])


def _each_seed(rows, keys, metric):
    return rows.groupby([*keys, "seed"], sort=False, as_index=False)[metric].mean()


def _means(rows, key, metric):
    """Mean and interval for each value of `key`: a frame with mean, low, high."""
    found = {value: t_interval(mine) for value, mine in rows.groupby(key, sort=False)[metric]}
    return pd.DataFrame({value: (i.mean, i.low, i.high) for value, i in found.items()}, ["mean", "low", "high"]).T


def _draw_means(axis, places, means, colour, marker, name=None, **look):
    reach = [means["mean"] - means["low"], means["high"] - means["mean"]]
    axis.errorbar(places, means["mean"], reach, color=colour, marker=marker, label=name, **{**_INTERVAL, **look})


def _looks(values):
    """{value: (colour, marker)} of the different `values`, in order of appearance."""
    return {value: (COLOURS[i], MARKERS[i]) for i, value in enumerate(dict.fromkeys(values))}


def _legend(figure, axis, rows):
    """The legend below `axis`, which says what the bars are and how many seeds they rest on."""
    seeds = rows.groupby("label")["seed"].nunique()
    count = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    plural = "" if seeds.max() == 1 else "s"
    title = f"small: one seed; large: mean of {count} seed{plural}" + (", 95% interval" if seeds.max() > 1 else "")
    legend_below(figure, axis, ncols=4, title=title, title_fontsize=SMALL)


def _broken(text):
    """`text` over several lines, broken at its commas, to stand below an axis."""
    return text.replace(", ", "\n")
