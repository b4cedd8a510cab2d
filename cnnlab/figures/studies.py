"""Figures of studies and probes by seed.

Every seed's point, the mean, and its interval by `measures.t_interval`, none for a single seed. Rows of one seed
(directions of a shift, splits of a table) are averaged first, for they are not independent.
"""

import textwrap

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
        means = means_by(mine, "label", metric)
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
        means = means_by(mine, "label", METRIC)
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
    axis.margins(x=0.08, y=0.15)
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
        means = means_by(mine, "label", "accuracy")
        beside = [labels.index(label) + offset + _BESIDE / 2 for label in means.index]
        _draw_means(axis, beside, means, index, f"columns {order}")
    axis.set(xlim=(-0.5, len(labels) - 0.5), ylabel=_name("accuracy"))
    axis.set_xticks(range(len(labels)), [readable(label).replace("_", " ") for label in labels])
    return _finished(figure, axis, rows, "Accuracy on a table, its columns in two orders", ncols=2)


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
    means = means_by(rows, x, metric)
    _draw_means(axis, means.index, means, index, name, **{"linestyle": style.LINES[index % len(style.LINES)], **look})
    _draw_seeds(axis, rows[x], rows[metric], index)


def _draw_seeds(axis, places, values, index):
    """A small open dot for each seed, in front of the mean that it may fall on."""
    axis.plot(places, values, "o", color=style.COLOURS[index], markerfacecolor="white", markersize=3.5, zorder=4)


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
