"""Figures of studies, probes and recipes: means over seeds, and the seeds' points where they can be told apart.

Intervals are `measures.t_interval`'s; a single seed has none. Rows of one seed (directions of a shift, splits of a
table) are averaged first, because they are not independent.
"""

import re
import textwrap
from os.path import commonprefix

import pandas as pd
from adjustText import adjust_text
from matplotlib.patheffects import withStroke

from cnnlab import measures
from cnnlab.figures import style
from cnnlab.measures import HEADLINE, LEVEL, METRIC
from cnnlab.studies import PUBLISHED_EPOCHS
from cnnlab.wording import FAMILIES, plural, readable

_NAMES = {HEADLINE: "test accuracy", METRIC: "test accuracy after the last epoch"}
# Characters per line of a name under an axis with a handful of variants.
_NAME_WIDTH = 16
# And of a step's or a recipe's.
_STEP_WIDTH = 22
# How far the seeds' points and their mean stand on either side of their variant's place; places are 1 apart.
_BESIDE = 0.1
# Kinds of contrast: colour, marker, name, and offset from the middle of their row.
_CONTRASTS = {
    "on top": (style.BLUE, "o", "on top of the steps above", -0.12),
    "left out": (style.GREEN, "^", "against leaving it out of the narrow recipe", 0.2),
}
_DOT = {"color": style.BLUE, "marker": "o", "capsize": 3, "elinewidth": 1}
_HALO = withStroke(linewidth=2.5, foreground="white")
# What this run adds to the record's picture.
_LIVE = {"marker": "*", "linestyle": "none", "color": "black", "markersize": 13, "zorder": 5}


@style.in_style()
def study_points(rows, title, metric=HEADLINE, live=None):
    """A study's variants side by side: each seed's point, the mean and interval beside them.

    `rows`: `studies.read`'s frame, with the columns label, model, seed and `metric`, a fraction 0..1; `live`: the same
    from this run, for some of these variants.
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
    axis.set(xlim=(-0.5, len(labels) - 0.5), xlabel=shared, title=title)
    axis.set_ylabel(_NAMES.get(metric, metric.replace("_", " ")))
    axis.set_xticks(range(len(labels)), [_wrapped(name) for name in names])
    style.percent(axis.yaxis)
    style.legend_below(figure, axis, ncols=1 + families.ngroups + (live is not None))
    return figure


@style.in_style()
def performance_vs_parameters(rows, live=None):
    """Accuracy against the number of parameters (log axis), with a colour and marker for each family of networks.

    `rows`: frames of `studies.read`, one or several concatenated; `live`: a frame of other networks, from this run.
    """
    rows = rows.drop_duplicates(["label", "seed"])
    figure, axis = style.new_figure(height=4.8)
    families, names = rows["label"].str.split("_").str[0], []
    for index, (family, mine) in enumerate(rows.groupby(families, sort=False)):
        means = means_by(mine, "label", HEADLINE)
        parameters = mine.groupby("label", sort=False)["parameters"].first()
        _draw_means(axis, parameters, means, index, FAMILIES.get(family, family))
        tops = means["high"].fillna(means["mean"])
        look = {"ha": "center", "va": "bottom", "fontsize": style.SMALL, "color": style.COLOURS[index]}
        names += [
            axis.text(count, tops[label] + 0.01, label.removeprefix(f"{family}_").replace("_", "-"), **look)
            for label, count in parameters.items()
        ]
    if live is not None:
        axis.plot(live["parameters"], live[HEADLINE], label="this run", **_LIVE)
    axis.set(xscale="log", xlabel="parameters (log scale)")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_title("Accuracy against size (numbers: widths of the layers)")
    axis.margins(x=0.08, y=0.15)
    _about_accuracy(axis, rows)
    adjust_text(names, ax=axis, only_move="y", ensure_inside_axes=False)
    style.legend_below(figure, axis, ncols=4)
    return figure


@style.in_style()
def accuracy_vs_samples(rows):
    """Accuracy against the number of training images (log axis): `studies.read`'s frame of `sample_size`."""
    figure, axis = style.new_figure(height=4.2)
    for index, (network, mine) in enumerate(rows.groupby(_network(rows), sort=False)):
        _draw_curve(axis, mine, "train_images", HEADLINE, index, network)
    sizes = sorted(rows["train_images"].unique())
    axis.set(xscale="log", xlabel="training images (log scale)", title="Accuracy against the number of training images")
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.set_xticks([], minor=True)
    _about_accuracy(axis, rows)
    return figure


