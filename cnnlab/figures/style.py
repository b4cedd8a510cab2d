"""How every figure of the lab looks, in print and in grey; what it shows in words; and the one way to a file."""

import base64
import dataclasses
import functools
import html
import io
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

# Okabe and Ito, "Color Universal Design" (2008): told apart by colour-blind readers. Their
# yellow, which vanishes on white paper, is left out.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
)  # fmt: skip
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
GREY, LIGHT_GREY = "#666666", "#D0D0D0"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p")
LINES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "...", "xx")
# Perceptually uniform, and made for colour-blind readers (Nunez, Anderton and Renslow, PLOS ONE 2018).
HEAT = "cividis"

# Inches that a page or a README shows at its full width; text is set for that size.
WIDTH = 8.0
SMALL = 9
# Sharp in print at the width of a page, and still a small file.
DOTS_PER_INCH = 150
# Inches kept free at the bottom of every figure for the small print that says what produced it.
STRIP = 0.24
STYLE = {
    "font.family": "DejaVu Sans",  # Ships with matplotlib: the same picture on every machine.
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "hatch.linewidth": 0.6,
}
_STAMP = "budget stamp"


def in_style():
    """Context with the lab's style, and matplotlib's defaults for the rest; the reader's settings come back after."""
    return style.context(["default", STYLE])


def styled(draw):
    """Decorator: a function that draws does so `in_style`."""

    @functools.wraps(draw)
    def draw_in_style(*args, **options):
        with in_style():
            return draw(*args, **options)

    return draw_in_style


def blank_figure(height, width=WIDTH):
    """An empty Figure of `width` x `height` inches, and a strip below for the small print.

    It is not registered with pyplot: nothing piles up, and a notebook shows it where it is asked to and not once more.
    """
    total = height + STRIP
    layout = ConstrainedLayoutEngine(rect=(0, STRIP / total, 1, height / total), w_pad=0.08, h_pad=0.07)
    return Figure(figsize=(width, total), layout=layout)


def new_figure(height, width=WIDTH, rows=1, columns=1, **options):
    """(blank_figure, its axes); `options` are those of `Figure.subplots`."""
    figure = blank_figure(height, width)
    return figure, figure.subplots(rows, columns, **options)


def new_grid(count, columns, cell_height, width=WIDTH):
    """(Figure, flat array of `count` image axes without ticks) in rows of `columns`; `cell_height` in inches."""
    rows = ceil(count / columns)
    figure, axes = new_figure(rows * cell_height, width, rows, columns, squeeze=False)
    for axis in axes.flat:
        bare(axis)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, axes.flat[:count]


