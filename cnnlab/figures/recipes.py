"""Figures of the recipes: accuracy against time, and what each change adds."""

import textwrap

import numpy as np
from matplotlib.patheffects import withStroke

from cnnlab.figures import style
from cnnlab.figures.studies import seed_count
from cnnlab.measures import BASELINE_TIMES, LEVEL, frontier, t_interval
from cnnlab.studies import PUBLISHED_EPOCHS

# Changes that are marked; up to the first the scale is even, because a log one has no nought.
CHANGES = (0.01, 0.04, 0.2)
EVEN = CHANGES[0]
# Kinds of contrast: colour, marker, name, and how far from the middle of their row they stand.
KINDS = {
    "walk": (style.BLUE, "o", "on top of the steps before", 0.0),
    "alone": (style.PURPLE, "s", "alone, on the assignment's CNN", 0.22),
    "left out": (style.GREEN, "^", "against leaving it out of the narrow recipe", -0.22),
}
_HALO = withStroke(linewidth=2.5, foreground="white")
# Characters of a change's name beside an axis.
_NAME_WIDTH = 22


@style.styled
def recipe_frontier(rows, named, metric, time="seconds", targets=None):
    """Accuracy against the time of a training, one dot a recipe, those that matter with their names.

    `rows`: label, seed, `metric` (a share) and `time`, one of `ablation.TIMES`, of which the means are drawn, with
    intervals of the `named`, {label: words}; dashed: the best accuracy within a time; `targets`: {label: (share,
    baseline times)}, drawn as crosses where times are baseline times.
    """
    found, in_baseline_times = rows.groupby("label"), time == BASELINE_TIMES
    times, scores = found[time].mean(), found[metric].agg(list).map(t_interval)
    means, best = scores.map(lambda interval: interval.mean), frontier(rows, metric, time)
    figure, axis = style.new_figure(height=5.2)
    dashed = {"where": "post", "color": style.GREY, "linewidth": 1, "linestyle": "--"}
    axis.step([*times[best], times.max()], means[[*best, best[-1]]], label="the best within a time", **dashed)
    others = [label for label in times.index if label not in named]
    axis.plot(times[others], means[others], "o", color=style.LIGHT_GREY, markersize=4, label="steps and variants")
    shown = [label for label in named if label in times]
    for label in shown:
        reach = [[scores[label].mean - scores[label].low], [scores[label].high - scores[label].mean]]
        colour = style.GREEN if label in (targets or {}) else style.BLUE
        axis.errorbar(times[label], means[label], reach, color=colour, marker="o", capsize=3, elinewidth=1)
    crosses = [(limit, share) for share, limit in (targets or {}).values()] if in_baseline_times else []
    for number, cross in enumerate(crosses):
        look = {"color": style.VERMILLION, "markersize": 11, "markeredgewidth": 2}
        axis.plot(*cross, "+", label=None if number else "targets", **look)
    how = f", measured side by side (1: {PUBLISHED_EPOCHS})" if in_baseline_times else " (seconds)"
    axis.set(xlabel=f"time of a training{how}", xlim=(0, None), ylim=(_lowest(means[shown]), None))
    axis.set_ylabel("test accuracy, with test-time\naugmentation where it is part of the recipe")
    style.percent(axis.yaxis)
    axis.grid(True)
    seeds = found["seed"].nunique()
    about = f"mean, {LEVEL:.0%} interval, " if max(seeds) > 1 else ""
    axis.set_title(f"Accuracy against time ({about}{seed_count(seeds)})")
    style.legend_below(figure, axis, ncols=3)
    figure.draw_without_rendering()  # Only then is it known where on the page each of them lies.
    taken = []
    for label in shown:
        # To the side where there is room, and below where another name is above.
        side, away = ("left", 7) if times[label] < 0.6 * times.max() else ("right", -7)
        look = {"ha": side, "va": "bottom", "fontsize": style.SMALL, "path_effects": [_HALO]}
        place = times[label], means[label]
        words = textwrap.fill(named[label], _NAME_WIDTH)
        name = axis.annotate(words, place, (away, 2), textcoords="offset points", **look)
        if any(name.get_window_extent().overlaps(other) for other in taken):
            name.set(va="top", position=(away, -2))
        taken.append(name.get_window_extent())
    return figure


