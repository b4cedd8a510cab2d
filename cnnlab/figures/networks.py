"""Figures of the inside of a network: shapes, filters, feature maps, features, receptive fields."""

import dataclasses
from math import log2

import numpy as np
from matplotlib.patches import Polygon, Rectangle

from cnnlab.figures import style
from cnnlab.measures import layer_table


@style.in_style()
def conv1_filters(filters):
    """`measures.first_layer_filters` (filters, size, size, 3) in 0..1 as small colour images."""
    figure, axes = style.new_grid(len(filters), columns=8, cell_height=0.95)
    for index, (axis, weights) in enumerate(zip(axes, filters, strict=True)):
        axis.imshow(weights, vmin=0, vmax=1)
        axis.set_title(index, fontsize=style.SMALL, weight="normal", pad=2)
    count, size = filters.shape[:2]
    figure.suptitle(f"The {count} filters of the first convolution, {size}×{size} pixels (mid-grey: weight zero)")
    return figure


@style.in_style()
def first_layer(rows, names, count=8):
    """Filters before training, after it, their change, and the patches that excite them most, as colour images.

    `rows`: of the probe `first_layer`, drawn for the first seed of each label; `names`: {label: text}. The `count`
    filters that changed most are shown. Mid-grey is a weight of zero; a filter's before and after share one scale, and
    its change is amplified to fill that scale, by the factor written above it.
    """
    names = {label: name for label, name in names.items() if label in set(rows["label"])}
    figure, axes = style.new_grid(len(names) * 4 * count, count, cell_height=0.85)
    for block, (label, name) in enumerate(names.items()):
        mine = rows[rows["label"] == label]
        mine = mine[mine["seed"] == mine["seed"].min()].sort_values(["filter", "row", "column", "channel"])
        shape = tuple(mine[place].max() + 1 for place in ("filter", "row", "column", "channel"))
        before, after, patch = (mine[kind].to_numpy().reshape(shape) for kind in ("before", "after", "patch"))
        change, places = after - before, (1, 2, 3)
        lengths = [np.sqrt((values**2).sum(axis=places)) for values in (change, before)]
        chosen = np.argsort(-lengths[0] / lengths[1], kind="stable")[:count]
        before, after, change, patch = (values[chosen] for values in (before, after, change, patch))
        scales = ([before, after], [change])
        largest, most = (np.abs(values).max(axis=(0, 2, 3, 4), keepdims=True)[0] for values in scales)
        most = np.maximum(most, 1e-6)  # for a filter that did not change
        shown = {f"{name}\nbefore": before / largest, "after": after / largest}
        shown |= {"difference": change / most, "excited by": patch / 127.5 - 1}
        for row, (text, values) in enumerate(shown.items(), 4 * block):
            axes[row * count].set_ylabel(text, fontsize=style.SMALL, rotation=0, ha="right", va="center")
            for axis, picture in zip(axes[row * count :], values, strict=False):
                axis.imshow((1 + picture) / 2, vmin=0, vmax=1)
        for axis, times in zip(axes[(4 * block + 2) * count :], (largest / most).flat, strict=False):
            axis.set_title(f"×{times:.1f}", fontsize=style.SMALL, weight="normal", pad=2)
    figure.suptitle("The first layer before and after training")
    return figure


@style.in_style()
def filtered_picture(image, kernel, values):
    """An image in grey, a kernel, and the filtered image before and after a ReLU.

    `image` uint8 (height, width, channels); `kernel` (3, 3); `values`: `measures.filtered` of them.
    """
    figure, axes = style.new_figure(height=2.3, columns=4)
    weights, most = np.asarray(kernel, "float64"), max(np.abs(values).max(), 1e-6)
    shown = {
        "the image in grey": (image.mean(axis=2), "gray", 0, 255),
        "the kernel": (weights, "PuOr", -np.abs(weights).max() - 1, np.abs(weights).max() + 1),
        "filtered (mid-grey: zero)": (values, "gray", -most, most),
        "after a ReLU (dark: zero)": (np.maximum(values, 0), style.HEAT, 0, most),
    }
    for axis, (title, (pixels, colours, low, high)) in zip(axes, shown.items(), strict=True):
        style.bare(axis).imshow(pixels, cmap=colours, vmin=low, vmax=high)
        axis.set_title(title, fontsize=style.SMALL)
    for (row, column), weight in np.ndenumerate(weights):
        axes[1].text(column, row, f"{weight:.2g}", ha="center", va="center", fontsize=style.SMALL)
    return figure