def bare(axis):
    """`axis` without ticks and frame, for a picture; returned."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return axis


def legend_below(figure, axis, **options):
    """What `axis` names, as a legend under all axes of `figure` and above its strip."""
    height = figure.get_figheight()
    legend = figure.legend(
        *axis.get_legend_handles_labels(), loc="lower center", bbox_to_anchor=(0.5, STRIP / height), **options
    )
    # The layout makes room for a legend at the very edge of a figure, but not above a strip.
    bottom = (STRIP + legend.get_window_extent().height / figure.dpi) / height
    figure.get_layout_engine().set(rect=(0, bottom, 1, 1 - bottom))


def percent(axis):
    """Show a fraction 0..1 along `axis` (an `xaxis` or `yaxis`) as percent, and draw its grid."""
    # Rounded first, for a tick at zero may be 1e-17.
    axis.set_major_formatter(lambda value, _: f"{round(100 * value, 6):g}%")
    axis.grid(True)


def error_bars(axis, places, rows, value, across=False, **look):
    """The column `value` of `rows` against `places`, with bars from its low to its high; `across`: along the x axis.

    `look`: of `errorbar`, whose points are joined by no line unless `linestyle` says so. NaN draws no bar.
    """
    reach = np.maximum([rows[value] - rows["low"], rows["high"] - rows[value]], 0)
    where = (rows[value], places, None, reach) if across else (places, rows[value], reach)
    return axis.errorbar(*where, **{"linestyle": "none", **look})


def class_marks(count):
    """`count` (colour, marker) pairs, each pair different and neighbours different in both."""
    pairs = [(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i in range(len(COLOURS) * len(MARKERS))]
    if count > len(pairs):
        raise ValueError(f"{count} classes; expected at most {len(pairs)} that can be told apart")
    return pairs[:count]


def shape_text(shape):
    """(32, 32, 3) as "32×32×3"."""
    return "×".join(str(size) for size in shape)


_SEEDS = "each seed's point, mean and interval."
_CURVES = "accuracy and loss on training and validation images against the epoch, with the best epoch marked."
# Name of each figure file to its alternative text: what the picture shows, without a measured number.
FIGURES = {
    "mean_images": "The mean of all training images of each class, and how many there are.",
    "near_duplicates": "Pairs of a test image and the training image most like it, with their labels.",
    "sample_images": "Grid of sample images, one row for each class.",
    "pixel_distribution": "Histogram of the pixel values 0 to 255 of all training images, one line for each of "
    "red, green and blue, with the mean and standard deviation of each channel.",
    "spatial_correlation": "Left: correlation of two pixels against the distance between them, horizontally and "
    "vertically. Right: correlation between the colour channels of the same pixel.",
    "baseline_architecture": "Diagram of the dense network, drawn from the model: each layer with its output shape "
    "and number of parameters.",
    "cnn_architecture": "Diagram of the convolutional network, drawn from the model: boxes as large as each layer's "
    "feature maps, with output shape and number of parameters.",
    "baseline_training": f"Training curves of the dense network: {_CURVES}",
    "cnn_training": f"Training curves of the convolutional network: {_CURVES}",
    "your_network": "Test accuracy against the number of parameters of the recorded networks, and of one of your own.",
    "performance_vs_parameters": "Test accuracy against the number of parameters on a logarithmic axis, one point "
    "for each seed, with mean and interval of each network.",
    "suspect_labels": "Twelve test images that every seed of the best recipe answers alike and against the label; "
    "under each its label and the common answer.",
    "prediction_comparison": "Test images, each with its true class and the answers and confidences of the dense "
    "and the convolutional network.",
    "confusion_matrix": "Confusion matrix of the convolutional network on the test set: true class by row, predicted "
    "class by column, in percent of the row, vehicles and animals apart.",
    "conv1_filters": "The filters of the first convolution shown as small colour images.",
    "first_layer": "Filters of the first convolution of the networks for CIFAR-10 and for Mars, before training, after "
    "it, their difference, and the mean of the image patches that excite each most.",
    "feature_maps": "One test image and the most active feature maps that each convolution makes of it.",
    "confidence_distribution": "Histograms of the confidence of right and of wrong predictions on the test set.",
    "reliability_diagram": "Accuracy against confidence in bins with intervals, beside the diagonal of perfect "
    "calibration.",
    "tsne_visualization": "Two-dimensional t-SNE map of the features of test images, coloured and marked by class.",
    "filters_study": f"Test accuracy of the four filter configurations with a dense layer: {_SEEDS}",
    "filters_gap_study": f"Test accuracy of the four filter configurations with global average pooling: {_SEEDS}",
    "kernels_study": f"Test accuracy for four kernel sizes: {_SEEDS}",
    "sample_size": "Test accuracy of the dense and the convolutional network against the number of training images "
    "on a logarithmic axis.",
    "shift_accuracy": "Test accuracy of the dense and the convolutional network against the number of pixels by "
    "which the images are shifted.",
    "permutation": "Test accuracy of the dense and the convolutional network on ordinary images and on images whose "
    f"pixels are permuted: {_SEEDS}",
    "receptive_field": "Heat maps of the effective receptive field of each layer, with the theoretical receptive "
    "field as a square.",
    "tabular": "Test accuracy on tabular data of a dense network, a one-dimensional convolution and gradient boosting, "
    "with the columns in their order and shuffled.",
    "attribution": "Test images, and below each where on it the answer of the convolutional network comes from, by "
    "Grad-CAM, integrated gradients and occlusion.",
    "epochs_confound": f"Test accuracy of one network trained for two numbers of epochs: {_SEEDS}",
    "changed_images": "Test accuracy of the dense network, the convolutional one and the best recipe against the "
    "strength of corruptions, and against the size of a step against the network.",
    "calibration": "Reliability diagrams of the dense and the convolutional network before and after temperature "
    "scaling.",
    "recipe_ablation": "Test accuracy after each step from the assignment's network to the recipe, and what each step "
    "is worth, on top of the others and left out, with intervals.",
    "recipe_frontier": "Test accuracy against training time, one named dot a recipe, from the published code to the "
    "recipes with a target.",
    "recipe_filters": "The filters of a recipe's first layer, which whitens small patches, as colour images.",
    "mars_class_imbalance": "Bar charts of the number of Mars images of each class, one chart a split.",
    "mars_class_samples": "Grid of Mars images, one row for each class.",
    "mars_camera_shares": "Stacked bars of the cameras' shares of the Mars images in each split.",
    "mars_recurring_frame": "Images of one frame of the Mars camera that is in the data set several times.",
    "mars_image_pipeline": "One Mars image on its way from the published file to the network's input, step by step.",
    "mars_cnn_architecture": "Diagram of the convolutional network for Mars, drawn from the model.",
    "mars_cnn_training": "Training curves of the convolutional network on Mars images, with the best epoch marked.",
    "mars_ladder": "Accuracy, balanced accuracy and macro-F1 on the Mars test images, from constant answers and the "
    "nearest training image over networks trained from scratch to pretrained ones, with intervals.",
    "mars_attribution": "Mars images, and below each where on it the answer of the network comes from, by Grad-CAM and "
    "occlusion.",
    "mars_conformal_by_sol": "Share of Mars images whose set of classes holds the true one, in spans of Martian days "
    "with intervals, on the days of the fit and on later ones, beside a line at what was promised.",
    "mars_kernels_study": f"Test accuracy on Mars images for three kernel sizes and one that grows: {_SEEDS}",
    "mars_class_recalls": "Recall of each Mars class with its interval, one mark for each network.",
    "mars_accuracy_by_sol": "Accuracy on Mars test images in spans of Martian days, with intervals.",
    "mars_confusion_matrix": "Confusion matrix of the Mars classes, sorted by what they are parts of: true class by "
    "row, predicted class by column.",
    "mars_confident_errors": "Mars images that the network answers wrongly with the highest confidence.",
    "mars_reliability_diagram": "Accuracy against confidence on Mars test images in bins beside the diagonal of "
    "perfect calibration, before and after temperature scaling.",
}


def alternative_text(name):
    """What the figure `name` shows, in words; a <study>_study that FIGURES has no words for is a study's points.

    Raises ValueError for an unknown name.
    """
    if name.endswith("_study"):
        study = name.removesuffix("_study").replace("_", " ")
        return FIGURES.get(name, f"Test accuracy of each variant of the study {study}: seeds, mean and interval.")
    if name not in FIGURES:
        raise ValueError(f"no figure is called {name!r}; expected one of {', '.join(FIGURES)}, or a <study>_study")
    return FIGURES[name]


def save_figure(figure, name, folder, budget, dots_per_inch=None):
    """Write `figure` as `<folder>/<name>.png`, stamped with `budget`, and return that path.

    `name` is one that `alternative_text` knows; `budget` is a short text on what produced the data (e.g.
    `Budget.label`), which goes in small print at the bottom of the figure, so that no quick result can pass for the
    record; `dots_per_inch`: default DOTS_PER_INCH. The same picture always gives the same bytes: the file carries no
    date and no version. Raises ValueError for an unknown name or an empty budget, with nothing written.
    """
    alternative_text(name)
    if not budget or not budget.strip():
        raise ValueError(f"figure {name} has no budget; expected a text on what produced it, such as a Budget's label")
    _stamp(figure, budget)
    content, options = io.BytesIO(), {"metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
    with in_style():
        figure.savefig(content, format="png", dpi=dots_per_inch or DOTS_PER_INCH, **options)
    path = Path(folder) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())
    return path


@dataclasses.dataclass(frozen=True)
class FigureView:
    """A saved figure in a notebook's output: `data`, the file's bytes; `alt`, what it shows; `width` in pixels.

    HTML, for of an image/png output neither JupyterLab 4 nor nbconvert 7 shows the `alt` of its metadata.
    """

    data: bytes = dataclasses.field(repr=False)
    alt: str
    width: int

    def _repr_html_(self):
        source = f"data:image/png;base64,{base64.b64encode(self.data).decode()}"
        fitting = "max-width: 100%; height: auto"  # of a window that is narrower
        return f'<img alt="{html.escape(self.alt)}" width="{self.width}" style="{fitting}" src="{source}">'


def figure_view(path):
    """The saved figure at `path` for a notebook's output, with its alternative text, its letters as large as others'.

    At most 800 pixels wide.
    """
    path = Path(path)
    with Image.open(path) as image:
        width = round(min(1, image.width / round(image.info["dpi"][0]) / WIDTH) * 800)
    return FigureView(_small(path.read_bytes()), alternative_text(path.stem), width)


def live_view(figure, alt, width=800):
    """`figure` for a notebook's output, and in no file: for what a reader moves; `alt` says what it shows."""
    content = io.BytesIO()
    with in_style():
        figure.savefig(content, format="png", dpi=width / figure.get_figwidth())
    return FigureView(_small(content.getvalue()), alt, width)


def _small(png):
    """The bytes `png`, in 256 colours where that is smaller, by more than half: a notebook holds dozens of them."""
    content = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return min(png, content.getvalue(), key=len)


def _stamp(figure, budget):
    """One line of small print in the strip of `figure`; a later stamp takes the place of an earlier one."""
    for text in [text for text in figure.texts if text.get_gid() == _STAMP]:
        text.remove()
    width, height = figure.get_size_inches()
    look = {"ha": "right", "va": "center", "fontsize": SMALL, "color": GREY, "gid": _STAMP}
    figure.text(1 - 0.06 / width, STRIP / 2 / height, budget, **look)
