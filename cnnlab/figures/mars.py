"""Figures for images of several cameras and classes of unequal size, taken over years: Mars."""

import textwrap

import numpy as np
import seaborn as sns

from cnnlab.figures.style import (
    COLOURS,
    HEAT,
    MARKERS,
    SMALL,
    VERMILLION,
    bare,
    legend_below,
    new_figure,
    new_grid,
    percent,
    shape_text,
    styled,
)
from cnnlab.wording import plural, readable

_HATCHES = ("", "///", "...", "xx")
_SCORES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro-F1"}
# Characters of a caption under a small picture.
_CAPTION_WIDTH = 24


@styled
def class_imbalance(counts):
    """Bars of `exploration.class_counts`, a panel a split, the classes by their number in the first split.

    For classes of very unequal size: each panel has its own scale, and a class without images is marked.
    """
    counts = counts.sort_values(counts.columns[0], ascending=False, kind="stable")
    figure, axes = new_figure(height=0.25 * len(counts) + 1, columns=counts.shape[1], sharey=True)
    for index, (axis, (split, images)) in enumerate(zip(axes, counts.items(), strict=True)):
        bars = axis.barh(counts.index, images, color=COLOURS[0], height=0.7)
        for text, number in zip(axis.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=SMALL), images, strict=True):
            if not number:
                text.set(text="none", color=VERMILLION, weight="bold")
        axis.set_title(f"{split}: {images.sum():,} images")
        axis.margins(x=0.18, y=0.01)
        axis.tick_params(axis="y", length=0)
        if not index:
            axis.invert_yaxis()
    figure.supxlabel("images (each panel has its own scale)", fontsize=SMALL)
    return figure


@styled
def camera_shares(shares):
    """Stacked bars of `mars.camera_shares`: a bar a split, a part a camera."""
    figure, axis = new_figure(height=2.6)
    left, shades = np.zeros(shares.shape[1]), sns.color_palette(HEAT, len(shares))
    for index, (camera, parts) in enumerate(shares.iterrows()):
        bars = axis.barh(
            list(shares.columns), parts, left=left, color=shades[index], hatch=_HATCHES[index % len(_HATCHES)],
            edgecolor="white", label=camera,
        )  # fmt: skip
        names = [f"{part:.0%}" if part > 0.05 else "" for part in parts]
        for text in axis.bar_label(bars, names, label_type="center", fontsize=SMALL):
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5})
        left += parts.to_numpy()
    axis.set(xlim=(0, 1), xlabel="share of the split's images", title="Which camera took the images of each split")
    axis.invert_yaxis()
    percent(axis.xaxis)
    legend_below(figure, axis, ncols=len(shares))
    return figure


