"""Drawings of a network, made from the model itself: what is drawn is what was built."""

import dataclasses
from math import log2

from matplotlib.patches import Polygon

from cnnlab.figures.style import (
    BLUE,
    GREEN,
    GREY,
    LIGHT_GREY,
    ORANGE,
    SMALL,
    WIDTH,
    bare,
    blank_figure,
    shape_text,
    styled,
)
from cnnlab.inspection import layer_table

# Layers that change no shape are told in the text of the layer before them.
_FOLDED = {"Rescaling": "÷ 255", "BatchNormalization": "batch norm", "ReLU": "ReLU", "Dropout": "dropout"}
# What the other kinds do in a word, and their colour.
_KINDS = {
    "Input": ("pixels", LIGHT_GREY),
    "Conv2D": ("conv", BLUE),
    "MaxPooling2D": ("max", ORANGE),
    "Flatten": ("all in a row", LIGHT_GREY),
    "GlobalAveragePooling2D": ("of each map", ORANGE),
    "Dense": ("dense", GREEN),
}
# Keras names and numbers the layers that the builders leave without a name.
_UNNAMED = {"Flatten": "flatten", "GlobalAveragePooling2D": "mean"}
# All in inches: between two boxes at least, the tallest box, the column of row names, a line of text.
_PITCH, _TALLEST, _NAMES, _LINE = 0.9, 1.6, 0.85, 0.17
# How far the back of a slab is moved right and up, as a share of its side; how thick one doubling
# of the channels makes it.
_OBLIQUE, _DOUBLING = 0.22, 0.045
_BAR = 0.14
_KEY = (
    "slabs: height is the side of the maps, thickness the doublings of channels; bars: height is the doublings of units"
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
    found = []
    for layer in layer_table(model).itertuples():
        if layer.kind in _FOLDED and found:
            found[-1].lines.append(f"{_FOLDED[layer.kind]} {layer.detail}".strip())
            found[-1].parameters += layer.parameters
        else:
            words, _ = _KINDS.get(layer.kind, (layer.kind, None))
            window, *rest = layer.detail.split(", ") if "×" in layer.detail else ("", *filter(None, [layer.detail]))
            name = _UNNAMED.get(layer.kind, layer.layer)
            found.append(Stage(name, layer.kind, layer.shape, layer.parameters, [f"{words} {window}".strip()]))
            found[-1].lines += rest
    return found


@styled
def architecture(model, title):
    """The layers of a Sequential `model` as boxes, with what each does, puts out and learns.

    A slab's height is the side of its feature maps and its thickness grows with each doubling of
    the channels; a bar's height grows with each doubling of the units.
    """
    boxes = stages(model)
    total = model.count_params()
    work = max(len(box.lines) for box in boxes)
    width, height = max(WIDTH, _NAMES + _PITCH * len(boxes)), _TALLEST * 1.25 + _LINE * (work + 5.6)
    pitch = (width - _NAMES) / len(boxes)
    figure = blank_figure(height + 0.4, width)
    axis = bare(figure.add_subplot())
    axis.set(xlim=(0, width), ylim=(-height + _TALLEST * 1.25, _TALLEST * 1.25), aspect="equal")
    rows = ["layer", "what it does", *[""] * (work - 1), "output", "parameters", "share of all"]
    for line, text in enumerate(rows):
        axis.text(0, _below(line), text, va="center", fontsize=SMALL, color=GREY, style="italic")
    side = max(max(box.shape[:2]) for box in boxes if len(box.shape) == 3)
    doublings = max(log2(box.shape[0]) for box in boxes if len(box.shape) == 1)
    for index, box in enumerate(boxes):
        middle = _NAMES + pitch * (index + 0.5)
        _, colour = _KINDS.get(box.kind, ("", LIGHT_GREY))
        if len(box.shape) == 3:
            _slab(axis, middle, box.shape, _TALLEST / side, colour)
        else:
            _prism(axis, middle, _BAR, _TALLEST * log2(box.shape[0]) / doublings, 0.06, colour)
        learned = (f"{box.parameters:,}", _share(box.parameters / total)) if box.parameters else ("–", "")
        texts = [box.name, *box.lines, *[""] * (work - len(box.lines)), shape_text(box.shape), *learned]
        for line, text in enumerate(texts):
            weight = "bold" if line == 0 else "normal"
            axis.text(middle, _below(line), text, ha="center", va="center", fontsize=SMALL, weight=weight)
    axis.text(width / 2, _below(work + 4.5), _KEY, ha="center", va="center", fontsize=SMALL, color=GREY)
    axis.set_title(f"{title}: {total:,} parameters")
    return figure


def _share(part):
    return f"{part:.1%}" if part >= 0.001 else "< 0.1%"


def _below(line):
    """Height of a line of text under the boxes, which stand on zero."""
    return -_LINE * (line + 1.2)


def _slab(axis, middle, shape, scale, colour):
    height, width, channels = shape
    _prism(axis, middle, _DOUBLING * (1 + log2(channels)), height * scale, _OBLIQUE * width * scale, colour)


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
