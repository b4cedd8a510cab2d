"""The record in words and pictures: CHAPTERS has one entry a study, probe or other evidence.

A new study is one declaration in the studies and one entry here: `"name": of_study("name", "title of its figure")`.
"""

from dataclasses import replace
from functools import partial

import pandas as pd

from cnnlab import figures, findings, measures, studies
from cnnlab.data import CIFAR10_CLASSES, load_cifar10
from cnnlab.findings import study_table
from cnnlab.measures import METRIC
from cnnlab.record import MARS_CNN, Chapter, Record, made_on, of_probe, of_study, plan, several
from cnnlab.wording import listing, spelled

__all__ = ["CHAPTERS", "Chapter", "Record", "audit", "drawing", "drawings", "of_study"]
# Networks with and without convolution: the assignment's two, and two of which the first has somewhat fewer parameters.
CONTRASTS = (("cnn_32_64_128", "dense_128_64"), ("cnn_32_64_k3", "dense_256_128"))
# Variants whose seeds are looked at together, and how many of the labels that they contradict are shown.
SEEDED = (*CONTRASTS[0][::-1], studies.PUBLISHED.label, "to_93", "to_94")
BEST_RECIPE, SUSPECTS = SEEDED[-1], 12
# What is asked how it bears worse images.
ROBUST = {studies.DENSE.label: "dense", studies.CNN.label: "CNN", BEST_RECIPE: "recipe"}
# Whose first filters are drawn.
FIRST_LAYERS = {studies.CNN.label: "CIFAR-10", MARS_CNN: "Mars"}
# (height, width) of CIFAR-10's images, on which the networks of the probes were trained.
IMAGE_SIZE = (32, 32)
# The rungs in their order, and those that learn from the validation images, too.
LADDER = tuple(trial.label for trial in studies.find_study("mars_ladder").trials)
# Of the evaluation on Mars, what there is a table of for each network that is looked at closely.
MARS_TABLES = ("recalls", "cameras", "trend", "frames")


def _networks(record):
    """Rows of dense and convolutional networks: those of baselines and filters, and these with kernels' added."""
    if not {"baselines", "filters", "kernels"} <= record.keys():
        return None
    plain = pd.concat([record["baselines"], record["filters"]], ignore_index=True)
    return plain, pd.concat([plain, record["kernels"]], ignore_index=True)


def _by_size(record):
    """Rows of `sample_size`, and those of the pretrained network's features with as many images; None without any."""
    frames = [record[name] for name in ("sample_size", "transfer_size") if name in record]
    return pd.concat(frames, ignore_index=True) if frames else None


def _with_best(record):
    """Rows of `dense_best`, of which the networks that others have too say nothing alone."""
    frame = record.get("dense_best")
    best, others = studies.DENSE_BEST.label, {studies.DENSE.label, studies.CNN.label}
    return frame if frame is not None and {best, *others} <= set(frame["label"]) else None


def _contrast_table(evidence):
    rows, wanted = evidence[1], [label for contrast in CONTRASTS for label in contrast]
    return [study_table(rows[rows["label"].isin(wanted)])]


def _recipes(record):
    """Rows of all recipes, a seed of one once; and their seconds side by side."""
    frames = [record[name] for name in ("recipe", "targets", "training") if name in record]
    return (pd.concat(frames, ignore_index=True).drop_duplicates("key"), record.recipe_seconds) if frames else None


# The recipes that a reader meets, whose times are compared.
TIMED = (studies.PUBLISHED.label, *(trial.label for trial in studies.WALK[:2]), studies.NARROW, *studies.TARGETS)


def _timed(evidence):
    """The rows of TIMED, with times that were measured side by side; where none were, with those of their trainings."""
    rows = measures.with_baseline_times(*evidence)
    rows = rows[rows["label"].isin(TIMED)]
    measured = rows[rows[measures.BASELINE_TIMES].notna()]
    return rows if measured.empty else measured


