"""Figures of a data set before any model: classes, samples, pixel values, correlations; cameras and frames of Mars."""

import textwrap

import numpy as np
import seaborn as sns

from cnnlab.figures import style

# Each channel in a colour near its own, and with its own line style for reading in greyscale.
_CHANNEL_LINES = {"red": (style.VERMILLION, "-"), "green": (style.GREEN, "--"), "blue": (style.BLUE, "-.")}
_DIRECTION_LINES = {"horizontal": (style.BLUE, "o", "-"), "vertical": (style.VERMILLION, "s", "--")}
# Characters per line of a caption under a small picture.
_CAPTION_WIDTH = 26


@style.in_style()
def class_imbalance(counts):
    """Bars of `measures.class_counts`, one panel per split, classes sorted by their number in the first split.

    For classes of very unequal size: each panel has its own scale, and a class without images is marked.
    """
    counts = counts.sort_values(counts.columns[0], ascending=False, kind="stable")
    figure, axes = style.new_figure(height=0.25 * len(counts) + 1, columns=counts.shape[1], sharey=True)
    for axis, (split, images) in zip(axes, counts.items(), strict=True):
        bars = axis.barh(counts.index, images, color=style.BLUE, height=0.7)
        numbers = axis.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=style.SMALL)
        for text, number in zip(numbers, images, strict=True):
            if not number:
                text.set(text="none", color=style.VERMILLION, weight="bold")
        axis.set_title(f"{split}\n{images.sum():,} images")
        axis.margins(x=0.18, y=0.01)
        axis.tick_params(axis="y", length=0)
    axes[0].invert_yaxis()
    axes[len(axes) // 2].set_xlabel("images (each panel has its own scale)", fontsize=style.SMALL)
    return figure


@style.in_style()
def camera_shares(shares):
    """Stacked bars of `measures.camera_shares`: one bar per split, one part per camera."""
    figure, axis = style.new_figure(height=2.6)
    left, shades = np.zeros(shares.shape[1]), sns.color_palette(style.HEAT, len(shares))
    for index, (camera, parts) in enumerate(shares.iterrows()):
        look = {"color": shades[index], "hatch": style.HATCHES[index % len(style.HATCHES)], "edgecolor": "white"}
        bars = axis.barh(list(shares.columns), parts, left=left, label=camera, **look)
        names = [f"{part:.0%}" if part > 0.05 else "" for part in parts]
        for text in axis.bar_label(bars, names, label_type="center", fontsize=style.SMALL):
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5})
        left += parts.to_numpy()
    axis.set(xlim=(0, 1), xlabel="share of the split's images", title="Which camera took the images of each split")
    axis.invert_yaxis()
    style.percent(axis.xaxis)
    style.legend_below(figure, axis, ncols=len(shares))
    return figure


@style.in_style()
def sample_images(images, labels, class_names, per_class=7):
    """The first `per_class` of uint8 `images` (n, height, width, channels) of each class, one row per class."""
    figure, axes = style.new_grid(len(class_names) * per_class, per_class, 0.72, width=0.76 * per_class + 1)
    for label, name in enumerate(class_names):
        row = axes[label * per_class : (label + 1) * per_class]
        for axis, image in zip(row, images[labels == label], strict=False):
            axis.imshow(image)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    figure.suptitle("Sample images of each class, {}×{} pixels".format(*images.shape[1:3]))
    return figure


