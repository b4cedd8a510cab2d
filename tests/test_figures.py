"""Figures show the data they are given, say what it is, and reach the disk in one way only."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cnnlab import figures as plotting
from cnnlab import measures
from cnnlab.figures import networks as model_diagrams
from cnnlab.figures import style as figures_style
from cnnlab.measures import exploration, inspection, t_interval
from cnnlab.training import build

matplotlib.use("Agg")
CLASSES = ("cat", "dog", "a class with a long name", "ship")


def texts(figure):
    """Everything that is written on `figure`."""
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def axes_with_data(figure):
    return [axis for axis in figure.axes if axis.get_visible() and axis.axison]


@pytest.fixture(scope="module")
def cnn():
    return build("cnn", (16, 16, 3), 4, filters=(4, 6, 8), dense=12)


@pytest.fixture(scope="module")
def answers():
    """(labels, probabilities) of a network that is right more often than not."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 300)
    logits = generator.normal(size=(300, 4)) + 1.5 * np.eye(4)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def study():
    """Rows of two networks in two variants, three seeds each."""
    variants = (("dense_128_64", "dense", 400_000, 0.46), ("dense_256_128", "dense", 800_000, 0.48),
                ("cnn_16_32_64", "cnn", 2_000_000, 0.72), ("cnn_32_64_128", "cnn", 4_000_000, 0.74))  # fmt: skip
    rows = [
        {"label": label, "model": model, "parameters": size, "seed": seed, "test_accuracy_best": mean + 0.01 * seed}
        for seed in range(3)
        for label, model, size, mean in variants
    ]
    return pd.DataFrame(rows)


# --- save_figure -------------------------------------------------------------------------------


@pytest.fixture
def curves():
    history = {"accuracy": [0.4, 0.6], "loss": [1.5, 1.0], "val_accuracy": [0.45, 0.5], "val_loss": [1.4, 1.3]}
    return plotting.training_curves(history, best_epoch=2, title="A network")


def test_saved_figure_is_stamped_named_and_small(curves, tmp_path):
    path = plotting.save_figure(curves, "cnn_training", tmp_path / "new" / "folder", "quick budget: 2 seeds")
    assert path == tmp_path / "new" / "folder" / "cnn_training.png"
    assert path.stat().st_size < 300_000
    with Image.open(path) as picture:
        assert picture.width == 1200
        assert "Software" not in picture.info
    assert "quick budget: 2 seeds" in texts(curves)


def test_a_second_stamp_replaces_the_first(curves, tmp_path):
    plotting.save_figure(curves, "cnn_training", tmp_path, "quick budget")
    plotting.save_figure(curves, "cnn_training", tmp_path, "full protocol")
    assert "quick budget" not in texts(curves)
    assert texts(curves).count("full protocol") == 1


def test_same_picture_gives_the_same_bytes_whatever_the_readers_settings(tmp_path):
    def saved(folder):
        figure = plotting.confidence_distribution(np.linspace(0, 1, 50), np.arange(50) % 3 > 0)
        return plotting.save_figure(figure, "confidence_distribution", tmp_path / folder, "test").read_bytes()

    first = saved("first")
    with matplotlib.rc_context({"font.size": 22, "axes.facecolor": "black", "savefig.dpi": 40}):
        settings = dict(matplotlib.rcParams)
        assert saved("second") == first
        assert dict(matplotlib.rcParams) == settings


@pytest.mark.parametrize(
    ("name", "budget", "complaint"),
    [("cnn_trainig", "quick", "no figure is called 'cnn_trainig'; expected one of mean_images, .*cnn_training"),
     ("../cnn_training", "quick", "no figure is called"),
     ("cnn_training", " ", "figure cnn_training has no budget; expected a text")],
)  # fmt: skip
def test_a_wrong_name_or_no_budget_is_refused_and_nothing_written(curves, tmp_path, name, budget, complaint):
    with pytest.raises(ValueError, match=complaint):
        plotting.save_figure(curves, name, tmp_path / "images", budget)
    assert not list(tmp_path.iterdir())


def test_the_strip_of_the_stamp_is_free_of_other_things(curves, study):
    for figure in (curves, plotting.study_points(study, "Title"), plotting.performance_vs_parameters(study)):
        figure.draw_without_rendering()
        top = figures_style.STRIP * figure.dpi
        boxes = [axis.get_tightbbox() for axis in figure.axes] + [
            legend.get_window_extent() for legend in figure.legends
        ]
        assert min(box.y0 for box in boxes) >= top - 1


