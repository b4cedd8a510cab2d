"""Figures of the data set before any model: classes, samples, pixel values, correlations."""

import numpy as np
import seaborn as sns
from matplotlib.ticker import StrMethodFormatter

from cnnlab.figures.style import (
    BLUE,
    GREEN,
    HEAT,
    SMALL,
    VERMILLION,
    legend_below,
    new_figure,
    new_grid,
    percent,
    styled,
)

# Each channel in a colour near its own, and in a line of its own for readers in grey.
_CHANNEL_LINES = {"red": (VERMILLION, "-"), "green": (GREEN, "--"), "blue": (BLUE, "-.")}
_DIRECTION_LINES = {"horizontal": (BLUE, "o", "-"), "vertical": (VERMILLION, "s", "--")}
_HATCHES = ("", "///", "...", "xx")


@styled
def class_distribution(counts):
    """Bars of `exploration.class_counts`: images a class (rows), one bar a split (columns)."""
    figure, axis = new_figure(height=(0.15 * counts.shape[1] + 0.1) * len(counts) + 1)
    shades = sns.color_palette(HEAT, counts.shape[1])
    thickness = 0.8 / counts.shape[1]
    places = np.arange(len(counts))
    for index, (split, images) in enumerate(counts.items()):
        bars = axis.barh(
            places + (index + 0.5) * thickness - 0.4, images, thickness,
            color=shades[index], hatch=_HATCHES[index % len(_HATCHES)], edgecolor="white",
            label=f"{split} ({images.sum():,} images)",
        )  # fmt: skip
        axis.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=SMALL)
    axis.set(yticks=places, yticklabels=counts.index, xlabel="images", title="Images of each class in each split")
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.margins(x=0.08, y=0.02)
    legend_below(figure, axis, ncols=counts.shape[1])
    return figure


@styled
def sample_images(images, labels, class_names, per_class=7):
    """The first `per_class` of uint8 `images` (n, height, width, channels) of each class, a row a class."""
    figure, axes = new_grid(len(class_names) * per_class, per_class, 0.72, width=0.76 * per_class + 1)
    for label, name in enumerate(class_names):
        row = axes[label * per_class : (label + 1) * per_class]
        for axis, image in zip(row, images[labels == label], strict=False):
            axis.imshow(image)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    height, width = images.shape[1:3]
    figure.suptitle(f"Sample images of each class, {height}×{width} pixels")
    return figure


@styled
def pixel_distribution(histogram, statistics):
    """Lines of `exploration.pixel_histogram`, named with `exploration.pixel_statistics` of each channel."""
    figure, axis = new_figure(height=4)
    for channel, counts in histogram.items():
        colour, line = _CHANNEL_LINES[channel]
        mean, std = statistics.loc[channel, ["mean", "std"]]
        axis.plot(
            histogram.index, counts / counts.sum(), color=colour, linestyle=line,
            label=f"{channel}: mean {mean:.1f}, standard deviation {std:.1f}",
        )  # fmt: skip
    axis.set(xlabel="pixel value (0 black, 255 full)", ylabel="share of the channel's pixels", xlim=(-2, 257))
    axis.set_title("Pixel values of the training images, by colour channel")
    axis.set_ylim(bottom=0)
    percent(axis.yaxis)
    legend_below(figure, axis, ncols=2)
    return figure


@styled
def spatial_correlation(correlation, channels):
    """Left: `exploration.spatial_correlation` against distance; right: `exploration.channel_correlation`."""
    figure, (axis, heat) = new_figure(height=3.9, columns=2, width_ratios=(1.5, 1))
    for direction, rows in correlation.groupby("direction", sort=False):
        colour, marker, line = _DIRECTION_LINES[direction]
        axis.plot(rows["distance"], rows["correlation"], color=colour, marker=marker, linestyle=line, label=direction)
    axis.set(xlabel="distance between two pixels (pixels)", ylabel="correlation (Pearson's r)")
    axis.set_title("Two pixels, by their distance")
    axis.set_ylim(min(0, correlation["correlation"].min()), 1.02)
    axis.locator_params(axis="x", integer=True)
    axis.grid(True)
    axis.legend()
    sns.heatmap(
        channels, ax=heat, cmap=HEAT, vmin=0, vmax=1, annot=True, fmt=".2f", square=True,
        cbar_kws={"label": "correlation (Pearson's r)", "shrink": 0.8},
    )  # fmt: skip
    heat.set_title("Two channels of one pixel")
    heat.set_yticklabels(channels.index, rotation=0)
    heat.tick_params(length=0)
    return figure
