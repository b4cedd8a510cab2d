"""Figures of the recipes: what each step of the ablation adds, and accuracy against time."""

import textwrap

from matplotlib.patheffects import withStroke

from cnnlab.figures import style
from cnnlab.figures.studies import means_by, seed_count
from cnnlab.measures import BASELINE_TIMES, LEVEL, SCORE, frontier
from cnnlab.studies import PUBLISHED_EPOCHS

# Kinds of contrast: colour, marker, name, and how far from the middle of their row they stand.
KINDS = {
    "on top": (style.BLUE, "o", "on top of the steps above", -0.12),
    "left out": (style.GREEN, "^", "against leaving it out of the narrow recipe", 0.2),
}
_DOT = {"color": style.BLUE, "marker": "o", "capsize": 3, "elinewidth": 1}
_HALO = withStroke(linewidth=2.5, foreground="white")
# Characters of a step's name beside an axis.
_NAME_WIDTH = 22


@style.styled
def recipe_ablation(effects, rows, start):
    """Accuracy after each step of the ablation (left) and what it is worth (right), with intervals over seeds.

    `effects`: the frame of `measures.effects`; `rows`: of `measures.scored`; `start`: name and label of the network
    that the steps begin with.
    """
    steps = effects[effects["kind"] == "on top"]
    labels, names = [start[1], *steps["first"]], [start[0], *("+ " + steps["change"])]
    figure, (left, right) = style.new_figure(height=1.6 + 0.5 * len(labels), columns=2, sharey=True)
    means = means_by(rows, "label", SCORE).loc[labels]
    style.error_bars(left, range(len(labels)), means, "mean", across=True, **_DOT)
    look = {"va": "center", "fontsize": style.SMALL}
    for place, (mean, edge) in enumerate(zip(means["mean"], means["high"].fillna(means["mean"]), strict=True)):
        left.annotate(f"{100 * mean:.1f}%", (edge, place), (5, 0), textcoords="offset points", **look)
    left.set_yticks(range(len(labels)), [textwrap.fill(name, _NAME_WIDTH) for name in names], fontsize=style.SMALL)
    left.set(xlabel="test accuracy", ylim=(len(labels) - 0.5, -0.5))
    left.margins(x=0.2)
    style.percent(left.xaxis)
    left.set_title("After each step")
    for kind, (colour, marker, name, beside) in KINDS.items():
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


@style.styled
def recipe_frontier(rows, names, metric, time="seconds"):
    """Accuracy against the time of a training, a named dot a recipe, all scored alike; dashed: the best within a time.

    `rows`: label, seed, `metric` (a share) and `time`, one of `ablation.TIMES`, of which the means are drawn, with
    intervals over seeds; `names`: {label: words}.
    """
    found, in_baseline_times = rows.groupby("label"), time == BASELINE_TIMES
    times, scores = found[time].mean(), means_by(rows, "label", metric)
    means, best = scores["mean"], frontier(rows, metric, time)
    figure, axis = style.new_figure(height=4.8)
    dashed = {"where": "post", "color": style.GREY, "linewidth": 1, "linestyle": "--"}
    axis.step([*times[best], times.max()], means[[*best, best[-1]]], **dashed)
    shown = [label for label in names if label in times]
    style.error_bars(axis, times[shown], scores.loc[shown], "mean", **_DOT)
    how = f", measured side by side (1: {PUBLISHED_EPOCHS})" if in_baseline_times else " (seconds)"
    axis.set(xlabel=f"time of a training{how}", xlim=(0, 1.12 * times.max()), ylabel="test accuracy, from one view")
    axis.margins(y=0.12)
    style.percent(axis.yaxis)
    axis.grid(True)
    seeds = found["seed"].nunique()
    about = f"mean, {LEVEL:.0%} interval, " if max(seeds) > 1 else ""
    axis.set_title(f"Accuracy against time ({about}{seed_count(seeds)})")
    figure.draw_without_rendering()  # Only then is it known where on the page each of them lies.
    taken = []
    for label in shown:
        # To the side where there is room, and below where another name is above.
        side, away = ("left", 7) if times[label] < 0.6 * times.max() else ("right", -7)
        look = {"ha": side, "va": "bottom", "fontsize": style.SMALL, "path_effects": [_HALO]}
        place = times[label], means[label]
        words = textwrap.fill(names[label], _NAME_WIDTH)
        name = axis.annotate(words, place, (away, 2), textcoords="offset points", **look)
        if any(name.get_window_extent().overlaps(other) for other in taken):
            name.set(va="top", position=(away, -2))
        taken.append(name.get_window_extent())
    return figure