@style.styled
def recipe_waterfall(effects, start):
    """What each step of the walk adds to test accuracy, and what the same changes are worth elsewhere.

    `effects`: the frame of `measures.effects`; `start`: mean test accuracy of the assignment's CNN, a share. Left, from
    `start` to the end; right, each change with its interval. Changes that are no step of the walk are not drawn.
    """
    walk = effects[effects["kind"] == "walk"]
    changes = list(walk["change"])
    figure, (left, right) = style.new_figure(height=1.8 + 0.36 * len(changes), columns=2, sharey=True)
    after = start + np.cumsum(walk["mean"].to_numpy())
    colours = [style.BLUE if step >= 0 else style.VERMILLION for step in walk["mean"]]
    left.barh(range(len(changes)), walk["mean"], left=after - walk["mean"], color=colours, height=0.6)
    for place, (level, step) in enumerate(zip(after, walk["mean"], strict=True)):
        left.plot([level, level], [place, min(place + 1, len(changes) - 1)], color=style.GREY, linewidth=0.8)
        end, look = (max(level, level - step), place), {"va": "center", "fontsize": style.SMALL}
        left.annotate(f"{100 * level:.1f}%", end, (4, 0), textcoords="offset points", **look)
    left.set(xlabel="test accuracy, from one view", ylim=(len(changes) - 0.5, -0.5))
    left.use_sticky_edges = False  # Else an axis would begin where the lowest bar does.
    left.margins(x=0.16)
    names = [textwrap.fill(change, _NAME_WIDTH) for change in changes]
    left.set_yticks(range(len(changes)), names, fontsize=style.SMALL)
    left.set_title(f"The walk, from {100 * start:.1f}%")
    style.percent(left.xaxis)
    for kind, (colour, marker, name, beside) in KINDS.items():
        mine = effects[(effects["kind"] == kind) & effects["change"].isin(changes)]
        if not mine.empty:
            places = mine["change"].map(changes.index) + beside
            mine = mine.assign(**{end: mine[end].fillna(mine["mean"]) for end in ("low", "high")})
            label = f"{name} ({seed_count(mine['n'])})"
            look = {"color": colour, "marker": marker, "capsize": 2, "label": label}
            style.error_bars(right, places, mine, "mean", across=True, **look)
    _mark_changes(right)
    right.axvline(0, color=style.GREY, linewidth=0.8)
    for place in range(len(changes) - 1):
        right.axhline(place + 0.5, color=style.LIGHT_GREY, linewidth=0.5, zorder=0)
    scale = f"scale: even to {100 * EVEN:g}, from there on log"
    right.set_xlabel(f"change (percentage points, {LEVEL:.0%} interval;\n{scale})")
    right.set_title("Each change")
    right.grid(True, axis="x")
    figure.suptitle("What each change adds")
    style.legend_below(figure, right, ncols=2)
    return figure


def _mark_changes(axis):
    """An x axis on which a tenth of a point is seen beside tens of points, which few seeds have in their intervals."""
    axis.set_xscale("symlog", linthresh=EVEN, linscale=1)
    low, high = axis.get_xlim()
    marks = [0.0, *(sign * share for sign in (1, -1) for share in CHANGES)]
    axis.set_xticks([mark for mark in marks if low <= mark <= high])
    axis.set_xticks([], minor=True)
    axis.xaxis.set_major_formatter(lambda value, _: f"{round(100 * value, 6):+g}" if abs(value) > 1e-9 else "0")


def _lowest(means):
    """Where an axis begins on which all `means`, shares, are seen, if not all of what others fell short of them."""
    return means.min() - 0.1 * (1 - means.min())
