"""Figures of studies and probes: means over seeds, and the seeds' points where they stand apart.

An interval is `measures.t_interval`'s, none for a single seed. Rows of one seed (directions of a shift, splits of a
table) are averaged first, for they are not independent.
"""

import re
import textwrap
from os.path import commonprefix

import pandas as pd
from adjustText import adjust_text

from cnnlab.figures import style
from cnnlab.measures import FGSM, LEVEL, UNCHANGED, t_interval
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
# What this run adds to the record's picture.
_LIVE = {"marker": "*", "linestyle": "none", "color": "black", "markersize": 13, "zorder": 5}


@style.styled
def study_points(rows, title, metric=METRIC, live=None):
    """A study's variants side by side: each seed's point, the mean and interval beside them.

    `rows`: `studies.read`'s frame, with the columns label, model, seed and `metric`, a fraction 0..1; `live`: likewise,
    of variants among these, from this run.
    """
    labels = list(dict.fromkeys(rows["label"]))
    figure, axis = style.new_figure(height=4.2)
    places = rows["label"].map(labels.index) - _BESIDE
    axis.plot(places, rows[metric], "o", color=style.GREY, markersize=4, label="one seed")
    families = rows.groupby("model", sort=False)
    for index, (family, mine) in enumerate(families):
        means = means_by(mine, "label", metric)
        name = f"{FAMILIES.get(family, family)}: " if families.ngroups > 1 else ""
        beside = [labels.index(label) + _BESIDE for label in means.index]
        _draw_means(axis, beside, means, index, name + _about_seeds(mine))
    if live is not None:
        axis.plot(live["label"].map(labels.index) + 2 * _BESIDE, live[metric], label="this run", **_LIVE)
    shared, names = _apart([readable(label) for label in labels])
    axis.set(xlim=(-0.5, len(labels) - 0.5), xlabel=shared, ylabel=_name(metric), title=title)
    axis.set_xticks(range(len(labels)), [_wrapped(name) for name in names])
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
        means = means_by(mine, "label", METRIC)
        parameters = mine.groupby("label", sort=False)["parameters"].first()
        _draw_means(axis, parameters, means, index, FAMILIES.get(family, family))
        tops = means["high"].fillna(means["mean"])
        look = {"ha": "center", "va": "bottom", "fontsize": style.SMALL, "color": style.COLOURS[index]}
        names += [
            axis.text(count, tops[label] + 0.01, label.removeprefix(f"{family}_").replace("_", "-"), **look)
            for label, count in parameters.items()
        ]
    if live is not None:
        axis.plot(live["parameters"], live[METRIC], label="this run", **_LIVE)
    axis.set(xscale="log", xlabel="parameters (log scale)")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_title("Accuracy against size: the numbers are the widths of the layers")
    axis.margins(x=0.08, y=0.15)
    _about_accuracy(axis, rows)
    adjust_text(names, ax=axis, only_move="y", ensure_inside_axes=False)
    style.legend_below(figure, axis, ncols=4)
    return figure


@style.styled
def accuracy_vs_samples(rows):
    """Accuracy against the number of training images (log axis): `studies.read`'s frame of `sample_size`."""
    figure, axis = style.new_figure(height=4.2)
    for index, (network, mine) in enumerate(rows.groupby(_network(rows), sort=False)):
        _draw_curve(axis, mine, "train_images", METRIC, index, network)
    sizes = sorted(rows["train_images"].unique())
    axis.set(xscale="log", xlabel="training images (log scale)", title="Accuracy against the number of training images")
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.set_xticks([], minor=True)
    _about_accuracy(axis, rows)
    return figure


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
    axis.set(xlabel="shift of the image (pixels; mean over directions)")
    axis.set_title("Accuracy on shifted images (held: the same strip lost, nothing moved)")
    _about_accuracy(axis, rows)
    return figure