@style.in_style()
def feature_maps(image, maps, channels):
    """One image and some of the network's feature maps of it, one row per layer.

    `image` uint8 (height, width, channels); `maps`: {layer: (height, width, filters)} from `measures.feature_maps`;
    `channels`: {layer: indices to show}, e.g. `measures.most_active`; the same number for each layer. The colours of
    each map run from zero to its own largest value.
    """
    columns = max(len(indices) for indices in channels.values())
    figure = style.blank_figure(height=len(maps) + 0.5)
    grid = figure.add_gridspec(len(maps), columns + 2)
    whole = style.bare(figure.add_subplot(grid[:, :2]))
    whole.imshow(image)
    whole.set_title("the image", fontsize=10)
    for row, (layer, values) in enumerate(maps.items()):
        for column, channel in enumerate(channels[layer]):
            axis = style.bare(figure.add_subplot(grid[row, column + 2]))
            axis.imshow(values[..., channel], cmap=style.HEAT, vmin=0)
            axis.set_title(f"map {channel}", fontsize=style.SMALL, weight="normal", pad=2)
            if not column:
                axis.set_ylabel(f"{layer}\n{style.shape_text(values.shape)}", fontsize=style.SMALL)
    figure.suptitle("Feature maps of one image (dark: zero; bright: the map's largest value)")
    return figure


@style.in_style()
def tsne_visualization(points, labels, class_names):
    """`measures.tsne_map` points (n, 2), one panel per class: its own, by integer `labels` (n,), over all in grey."""
    figure, axes = style.new_grid(len(class_names), columns=5, cell_height=1.7)
    for label, (axis, name) in enumerate(zip(axes, class_names, strict=True)):
        for shown, colour in ((points, style.LIGHT_GREY), (points[labels == label], style.BLUE)):
            axis.scatter(*shown.T, s=4, color=colour, linewidths=0)
        axis.set_title(name, fontsize=10)
    figure.suptitle(f"Where the features of {len(points):,} test images lie, class by class (t-SNE)")
    return figure


@style.in_style()
def receptive_field(rows, diameters, image_size):
    """Sensitivity of each convolution's centre unit to the pixels, at its place in the whole image.

    `rows`: of the probe `receptive_field` (the mean over seeds is drawn); `diameters`: `measures.effective_diameters`
    of them; `image_size`: (height, width) in pixels. The square is the theoretical receptive field.
    """
    layers = list(dict.fromkeys(rows["layer"]))
    figure, axes = style.new_figure(height=3, columns=len(layers), squeeze=False)
    for axis, layer in zip(axes.flat, layers, strict=True):
        mine = rows[rows["layer"] == layer]
        grid = mine.pivot_table(index="row", columns="column", values="sensitivity")
        top, left = grid.index[0], grid.columns[0]
        height, width = grid.shape
        picture = axis.imshow(grid, cmap=style.HEAT, vmin=0, vmax=1, extent=(left, left + width, top + height, top))
        axis.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=style.VERMILLION, linewidth=2))
        axis.set(xlim=(0, image_size[1]), ylim=(image_size[0], 0), xlabel="column (pixels)", facecolor="#EEEEEE")
        effective = diameters.loc[diameters["layer"] == layer, "effective"].mean()
        axis.set_title(
            f"{layer}\ntheoretical: {mine['theoretical'].iloc[0]} pixels\nhalf within {effective:.1f} pixels"
        )
        axis.title.set_fontsize(10)
    axes[0, 0].set_ylabel("row (pixels)")
    figure.colorbar(picture, ax=axes, shrink=0.7, label="sensitivity (maximum: 1)")
    return figure


# Layers that do not change the shape are listed in the text of the layer before them.
_FOLDED = {"Rescaling": "÷ 255", "BatchNormalization": "batch norm", "ReLU": "ReLU", "Dropout": "dropout"}
# So are poolings, in a drawing that would otherwise be wider than a page.
_POOLINGS = {"MaxPooling2D": "max"}
# What the other kinds do, in a word, and their colour.
_KINDS = {
    "Input": ("pixels", style.LIGHT_GREY),
    "Conv2D": ("conv", style.BLUE),
    "MaxPooling2D": ("max", style.ORANGE),
    "Flatten": ("all in a row", style.LIGHT_GREY),
    "GlobalAveragePooling2D": ("of each map", style.ORANGE),
    "Dense": ("dense", style.GREEN),
}
# Keras names and numbers the layers that the builders leave without a name.
_UNNAMED = {"Flatten": "flatten", "GlobalAveragePooling2D": "mean"}
# The most boxes side by side that are still large enough to read.
_WIDEST = 9
# All in inches: the least distance between two boxes, the tallest box, the column of row names, a line of text.
_PITCH, _TALLEST, _NAMES, _LINE = 0.9, 1.6, 0.85, 0.17
# How far the back of a slab is moved right and up, as a share of its side; how much each doubling of the channels
# thickens it; how thick a bar is.
_OBLIQUE, _DOUBLING, _BAR = 0.22, 0.045, 0.14
_KEY = (
    "slabs: height shows the maps' side, thickness the channels (log scale); bars: height shows the units (log scale)"
)


