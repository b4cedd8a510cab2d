"""Figures of what networks answer: examples, confusion, confidence, calibration."""

from itertools import pairwise

import numpy as np
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from cnnlab.figures import style
from cnnlab.measures import largest_errors

# The most classes at which a confusion matrix is readable.
_MATRIX_CLASSES = 12
_BINS = np.linspace(0, 1, 21)
# How many classes are shown with an answer.
_BARS = 5
# How far below black the grey scale under a map begins, in ranges from black to white. And the map's colours.
_PALE = 2
_SPEAKS = LinearSegmentedColormap.from_list("speaks for it", [(style.VERMILLION, 0), (style.VERMILLION, 1)])


@style.in_style()
def prediction_comparison(images, labels, class_names, answers):
    """About a dozen test images, each with its true class and every network's answer and confidence.

    `images` uint8 (n, height, width, channels); `labels` (n,), integers; `answers`: {network: probabilities (n,
    classes)}. A tick and blue mean right, a cross and vermillion wrong.
    """
    figure, axes = style.new_grid(len(images), 4, cell_height=1.9 + 0.18 * len(answers))
    for index, axis in enumerate(axes):
        axis.imshow(images[index])
        axis.set_title(f"truth: {class_names[labels[index]]}", fontsize=10)
        for line, (network, probabilities) in enumerate(answers.items(), start=1):
            answer = probabilities[index].argmax()
            tick, colour = ("✓", style.BLUE) if answer == labels[index] else ("✗", style.VERMILLION)
            text = f"{tick} {network}: {class_names[answer]}, {probabilities[index, answer]:.0%}"
            look = {"ha": "center", "va": "center", "fontsize": style.SMALL, "color": colour}
            axis.text(0.5, -0.13 * line, text, transform=axis.transAxes, **look)
    figure.get_layout_engine().set(hspace=0.1)
    figure.suptitle("Test images with each network's answer and its confidence")
    return figure


@style.in_style()
def answer_bars(pictures, answers, class_names, title):
    """Pictures side by side, and beside them the probabilities of the likeliest classes, likeliest on top.

    `pictures`: {caption: uint8 (height, width, channels), or a feature map (rows, columns)}, the maps on one scale from
    zero; `answers`: {series: probabilities (classes,)}, the last in colour.
    """
    figure = style.blank_figure(height=2.6)
    grid = figure.add_gridspec(1, len(pictures) + 1, width_ratios=[*[1] * len(pictures), 1.2])
    top = max([float(pixels.max()) for pixels in pictures.values() if pixels.ndim == 2] + [1e-6])
    for place, (caption, pixels) in enumerate(pictures.items()):
        axis = style.bare(figure.add_subplot(grid[place]))
        axis.imshow(pixels, cmap=style.HEAT, vmin=0, vmax=top)  # colour images ignore all of these
        axis.set_title(caption, fontsize=style.SMALL)
    axis = figure.add_subplot(grid[-1])
    likeliest = np.argsort(-np.max(list(answers.values()), axis=0), kind="stable")[:_BARS][::-1]
    for number, (series, probabilities) in enumerate(reversed(answers.items())):
        places = np.arange(len(likeliest)) + 0.8 * (number + 0.5) / len(answers) - 0.4
        colour = style.LIGHT_GREY if number else style.BLUE
        bars = axis.barh(places, probabilities[likeliest], 0.8 / len(answers), color=colour, label=series)
        axis.bar_label(bars, [f"{share:.0%}" for share in probabilities[likeliest]], fontsize=style.SMALL, padding=2)
    axis.set_yticks(range(len(likeliest)), [class_names[place] for place in likeliest], fontsize=style.SMALL)
    axis.set(xlim=(0, 1.2), xticks=[])
    axis.tick_params(length=0)
    axis.spines["bottom"].set_visible(False)
    if len(answers) > 1:
        axis.legend(*(part[::-1] for part in axis.get_legend_handles_labels()), loc="lower right")
    figure.suptitle(title, fontsize=10)
    return figure


