"""The figures of the Mars images show the numbers they are given."""

import matplotlib
import numpy as np
import pandas as pd

from cnnlab import figures as plotting
from cnnlab.measures import exploration

matplotlib.use("Agg")


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def test_class_imbalance_has_a_panel_a_split_and_marks_what_is_missing(mars_tiny):
    counts = exploration.class_counts(mars_tiny)
    figure = plotting.class_imbalance(counts)
    for axis, (split, images) in zip(figure.axes, counts.items(), strict=True):
        widths = dict(zip([t.get_text() for t in figure.axes[0].get_yticklabels()], axis.patches, strict=True))
        assert {name: bar.get_width() for name, bar in widths.items()} == images.to_dict()
        assert axis.get_title().startswith(split)
    assert texts(figure).count("none") == 1


def test_camera_shares_fill_each_bar(mars_tiny):
    shares = exploration.camera_shares(mars_tiny)
    figure = plotting.camera_shares(shares)
    bars = figure.axes[0].patches
    assert len(bars) == shares.size
    assert np.isclose(sum(bar.get_width() for bar in bars), shares.shape[1])


def test_class_samples_show_the_chosen_images_beside_their_class(mars_tiny):
    samples = exploration.mars_samples(mars_tiny, "train", 2)
    images = mars_tiny.splits["train"].images
    figure = plotting.class_samples(images, samples, blocks=2, per_class=2)
    shown, name = {}, None
    for axis in figure.axes:
        if axis.images:
            name = axis.get_ylabel() or name
            shown.setdefault(name.replace("\n", " "), []).append(np.asarray(axis.images[0].get_array()))
    for name, mine in samples.groupby("class"):
        assert np.array_equal(shown[name], images[mine["row"]])


def test_captions_stand_under_their_images():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), "uint8")
    figure = plotting.captioned_images(images, ["one", "two\nlines", "a caption that is too long for one line"], "T")
    visible = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_xlabel() for axis in visible][:2] == ["one", "two\nlines"]
    assert "\n" in visible[2].get_xlabel()
    assert np.array_equal(visible[1].images[0].get_array(), images[1])


def test_the_pipeline_names_shape_type_and_range(mars_tiny, mars_copy):
    steps = exploration.mars_pipeline(mars_tiny.metadata["file"][5], 16, path=mars_copy)
    figure = plotting.image_pipeline(steps)
    assert [axis.get_title() for axis in figure.axes] == list(steps)
    assert figure.axes[-1].get_xlabel().splitlines()[:2] == ["16×16×3", "float32"]


def test_scores_recalls_and_days_are_drawn_where_they_lie():
    scores = pd.DataFrame(
        [(label, score, value, value - 0.1, value + 0.1)
         for label, value in (("mars_cnn_k3", 0.6), ("always ground", 0.2))
         for score in ("accuracy", "balanced_accuracy", "macro_f1")],
        columns=["label", "score", "value", "low", "high"],
    )  # fmt: skip
    figure = plotting.group_scores(scores, {"Deep Mars": 0.667})
    assert [axis.lines[0].get_xdata().tolist() for axis in figure.axes] == [[0.6, 0.2]] * 3
    bars = figure.axes[0].collections[0].get_segments()
    np.testing.assert_allclose([segment[:, 0] for segment in bars], [[0.5, 0.7], [0.1, 0.3]])
    assert figure.axes[0].lines[-1].get_xdata()[0] == 0.667
    assert any("Deep Mars 66.7%" in text for text in texts(figure))
    assert "Mars CNN, 3x3 kernels" in texts(figure)

    recalls = pd.DataFrame(
        {"label": "mars_cnn_k3", "class": ["a", "b", "c"], "images": [5, 7, 0], "groups": [2, 1, 0],
         "value": [0.9, 0.1, np.nan], "low": [0.8, np.nan, np.nan], "high": [1, np.nan, np.nan]}
    )  # fmt: skip
    axis = plotting.class_recalls(recalls).axes[0]
    assert axis.lines[0].get_xdata().tolist() == [0.1, 0.9]
    assert [text.get_text() for text in axis.get_yticklabels()] == [
        "b (7 images, 1 group)", "a (5 images, 2 groups)",
    ]  # fmt: skip
    better = recalls.assign(label="mars_probe", value=[0.6, 0.7, np.nan])
    axis = plotting.class_recalls(pd.concat([better, recalls], ignore_index=True)).axes[0]
    assert axis.get_yticklabels()[0].get_text() == "a (5 images, 2 groups)", "in the order of the better network"

    sols = pd.DataFrame(
        {"label": "mars_cnn_k3", "first_sol": [565, 600], "last_sol": [599, 700], "images": [10, 20],
         "accuracy": [0.5, 0.7], "low": [0.4, 0.6], "high": [0.6, 0.8]}
    )  # fmt: skip
    axis = plotting.accuracy_by_sol(sols).axes[0]
    assert axis.lines[0].get_xdata().tolist() == [582, 650]
    assert axis.lines[0].get_ydata().tolist() == [0.5, 0.7]
    assert axis.get_ylim()[0] < 0 and axis.get_ylim()[1] > 1, "a mark at either end is whole"


def test_the_days_of_the_fit_and_later_ones_stand_beside_the_promise():
    nothing = dict.fromkeys(("first_sol", "last_sol"), np.nan)
    spans = [("validation", 500, 549, 0.91), ("test", 550, 599, 0.8), ("test", 600, 649, 0.7)]
    rows = pd.DataFrame(
        [{"split": "test", **nothing, "coverage": 0.75, "low": 0.7, "high": 0.8}]
        + [
            {"split": split, "first_sol": first, "last_sol": last, "coverage": share, "low": share - 0.1, "high": 1.0}
            for split, first, last, share in spans
        ]
    ).assign(promised=0.9)
    axis = plotting.coverage_by_sol(rows).axes[0]
    assert [line.get_ydata().tolist() for line in axis.lines if line.get_marker() in "os"] == [[0.91], [0.8, 0.7]]
    assert axis.lines[-1].get_ydata() == [0.9, 0.9]


def test_the_picture_has_each_image_above_its_maps():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), "uint8")
    maps = {
        "Grad-CAM": np.full((3, 2, 2), [[[0.5]], [[0.0]], [[-0.1]]]),
        "occlusion": np.arange(3 * 16.0).reshape(3, 4, 4),
    }
    figure = plotting.attribution(images, maps, ["one", "two", "three"])
    axes = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in axes[:3]] == ["one", "two", "three"]
    assert [axis.get_ylabel() for axis in axes[::3]] == ["", "Grad-CAM", "occlusion"]
    assert np.array_equal(axes[0].images[0].get_array(), images[0])
    below, above = axes[7].images
    assert np.array_equal(above.get_array(), maps["occlusion"][1])
    assert tuple(below.get_extent()) == tuple(above.get_extent()), "no pixel is marked beside itself"
    shades = [picture.to_rgba(picture.get_array()) for picture in (below, above)]
    assert shades[0][..., 0].min() >= 0.6, "what lies under a map is pale, however dark the picture"
    assert shades[1][..., 3].argmax() == maps["occlusion"][1].argmax(), "and the more colour, the more speaks for it"
    assert not axes[5].images[1].to_rgba(axes[5].images[1].get_array())[..., 3].any(), (
        "against it is as pale as nothing"
    )