@style.in_style()
def class_samples(images, table, blocks=2, per_class=3):
    """Some images of each class, one row per class, the classes in `blocks` columns.

    `images` uint8 (n, height, width, channels); `table`: from `measures.mars_samples`, whose rows say which; at most
    `per_class` of each class are shown.
    """
    groups = {name: mine["row"].head(per_class) for name, mine in table.groupby("class", sort=False)}
    rows = -(-len(groups) // blocks)
    figure, axes = style.new_grid(rows * blocks * per_class, blocks * per_class, 0.68, width=5.6)
    for axis in axes:
        axis.set_visible(False)
    for index, (name, chosen) in enumerate(groups.items()):
        block, row = divmod(index, rows)
        first = row * blocks * per_class + block * per_class
        for axis, image in zip(axes[first : first + per_class], images[list(chosen)], strict=False):
            axis.set_visible(True)
            axis.imshow(image)
        axes[first].set_ylabel(textwrap.fill(name, 12), rotation=0, ha="right", va="center", fontsize=style.SMALL)
    figure.suptitle("Images of each class, no frame twice")
    return figure


@style.in_style()
def captioned_images(images, captions, title, columns=4):
    """Small pictures (arrays that `imshow` takes) with a caption of a few words under each."""
    texts = ["\n".join(textwrap.fill(line, _CAPTION_WIDTH) for line in caption.splitlines()) for caption in captions]
    lines = max(text.count("\n") + 1 for text in texts)
    figure, axes = style.new_grid(len(images), columns, cell_height=style.WIDTH / columns + 0.17 * lines)
    for axis, image, text in zip(axes, images, texts, strict=True):
        axis.imshow(image)
        axis.set_xlabel(text, fontsize=style.SMALL)
    figure.suptitle(title)
    return figure


@style.in_style()
def image_pipeline(steps):
    """One image's way to the network, from `measures.mars_pipeline`: {step: array}, with shape, type and range."""
    figure, axes = style.new_figure(height=2.5, columns=len(steps))
    for axis, (name, image) in zip(axes, steps.items(), strict=True):
        grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if image.ndim == 2 else {}
        style.bare(axis).imshow(image, **grey)
        limits = f"{image.min():.3g} to {image.max():.3g}"
        axis.set_title(name)
        axis.set_xlabel(f"{style.shape_text(image.shape)}\n{image.dtype}\n{limits}", fontsize=style.SMALL)
    figure.suptitle("From the published file to the network's input")
    return figure


@style.in_style()
def pixel_distribution(histogram, statistics):
    """Lines of `measures.pixel_histogram`, labelled with `measures.pixel_statistics` of each channel."""
    figure, axis = style.new_figure(height=4)
    for channel, counts in histogram.items():
        colour, line = _CHANNEL_LINES[channel]
        mean, std = statistics.loc[channel, ["mean", "std"]]
        label = f"{channel}: mean {mean:.1f}, standard deviation {std:.1f}"
        axis.plot(histogram.index, counts / counts.sum(), color=colour, linestyle=line, label=label)
    axis.set(xlabel="pixel value (0: black, 255: full)", ylabel="share of the channel's pixels", xlim=(-2, 257))
    axis.set_title("Pixel values of the training images, by colour channel")
    axis.set_ylim(bottom=0)
    style.percent(axis.yaxis)
    style.legend_below(figure, axis, ncols=2)
    return figure


@style.in_style()
def spatial_correlation(correlation, channels):
    """Left: `measures.spatial_correlation` against distance; right: `measures.channel_correlation`."""
    figure, (axis, heat) = style.new_figure(height=3.9, columns=2, width_ratios=(1.5, 1))
    for direction, rows in correlation.groupby("direction", sort=False):
        colour, marker, line = _DIRECTION_LINES[direction]
        axis.plot(rows["distance"], rows["correlation"], color=colour, marker=marker, linestyle=line, label=direction)
    axis.set(xlabel="distance between two pixels (pixels)", ylabel="correlation (Pearson's r)")
    axis.set_title("Two pixels, by distance")
    axis.set_ylim(min(0, correlation["correlation"].min()), 1.02)
    axis.locator_params(axis="x", integer=True)
    axis.grid(True)
    axis.legend()
    sns.heatmap(
        channels, ax=heat, cmap=style.HEAT, vmin=0, vmax=1, annot=True, fmt=".2f", square=True,
        cbar=False,
    )  # fmt: skip
    heat.set_title("Two channels of one pixel")
    heat.set_yticklabels(channels.index, rotation=0)
    heat.tick_params(length=0)
    return figure