def _frontier(evidence):
    names = {label: studies.NAMES[label] for label in TIMED} | {studies.NARROW: "the narrow recipe"}
    rows = _timed(evidence)
    return figures.recipe_frontier(rows, names, METRIC, measures.time_column(rows))


def _ablation(frame):
    scores = measures.scored(frame).groupby("label")[measures.SCORE].agg(list)
    start = studies.ASSIGNMENT.label
    return figures.recipe_ablation(measures.effects(frame), scores, (studies.NAMES[start], start))


def _seeds(record):
    """({label of SEEDED: (classes, confidences), each (seeds, images)}, the test split); None without BEST_RECIPE's."""
    if "targets" not in record:
        return None
    chosen = {name: study for name, study in studies.STUDIES.items() if study.dataset == "cifar10"}
    parts = ("predicted", "confidence")
    predicted, confidence = (studies.predictions(chosen, record.store, part, SEEDED) for part in parts)
    several = {label: (predicted[label], confidence[label]) for label in SEEDED if len(predicted.get(label, ())) > 1}
    return (several, load_cifar10().splits["test"]) if BEST_RECIPE in several else None


def _said_of_seeds(evidence):
    answers, (_, labels) = evidence[0], evidence[1].take()
    suspects = findings.suspect_labels(BEST_RECIPE, *answers[BEST_RECIPE], labels)
    return [findings.spread(answers, labels), findings.ensemble(answers, labels), suspects]


def _suspects(evidence):
    answers, test = evidence
    images, labels = test.take()
    predicted, confidence = answers[BEST_RECIPE]
    rows = measures.contradicted(predicted, confidence, labels)[:SUSPECTS]
    names = [(CIFAR10_CLASSES[labels[row]], CIFAR10_CLASSES[predicted[0, row]]) for row in rows]
    captions = [f"label: {label}\nall seeds: {answer}" for label, answer in names]
    return figures.captioned_images(images[rows], captions, "Which is right, the label or the networks?")


def _of_networks(says, table):
    """The Findings of `says` on the Mars table `table`, of each network that is looked at closely."""
    return lambda evidence: [says(evidence[0][table], label) for label in evidence[1]]


def _ladder(record):
    """The tables of the evaluation on Mars, and with them "chosen", a label, and "seconds", {label: of a training}."""
    if not {"scores", "validation", "against"} <= record.mars.keys() or "mars_ladder" not in record:
        return None
    seconds = record["mars_ladder"].groupby("label")["cpu_seconds"].median()
    chosen = findings.chosen_network(record.mars["validation"]).numbers["chosen"]
    return {**record.mars, "seconds": seconds.to_dict(), "chosen": chosen}


def _climbed(evidence):
    chosen, scores, against = (evidence[name] for name in ("chosen", "scores", "against"))
    fuller = studies.MARS_WITH_VALIDATION.get(chosen, chosen)
    last = [label for label in (fuller, f"{fuller}_vote") if label in set(scores["label"]) - {chosen}]
    return [
        findings.contests(against, chosen, baseline=MARS_CNN),
        findings.contests(against, MARS_CNN, baseline=measures.NEAREST),
        findings.chosen_network(evidence["validation"]),
        findings.aims(scores, chosen),
        *(found(scores, label) for label in last for found in (findings.aims, findings.against_published)),
        findings.two_intervals(scores, MARS_CNN),
    ]


def _ladder_figure(evidence):
    published = {name.split(":")[0].split(",")[0]: accuracy for name, accuracy, _ in findings.PUBLISHED}
    return figures.group_scores(findings.rungs(evidence["scores"], LADDER), published)


def _chosen(evidence, table):
    """The rows of the Mars `table` of the networks that are looked at closely: all would be a thicket."""
    tables, labels = evidence
    return tables[table][tables[table]["label"].isin(labels)]


def _when_and_where(table):
    return f"{table.attrs['finished'][:10]} ({table.attrs['cpu']})"