@style.in_style()
def attribution(images, maps, captions):
    """Images side by side, each above pale copies coloured where maps say the answer comes from.

    `images` uint8 (n, height, width, channels); `maps`: {kind: (n, rows, columns), of any size}, as from
    `measures.MAPS`; `captions`: one text per image. Evidence against the answer looks as pale as no evidence.
    """
    count = len(images)
    figure, axes = style.new_grid((1 + len(maps)) * count, count, cell_height=min(2.2, style.WIDTH / count))
    for axis, image, caption in zip(axes, images, captions, strict=False):
        axis.imshow(image)
        axis.set_title(caption, fontsize=style.SMALL)
    for row, (kind, found) in enumerate(maps.items(), start=1):
        axes[row * count].set_ylabel(kind, fontsize=style.SMALL)
        for axis, image, values in zip(axes[row * count :], images, found, strict=False):
            place = {"extent": (0, image.shape[1], image.shape[0], 0)}
            axis.imshow(image.mean(axis=2), cmap="gray", vmin=-_PALE * 255, vmax=255, **place)
            # A few pixels may stand out so far that the others would look alike.
            top = max(float(np.quantile(values, 0.995)), 1e-6)
            axis.imshow(np.maximum(values, 0), cmap=_SPEAKS, vmin=0, vmax=top, **place)
    figure.suptitle("Where the answer comes from (stronger colour: larger contribution)")
    return figure


@style.in_style()
def confusion_matrix(counts, title, groups=None):
    """`measures.confusion_counts` in percent of the true class: right answers in bold, errors also as colour.

    `groups`, {name: class names}: classes of a kind stand together between lines, the others after them. With more than
    a dozen classes, where most cells are empty, the largest errors are shown as bars instead.
    """
    if len(counts) > _MATRIX_CLASSES:
        return _bars_of_errors(largest_errors(counts), title)
    kinds = {name: kind for kind, members in (groups or {}).items() for name in members}
    order = [name for name in dict.fromkeys([*kinds, *counts.index]) if name in counts.index]
    counts = counts.loc[order, order]
    shares = counts.div(counts.sum(axis=1).replace(0, 1), axis=0)
    percent = (100 * shares).round().astype(int)
    right = np.eye(len(counts), dtype=bool)
    figure, axis = style.new_figure(height=6.4)
    sns.heatmap(
        shares.mask(right, 0), ax=axis, cmap="Blues", vmin=0, annot=percent.map(lambda n: f"{n}" if n else ""), fmt="",
        annot_kws={"fontsize": 10}, square=True, linewidths=0.5, linecolor=style.LIGHT_GREY, cbar=False,
    )  # fmt: skip
    for text in np.array(axis.texts)[right.ravel()]:
        text.set(weight="bold", color="black")
    for edge, (before, after) in enumerate(pairwise(order), 1):
        if kinds.get(before) != kinds.get(after):
            axis.axhline(edge, color=style.GREY, linewidth=1.5)
            axis.axvline(edge, color=style.GREY, linewidth=1.5)
    axis.set(xlabel="answer (percent of the true class; darker: more errors)", ylabel="true class", title=title)
    axis.set_xticklabels(order, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticklabels(order, rotation=0)
    axis.tick_params(length=0)
    return figure


def _bars_of_errors(errors, title):
    """`measures.largest_errors` as bars, the largest on top."""
    figure, axis = style.new_figure(height=0.4 * len(errors) + 1.2)
    names = errors["true"] + " → " + errors["answer"]
    bars = axis.barh(names, errors["times"], color=style.BLUE, height=0.7)
    axis.bar_label(bars, [f"{row.times:,} of {row.images:,}" for row in errors.itertuples()], padding=4)
    axis.set(xlabel="images answered wrongly (of the class's images)", ylabel="true class → answer")
    axis.set_title(title)
    axis.margins(x=0.15)
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.grid(True, axis="x")
    return figure


@style.in_style()
def confidence_distribution(confidence, correct):
    """Histograms of `confidence` (n,) in 0..1, right answers above wrong ones; `correct` bool (n,)."""
    figure, axes = style.new_figure(height=5, rows=2, sharex=True)
    groups = (("Right", confidence[correct], style.BLUE, ""), ("Wrong", confidence[~correct], style.VERMILLION, "///"))
    for axis, (name, values, colour, hatch) in zip(axes, groups, strict=True):
        axis.hist(values, _BINS, facecolor=(colour, 0.3), edgecolor=colour, hatch=hatch)
        median = f", median confidence {np.median(values):.1%}" if len(values) else ""
        axis.set_title(f"{name} answers: {len(values):,} images{median}")
        axis.set_ylabel("test images")
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.grid(True, axis="y")
    axes[1].set(xlabel="confidence (probability of the answer)", xlim=(0, 1))
    style.percent(axes[1].xaxis)
    return figure


@style.in_style()
def reliability_diagram(panels):
    """Accuracy against confidence, in bins of equally many images, with intervals.

    `panels`: {title: {series: bins}}, one panel per title, with bins as `measures.reliability_bins` returns them. A
    series' name is its legend, the place for its calibration error. On the diagonal, confidence equals accuracy; below
    it the network is overconfident.
    """
    figure, axes = style.new_figure(height=4.2, columns=len(panels), sharey=True, squeeze=False)
    for axis, (title, tables) in zip(axes.flat, panels.items(), strict=True):
        _reliability(axis, tables)
        axis.set_title(title)
        axis.legend(loc="upper left")
    axes[0, 0].set_ylabel("accuracy")
    return figure


@style.in_style()
def confidence_moved(bins, confidences):
    """Left: the reliability of each series; right: how many images have which confidence.

    `bins`: {series: bins as `measures.reliability_bins` returns them}; `confidences`: {series: (n,), 0 to 1}.
    """
    figure, (left, right) = style.new_figure(height=3.6, columns=2)
    _reliability(left, bins)
    left.set_ylabel("accuracy")
    for index, values in enumerate(confidences.values()):
        look = {"color": style.COLOURS[index], "linestyle": style.LINES[index], "linewidth": 1.8}
        right.hist(values, _BINS, histtype="step", **look)
    right.set(xlabel=left.get_xlabel(), ylabel="images", xlim=(0, 1))
    right.yaxis.set_major_formatter("{x:,.0f}")
    style.percent(right.xaxis)
    style.legend_below(figure, left, ncols=3)
    return figure


def _reliability(axis, tables):
    """One panel of a reliability diagram on `axis`, of `tables` {series: bins}."""
    axis.plot([0, 1], [0, 1], color=style.GREY, linestyle=":", label="perfect calibration")
    for index, (series, bins) in enumerate(tables.items()):
        look = {"color": style.COLOURS[index], "linestyle": style.LINES[index], "marker": style.MARKERS[index]}
        style.error_bars(axis, bins["confidence"], bins, "accuracy", capsize=2, label=series, **look)
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="confidence (probability of the answer)")
    style.percent(axis.xaxis)
    style.percent(axis.yaxis)