def test_legend_below_covers_no_axis(curves, study):
    for figure in (curves, plotting.study_points(study, "Title")):
        figure.draw_without_rendering()
        legend = figure.legends[0].get_window_extent()
        assert all(axis.get_tightbbox().y0 >= legend.y1 - 2 for axis in figure.axes)


def test_view_in_a_notebook_has_the_alternative_text(curves, tmp_path):
    def saved(figure, **options):
        return plotting.save_figure(figure, "cnn_training", tmp_path, "test", **options)

    view = plotting.figure_view(saved(curves))
    assert view.alt == plotting.FIGURES["cnn_training"]
    narrow, wide = (plotting.figure_view(saved(figures_style.blank_figure(2, width))) for width in (4.0, 12.0))
    coarse = plotting.figure_view(saved(figures_style.blank_figure(2, 4.0), dots_per_inch=50))
    with Image.open(tmp_path / "cnn_training.png") as picture:
        assert picture.width == 200
    assert (narrow.width, view.width, wide.width) == (400, 800, 800), "no letters larger than in other figures"
    assert coarse.width == 400, "and none smaller"


def test_alternative_texts_are_sentences_without_measurements():
    assert len(set(plotting.FIGURES.values())) == len(plotting.FIGURES)
    for text in plotting.FIGURES.values():
        assert len(text) > 40 and text.endswith(".") and "%" not in text


# --- data --------------------------------------------------------------------------------------


def test_sample_images_stand_in_the_row_of_their_class(bars_dataset):
    images, labels = bars_dataset.split("train", 60)
    figure = plotting.sample_images(images, labels, bars_dataset.class_names, per_class=3)
    shown = [axis.images[0].get_array() for axis in figure.axes]
    for place, picture in enumerate(shown):
        original = np.flatnonzero((images == picture).all(axis=(1, 2, 3)))[0]
        assert labels[original] == place // 3


def test_a_class_with_too_few_images_leaves_gaps(bars_dataset):
    images, labels = bars_dataset.split("train", 60)
    figure = plotting.sample_images(images[labels == 0][:2], np.zeros(2, int), bars_dataset.class_names, per_class=3)
    assert [len(axis.images) for axis in figure.axes] == [1, 1] + [0] * 10


def test_pixel_distribution_draws_shares_and_names_the_statistics(bars_dataset):
    histogram = exploration.pixel_histogram(bars_dataset.split("train")[0])
    statistics = exploration.pixel_statistics(histogram)
    figure = plotting.pixel_distribution(histogram, statistics)
    lines = figure.axes[0].lines
    assert len({line.get_linestyle() for line in lines}) == len(lines) == 3
    assert all(np.isclose(line.get_ydata().sum(), 1) for line in lines)
    assert any(f"red: mean {statistics.loc['red', 'mean']:.1f}" in text for text in texts(figure))


def test_spatial_correlation_has_a_line_a_direction_and_a_map_of_channels(bars_dataset):
    images = bars_dataset.split("train", 50)[0]
    correlation = exploration.spatial_correlation(images, range(1, 9))
    figure = plotting.spatial_correlation(correlation, exploration.channel_correlation(images))
    horizontal, vertical = figure.axes[0].lines
    assert horizontal.get_marker() != vertical.get_marker()
    assert np.allclose(vertical.get_ydata(), correlation.query("direction == 'vertical'")["correlation"])
    assert "distance between two pixels (pixels)" in texts(figure)
    assert len(figure.axes[1].texts) == 9


# --- training and predictions ------------------------------------------------------------------


def test_training_curves_mark_the_best_epoch_and_tell_the_curves_apart(curves):
    accuracy, loss = curves.axes
    for axis in (accuracy, loss):
        marked, training, validation = axis.lines
        assert list(marked.get_xdata()) == [2, 2]
        assert training.get_marker() != validation.get_marker()
        assert training.get_linestyle() != validation.get_linestyle()
    assert accuracy.get_ylim() == (0, 1)
    assert loss.get_ylabel() == "cross-entropy (nats)"
    assert "best epoch (2)" in texts(curves)


def test_training_of_one_epoch_is_a_point_on_whole_numbers():
    history = {"accuracy": [0.4], "loss": [1.5], "val_accuracy": [0.45], "val_loss": [1.4]}
    _, loss = plotting.training_curves(history, best_epoch=1, title="A network").axes
    assert loss.get_xlim() == (0.5, 1.5) and loss.get_ylim()[1] > 1.5
    assert all(tick == int(tick) for tick in loss.get_xticks())