def audit(record, dataset=None):
    """`findings.audit_claims` by what `record` has, of all claims or those on `dataset`; None where there are none.

    CIFAR-10's images are read for claims on them alone.
    """
    path = record.root / findings.CLAIMS
    if not path.exists():
        return None
    images = load_cifar10() if dataset in (None, "cifar10") else None
    probed = measures.supplied(record.probes["activations"], record.probes["shift"], record.mars)
    return findings.audit_claims(path, measures.gather_evidence(record.store, images, probed), dataset)


CHAPTERS = {
    "answer": Chapter(
        "What does convolution buy?",
        _networks,
        lambda evidence: [findings.against_baseline(evidence[1], *contrast) for contrast in CONTRASTS],
        _contrast_table,
        {"performance_vs_parameters": lambda evidence: figures.performance_vs_parameters(evidence[0])},
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
        contrasts=partial(findings.contrast_table, base=studies.AS_DESIGNED),
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
        "last epoch. So does this table.",
        metric="test_accuracy_last",
        drawn={
            "epochs_confound": lambda frame: figures.study_points(
                frame, "One network, two numbers of epochs", "test_accuracy_last"
            )
        },
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
        drawn={"permutation": lambda frame: figures.study_points(frame, "Ordinary and permuted pixels")},
    ),
    "sample_size": replace(
        of_study(
            "sample_size",
            says=findings.sample_size,
            about="As many training steps for each size, fewer than in the other studies, on ever more images.",
            drawn={"sample_size": figures.accuracy_vs_samples},
            contrasts=findings.sample_size_table,
        ),
        evidence=lambda record: _by_size(record) if "sample_size" in record else None,
    ),
    "transfer_size": Chapter(
        studies.find_study("transfer_size").question,
        lambda record: _by_size(record) if "transfer_size" in record else None,
        findings.transfer_size,
        lambda frame: [findings.sample_size_table(frame, "cnn", "probe")],
        about="In the figure above, beside networks that begin from nothing: features of a network that learned from "
        "1.3 million photographs, frozen, with a linear classifier. The rows are in the table there.",
        command="cnnlab study transfer_size",
    ),
    "dense_best": replace(
        of_study(
            "dense_best",
            "Networks without convolution, and one with it",
            lambda frame: findings.convolution_buys(
                frame, studies.CNN.label, studies.DENSE.label, studies.DENSE_BEST.label
            ),
            about="The published baseline stops while it still learns. The tuned network has more units, dropout and "
            "four times the epochs, as much computing as the CNN.",
            contrasts=partial(findings.contrast_table, base=studies.CNN.label),
        ),
        evidence=_with_best,
    ),
    "nearest": of_probe(
        "nearest",
        about="Likeness is the correlation of grey thumbnails of 16x16 pixels; the training images are those of each "
        "seed's split.",
    ),
    "seeds": Chapter(
        "Where do the differences between seeds come from, and what do the seeds know together?",
        _seeds,
        _said_of_seeds,
        lambda evidence: [findings.seeds_table(evidence[0], evidence[1].take()[1])],
        {"suspect_labels": _suspects},
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
            study_table(measures.named(frame), METRIC),
        ],
        {"recipe_ablation": _ablation},
        "What a practitioner would do next, in an order in which every network is healthy; settings follow "
        "airbench94_muon. The *narrow recipe* has all steps but the last two and trains in minutes: from it steps are "
        "left out, one at a time. Label smoothing came last, so that leaving it out is the same comparison; the blocks "
        "cannot be left out, as what comes after is made for them. Of the last step, and only there, accuracy is of "
        "several views of each image. What the test images have had a hand in is in [PROTOCOL.md](PROTOCOL.md).",
        "cnnlab study recipe",
    ),
    "future_work": of_study(
        "future_work",
        says=findings.listed,
        about="One change at a time on the assignment's CNN, everything else as it was.",
        metric=METRIC,
        contrasts=partial(findings.contrast_table, metric=METRIC, base=studies.NAMES[studies.ASSIGNMENT.label]),
    ),
    "training": of_study(
        "training",
        says=findings.faithful,
        metric=METRIC,
        contrasts=partial(findings.contrast_table, metric=METRIC, base=studies.NAMES[studies.ASSIGNMENT.label]),
    ),
    "targets": Chapter(
        studies.find_study("targets").question,
        lambda record: _recipes(record) if "targets" in record else None,
        lambda evidence: findings.targets(*evidence),
        lambda evidence: [findings.target_table(*evidence), findings.frontier_table(_timed(evidence))],
        {"recipe_frontier": _frontier},
        "A baseline time is what the published code's ten epochs take on the same machine, measured in turns. "
        "The seeds are ones with which nothing had been scored before; the settings were chosen on validation. Targets "
        "are of answers from several views, the picture and the last table of one.",
        "cnnlab study targets",
        headline=-1,
    ),
    "mars_ladder": Chapter(
        studies.find_study("mars_ladder").question,
        _ladder,
        _climbed,
        lambda evidence: [
            findings.score_table(findings.rungs(evidence["scores"], LADDER), evidence["seconds"]),
            "On the validation images, on which everything is chosen:",
            findings.score_table(findings.rungs(evidence["validation"], LADDER)),
            findings.published_table(),
        ],
        {"mars_ladder": _ladder_figure},
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
        lambda record: (record.mars, record.mars_networks) if record.mars else None,
        several(
            lambda evidence: findings.constant_answers(evidence[0]["images"]),
            _of_networks(findings.lost_classes, "recalls"),
            _of_networks(findings.hardest_classes, "recalls"),
            _of_networks(findings.cameras, "cameras"),
            _of_networks(findings.sol_trend, "trend"),
            _of_networks(findings.first_seen, "frames"),
        ),
        lambda evidence: [
            "In percentage points, above:",
            findings.contest_table(evidence[0]["against"]),
            *(findings.mars_table(name, evidence[0][name], evidence[1]) for name in MARS_TABLES),
        ],
        {
            "mars_class_recalls": lambda evidence: figures.class_recalls(_chosen(evidence, "recalls")),
            "mars_accuracy_by_sol": lambda evidence: figures.accuracy_by_sol(_chosen(evidence, "sols")),
        },
        "The classes are of very unequal size, and the splits are spans of Martian days, between which camera and task "
        "changed. The same frame is in the set several times: intervals here are over groups of images taken together.",
        "make mars PROFILE=full",
    ),
    "mars_kernels": of_study(
        "mars_kernels",
        "Mars: test accuracy by kernel size",
        findings.sweep,
        contrasts=partial(findings.contrast_table, base=MARS_CNN),
    ),
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
        lambda tables: [f"Measured on {listing(sorted({_when_and_where(table) for table in tables.values()}))}."],
        about="`make bench` lets the ways take turns on one machine and takes medians. Throughput counts from a "
        "training's first step to its last. The assignment's notebook asks TensorFlow to be sparing with memory, at "
        "the price of slower training; the commands, and these benchmarks but for the notebook's own, do not.",
        command="make bench RECORD=results/benchmarks",
    ),
    "plan": Chapter(
        "What was run?",
        lambda record: record,
        tables=lambda record: [made_on(record), plan(record)],
        about="Seed *k* of every variant shares the split and the order of the images. The recipes that are held "
        "against targets, and the published code, have more seeds than the plan says.",
    ),
}


def drawing(record, name):
    """The function that draws the figure `name`, from its own rows alone; None where `record` has none of these."""
    chapter = next((each for each in CHAPTERS.values() if name in each.figures), None)
    evidence = None if chapter is None else chapter.of(record)
    return None if evidence is None else partial(chapter.figures[name], evidence)


def drawings(record):
    """{name: function that draws it} of all the figures that `record` has the rows for."""
    found = {name: drawing(record, name) for chapter in CHAPTERS.values() for name in chapter.figures}
    return {name: draw for name, draw in found.items() if draw is not None}