_CURVES = {
    "": ("training (during the epoch)", style.VERMILLION, "s", "--"),
    "val_": ("validation (after it)", style.BLUE, "o", "-"),
}


@style.in_style()
def training_curves(history, best_epoch, title):
    """Accuracy and loss against the epoch, on training and validation images.

    `history`: {"accuracy", "loss", "val_accuracy", "val_loss"} to one value an epoch; `best_epoch`: the epoch, from 1,
    whose weights were chosen on validation; `title` names the network.
    """
    figure, axes = style.new_figure(height=3.8, columns=2)
    epochs = range(1, len(history["loss"]) + 1)
    for axis, quantity in zip(axes, ("accuracy", "loss"), strict=True):
        axis.axvline(best_epoch, color=style.LIGHT_GREY, linewidth=6, zorder=0, label=f"best epoch ({best_epoch})")
        for prefix, (name, colour, marker, line) in _CURVES.items():
            axis.plot(epochs, history[prefix + quantity], color=colour, marker=marker, linestyle=line, label=name)
        axis.set(xlabel="epoch", xlim=(0.5, len(epochs) + 0.5), title=quantity.capitalize())
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(True, axis="y")
    style.percent(axes[0].yaxis)
    axes[0].set_ylim(0, 1)
    axes[0].set_ylabel("accuracy")
    axes[1].set_ylabel("cross-entropy (nats)")
    axes[1].set_ylim(0, 1.05 * max(history["loss"] + history["val_loss"]))
    figure.suptitle(title)
    style.legend_below(figure, axes[0], ncols=3)
    return figure