def test_prediction_comparison_says_who_is_right(bars_dataset):
    images = bars_dataset.split("test", 2)[0]
    right, wrong = np.array([[0.1, 0.7, 0.1, 0.1]] * 2), np.array([[0.6, 0.2, 0.1, 0.1]] * 2)
    figure = plotting.prediction_comparison(images, np.array([1, 1]), CLASSES, {"dense": wrong, "CNN": right})
    for axis in axes_with_data(figure):
        assert axis.get_title() == "truth: dog"
        assert [text.get_text() for text in axis.texts] == ["✗ dense: cat, 60%", "✓ CNN: dog, 70%"]


def test_confusion_matrix_shows_percent_of_the_row_and_colours_errors_alone(answers):
    labels, probabilities = answers
    counts = measures.confusion_counts(labels, probabilities.argmax(axis=1), CLASSES)
    axis = plotting.confusion_matrix(counts, "A network").axes[0]
    shares = counts.div(counts.sum(axis=1), axis=0).to_numpy()
    cells = [text.get_text() for text in axis.texts]
    assert cells[1] == f"{100 * shares[0, 1]:.0f}"
    coloured = axis.collections[0].get_array().reshape(4, 4)
    np.testing.assert_allclose(coloured, np.where(np.eye(4), 0, shares))
    assert cells[0] == f"{100 * shares[0, 0]:.0f}" and axis.texts[0].get_weight() == "bold"
    assert axis.get_ylabel() == "true class"


def test_classes_of_a_kind_stand_together_in_a_confusion_matrix(answers):
    labels, probabilities = answers
    counts = measures.confusion_counts(labels, probabilities.argmax(axis=1), CLASSES)
    kinds = {"first": [CLASSES[3], CLASSES[0]], "second": [CLASSES[2], "no class of these", CLASSES[1]]}
    axis = plotting.confusion_matrix(counts, "A network", kinds).axes[0]
    for ticks in (axis.get_yticklabels(), axis.get_xticklabels()):
        assert [text.get_text() for text in ticks] == [CLASSES[place] for place in (3, 0, 2, 1)]
    assert len(axis.lines) == 2 and axis.lines[0].get_ydata()[0] == 2


@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_of_many_classes_the_largest_errors_are_bars(wrong):
    names = [f"class {place}" for place in range(24)]
    labels = np.repeat(np.arange(24), 5)
    predicted = labels.copy()
    predicted[:wrong] = 7
    counts = measures.confusion_counts(labels, predicted, names)
    axis = plotting.confusion_matrix(counts, "Many classes", {"a kind": names[:3]}).axes[0]
    assert [bar.get_width() for bar in axis.patches] == [wrong] * (wrong > 0)
    if wrong:
        assert axis.get_yticklabels()[0].get_text() == "class 0 → class 7"
        assert axis.texts[0].get_text() == f"{wrong} of 5"


def test_confidence_distribution_counts_right_and_wrong_apart():
    confidence, correct = np.array([0.91, 0.93, 0.97, 0.52]), np.array([True, True, False, True])
    right, wrong = plotting.confidence_distribution(confidence, correct).axes
    assert sum(bar.get_height() for bar in right.patches) == 3
    assert sum(bar.get_height() for bar in wrong.patches) == 1
    assert "Right answers: 3 images" in right.get_title()
    assert wrong.patches[0].get_hatch() and not right.patches[0].get_hatch()


def test_confidence_distribution_without_a_wrong_answer():
    figure = plotting.confidence_distribution(np.array([0.9]), np.array([True]))
    assert "Wrong answers: 0 images" in texts(figure)