@style.in_style()
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


@style.in_style()
def tabular_points(rows):
    """Accuracy of each model on a table with its columns in two orders: label, order, seed, accuracy."""
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
    axis.set(xlim=(-0.5, len(labels) - 0.5), title="Accuracy on a table with its columns in two orders")
    axis.set_xticks(range(len(labels)), [readable(label).replace("_", " ") for label in labels])
    _about_accuracy(axis, rows)
    style.legend_below(figure, axis, ncols=1 + len(orders))
    return figure


@style.in_style()
def changed_images(rows, names):
    """Accuracy on corrupted images by strength (mean over kinds), and on images moved against the network by step.

    `rows`: of the probe `corruptions`: label, seed, kind, strength, accuracy; `names`: {label: text}, of those drawn.
    Bands run from the lowest seed to the highest.
    """
    figure, axes = style.new_figure(height=4, columns=2, sharey=True)
    whole = rows["kind"] == measures.UNCHANGED
    moved = rows["kind"] == measures.FGSM
    for axis, mine in zip(axes, (rows[~moved], rows[moved | whole]), strict=True):
        for index, (label, name) in enumerate(names.items()):
            seeds = _each_seed(mine[mine["label"] == label], ["strength"], "accuracy").groupby("strength")["accuracy"]
            means, look = seeds.mean(), {"color": style.COLOURS[index]}
            axis.fill_between(means.index, seeds.min(), seeds.max(), alpha=0.25, linewidth=0, **look)
            axis.plot(means.index, means, marker=style.MARKERS[index], **look)
            if axis is axes[0]:  # On unchanged images the networks are furthest apart.
                start = {"xytext": (4, 6), "textcoords": "offset points", "fontsize": style.SMALL}
                axis.annotate(name, (means.index[0], means.iloc[0]), **start, **look)
        axis.set_xticks(sorted(mine["strength"].unique()))
        axis.margins(x=0.03)
        axis.grid(True)
    kinds = rows.loc[~moved & ~whole, "kind"].nunique()
    axes[0].set(xlabel=f"strength (mean over {kinds} corruptions)", ylabel="test accuracy", ylim=(0, 1))
    axes[1].set(xlabel="adversarial step (FGSM, out of 255)")
    style.percent(axes[0].yaxis)
    counts = rows.groupby("label")["seed"].nunique()
    figure.suptitle(f"Accuracy on worse images ({seed_count(counts)}, band: lowest to highest)")
    return figure


@style.in_style()
def recipe_ablation(effects, rows, start):
    """Accuracy after each step of the ablation (left) and what the step is worth (right), with intervals over seeds.

    `effects`: the frame of `measures.effects`; `rows`: from `measures.scored`; `start`: name and label of the network
    that the steps start from.
    """
    steps = effects[effects["kind"] == "on top"]
    labels, names = [start[1], *steps["first"]], [start[0], *("+ " + steps["change"])]
    figure, (left, right) = style.new_figure(height=1.6 + 0.5 * len(labels), columns=2, sharey=True)
    means = means_by(rows, "label", measures.SCORE).loc[labels]
    style.error_bars(left, range(len(labels)), means, "mean", across=True, **_DOT)
    look = {"va": "center", "fontsize": style.SMALL}
    for place, (mean, edge) in enumerate(zip(means["mean"], means["high"].fillna(means["mean"]), strict=True)):
        left.annotate(f"{100 * mean:.1f}%", (edge, place), (5, 0), textcoords="offset points", **look)
    left.set_yticks(range(len(labels)), [textwrap.fill(name, _STEP_WIDTH) for name in names], fontsize=style.SMALL)
    left.set(xlabel="test accuracy", ylim=(len(labels) - 0.5, -0.5))
    left.margins(x=0.2)
    style.percent(left.xaxis)
    left.set_title("After each step")
    for kind, (colour, marker, name, beside) in _CONTRASTS.items():
        mine = effects[effects["kind"] == kind]
        if not mine.empty:
            places = mine["step"].map(list(steps["step"]).index) + 1 + beside
            look = {"color": colour, "marker": marker, "capsize": 2, "label": f"{name} ({seed_count(mine['n'])})"}
            style.error_bars(right, places, mine, "mean", across=True, **look)
    right.axvline(0, color=style.GREY, linewidth=0.8)
    right.set_xlabel("percentage points")
    right.xaxis.set_major_formatter(lambda value, _: f"{round(100 * value, 6):+g}" if abs(value) > 1e-9 else "0")
    right.set_title("What the step is worth")
    for axis in (left, right):
        axis.grid(True, axis="x")
    figure.suptitle(f"From {names[0]} to the recipe ({LEVEL:.0%} intervals over seeds)")
    style.legend_below(figure, right, ncols=2)
    return figure