@style.styled
def tabular_points(rows):
    """Accuracy of each model on a table, its columns in two orders: label, order, seed, accuracy."""
    rows = _each_seed(rows, ["label", "order"], "accuracy")
    labels, orders = list(dict.fromkeys(rows["label"])), list(dict.fromkeys(rows["order"]))
    figure, axis = style.new_figure(height=4)
    for index, order in enumerate(orders):
        mine = rows[rows["order"] == order]
        offset = 0.4 * (index - (len(orders) - 1) / 2)
        places = mine["label"].map(labels.index) + offset - _BESIDE / 2
        axis.plot(places, mine["accuracy"], "o", color=style.GREY, markersize=4, label=None if index else "one seed")
        means = means_by(mine, "label", "accuracy")
        beside = [labels.index(label) + offset + _BESIDE / 2 for label in means.index]
        _draw_means(axis, beside, means, index, f"columns {order}")
    axis.set(xlim=(-0.5, len(labels) - 0.5), title="Accuracy on a table, its columns in two orders")
    axis.set_xticks(range(len(labels)), [readable(label).replace("_", " ") for label in labels])
    _about_accuracy(axis, rows)
    style.legend_below(figure, axis, ncols=1 + len(orders))
    return figure


@style.styled
def changed_images(rows, names):
    """Accuracy on corrupted images, the mean over kinds, against strength; and after steps against the network.

    `rows`: of the probe `corruptions`: label, seed, kind, strength, accuracy; `names`: {label: text}, of those drawn.
    A band is from the lowest seed to the highest.
    """
    figure, axes = style.new_figure(height=4, columns=2, sharey=True)
    whole = rows["kind"] == UNCHANGED
    moved = rows["kind"] == FGSM
    for axis, mine in zip(axes, (rows[~moved], rows[moved | whole]), strict=True):
        for index, (label, name) in enumerate(names.items()):
            seeds = _each_seed(mine[mine["label"] == label], ["strength"], "accuracy").groupby("strength")["accuracy"]
            means, look = seeds.mean(), {"color": style.COLOURS[index]}
            axis.fill_between(means.index, seeds.min(), seeds.max(), alpha=0.25, linewidth=0, **look)
            axis.plot(means.index, means, marker=style.MARKERS[index], **look)
            if axis is axes[0]:  # Where images are whole the networks are furthest apart.
                start = {"xytext": (4, 6), "textcoords": "offset points", "fontsize": style.SMALL}
                axis.annotate(name, (means.index[0], means.iloc[0]), **start, **look)
        axis.set_xticks(sorted(mine["strength"].unique()))
        axis.margins(x=0.03)
        axis.grid(True)
    kinds = rows.loc[~moved & ~whole, "kind"].nunique()
    axes[0].set(xlabel=f"strength (mean over {kinds} corruptions)", ylabel=_name("accuracy"), ylim=(0, 1))
    axes[1].set(xlabel="step against the network (FGSM, of 255)")
    style.percent(axes[0].yaxis)
    counts = rows.groupby("label")["seed"].nunique()
    figure.suptitle(f"What worse images leave of accuracy ({seed_count(counts)}, band: lowest to highest)")
    return figure


def _about_accuracy(axis, rows):
    """Say along `axis` that it is of accuracy, and of how many seeds."""
    axis.set_ylabel(f"test accuracy\n({_about_seeds(rows)})")
    axis.grid(True)
    style.percent(axis.yaxis)


def _draw_curve(axis, rows, x, metric, index, name, **look):
    """The means of `metric` over seeds against `x`, joined by a line, with `name` at its end."""
    means = means_by(_each_seed(rows, [x], metric), x, metric)
    _draw_means(axis, means.index, means, index, name, **{"linestyle": style.LINES[index % len(style.LINES)], **look})
    beside = {"xytext": (10, 0), "textcoords": "offset points", "va": "center", "fontsize": style.SMALL}
    axis.annotate(name, (means.index[-1], means["mean"].iloc[-1]), color=style.COLOURS[index], **beside)


def _draw_means(axis, places, means, index, name, **look):
    mark = {"color": style.COLOURS[index], "marker": style.MARKERS[index], "markersize": 8, "capsize": 4}
    style.error_bars(axis, places, means, "mean", label=name, zorder=3, **{**mark, **look})


def means_by(rows, key, metric):
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


def _apart(names):
    """(What all of several `names` begin with: kind and widths of a network; what is left of each, never nothing)."""
    parts = [re.split(r"(?<=,) | (?=[\d-]+(?:,|$))", name) for name in names]
    count = min(len(commonprefix(parts)), min(map(len, parts)) - 1) if len(names) > 1 else 0
    return " ".join(parts[0][:count]).rstrip(","), [" ".join(own[count:]) for own in parts]


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
