"""The record in words and pictures: CHAPTERS has one entry for each study, probe or other piece of evidence.

A new study takes one declaration in `studies` and one entry here: `"name": of_study("name", "title of its figure")`.
"""

from functools import partial

from cnnlab import evidence, figures, findings, measures, studies
from cnnlab.evidence import audit
from cnnlab.findings import study_table
from cnnlab.measures import METRIC
from cnnlab.record import MARS_CNN, Chapter, Record, of_probe, of_study
from cnnlab.wording import spelled

__all__ = ["CHAPTERS", "Chapter", "Record", "audit", "drawing", "drawings", "of_study"]
# Networks whose first filters are drawn, and networks tested on corrupted images.
FIRST_LAYERS = {studies.CNN.label: "CIFAR-10", MARS_CNN: "Mars"}
ROBUST = {studies.DENSE.label: "dense", studies.CNN.label: "CNN", studies.CORRUPTED_RECIPE: "recipe"}
# (height, width) of the CIFAR-10 images that the probed networks were trained on.
IMAGE_SIZE = (32, 32)

CHAPTERS = {
    "answer": Chapter(
        "What does convolution buy?",
        evidence.networks,
        lambda found: [findings.against_baseline(found[1], *contrast) for contrast in evidence.CONTRASTS],
        evidence.contrast_rows,
        {"performance_vs_parameters": lambda found: figures.performance_vs_parameters(found[0])},
        "A convolutional network is told two things about images before it has seen any: what matters lies close "
        "together, and it may lie anywhere. The assignment's two networks also differ in size; a second pair, less so.",
    ),
    "baselines": of_study("baselines", says=findings.sweep, about="A dense network sees an image as a bag of numbers."),
    "filters": of_study(
        "filters",
        "Test accuracy by number of filters",
        findings.sweep,
        about="Four widths and one protocol; each training keeps the weights of its best validation epoch.",
    ),
    "design": of_study(
        "design",
        "Test accuracy with one decision undone",
        findings.undone,
        about="Why this network and not another? Each decision is undone on its own, on a quarter of the images to "
        "keep training short.",
        base=studies.AS_DESIGNED,
    ),
    "filters_gap": of_study(
        "filters_gap",
        "Filters, with global average pooling",
        findings.sweep,
        about="In the networks above, most parameters sit in one dense layer, whose input grows with the filters. "
        "Here, in the same four networks, global average pooling takes its place.",
    ),
    "epochs": of_study(
        "epochs",
        says=findings.epochs_confound,
        about="The published sweep trained one of its four variants for more epochs than the others, and reported the "
        "last epoch. This table, unlike the others, also reports the last epoch.",
        metric="test_accuracy_last",
    ),
    "kernels": of_study(
        "kernels",
        "Test accuracy by kernel size",
        findings.sweep,
        about="A 1x1 kernel sees no neighbours at all: it is the control.",
    ),
    "permutation": of_study(
        "permutation",
        says=findings.permutation,
        about="All pixels change places, in the same way in every image, in training and test alike. Nothing but "
        "their neighbourhoods is lost.",
        figures={"permutation": partial(figures.study_points, title="Ordinary and permuted pixels")},
    ),
    "sample_size": of_study(
        "sample_size",
        says=findings.sample_size,
        about="Each network trains on more and more images, each time until its validation accuracy stops rising: "
        "with the same number of steps for all, some would stop while still learning.",
        evidence=partial(evidence.by_size, needed="sample_size"),
        tables=lambda frame: [study_table(frame), findings.sample_size_table(frame)],
        figures={"sample_size": figures.accuracy_vs_samples},
    ),
    "transfer_size": Chapter(
        studies.find_study("transfer_size").question,
        partial(evidence.by_size, needed="transfer_size"),
        findings.transfer_size,
        lambda frame: [findings.sample_size_table(frame, "cnn", "probe")],
        about="The figure above also shows a linear classifier on the frozen features of a network trained on 1.3 "
        "million photographs. Its rows are in the table above.",
        command="cnnlab study transfer_size",
    ),
    "dense_best": of_study(
        "dense_best",
        "Networks without convolution, and one with it",
        findings.convolution_buys,
        "The published baseline stops while it is still learning. The tuned network has more units, mirror images "
        "and four times the epochs, and takes as much computation as the CNN.",
        base=studies.CNN.label,
        evidence=evidence.with_best,
    ),
    "nearest": of_probe(
        "nearest",
        about="Similarity is the correlation of grey 16x16-pixel thumbnails; the training images are those of each "
        "seed's split.",
    ),
    "seeds": Chapter(
        "Where do the differences between seeds come from, and what does combining seeds gain?",
        evidence.seeds,
        evidence.said_of_seeds,
        lambda found: [findings.seeds_table(found[0], found[1].take()[1])],
        {"suspect_labels": evidence.suspects},
        "From stored answers to one view of each image, without new training. *Test noise* is the standard deviation "
        "of accuracy if each image were right or wrong independently, as often as it is over the seeds (Jordan, 2024): "
        "other test images would redraw that part. A vote sums the confidences of the seeds' answers. Labels are used "
        "as published.",
    ),
    "shift": of_probe(
        "shift",
        {"shift_accuracy": figures.shift_curve},
        "Weights are shared between positions, so the features move with the image. Whether the answer stays the same "
        "is another question. A *held* image loses the same strip but does not move: the difference is position alone.",
    ),
    "equivariance": of_probe(
        "equivariance",
        about="The error is how far a layer's maps of a shifted image differ from its shifted maps of the original, "
        "relative to the maps' size.",
    ),
    "receptive_field": of_probe(
        "receptive_field",
        {"receptive_field": lambda rows: figures.receptive_field(rows, measures.effective_diameters(rows), IMAGE_SIZE)},
        "The layers below a unit decide what it could see; their weights decide what it does see. Sizes are sides of "
        "squares, in pixels: if sensitivity were uniform, half of it would lie within 0.71 of the side.",
    ),
    "tabular": of_probe(
        "tabular",
        {"tabular": figures.tabular_points},
        "The columns of a table have no neighbours: their order is arbitrary. The random splits overlap, which the "
        "intervals take into account.",
    ),
    "activations": of_probe("activations"),
    "calibration": of_probe(
        "calibration",
        {"calibration": lambda rows: figures.reliability_diagram(measures.reliability_panels(rows))},
        "Before and after fitting one number, the temperature, on the validation images. Each bin holds equally many "
        "images.",
    ),
    "conformal": of_probe(
        "conformal",
        {
            "mars_conformal_by_sol": lambda rows: figures.coverage_by_sol(
                rows[rows["label"] == studies.MARS_MIRRORED.label]
            )
        },
        "A set holds all classes above a threshold, fitted on validation images so that nine sets in ten hold the true "
        "class, if new images are drawn like these. *Like the fit's*: each half of the validation images, with the "
        "threshold of the other half. Intervals are over images, for Mars over groups of them. An image whose set has "
        "one class can be answered automatically; the others go to a person. Where a network is right more often than "
        "promised on the images of the fit, some sets are empty.",
    ),
    "attribution": of_probe(
        "attribution",
        about="A map claims to show where the answer comes from. If it does, covering what it marks first lowers the "
        "answer's probability sooner than a random order does, and the map changes when the network's weights are "
        "shuffled (a map that becomes flat counts as a correlation of 0). Intervals are over images.",
    ),
    "first_layer": of_probe(
        "first_layer",
        {"first_layer": lambda rows: figures.first_layer(rows, FIRST_LAYERS)},
        "The filters that training changed most: as initialised, as trained, and the difference; below, the mean of "
        "the patches that excite each filter most, each patch from a different image. With the same seed, both "
        "networks start from the same first filters.",
    ),
    "corruptions": of_probe(
        "corruptions",
        {"changed_images": lambda rows: figures.changed_images(rows, ROBUST)},
        f"{measures.CORRUPTED_IMAGES:,} test images, corrupted in {spelled(len(measures.KINDS))} ways after Hendrycks "
        f"and Dietterich (2019), the same for all networks; means over {spelled(len(measures.STRENGTHS))} strengths. "
        "FGSM (Goodfellow et al., 2015) moves every value one step up or down, whichever hurts the network more. One "
        "view of each image. For your own copy of CIFAR-10.1 or CIFAR-10-C: `cnnlab probe corruptions --images PATH`.",
    ),
    "recipe": Chapter(
        studies.find_study("recipe").question,
        lambda record: record.get("recipe"),
        findings.recipe_findings,
        lambda frame: [
            findings.change_table(measures.effects(frame)),
            "All networks, from one view of each image:",
            study_table(frame, METRIC),
        ],
        {"recipe_ablation": evidence.ablation},
        "What a practitioner would do next, in an order in which every network trains well; settings follow "
        "airbench94_muon. The *narrow recipe* has all steps but the last two and trains in minutes: steps are left out "
        "of it one at a time. Its last step is label smoothing, so leaving that out is the same comparison; the blocks "
        "cannot be left out, because later steps are built on them. The last step is the recipe for 94%, with its own "
        "seeds: there, and only there, accuracy is over several views of each image. [PROTOCOL.md](PROTOCOL.md) says "
        "which choices the test images influenced.",
        "cnnlab study recipe",
    ),
    "future_work": of_study(
        "future_work",
        says=findings.listed,
        about="One change at a time to the assignment's CNN; everything else stays as it was.",
        metric=METRIC,
        base=studies.ASSIGNMENT.label,
    ),
    "training": of_study("training", says=findings.faithful, metric=METRIC, base=studies.ASSIGNMENT.label),
    "targets": Chapter(
        studies.find_study("targets").question,
        evidence.recipes,
        lambda found: findings.targets(*found),
        lambda found: [findings.target_table(*found), findings.frontier_table(evidence.timed(found))],
        {"recipe_frontier": evidence.frontier},
        "A baseline time is what the published code's ten epochs take on the same machine, measured in turns. "
        "Each recipe's seeds are ones with which no form of it had been scored before; [PROTOCOL.md](PROTOCOL.md) "
        "says how settings and passes were chosen. Targets count answers from several views of each image; the figure "
        "and the last table, from one.",
        "cnnlab study targets",
        headline=-1,
    ),
    "mars_ladder": Chapter(
        studies.find_study("mars_ladder").question,
        evidence.ladder,
        evidence.climbed,
        lambda found: [
            findings.score_table(findings.rungs(found["scores"], evidence.LADDER), found["seconds"]),
            "On the validation images, which decide every choice:",
            findings.score_table(findings.rungs(found["validation"], evidence.LADDER)),
            findings.published_table(),
        ],
        {"mars_ladder": evidence.ladder_figure},
        "From answers that need no network to networks pretrained on other pictures. Scores are on the test images; "
        "intervals are over groups of images taken together, and for accuracy also over seeds and over whole sols. A "
        "*vote* sums the confidences of all seeds; a *mirror-averaged* probe takes the mean features of an image and "
        "its mirror image. A *refitted* classifier also learns from the validation images, with the settings they had "
        "chosen before. [PROTOCOL.md](PROTOCOL.md) says which choices the test images influenced.",
        "make mars PROFILE=full",
        headline=-3,
    ),
    "mars": Chapter(
        "Mars: what does accuracy hide?",
        evidence.mars,
        evidence.said_of_mars,
        evidence.mars_tables,
        {
            "mars_class_recalls": lambda found: figures.class_recalls(evidence.looked_at(found, "recalls")),
            "mars_accuracy_by_sol": lambda found: figures.accuracy_by_sol(evidence.looked_at(found, "sols")),
        },
        "The classes are very unequal in size, and the splits are spans of Martian days, between which camera and task "
        "changed. The same frame occurs several times, so intervals here are over groups of images taken together.",
        "make mars PROFILE=full",
    ),
    "mars_kernels": of_study("mars_kernels", "Mars: test accuracy by kernel size", findings.sweep, base=MARS_CNN),
    "audit": Chapter(
        "The audit: which published claims hold?",
        audit,
        findings.audit_summary,
        lambda audited: [findings.audit_table(audited)],
        about="What public versions of this assignment claim, against what is measured here, at the last epoch where "
        "the claim is about that. *Holds*: inside the 95% interval of the mean. *Within noise*: outside it, but where "
        "one more run may lie, or a comparison that may be chance. *Contradicted*: outside that too. *Cannot tell*: "
        "the mean itself is too uncertain.",
    ),
    "benchmarks": Chapter(
        "What does it cost?",
        lambda record: record.benchmarks,
        findings.benchmark_findings,
        evidence.when_and_where,
        about="`make bench` alternates between the methods on one machine and takes medians. Throughput counts from a "
        "training's first step to its last. The notebooks ask TensorFlow to be sparing with memory, at "
        "the price of slower training; the commands do not, nor do these benchmarks, except the notebooks' own.",
        command="make bench RECORD=results/benchmarks",
    ),
    "plan": Chapter(
        "What was run?",
        evidence.trainings,
        lambda found: findings.on_gpu(found[1]),
        lambda found: [evidence.made_on(found[1]), evidence.plan(found[0]), *evidence.on_gpu(found[1])],
        about="Seed *k* of every variant shares the split and the order of the images. Where the number of seeds is a "
        "range, the variants with fewer take longest or do not depend on a seed.",
    ),
}


def drawing(record, name):
    """The function that draws the figure `name` from its own rows alone; None where `record` has none of them."""
    chapter = next((each for each in CHAPTERS.values() if name in each.figures), None)
    found = None if chapter is None else chapter.of(record)
    return None if found is None else partial(chapter.figures[name], found)


def drawings(record):
    """{name: function that draws it} for every figure that `record` has the rows for."""
    drawn = {name: drawing(record, name) for chapter in CHAPTERS.values() for name in chapter.figures}
    return {name: draw for name, draw in drawn.items() if draw is not None}
