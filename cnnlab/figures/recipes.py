"""Figures of the recipes: accuracy against time, and what each change adds."""

import textwrap

import numpy as np
from adjustText import adjust_text
from matplotlib.patheffects import withStroke

from cnnlab.figures import style
from cnnlab.figures.studies import seed_count
from cnnlab.measures import BASELINE_TIMES, LEVEL, frontier, t_interval
from cnnlab.studies import PUBLISHED_EPOCHS

# Shares of right answers and times that are marked on the axes where they fall into their range.
SHARES = (0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
TIME_TICKS = [digit * 10.0**power for power in range(-3, 5) for digit in (1, 2, 5)]
# Changes that are marked; up to the first the scale is even, because a log one has no nought.
CHANGES = (0.01, 0.04, 0.2)
EVEN = CHANGES[0]
# Kinds of contrast: colour, marker, name, and how far from the middle of their row they stand.
KINDS = {
    "walk": (style.BLUE, "o", "on top of the steps before", 0.0),
    "alone": (style.PURPLE, "s", "alone, on the assignment's CNN", 0.22),
    "left out": (style.GREEN, "^", "against leaving it out of the narrow recipe", -0.22),
}
# Characters of a change's name beside an axis, and of a recipe's in the list.
_NAME_WIDTH, _KEY_WIDTH = 22, 34


@style.styled
def recipe_frontier(rows, walk, metric, time="seconds", endings=(), targets=None, names=None):
    """Accuracy against the time of a training (log axis): the walk joined by a line, each step named.

    `rows`: label, seed, `metric` (a share) and `time`, one of `ablation.TIMES`, of which the means are drawn; `walk`:
    labels in its order; `endings`: labels beside it that are named too, as is what lies on the frontier (dashed: the
    best accuracy within a time), the other recipes being small dots; `targets`: {label: (share, baseline times)}, drawn
    as crosses where times are baseline times; `names`: {label: words}.
    """
    targets, names = targets or {}, names or {}
    found, in_baseline_times = rows.groupby("label"), time == BASELINE_TIMES
    times, scores = found[time].mean(), found[metric].agg(list).map(t_interval)
    means = scores.map(lambda interval: interval.mean)
    best = frontier(rows, metric, time)
    walked = [label for label in walk if label in times]
    ended = [label for label in (*endings, *best) if label in times and label not in walk]
    named = dict.fromkeys(walked, style.BLUE)
    for label in ended:
        named[label] = style.GREEN if label in targets else style.PURPLE if label in best else style.BLACK
    figure, (axis, key) = style.new_figure(height=7.2, columns=2, width_ratios=[1.9, 1])
    others = [label for label in times.index if label not in named]
    axis.plot(times[others], means[others], "o", color=style.LIGHT_GREY, markersize=4)
    dashed = {"where": "post", "color": style.GREY, "linewidth": 1, "linestyle": "--"}
    axis.step([*times[best], times.max()], means[[*best, best[-1]]], **dashed)
    axis.plot(times[walked], means[walked], color=style.BLUE, linewidth=1, alpha=0.5)
    for label, colour in named.items():
        _draw_mean(axis, times[label], scores[label], colour)
    crosses = [(limit, share) for share, limit in targets.values()] if in_baseline_times else []
    for limit, share in crosses:
        axis.plot(limit, share, "+", color=style.VERMILLION, markersize=11, markeredgewidth=2)
        look = {"va": "top", "ha": "center", "fontsize": style.SMALL, "color": style.VERMILLION}
        axis.annotate(f"{100 * share:g}% in {limit:g}", (limit, share), (0, -9), textcoords="offset points", **look)
    _mark_axes(axis, [*means, *(share for _, share in crosses)])
    unit = f"1: {PUBLISHED_EPOCHS}" if in_baseline_times else "seconds"
    how = ", measured side by side" * in_baseline_times
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
    _list_names(key, [names.get(label, label) for label in named], [note for note, so in notes.items() if so])
    seeds = found["seed"].nunique()
    about = f"mean, {LEVEL:.0%} interval, " if max(seeds) > 1 else ""
    figure.suptitle(f"Accuracy against time ({about}{seed_count(seeds)})")
    _number(axis, [(times[label], means[label]) for label in named], list(named.values()), crosses)
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
        axis.text(x, y, str(number), fontsize=style.SMALL, weight="bold", color=colour, path_effects=white)
        for number, ((x, y), colour) in enumerate(zip(places, colours, strict=True))
    ]
    axis.figure.draw_without_rendering()  # Only then is it known where on the page each of them lies.
    x, y = zip(*places, *obstacles, strict=True)
    line = {"arrowstyle": "-", "color": style.GREY, "linewidth": 0.5}
    # A limit by steps: by default it is one second, and the picture that of the machine's load.
    adjust_text(texts, x, y, ax=axis, expand=(1.3, 1.4), arrowprops=line, max_move=None, iter_lim=500)


def _mark_axes(axis, shares):
    """Both scales, with ticks at round shares and times; the `shares` fit in, if not all of their intervals do."""
    axis.set(xscale="log", yscale="logit")
    axis.margins(0.08)
    odds = np.log(np.divide(shares, np.subtract(1, shares)))
    room = 0.08 * np.ptp(odds) + 0.05
    axis.set_ylim(1 / (1 + np.exp(room - odds.min())), 1 / (1 + np.exp(-room - odds.max())))
    for ticks, (low, high), mark in (
        (SHARES, axis.get_ylim(), axis.set_yticks),
        (TIME_TICKS, axis.get_xlim(), axis.set_xticks),
    ):
        mark([tick for tick in ticks if low <= tick <= high])
        mark([], minor=True)
    style.percent(axis.yaxis)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.grid(True)


def _list_names(axis, names, notes):
    """The names behind the numbers, and the `notes`, as text in the place of an axis."""
    style.bare(axis)
    # Figure spaces, which are as wide as a digit.
    numbered = [f"{number:\u2007>2}  {name}" for number, name in enumerate(names)]
    lines = [textwrap.fill(line, _KEY_WIDTH, subsequent_indent="\u2007" * 3) for line in numbered]
    text = "\n".join([*lines, "", *(textwrap.fill(note, _KEY_WIDTH) for note in notes)])
    axis.text(0, 1, text, fontsize=style.SMALL, va="top", linespacing=1.35).set_in_layout(False)