@styled
def class_samples(images, table, blocks=2, per_class=3):
    """Some images of each class, a row a class, the classes in `blocks` columns.

    `images` uint8 (n, height, width, channels); `table`: `mars.samples`, whose rows say which;
    no more than `per_class` of a class are shown.
    """
    groups = {name: mine["row"].head(per_class) for name, mine in table.groupby("class", sort=False)}
    rows = -(-len(groups) // blocks)
    figure, axes = new_grid(rows * blocks * per_class, blocks * per_class, 0.68, width=5.6)
    for axis in axes:
        axis.set_visible(False)
    for index, (name, chosen) in enumerate(groups.items()):
        block, row = divmod(index, rows)
        first = row * blocks * per_class + block * per_class
        for axis, image in zip(axes[first : first + per_class], images[list(chosen)], strict=False):
            axis.set_visible(True)
            axis.imshow(image)
        axes[first].set_ylabel(textwrap.fill(name, 12), rotation=0, ha="right", va="center", fontsize=SMALL)
    figure.suptitle("Images of each class, no frame twice")
    return figure


@styled
def captioned_images(images, captions, title, columns=4):
    """Small pictures (arrays that `imshow` takes) with a caption of a few words under each."""
    figure, axes = new_grid(len(images), columns, cell_height=2.5)
    for axis, image, caption in zip(axes, images, captions, strict=True):
        axis.imshow(image)
        lines = [textwrap.fill(line, _CAPTION_WIDTH) for line in caption.splitlines()]
        axis.set_xlabel("\n".join(lines), fontsize=SMALL)
    figure.suptitle(title)
    return figure


@styled
def image_pipeline(steps):
    """One picture's way to the network, `mars.pipeline`: {step: array}, each with its shape, type and range."""
    figure, axes = new_figure(height=2.5, columns=len(steps))
    for axis, (name, image) in zip(axes, steps.items(), strict=True):
        grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if image.ndim == 2 else {}
        bare(axis).imshow(image, **grey)
        axis.set_title(name)
        limits = f"{image.min():.3g} to {image.max():.3g}"
        axis.set_xlabel(f"{shape_text(image.shape)}\n{image.dtype}\n{limits}", fontsize=SMALL)
    figure.suptitle("From the published file to the network's input")
    return figure


@styled
def group_scores(table):
    """Accuracy, balanced accuracy and macro-F1 of networks and baselines, with intervals over groups.

    `table`: the scores of `mars_record.evaluate`: label, score, value, low, high.
    """
    labels = list(dict.fromkeys(table["label"]))
    figure, axes = new_figure(height=0.36 * len(labels) + 1.2, columns=len(_SCORES), sharey=True)
    places = np.arange(len(labels))
    for index, (axis, (score, name)) in enumerate(zip(axes, _SCORES.items(), strict=True)):
        mine = table[table["score"] == score].set_index("label").loc[labels]
        reach = [mine["value"] - mine["low"], mine["high"] - mine["value"]]
        axis.errorbar(
            mine["value"], places, xerr=np.maximum(reach, 0), color=COLOURS[index], marker=MARKERS[index], markersize=7,
            linestyle="none", capsize=4,
        )  # fmt: skip
        axis.set(title=name, xlim=(-0.02, 1.0))
        percent(axis.xaxis)
        axis.grid(True, axis="y")
    axes[0].set_yticks(places, [textwrap.fill(readable(label), 22) for label in labels])
    axes[0].invert_yaxis()
    axes[1].set_xlabel(
        "on the test images; the bars are intervals over groups of images taken together", fontsize=SMALL
    )
    return figure


@styled
def class_recalls(table):
    """Recall of each class with its interval, one mark a network: label, class, images, groups, value, low, high."""
    table = table[table["images"] > 0]
    labels = list(dict.fromkeys(table["label"]))
    first = table[table["label"] == labels[-1]].sort_values("value", kind="stable")
    classes = list(first["class"])
    figure, axis = new_figure(height=0.3 * len(classes) + 1.2)
    for index, label in enumerate(labels):
        mine = table[table["label"] == label].set_index("class").loc[classes]
        places = np.arange(len(classes)) + 0.3 * (index - (len(labels) - 1) / 2)
        reach = np.nan_to_num(np.maximum([mine["value"] - mine["low"], mine["high"] - mine["value"]], 0))
        axis.errorbar(
            mine["value"], places, xerr=reach, color=COLOURS[index], marker=MARKERS[index], markersize=6,
            linestyle="none", capsize=2, linewidth=1.2, label=readable(label),
        )  # fmt: skip
    named = first.set_index("class")
    axis.set_yticks(
        np.arange(len(classes)),
        [
            f"{name} ({plural(row['images'], 'image')}, {plural(row['groups'], 'group')})"
            for name, row in named.iterrows()
        ],
        fontsize=SMALL,
    )
    axis.set(xlim=(-0.02, 1.02), xlabel="recall: share of the class's test images that are answered correctly")
    axis.set_title("Recall of each class in the test split")
    axis.margins(y=0.02)
    percent(axis.xaxis)
    axis.grid(True, axis="y")
    legend_below(figure, axis, ncols=len(labels))
    return figure


@styled
def accuracy_by_sol(table):
    """Accuracy in spans of Martian days: label, first_sol, last_sol, images, accuracy, low, high (over groups)."""
    figure, axis = new_figure(height=4.2)
    for index, (label, mine) in enumerate(table.groupby("label", sort=False)):
        middle = (mine["first_sol"] + mine["last_sol"]) / 2 + 3 * index
        axis.hlines(mine["accuracy"], mine["first_sol"], mine["last_sol"], color=COLOURS[index], alpha=0.4, linewidth=4)
        reach = [mine["accuracy"] - mine["low"], mine["high"] - mine["accuracy"]]
        axis.errorbar(
            middle, mine["accuracy"], reach, color=COLOURS[index], marker=MARKERS[index], linestyle="none", capsize=3,
            label=readable(label),
        )  # fmt: skip
    axis.set(
        xlabel="sol (Martian day of the mission); a bar is a span of sols, each with as many groups",
        ylabel="accuracy",
        ylim=(0, 1),
    )
    axis.set_title("Accuracy against the day the image was taken")
    axis.grid(True)
    percent(axis.yaxis)
    legend_below(figure, axis, ncols=3)
    return figure