def test_reliability_diagram_draws_the_bins_of_each_series_with_their_intervals(answers):
    labels, probabilities = answers
    bins = measures.reliability_bins(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
    figure = plotting.reliability_diagram({"dense": {"as trained": bins}, "CNN": {"as trained": bins, "scaled": bins}})
    dense, cnn = figure.axes[:2]
    assert [len(dense.containers), len(cnn.containers)] == [1, 2]
    points, _, (bars,) = dense.containers[0].lines
    assert points.get_xdata().tolist() == bins["confidence"].tolist()
    np.testing.assert_allclose([end[:, 1] for end in bars.get_segments()], bins[["low", "high"]])


def test_answer_bars_show_the_likeliest_classes_of_all_series_from_the_top(bars_dataset):
    image, names = bars_dataset.split("test", 1)[0][0], [f"class {place}" for place in range(10)]
    before, after = np.eye(10)[3] * 0.7 + 0.03, np.eye(10)[8] * 0.5 + 0.05
    maps = {"seen": image, "one": np.full((4, 4), 2.0), "two": np.eye(4)}
    figure = plotting.answer_bars(maps, {"before": before, "after": after}, names, "truth: class 3")
    *pictures, axis = figure.axes
    assert [picture.images[0].get_array().shape for picture in pictures] == [(16, 16, 3), (4, 4), (4, 4)]
    assert {picture.images[0].get_clim() for picture in pictures[1:]} == {(0, 2)}
    assert [label.get_text() for label in axis.get_yticklabels()][::-1][:2] == ["class 3", "class 8"]
    widths = {bars.get_label(): [bar.get_width() for bar in bars][::-1] for bars in axis.containers}
    assert widths["before"] == pytest.approx([0.73] + 4 * [0.03])
    assert widths["after"] == pytest.approx([0.05, 0.55] + 3 * [0.05])
    assert {"73%", "55%", "truth: class 3"} <= set(texts(figure))


def test_moved_confidence_is_drawn_as_bins_and_as_counts(answers):
    labels, probabilities = answers
    confidences = {"as trained": probabilities.max(axis=1), "cooler": probabilities.max(axis=1) ** 0.5}
    correct = probabilities.argmax(axis=1) == labels
    bins = {name: measures.reliability_bins(values, correct) for name, values in confidences.items()}
    left, right = plotting.confidence_moved(bins, confidences).axes
    assert [bars[0].get_xdata().tolist() for bars in left.containers] == [
        table["confidence"].tolist() for table in bins.values()
    ]
    for outline, values in zip(right.patches, confidences.values(), strict=True):
        assert outline.get_xy()[:, 1].max() == np.histogram(values, 20, (0, 1))[0].max()


# --- networks ----------------------------------------------------------------------------------


def test_stages_of_a_drawing_are_the_layers_of_the_model(cnn):
    stages = model_diagrams.stages(cnn)
    assert [stage.name for stage in stages] == [
        "input", "conv1", "pool1", "conv2", "pool2", "conv3", "flatten", "features", "probabilities",
    ]  # fmt: skip
    assert sum(stage.parameters for stage in stages) == cnn.count_params()
    assert stages[-2].lines == ["dense", "ReLU", "dropout 50%"]


def test_normalisation_is_folded_into_its_convolution():
    model = build("cnn", (8, 8, 3), filters=(4,), batch_norm=True, head="gap", dense=0, dropout=0)
    stages = model_diagrams.stages(model)
    assert [stage.name for stage in stages] == ["input", "conv1", "pool1", "mean", "probabilities"]
    assert stages[1].lines == ["conv 3×3", "batch norm", "ReLU"]
    assert stages[1].parameters == model.get_layer("conv1").count_params() + model.get_layer("norm1").count_params()


def test_poolings_of_a_long_network_are_told_with_what_they_shrink():
    model = build("cnn", (16, 16, 3), 4, filters=(4, 4, 4, 4), dense=8)
    stages = model_diagrams.stages(model)
    names = [stage.name for stage in stages]
    assert names == ["input", "conv1", "conv2", "conv3", "conv4", "flatten", "features", "probabilities"]
    assert [stage.shape[0] for stage in stages[1:4]] == [model.get_layer(f"pool{n}").output.shape[1] for n in (1, 2, 3)]
    assert stages[1].lines == ["conv 3×3", "ReLU", "max 2×2"]
    assert sum(stage.parameters for stage in stages) == model.count_params()


def test_architecture_is_labelled_with_shapes_and_parameters(cnn):
    figure = plotting.architecture(cnn, "A network")
    written = texts(figure)
    assert f"A network: {cnn.count_params():,} parameters" in written
    assert {"8×8×6", f"{cnn.get_layer('features').count_params():,}"} <= set(written)
    assert len(figure.axes[0].patches) == 3 * len(model_diagrams.stages(cnn))


@pytest.mark.parametrize("units", [(8,), (8,) * 12])
def test_drawings_of_short_and_long_networks_fill_their_figure(units):
    figure = plotting.architecture(build("dense", (8, 8, 3), units=units), "A network")
    figure.draw_without_rendering()
    assert figure.axes[0].get_position().width > 0.9
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert not any(first.overlaps(second) for i, first in enumerate(boxes) for second in boxes[:i])


def test_boxes_shrink_with_the_feature_maps(cnn):
    fronts = plotting.architecture(cnn, "A network").axes[0].patches[::3]
    heights = [np.ptp(front.get_xy()[:, 1]) for front in fronts]
    assert heights[1] == pytest.approx(2 * heights[2]) == pytest.approx(4 * heights[4])


def test_a_filtered_picture_stands_beside_its_kernel(bars_dataset):
    image = bars_dataset.split("test", 1)[0][0]
    kernel = np.arange(-4.0, 5).reshape(3, 3)
    values = measures.filtered(image, kernel)
    figure = plotting.filtered_picture(image, kernel, values)
    grey, weights, filtered, active = (axis.images[0].get_array() for axis in figure.axes)
    np.testing.assert_allclose(grey, image.mean(axis=2))
    assert weights.tolist() == kernel.tolist() and filtered.tolist() == values.tolist()
    assert active.tolist() == np.maximum(values, 0).tolist()
    assert [text.get_text() for text in figure.axes[1].texts] == [f"{weight:g}" for weight in range(-4, 5)]


def test_filters_and_maps_are_shown_as_they_are(cnn, bars_dataset):
    filters = inspection.first_layer_filters(cnn)
    figure = plotting.conv1_filters(filters)
    assert np.allclose([axis.images[0].get_array() for axis in axes_with_data(figure)], filters)

    image = bars_dataset.split("test", 1)[0][0]
    maps = inspection.feature_maps(cnn, image)
    chosen = {layer: inspection.most_active(values, 3) for layer, values in maps.items()}
    whole, *small = plotting.feature_maps(image, maps, chosen).axes
    assert np.array_equal(whole.images[0].get_array(), image)
    assert len(small) == 9
    assert np.array_equal(small[3].images[0].get_array(), maps["conv2"][..., chosen["conv2"][0]])
    assert small[3].get_ylabel() == "conv2\n8×8×6"


def test_tsne_shows_each_class_before_all_points():
    generator = np.random.default_rng(0)
    points, labels = generator.normal(size=(90, 2)), np.repeat([0, 1, 3], 30)
    axes = axes_with_data(plotting.tsne_visualization(points, labels, CLASSES))
    assert [axis.get_title() for axis in axes] == list(CLASSES)
    for label, axis in enumerate(axes):
        everything, mine = (group.get_offsets() for group in axis.collections)
        assert np.array_equal(everything, points) and np.array_equal(mine, points[labels == label])


def test_receptive_field_stands_where_it_lies_in_the_image():
    rows = pd.DataFrame(
        [{"layer": "conv1", "theoretical": 3, "row": r, "column": c, "sensitivity": 1.0 if r == c == 8 else 0.5}
         for r in (7, 8, 9) for c in (7, 8, 9)]
    )  # fmt: skip
    diameters = pd.DataFrame({"layer": ["conv1"], "effective": [2.5]})
    axis = plotting.receptive_field(rows, diameters, (16, 16)).axes[0]
    assert tuple(axis.images[0].get_extent()) == (7, 10, 10, 7)
    assert axis.get_xlim() == (0, 16) and axis.get_ylim() == (16, 0)
    assert "3 pixels" in axis.get_title() and "2.5" in axis.get_title()


# --- studies -----------------------------------------------------------------------------------


def test_study_shows_each_seed_the_mean_and_its_interval(study):
    axis = plotting.study_points(study, "A study").axes[0]
    dots = next(line for line in axis.lines if line.get_marker() == "o" and line.get_linestyle() == "None")
    assert sorted(dots.get_ydata()) == sorted(study["test_accuracy_best"])
    expected = t_interval(study.loc[study["label"] == "dense_128_64", "test_accuracy_best"])
    mean, _, (bars,) = axis.containers[0]
    assert np.isclose(mean.get_ydata()[0], expected.mean)
    assert np.allclose(bars.get_segments()[0][:, 1], (expected.low, expected.high))
    assert [label.get_text() for label in axis.get_xticklabels()][0] == "dense 128-64"
    assert {"dense: mean of 3 seeds, 95% interval", "CNN: mean of 3 seeds, 95% interval"} <= set(texts(axis.figure))
    alone = plotting.study_points(study[study["model"] == "dense"], "A study")
    assert "mean of 3 seeds, 95% interval" in texts(alone), "one kind of network needs no name"


@pytest.mark.parametrize(
    ("labels", "shared", "names"),
    [(("mars_cnn_k3", "mars_cnn_k3to5"), "Mars CNN", ["3x3 kernels", "3x3 to 5x5\nkernels"]),
     (("cnn_8_16_k1", "cnn_8_16_k3"), "CNN 8-16", ["1x1 kernels", "3x3 kernels"]),
     (("gap_8_16", "gap_16_32"), "CNN with global average pooling", ["8-16", "16-32"]),
     (("as designed", "no dropout"), "", ["as designed", "no dropout"]),
     (("cnn_8_16", "cnn_8_16_15_epochs"), "CNN", ["8-16", "8-16\n15 epochs"]),
     (("cnn_8_16", "dense_8"), "", ["CNN 8-16", "dense 8"]),
     (("cnn_8_16",), "", ["CNN 8-16"])],
)  # fmt: skip
def test_what_all_variants_share_is_said_once(labels, shared, names):
    rows = pd.DataFrame([{"label": label, "model": "cnn", "seed": 0, "test_accuracy_best": 0.5} for label in labels])
    axis = plotting.study_points(rows, "A study").axes[0]
    assert axis.get_xlabel() == shared
    assert [text.get_text() for text in axis.get_xticklabels()] == names


def test_a_single_seed_claims_no_interval(study):
    figure = plotting.study_points(study[study["seed"] == 0], "A study")
    assert {"dense: mean of 1 seed", "CNN: mean of 1 seed"} <= set(texts(figure))
    assert not any(len(bar) for bar in figure.axes[0].containers[0][2][0].get_segments())


def test_performance_is_drawn_once_for_rows_that_two_studies_share(study):
    figure = plotting.performance_vs_parameters(pd.concat([study, study], ignore_index=True))
    axis = figure.axes[0]
    assert axis.get_xscale() == "log"
    means = study.groupby("label", sort=False)["test_accuracy_best"].mean()
    assert np.allclose(np.concatenate([bars[0].get_ydata() for bars in axis.containers]), means)
    assert "mean of 3 seeds" in axis.get_ylabel()
    assert {"128-64", "256-128", "16-32-64", "32-64-128"} <= set(texts(figure))


def test_accuracy_against_samples_has_a_line_for_each_network():
    rows = pd.DataFrame(
        [{"label": f"{label}_n{n}", "seed": s, "train_images": n, "test_accuracy_best": 0.3 + n / 1e5 + s / 100}
         for label in ("dense_128_64", "cnn_32_64_k3") for n in (500, 1000, 2000) for s in (0, 1)]
    )  # fmt: skip
    figure = plotting.accuracy_vs_samples(rows)
    dense, cnn = figure.axes[0].containers
    assert list(dense[0].get_xdata()) == [500, 1000, 2000]
    assert dense[0].get_marker() != cnn[0].get_marker()
    assert {"dense 128-64", "CNN 32-64", "1,000"} <= set(texts(figure))


def test_directions_of_a_shift_are_no_further_seeds():
    rows = pd.DataFrame(
        [{"label": "cnn_32_64_128", "seed": s, "shift": k, "direction": d, "treatment": t,
          "accuracy": 0.7 - 0.01 * k + 0.02 * s + (0.05 if d == "up" else 0)}
         for s in (0, 1) for k in (0, 4) for d in ("up", "left") for t in ("shifted", "held")]
    )  # fmt: skip
    axis = plotting.shift_curve(rows).axes[0]
    shifted, held = axis.containers
    seeds = rows.query("treatment == 'shifted' and shift == 4").groupby("seed")["accuracy"].mean()
    expected = t_interval(seeds)
    assert np.allclose(shifted[2][0].get_segments()[1][:, 1], (expected.low, expected.high))
    assert shifted[0].get_linestyle() != held[0].get_linestyle()
    assert "pixels" in axis.get_xlabel()


def test_first_layers_show_the_filters_that_changed_most(cnn):
    places = np.indices((4, 3, 3, 3)).reshape(4, -1)
    rows = pd.DataFrame(dict(zip(("filter", "row", "column", "channel"), places, strict=True)))
    rows = rows.assign(label="a", seed=0, before=0.5, after=0.5 + 0.1 * rows["filter"], patch=51.0)
    same = rows.assign(label="c", after=0.5)
    rows = pd.concat([rows, rows.assign(seed=1, after=0.0), same])
    figure = plotting.first_layer(rows, {"a": "one", "b": "none", "c": "two"}, count=2)
    axes = axes_with_data(figure)
    assert [axis.get_ylabel() for axis in axes[::2]][:5] == [
        "one\nbefore",
        "after",
        "difference",
        "excited by",
        "two\nbefore",
    ]
    before, after, change, patch = (axes[row].images[0].get_array()[0, 0, 0] for row in (0, 2, 4, 6))
    assert (before, after, change, patch) == pytest.approx((0.5 + 0.25 / 0.8, 1, 1, 0.2))
    assert axes[4].get_title() == f"×{0.8 / 0.3:.1f}", "the change of the filter that changed most, enlarged"
    assert axes[12].images[0].get_array()[0, 0, 0] == 0.5, "no change is mid-grey"


def test_worse_images_have_a_line_a_network_and_a_band_over_seeds():
    rows = pd.DataFrame(
        [{"label": m, "seed": first + s, "kind": kind, "strength": k, "accuracy": mean - 0.05 * k + 0.02 * s}
         for m, first, mean in (("a", 0, 0.5), ("b", 22, 0.9)) for s in (0, 1)
         for kind, ks in (("unchanged", [0]), ("fog", [1, 5]), ("JPEG", [1, 5]), ("FGSM", [1, 8])) for k in ks]
    )  # fmt: skip
    figure = plotting.changed_images(rows, {"a": "first", "b": "second"})
    corrupted, moved = figure.axes
    for axis, ticks in ((corrupted, [0, 1, 5]), (moved, [0, 1, 8])):
        assert [line.get_xdata().tolist() for line in axis.lines] == [ticks] * 2
        assert np.allclose(axis.lines[1].get_ydata(), 0.91 - 0.05 * np.array(ticks))
        band = axis.collections[0].get_paths()[0].vertices
        assert np.ptp(band[band[:, 0] == 1][:, 1]) == pytest.approx(0.02)
    assert {"first", "second", "strength (mean over 2 corruptions)"} <= set(texts(figure))
    assert "2 seeds" in figure.get_suptitle()


def test_tabular_points_set_the_orders_side_by_side():
    rows = pd.DataFrame(
        [{"label": m, "order": o, "seed": s, "split": k, "accuracy": 0.9 + 0.01 * s}
         for m in ("conv1d", "dense", "gradient_boosting") for o in ("published", "shuffled")
         for s in (0, 1) for k in (0, 1)]
    )  # fmt: skip
    axis = plotting.tabular_points(rows).axes[0]
    published, shuffled = axis.containers
    assert (published[0].get_xdata() < shuffled[0].get_xdata()).all()
    assert "gradient boosting" in texts(axis.figure)


# --- style -------------------------------------------------------------------------------------


def test_print_is_never_smaller_than_nine_points(curves, study, cnn, answers):
    labels, probabilities = answers
    counts = measures.confusion_counts(labels, probabilities.argmax(axis=1), CLASSES)
    drawn = (curves, plotting.study_points(study, "A study"), plotting.architecture(cnn, "A network"),
             plotting.confusion_matrix(counts, "A network"), plotting.performance_vs_parameters(study))  # fmt: skip
    for figure in drawn:
        sizes = {text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text().strip()}
        assert min(sizes) >= figures_style.SMALL


def test_percent_is_written_as_short_as_it_can_be(curves):
    axis = curves.axes[0].yaxis
    write = axis.get_major_formatter()
    assert [write(value) for value in (0.5, 0.725, 1e-17, 1.0)] == ["50%", "72.5%", "0%", "100%"]


def test_what_this_run_adds_to_the_records_picture_lies_where_it_was_measured(study):
    live = study.groupby("label", sort=False).head(1)
    for draw, places in (
        (lambda: plotting.study_points(study, "Title", live=live), {0.2, 1.2}),
        (lambda: plotting.performance_vs_parameters(study, live=live), set(live["parameters"])),
    ):
        (stars,) = [line for line in draw().axes[0].lines if line.get_label() == "this run"]
        assert {round(float(x), 6) for x in stars.get_xdata()} >= places
        np.testing.assert_array_equal(stars.get_ydata(), live["test_accuracy_best"])
