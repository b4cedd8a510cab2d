"""Figures of what networks answer: examples, confusion, confidence, calibration."""

from itertools import pairwise

import numpy as np
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from cnnlab.figures import style

# Classes up to which a confusion matrix is in percent: those of more are often too small for one.
_CELLS_WITH_PERCENT = 12
_BINS = np.linspace(0, 1, 21)
# Classes that an answer is shown with.
_BARS = 5


@style.styled
def prediction_comparison(images, labels, class_names, answers):
    """Each of a dozen or so test images with its truth and every network's answer and confidence.

    `images` uint8 (n, height, width, channels); `labels` (n,), integers; `answers`: {network: probabilities (n,
    classes)}. A tick and blue for right, a cross and vermillion for wrong.
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
    figure.suptitle("Test images, and each network's answer with its confidence")
    return figure


@style.styled
def answer_bars(pictures, answers, class_names, title):
    """Pictures beside each other, and beside them the probabilities of the likeliest classes, likeliest on top.

    `pictures`: {caption: uint8 (height, width, channels), or a feature map (rows, columns)}, the maps on one scale from
    zero; `answers`: {series: probabilities (classes,)}, the last in colour.
    """
    figure = style.blank_figure(height=2.6)
    grid = figure.add_gridspec(1, len(pictures) + 1, width_ratios=[*[1] * len(pictures), 1.2])
    top = max([float(pixels.max()) for pixels in pictures.values() if pixels.ndim == 2] + [1e-6])
    for place, (caption, pixels) in enumerate(pictures.items()):
        axis = style.bare(figure.add_subplot(grid[place]))
        axis.imshow(pixels, cmap=style.HEAT, vmin=0, vmax=top)  # of colours none is heeded
        axis.set_title(caption, fontsize=style.SMALL)
    axis = figure.add_subplot(grid[-1])
    likeliest = np.argsort(-np.max(list(answers.values()), axis=0), kind="stable")[:_BARS][::-1]
    for number, (series, probabilities) in enumerate(reversed(answers.items())):
        places = np.arange(len(likeliest)) + 0.8 * (number + 0.5) / len(answers) - 0.4
        colour = style.LIGHT_GREY if number else style.BLUE
        bars = axis.barh(places, probabilities[likeliest], 0.8 / len(answers), color=colour, label=series)
        axis.bar_label(bars, [f"{share:.0%}" for share in probabilities[likeliest]], fontsize=7, padding=2)
    axis.set_yticks(range(len(likeliest)), [class_names[place] for place in likeliest], fontsize=style.SMALL)
    axis.set(xlim=(0, 1.15), xticks=[])
    axis.tick_params(length=0)
    axis.spines["bottom"].set_visible(False)
    if len(answers) > 1:
        axis.legend(*(part[::-1] for part in axis.get_legend_handles_labels()), loc="lower right")
    figure.suptitle(title, fontsize=10)
    return figure


@style.styled
def attribution(images, maps, captions):
    """Images beside each other, and below each what maps show: the brighter, the more speaks for the answer.

    `images` uint8 (n, height, width, channels); `maps`: {kind: (n, rows, columns), of any size}, as of `measures.MAPS`;
    `captions`: a text each. What speaks against the answer is as dark as what does nothing for it.
    """
    count = len(images)
    figure, axes = style.new_grid((1 + len(maps)) * count, count, cell_height=min(2.2, style.WIDTH / count))
    for axis, image, caption in zip(axes, images, captions, strict=False):
        axis.imshow(image)
        axis.set_title(caption, fontsize=style.SMALL)
    for row, (kind, found) in enumerate(maps.items(), start=1):
        axes[row * count].set_ylabel(kind, fontsize=style.SMALL)
        for axis, image, values in zip(axes[row * count :], images, found, strict=False):
            axis.imshow(image.mean(axis=2), cmap="gray")
            # Single pixels may stand out so far that the others would look alike.
            top = max(float(np.quantile(values, 0.995)), 1e-6)
            shown = {"cmap": style.HEAT, "alpha": 0.65, "extent": (0, image.shape[1], image.shape[0], 0), "vmin": 0}
            axis.imshow(np.maximum(values, 0), vmax=top, **shown)
    return figure


@style.styled
def confusion_matrix(counts, title, groups=None):
    """`measures.confusion_counts`: right answers as numbers, errors also as colour, so that these can be compared.

    Cells are percent of the true class, or with more than a dozen classes images, and empty below one. `groups`, {name:
    class names}: of a kind, which stand together between lines, others after them; rows without images and columns
    that nobody answers are left out.
    """
    kinds = {name: kind for kind, members in (groups or {}).items() for name in members}
    if groups:
        order = [name for name in dict.fromkeys([*kinds, *counts.index]) if name in counts.index]
        rows = [name for name in order if counts.loc[name].any()]
        counts = counts.loc[rows, [name for name in order if name in rows or counts[name].any()]]
    classes = len(counts)
    few = classes <= _CELLS_WITH_PERCENT
    width = style.WIDTH if few else 0.36 * classes + 2.5
    shares = counts.div(counts.sum(axis=1).replace(0, 1), axis=0)
    cells = (100 * shares).round().astype(int) if few else counts
    right = np.equal.outer(counts.index.to_numpy(), counts.columns.to_numpy())
    figure, axis = style.new_figure(height=0.88 * width, width=width)
    sns.heatmap(
        shares.mask(right, 0), ax=axis, cmap="Blues", vmin=0, annot=cells.map(lambda n: f"{n:,}" if n else ""), fmt="",
        annot_kws={"fontsize": 10 if few else style.SMALL}, square=True, linewidths=0.5, linecolor=style.LIGHT_GREY,
        cbar_kws={"label": "errors: share of the true class's images", "shrink": 0.8},
    )  # fmt: skip
    style.percent(axis.collections[0].colorbar.ax.yaxis)
    for text in np.array(axis.texts)[right.ravel()]:
        text.set(weight="bold", color="black")
    for names, line in ((counts.index, axis.axhline), (counts.columns, axis.axvline)):
        for edge, (before, after) in enumerate(pairwise(names), 1):
            if kinds.get(before) != kinds.get(after):
                line(edge, color=style.GREY, linewidth=1.5)
    unit = "percent of the true class" if few else "images"
    axis.set(xlabel=f"answer (numbers: {unit})", ylabel="true class", title=title)
    axis.set_xticklabels(counts.columns, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticklabels(counts.index, rotation=0)
    axis.tick_params(length=0)
    return figure


@style.styled
def confidence_distribution(confidence, correct):
    """Histograms of `confidence` (n,) in 0..1: above of the right answers, below of the wrong; `correct` bool (n,)."""
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


@style.styled
def reliability_diagram(panels):
    """Accuracy against confidence, in bins of equally many images, with intervals.

    `panels`: {title: {series: bins}}, one panel a title, with bins as `measures.reliability_bins` gives them. A series'
    name is its legend, which is the place for its calibration error. On the diagonal, confidence is accuracy; below it
    the network is too sure of itself.
    """
    figure, axes = style.new_figure(height=4.2, columns=len(panels), sharey=True, squeeze=False)
    for axis, (title, tables) in zip(axes.flat, panels.items(), strict=True):
        _reliability(axis, tables)
        axis.set_title(title)
        axis.legend(loc="upper left")
    axes[0, 0].set_ylabel("accuracy")
    return figure


@style.styled
def confidence_moved(bins, confidences):
    """Left the reliability of each series, right how many images have which confidence.

    `bins`: {series: bins as `measures.reliability_bins` gives them}; `confidences`: {series: (n,), 0 to 1}.
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


@style.styled
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