@style.in_style()
def recipe_frontier(rows, names):
    """Accuracy against training time, one named dot per recipe, all scored alike; dashed: the best within a time.

    `rows`: label, seed, `measures.METRIC` (a share) and `measures.time_column`, whose means are drawn, with
    intervals over seeds; `names`: {label: words}.
    """
    found, time = rows.groupby("label"), measures.time_column(rows)
    times, scores = found[time].mean(), means_by(rows, "label", METRIC)
    means, best = scores["mean"], measures.frontier(rows)
    figure, axis = style.new_figure(height=4.8)
    dashed = {"where": "post", "color": style.GREY, "linewidth": 1, "linestyle": "--"}
    axis.step([*times[best], times.max()], means[[*best, best[-1]]], **dashed)
    shown = [label for label in names if label in times]
    style.error_bars(axis, times[shown], scores.loc[shown], "mean", **_DOT)
    how = f", measured side by side (1: {PUBLISHED_EPOCHS})" if time == measures.BASELINE_TIMES else " (seconds)"
    axis.set(xlabel=f"training time{how}", xlim=(0, 1.12 * times.max()), ylabel="test accuracy, from one view")
    axis.margins(y=0.12)
    style.percent(axis.yaxis)
    axis.grid(True)
    seeds = found["seed"].nunique()
    about = f"mean, {LEVEL:.0%} interval, " if max(seeds) > 1 else ""
    axis.set_title(f"Accuracy against time ({about}{seed_count(seeds)})")
    figure.draw_without_rendering()  # Only then are positions on the page known.
    taken = []
    for label in shown:
        # On the side where there is room, and below if another name is above.
        side, away = ("left", 7) if times[label] < 0.6 * times.max() else ("right", -7)
        look = {"ha": side, "va": "bottom", "fontsize": style.SMALL, "path_effects": [_HALO]}
        place = times[label], means[label]
        words = textwrap.fill(names[label], _STEP_WIDTH)
        name = axis.annotate(words, place, (away, 2), textcoords="offset points", **look)
        if any(name.get_window_extent().overlaps(other) for other in taken):
            name.set(va="top", position=(away, -2))
        taken.append(name.get_window_extent())
    return figure


def _about_accuracy(axis, rows):
    """Label the y axis of `axis` as test accuracy, with the number of seeds."""
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
    found = {value: measures.t_interval(mine) for value, mine in rows.groupby(key, sort=False)[metric]}
    return pd.DataFrame({value: (i.mean, i.low, i.high) for value, i in found.items()}, ["mean", "low", "high"]).T


def _each_seed(rows, keys, metric):
    return rows.groupby([*keys, "seed"], sort=False, as_index=False)[metric].mean()


def _network(rows):
    """The name of each row's network without the quantity that is varied."""
    return rows["label"].map(lambda label: readable(label).split(",")[0])


def _apart(names):
    """(What all of `names` begin with: kind and widths of a network; what is left of each, never nothing)."""
    parts = [re.split(r"(?<=,) | (?=[\d-]+(?:,|$))", name) for name in names]
    count = min(len(commonprefix(parts)), min(map(len, parts)) - 1) if len(names) > 1 else 0
    return " ".join(parts[0][:count]).rstrip(","), [" ".join(own[count:]) for own in parts]


def _wrapped(name):
    """`name` over several lines, broken first at its commas, for the space below an axis."""
    return "\n".join(textwrap.fill(part, _NAME_WIDTH, break_on_hyphens=False) for part in name.split(", "))


def seed_count(counts):
    """How many seeds there are, given the number for each thing drawn: "5 seeds", "3 to 5 seeds"."""
    few, many = int(min(counts)), int(max(counts))
    return plural(many, "seed") if few == many else f"{few} to {many} seeds"


def _about_seeds(rows):
    """What the large marks are: "mean of 5 seeds, 95% interval"."""
    counts = rows.groupby("label")["seed"].nunique()
    return f"mean of {seed_count(counts)}" + (f", {LEVEL:.0%} interval" if counts.max() > 1 else "")
