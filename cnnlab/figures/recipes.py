"""Figures of the recipes: accuracy against time, and what each change adds."""

import textwrap

import numpy as np
from adjustText import adjust_text
from matplotlib.patheffects import withStroke

from cnnlab.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LIGHT_GREY,
    PURPLE,
    SMALL,
    VERMILLION,
    bare,
    legend_below,
    new_figure,
    percent,
    styled,
)
from cnnlab.measures import LEVEL, SIDE_BY_SIDE, frontier, t_interval
from cnnlab.studies import YARDSTICK
from cnnlab.wording import plural

# Shares of right answers and times that are marked on the axes where they fall into their range.
SHARES = (0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
TIME_TICKS = [digit * 10.0**power for power in range(-3, 5) for digit in (1, 2, 5)]
# Changes that are marked; up to the first the scale is even, because a log one has no nought.
CHANGES = (0.01, 0.04, 0.2)
EVEN = CHANGES[0]
# Kinds of contrast: colour, marker, name, and how far from the middle of their row they stand.
KINDS = {
    "walk": (BLUE, "o", "on top of the steps before", 0.0),
    "alone": (PURPLE, "s", "alone, on the assignment's CNN", 0.22),
    "left out": (GREEN, "^", "against leaving it out of the narrow recipe", -0.22),
}
# Characters of a change's name beside an axis, and of a recipe's in the list.
_NAME_WIDTH, _KEY_WIDTH = 22, 34


@styled
def recipe_frontier(rows, walk, metric, time="seconds", endings=(), targets=None, names=None):
    """Accuracy against the time of a training (log axis): the walk joined by a line, each step named.

    `rows`: label, seed, `metric` (a share) and `time`, one of `effects.TIMES`, of which the means
    are drawn; `walk`: labels in its order; `endings`: labels beside it that are named too, as is
    what lies on the frontier (dashed: the best accuracy within a time), the other recipes being
    small dots; `targets`: {label: (share, baseline times)}, drawn as crosses where times are
    baseline times; `names`: {label: words}.
    """
    found, in_baseline_times = rows.groupby("label"), time == "baseline_times"
    times, scores = found[time].mean(), found[metric].agg(list).map(t_interval)
    best = frontier(rows, metric, time)
    walked = [label for label in walk if label in times]
    ended = [label for label in (*endings, *best) if label in times and label not in walk]
    beside = {label: GREEN if label in (targets or {}) else PURPLE if label in best else BLACK for label in ended}
    named = dict.fromkeys(walked, BLUE) | beside
    figure, (axis, key) = new_figure(height=7.2, columns=2, width_ratios=[1.9, 1])
    others = [label for label in times.index if label not in named]
    axis.plot(times[others], [scores[label].mean for label in others], "o", color=LIGHT_GREY, markersize=4)
    axis.step(
        [*times[best], times.max()], [scores[label].mean for label in (*best, best[-1])], where="post", color=GREY,
        linewidth=1, linestyle="--",
    )  # fmt: skip
    axis.plot(times[walked], [scores[label].mean for label in walked], color=BLUE, linewidth=1, alpha=0.5)
    for label, colour in named.items():
        _draw_mean(axis, times[label], scores[label], colour)
    crosses = (targets or {}).values() if in_baseline_times else ()
    for share, limit in crosses:
        axis.plot(limit, share, "+", color=VERMILLION, markersize=11, markeredgewidth=2)
        axis.annotate(
            f"{100 * share:g}% in {limit:g}", (limit, share), (0, -9), textcoords="offset points", va="top",
            ha="center", fontsize=SMALL, color=VERMILLION,
        )  # fmt: skip
    _mark_axes(axis, [scores[label].mean for label in times.index] + [share for share, _ in crosses])
    unit = f"1: {YARDSTICK}" if in_baseline_times else "seconds"
    how = ", measured side by side" * (time == SIDE_BY_SIDE)
    axis.set(
        xlabel=f"time of a training{how} ({unit}; log scale)",
        ylabel="test accuracy, with test-time augmentation where the recipe has it\n(scale: log of right to wrong)",
    )
    notes = {
        "dashed: the best within a time": True,
        "grey dots: other variants": bool(others),
        "crosses: targets": bool(crosses),
        "faint: 95% intervals, which may leave the frame": True,
    }
    _list_names(key, [(names or {}).get(label, label) for label in named], [note for note, so in notes.items() if so])
    figure.suptitle(f"Accuracy against time ({_about(found['seed'].nunique())})")
    marks = [(limit, share) for share, limit in crosses]
    _number(axis, [(times[label], scores[label].mean) for label in named], list(named.values()), marks)
    return figure


@styled
def recipe_waterfall(effects, start):
    """What each step of the walk adds to test accuracy, and what the same changes are worth elsewhere.

    `effects`: the frame of `effects.effects`; `start`: mean test accuracy of the assignment's
    CNN, a share. Left, from `start` to the end; right, each change with its interval. Changes
    that are no step of the walk are not drawn.
    """
    walk = effects[effects["kind"] == "walk"]
    changes = list(walk["change"])
    figure, (left, right) = new_figure(height=1.8 + 0.36 * len(changes), columns=2, sharey=True)
    after = start + np.cumsum(walk["mean"].to_numpy())
    colours = [BLUE if step >= 0 else VERMILLION for step in walk["mean"]]
    left.barh(range(len(changes)), walk["mean"], left=after - walk["mean"], color=colours, height=0.6)
    for place, (level, step) in enumerate(zip(after, walk["mean"], strict=True)):
        left.plot([level, level], [place, min(place + 1, len(changes) - 1)], color=GREY, linewidth=0.8)
        place_of_text = max(level, level - step), place
        left.annotate(
            f"{100 * level:.1f}%", place_of_text, (4, 0), textcoords="offset points", va="center", fontsize=SMALL
        )
    left.set(xlabel="test accuracy, from one view", ylim=(len(changes) - 0.5, -0.5))
    left.use_sticky_edges = False  # Else an axis would begin where the lowest bar does.
    left.margins(x=0.16)
    left.set_yticks(range(len(changes)), [textwrap.fill(change, _NAME_WIDTH) for change in changes], fontsize=SMALL)
    left.set_title(f"The walk, from {100 * start:.1f}%")
    percent(left.xaxis)
    for kind, (colour, marker, name, beside) in KINDS.items():
        mine = effects[(effects["kind"] == kind) & effects["change"].isin(changes)]
        if not mine.empty:
            places = mine["change"].map(changes.index) + beside
            reach = [(mine["mean"] - mine["low"]).fillna(0), (mine["high"] - mine["mean"]).fillna(0)]
            label = f"{name} ({_seeds(mine['n'])})"
            style = {"color": colour, "marker": marker, "linestyle": "none", "capsize": 2, "label": label}
            right.errorbar(mine["mean"], places, xerr=reach, **style)
    _mark_changes(right)
    right.axvline(0, color=GREY, linewidth=0.8)
    for place in range(len(changes) - 1):
        right.axhline(place + 0.5, color=LIGHT_GREY, linewidth=0.5, zorder=0)
    right.set_xlabel(
        f"change (percentage points, {LEVEL:.0%} interval;\nscale: even to {100 * EVEN:g}, from there on log)"
    )
    right.set_title("Each change")
    right.grid(True, axis="x")
    figure.suptitle("What each change adds")
    legend_below(figure, right, ncols=2)
    return figure


def _mark_changes(axis):
    """An x axis on which a tenth of a point is seen beside tens of points, which few seeds have in their intervals."""
    axis.set_xscale("symlog", linthresh=EVEN, linscale=1)
    low, high = axis.get_xlim()
    marks = [0.0, *(sign * share for sign in (1, -1) for share in CHANGES)]
    axis.set_xticks([mark for mark in marks if low <= mark <= high])
    axis.set_xticks([], minor=True)
    axis.xaxis.set_major_formatter(lambda value, _: f"{round(100 * value, 6):+g}" if abs(value) > 1e-9 else "0")


def _draw_mean(axis, x, interval, colour):
    # On a scale that has no place for what is beyond 0 and 1.
    ends = np.clip([interval.low, interval.high], 1e-3, 1 - 1e-3)
    reach = np.abs(ends - interval.mean)[:, None] if interval.n > 1 else None
    # Few seeds have long intervals, which lie across their neighbours: faint.
    axis.errorbar(x, interval.mean, reach, color=colour, capsize=3, elinewidth=1, alpha=0.4)
    axis.plot(x, interval.mean, "o", color=colour)


def _number(axis, places, colours, obstacles=()):
    """Number `places`, (x, y) each, in `colours`, apart from one another, from the places and from `obstacles`."""
    white = [withStroke(linewidth=2.5, foreground="white")]
    texts = [
        axis.text(x, y, str(number), fontsize=SMALL, weight="bold", color=colour, path_effects=white)
        for number, ((x, y), colour) in enumerate(zip(places, colours, strict=True))
    ]
    axis.figure.draw_without_rendering()  # Only then is it known where on the page each of them lies.
    x, y = zip(*places, *obstacles, strict=True)
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5}
    adjust_text(texts, x, y, ax=axis, expand=(1.3, 1.4), arrowprops=line, max_move=None)


