"""The record in words and pictures: CHAPTERS has one entry a study, probe or other evidence.

A new study is one declaration in the studies and one entry here: `"name": of_study("name", "title of its figure")`.
"""

from functools import partial

from cnnlab import evidence, figures, findings, measures, studies
from cnnlab.evidence import audit
from cnnlab.findings import study_table
from cnnlab.measures import METRIC
from cnnlab.record import MARS_CNN, Chapter, Record, of_probe, of_study
from cnnlab.wording import spelled

__all__ = ["CHAPTERS", "Chapter", "Record", "audit", "drawing", "drawings", "of_study"]
# Whose first filters are drawn, and what is asked how it bears worse images.
FIRST_LAYERS = {studies.CNN.label: "CIFAR-10", MARS_CNN: "Mars"}
ROBUST = {studies.DENSE.label: "dense", studies.CNN.label: "CNN", studies.CORRUPTED_RECIPE: "recipe"}
# (height, width) of CIFAR-10's images, on which the networks of the probes were trained.
IMAGE_SIZE = (32, 32)

CHAPTERS = {
    "answer": Chapter(
        "What does convolution buy?",
        evidence.networks,
        lambda found: [findings.against_baseline(found[1], *contrast) for contrast in evidence.CONTRASTS],
        evidence.contrast_rows,
        {"performance_vs_parameters": lambda found: figures.performance_vs_parameters(found[0])},
        "A convolution is told two things about images before it has seen any: what matters lies close together, and "
        "it may lie anywhere. The assignment's two networks differ in size too; two others are of similar size.",
    ),
    "baselines": of_study("baselines", says=findings.sweep, about="A dense network sees an image as a bag of numbers."),
    "filters": of_study(
        "filters",
        "Test accuracy by number of filters",
        findings.sweep,
        about="Four widths and one protocol; what is kept of a training are the weights of its best validation epoch.",
    ),
    "design": of_study(
        "design",
        "Test accuracy with one decision undone",
        findings.undone,
        about="Why this network and not another? Each decision is undone alone, on a quarter of the images, which "
        "makes a training short.",
        base=studies.AS_DESIGNED,
    ),
    "filters_gap": of_study(
        "filters_gap",
        "Filters, with global average pooling",
        findings.sweep,
        about="In the networks above most parameters sit in one dense layer, whose input grows with the filters. Here "
        "are the same four with global average pooling in its place.",
    ),
    "epochs": of_study(
        "epochs",
        says=findings.epochs_confound,
        about="The published sweep trained one of its four variants for more epochs than the others, and reported the "
        "last epoch. So does this table, unlike the others.",
        metric="test_accuracy_last",
    ),
    "kernels": of_study(
        "kernels",
        "Test accuracy by kernel size",
        findings.sweep,
        about="A kernel of 1x1 sees no neighbour at all: it is the control.",
    ),
    "permutation": of_study(
        "permutation",
        says=findings.permutation,
        about="All pixels change places, in the same way in every image, in training and test alike. Nothing is lost "
        "but the neighbourhood.",
        figures={"permutation": partial(figures.study_points, title="Ordinary and permuted pixels")},
    ),
    "sample_size": of_study(
        "sample_size",
        says=findings.sample_size,
        about="Each network trains until its validation accuracy no longer rises, on ever more images: with equal "
        "steps for all, some would end while they still learn.",
        evidence=partial(evidence.by_size, needed="sample_size"),
        tables=lambda frame: [study_table(frame), findings.sample_size_table(frame)],
        figures={"sample_size": figures.accuracy_vs_samples},
    ),
    "transfer_size": Chapter(
        studies.find_study("transfer_size").question,
        partial(evidence.by_size, needed="transfer_size"),
        findings.transfer_size,
        lambda frame: [findings.sample_size_table(frame, "cnn", "probe")],
        about="In the figure above, beside networks that begin from nothing: features of a network that learned from "
        "1.3 million photographs, frozen, with a linear classifier. The rows are in the table there.",
        command="cnnlab study transfer_size",
    ),
    "dense_best": of_study(
        "dense_best",
        "Networks without convolution, and one with it",
        findings.convolution_buys,
        "The published baseline stops while it still learns. The tuned network has more units, mirror images "
        "and four times the epochs, as much computing as the CNN.",
        base=studies.CNN.label,
        evidence=evidence.with_best,
    ),
    "nearest": of_probe(
        "nearest",
        about="Likeness is the correlation of grey thumbnails of 16x16 pixels; the training images are those of each "
        "seed's split.",
    ),
    "seeds": Chapter(
        "Where do the differences between seeds come from, and what do the seeds know together?",
        evidence.seeds,
        evidence.said_of_seeds,
        lambda found: [findings.seeds_table(found[0], found[1].take()[1])],
        {"suspect_labels": evidence.suspects},
        "From stored answers to one view of each image, without training. *Test noise* is the standard deviation of "
        "accuracy if each image were right or wrong on its own, as often as it is over the seeds (Jordan, 2024): on "
        "other images that part would come out anew. A vote sums the confidences of the seeds' answers. Labels stay as "
        "they are published.",
    ),
    "shift": of_probe(
        "shift",
        {"shift_accuracy": figures.shift_curve},
        "Weights are shared between places, and so the features move with the image. Whether the answer stays is "
        "another question. An image that is *held* has lost the same strip and does not move: the difference is place "
        "alone.",
    ),
    "equivariance": of_probe(
        "equivariance",
        about="How far a layer's maps of a shifted image are from its shifted maps, as a share of their size.",
    ),
    "receptive_field": of_probe(
        "receptive_field",
        {"receptive_field": lambda rows: figures.receptive_field(rows, measures.effective_diameters(rows), IMAGE_SIZE)},
        "What a unit could see is decided by the layers below it; what it does see, by their weights. Sizes are sides "
        "of squares, in pixels: of a plateau, half lies within 0.71 of its side.",
    ),
    "tabular": of_probe(
        "tabular",
        {"tabular": figures.tabular_points},
        "The columns of a table have no neighbours: their order is somebody's habit. The random splits overlap, which "
        "the intervals take into account.",
    ),
    "activations": of_probe("activations"),
    "calibration": of_probe(
        "calibration",
        {"calibration": lambda rows: figures.reliability_diagram(measures.reliability_panels(rows))},
        "Before and after one number, the temperature, is fitted on validation. Bins of equally many images.",
    ),
    "conformal": of_probe(
        "conformal",
        {
            "mars_conformal_by_sol": lambda rows: figures.coverage_by_sol(
                rows[rows["label"] == studies.MARS_MIRRORED.label]
            )
        },
        "A set has all classes above a threshold, which is fitted on validation so that nine sets in ten hold the true "
        "class, if new images come like these. *Like the fit's*: each half of the validation images with the "
        "threshold of the other. Intervals are over images, of Mars over groups of them. An image whose set has one "
        "class may be answered; the others are for a person. Where a network is right more often than promised on the "
        "images of the fit, some sets are empty.",
    ),
    "attribution": of_probe(
        "attribution",
        about="A map says where the answer comes from. Where it does, covering what it marks first makes the answer's "
        "probability fall sooner than a random order; and the map changes where the network's weights change places (a "
        "map that this leaves flat counts as a correlation of 0). Intervals are over images.",
    ),
    "first_layer": of_probe(
        "first_layer",
        {"first_layer": lambda rows: figures.first_layer(rows, FIRST_LAYERS)},
        "The filters that training changed most, as they were drawn at random, as they are, and by what they changed; "
        "below, the mean of the patches on which each answers most, each of another image. Both networks draw the same "
        "first filters from the same seed.",
    ),
    "corruptions": of_probe(
        "corruptions",
        {"changed_images": lambda rows: figures.changed_images(rows, ROBUST)},
        f"{measures.CORRUPTED_IMAGES:,} test images, corrupted in {spelled(len(measures.KINDS))} kinds after Hendrycks "
        f"and Dietterich (2019), the same for all networks; means over {spelled(len(measures.STRENGTHS))} strengths. "
        "FGSM (Goodfellow et al., 2015) moves every value by a step, up or down, whichever harms the network most. One "
        "view of each image. For a copy of CIFAR-10.1 or CIFAR-10-C of your own: `cnnlab probe corruptions --images "
        "PATH`.",
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
        "What a practitioner would do next, in an order in which every network is healthy; settings follow "
        "airbench94_muon. The *narrow recipe* has all steps but the last two and trains in minutes: from it steps are "
        "left out, one at a time. Label smoothing came last, so that leaving it out is the same comparison; the blocks "
        "cannot be left out, as what comes after is made for them. The last step is the recipe for 94%, with seeds of "
        "its own: accuracy there, and only there, is of several views of each image. What the test images have had a "
        "hand in is in [PROTOCOL.md](PROTOCOL.md).",
        "cnnlab study recipe",
    ),
    "future_work": of_study(
        "future_work",
        says=findings.listed,
        about="One change at a time on the assignment's CNN, everything else as it was.",
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
        "Each recipe's seeds are ones with which no form of it had been scored before; how settings and passes were "
        "chosen is in [PROTOCOL.md](PROTOCOL.md). Targets are of answers from several views, the picture and the last "
        "table of one.",
        "cnnlab study targets",
        headline=-1,
    ),
    "mars_ladder": Chapter(
        studies.find_study("mars_ladder").question,
        evidence.ladder,
        evidence.climbed,
        lambda found: [
            findings.score_table(findings.rungs(found["scores"], evidence.LADDER), found["seconds"]),
            "On the validation images, on which everything is chosen:",
            findings.score_table(findings.rungs(found["validation"], evidence.LADDER)),
            findings.published_table(),
        ],
        {"mars_ladder": evidence.ladder_figure},
        "From what needs no network to what others' pictures have taught one. Scores are of the test images; intervals "
        "are over groups of images taken together, but for accuracy also over seeds, and over whole sols. A *vote* is "
        "what all seeds answer together, a *mirror-averaged* probe takes the mean features of an image and its mirror "
        "image. What is *refitted* learns from the validation images, too, with settings that these had chosen before. "
        "What the test images have had a hand in is in [PROTOCOL.md](PROTOCOL.md).",
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
        "The classes are of very unequal size, and the splits are spans of Martian days, between which camera and task "
        "changed. The same frame is in the set several times: intervals here are over groups of images taken together.",
        "make mars PROFILE=full",
    ),
    "mars_kernels": of_study("mars_kernels", "Mars: test accuracy by kernel size", findings.sweep, base=MARS_CNN),
    "audit": Chapter(
        "The audit: which published claims hold?",
        audit,
        findings.audit_summary,
        lambda audited: [findings.audit_table(audited)],
        about="What public versions of this assignment state, against what is measured here, at the last epoch where "
        "the claim is of the last. *Holds*: inside the 95% interval of the mean. *Within noise*: outside it, but where "
        "one more run may lie. *Contradicted*: outside that too. *Cannot tell*: the mean itself is known too loosely.",
    ),
    "benchmarks": Chapter(
        "What does it cost?",
        lambda record: record.benchmarks,
        findings.benchmark_findings,
        evidence.when_and_where,
        about="`make bench` lets the ways take turns on one machine and takes medians. Throughput counts from a "
        "training's first step to its last. The assignment's notebook asks TensorFlow to be sparing with memory, at "
        "the price of slower training; the commands, and these benchmarks but for the notebook's own, do not.",
        command="make bench RECORD=results/benchmarks",
    ),
    "plan": Chapter(
        "What was run?",
        evidence.trainings,
        lambda found: findings.on_gpu(found[1]),
        lambda found: [evidence.made_on(found[1]), evidence.plan(found[0]), *evidence.on_gpu(found[1])],
        about="Seed *k* of every variant shares the split and the order of the images. Where two numbers of seeds are "
        "recorded, the fewer are of what takes longest, or has no seed.",
    ),
}


def drawing(record, name):
    """The function that draws the figure `name`, from its own rows alone; None where `record` has none of these."""
    chapter = next((each for each in CHAPTERS.values() if name in each.figures), None)
    found = None if chapter is None else chapter.of(record)
    return None if found is None else partial(chapter.figures[name], found)


def drawings(record):
    """{name: function that draws it} of all the figures that `record` has the rows for."""
    drawn = {name: drawing(record, name) for chapter in CHAPTERS.values() for name in chapter.figures}
    return {name: draw for name, draw in drawn.items() if draw is not None}