@dataclasses.dataclass
class Stage:
    """One box of a drawing: a layer, with the layers that are folded into it.

    `shape` of the output without the batch; `parameters` of all of them; `lines` what they do.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    lines: list[str]


def stages(model):
    """The Stages of a Sequential `model`, from its pixels to its probabilities."""
    table, found = layer_table(model), []
    boxes = (~table["kind"].isin(_FOLDED)).sum()
    folded = _FOLDED if boxes <= _WIDEST else _FOLDED | _POOLINGS
    for layer in table.itertuples():
        if layer.kind in folded:
            found[-1].lines.append(f"{folded[layer.kind]} {layer.detail}".strip())
            found[-1].parameters += layer.parameters
            found[-1].shape = layer.shape
        else:
            words, _ = _KINDS.get(layer.kind, (layer.kind, None))
            window, *rest = layer.detail.split(", ") if "×" in layer.detail else ("", *filter(None, [layer.detail]))
            name = _UNNAMED.get(layer.kind, layer.layer)
            found.append(Stage(name, layer.kind, layer.shape, layer.parameters, [f"{words} {window}".strip()]))
            found[-1].lines += rest
    return found


@style.in_style()
def architecture(model, title):
    """The layers of a Sequential `model` as boxes, with what each does, its output and its parameters.

    A slab's height is the side of its feature maps and its thickness grows with each doubling of the channels; a bar's
    height grows with each doubling of the units.
    """
    boxes = stages(model)
    total = model.count_params()
    work = max(len(box.lines) for box in boxes)
    width, height = max(style.WIDTH, _NAMES + _PITCH * len(boxes)), _TALLEST * 1.25 + _LINE * (work + 5.6)
    pitch = (width - _NAMES) / len(boxes)
    figure = style.blank_figure(height + 0.4, width)
    axis = style.bare(figure.add_subplot())
    axis.set(xlim=(0, width), ylim=(-height + _TALLEST * 1.25, _TALLEST * 1.25), aspect="equal")
    rows = ["layer", "what it does", *[""] * (work - 1), "output", "parameters", "share of all"]
    for line, text in enumerate(rows):
        axis.text(0, _below(line), text, va="center", fontsize=style.SMALL, color=style.GREY, style="italic")
    scale = _TALLEST / max(max(box.shape[:2]) for box in boxes if len(box.shape) == 3)
    doublings = max(log2(box.shape[0]) for box in boxes if len(box.shape) == 1)
    for index, box in enumerate(boxes):
        middle = _NAMES + pitch * (index + 0.5)
        _, colour = _KINDS.get(box.kind, ("", style.LIGHT_GREY))
        if len(box.shape) == 3:
            tall, wide, thickness = box.shape[0], _OBLIQUE * box.shape[1], _DOUBLING * (1 + log2(box.shape[2]))
            _prism(axis, middle, thickness, tall * scale, wide * scale, colour)
        else:
            _prism(axis, middle, _BAR, _TALLEST * log2(box.shape[0]) / doublings, 0.06, colour)
        share = box.parameters / total
        learned = (f"{box.parameters:,}", f"{share:.1%}" if share >= 0.001 else "< 0.1%") if share else ("–", "")
        texts = [box.name, *box.lines, *[""] * (work - len(box.lines)), style.shape_text(box.shape), *learned]
        for line, text in enumerate(texts):
            weight = "bold" if line == 0 else "normal"
            axis.text(middle, _below(line), text, ha="center", va="center", fontsize=style.SMALL, weight=weight)
    axis.text(width / 2, _below(work + 4.5), _KEY, ha="center", va="center", fontsize=style.SMALL, color=style.GREY)
    axis.set_title(f"{title}: {total:,} parameters")
    return figure


def _below(line):
    """Height of a line of text under the boxes, which stand at zero."""
    return -_LINE * (line + 1.2)


def _prism(axis, middle, thickness, height, depth, colour):
    """A box seen obliquely, standing on zero: front, top and side, each shaded on its own."""
    left, right = middle - (thickness + depth) / 2, middle + (thickness - depth) / 2
    faces = (
        ([(left, 0), (right, 0), (right, height), (left, height)], 0.95),
        ([(left, height), (right, height), (right + depth, height + depth), (left + depth, height + depth)], 0.55),
        ([(right, 0), (right + depth, depth), (right + depth, height + depth), (right, height)], 0.75),
    )
    for corners, strength in faces:
        axis.add_patch(Polygon(corners, facecolor=(colour, strength), edgecolor="white", linewidth=0.8))