def _mark_axes(axis, shares):
    """Both scales, with ticks at round shares and times; the `shares` fit in, if not all of their intervals do."""
    axis.set(xscale="log", yscale="logit")
    axis.margins(0.08)
    odds = np.log(np.divide(shares, np.subtract(1, shares)))
    room = 0.08 * np.ptp(odds) + 0.05
    axis.set_ylim(1 / (1 + np.exp(room - odds.min())), 1 / (1 + np.exp(-room - odds.max())))
    for ticks, limits, mark in (
        (SHARES, axis.get_ylim(), axis.set_yticks),
        (TIME_TICKS, axis.get_xlim(), axis.set_xticks),
    ):
        mark([tick for tick in ticks if limits[0] <= tick <= limits[1]])
        mark([], minor=True)
    percent(axis.yaxis)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.grid(True)


def _list_names(axis, names, notes):
    """The names behind the numbers, and the `notes`, as text in the place of an axis."""
    bare(axis)
    # Figure spaces, which are as wide as a digit.
    lines = [
        textwrap.fill(f"{n:\u2007>2}  {name}", _KEY_WIDTH, subsequent_indent="\u2007" * 3)
        for n, name in enumerate(names)
    ]
    wrapped = [textwrap.fill(note, _KEY_WIDTH) for note in notes]
    axis.text(0, 1, "\n".join([*lines, "", *wrapped]), fontsize=SMALL, va="top", linespacing=1.35).set_in_layout(False)


def _about(seeds):
    """What is drawn: the mean over `seeds`, a number for each thing that is drawn."""
    return _seeds(seeds) if max(seeds) == 1 else f"mean, {LEVEL:.0%} interval, {_seeds(seeds)}"


def _seeds(counts):
    few, many = int(min(counts)), int(max(counts))
    return plural(many, "seed") if few == many else f"{few} to {many} seeds"
