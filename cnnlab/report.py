"""The record in words and pictures: CHAPTERS has one entry a study, probe or other evidence, and `rebuild` writes all.

A new study is one declaration in the studies and one entry here: `"name": of_study("name", "title of its figure")`.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from cnnlab import figures, findings, measures, studies
from cnnlab.data import CIFAR10_CLASSES, load_cifar10
from cnnlab.findings import HEADLINE, presentable, study_table, to_markdown
from cnnlab.measures import AUGMENTED, METRIC
from cnnlab.record import MARS_CNN, RECORD, Record, listed, made_on, plan, summary
from cnnlab.training import PROTOCOL
from cnnlab.wording import listing, whole_points

README, RESULTS = Path("README.md"), Path("results") / "RESULTS.md"
NOTEBOOKS = ("cnn_assignment.ipynb", "cnn_exploration.ipynb")
BLOCK = re.compile(r"(<!-- begin:(\S+) -->\n).*?(<!-- end:\2 -->)", re.DOTALL)
# Bookkeeping of a row that a reader of the table does without; it stays in the row's own file.
UNTABLED = ["options", "class_names", "finished", "python", "numpy", "data_version"]
# Networks with and without convolution: the assignment's two, and two of which the first has somewhat fewer parameters.
CONTRASTS = (("cnn_32_64_128", "dense_128_64"), ("cnn_32_64_k3", "dense_256_128"))
# Variants whose seeds are looked at together, and how many of the labels that they contradict are shown.
SEEDED = (*CONTRASTS[0][::-1], studies.PUBLISHED.label, "to_93", "to_94")
BEST_RECIPE, SUSPECTS = SEEDED[-1], 12
# (height, width) of CIFAR-10's images, on which the networks of the probes were trained.
IMAGE_SIZE = (32, 32)
# The rungs in their order, and those that learn from the validation images, too.
LADDER = tuple(trial.label for trial in studies.find_study("mars_ladder").trials)
# Of the evaluation on Mars, what there is a table of for each network that is looked at closely.
MARS_TABLES = ("recalls", "cameras", "trend", "frames")


@dataclass(frozen=True)
class Chapter:
    """A question, its evidence, and what is made of it.

    `evidence`: from a Record to what the next three take, None or empty where nothing is recorded; `says`: to a
    Finding or several, of which number `headline` answers in one line; `tables`: to DataFrames, and lines of text
    between them; `figures`: {name of a file in images/: function to a Figure}; `about`: what a person wrote;
    `command` makes the rows.
    """

    question: str
    evidence: Callable[[Record], Any]
    says: Callable = lambda evidence: []
    tables: Callable = lambda evidence: []
    figures: dict[str, Callable] = field(default_factory=dict)
    about: str = ""
    command: str = "cnnlab record"
    headline: int = 0

    def of(self, record):
        """Its evidence in `record`, None where there is none."""
        found = record.once(self.evidence)
        return None if found is None or not len(found) else found

    def findings(self, record):
        """Its Findings of `record`, [] where nothing is recorded."""
        return record.once(self._said)

    def _said(self, record):
        found = self.of(record)
        return [] if found is None else listed(self.says(found))

    def answer(self, record):
        """The one sentence of them that answers the question."""
        said = self.findings(record)
        return said[self.headline].sentence if said else f"Not recorded yet: `{self.command}` makes the rows."

    def shown(self, record):
        """Its tables of `record` in Markdown."""
        found = self.of(record)
        tables = [] if found is None else self.tables(found)
        return [table if isinstance(table, str) else compact(table) for table in tables]

    def section(self, name, record):
        """Its section of RESULTS.md, to be linked to as `name`: what it says, its figures, its tables."""
        found, parts = self.of(record), [f'<a id="{name}"></a>', f"## {self.question}", self.about]
        if found is None:
            parts.append(self.answer(record))
        else:
            parts.append("\n".join(f"- {finding.sentence}" for finding in self.findings(record)))
            parts += [picture(name, "../images") for name in self.figures]
            parts += self.shown(record)
        return "\n\n".join(filter(None, parts))


def of_study(name, title=None, says=findings.adjacent, about="", metric=HEADLINE, drawn=None, contrasts=None):
    """The Chapter of the study `name`: its tables and, where it has a `title`, a figure of every seed's `metric`.

    `says`: from its tidy frame to Findings; `drawn`: {figure name: function of the frame} in place of that figure,
    <name>_study; `contrasts`: from the frame to the table of its differences (default: each variant against the one
    before it).
    """
    study = studies.find_study(name)
    contrasts = contrasts or partial(findings.contrast_table, metric=metric)
    if title and not drawn:
        drawn = {f"{name}_study": lambda frame: figures.study_points(frame, title, metric)}
    about = f"{about}\n\nVaried: {study.varied}. Held still: {study.fixed}.".strip()
    return Chapter(
        study.question,
        lambda record: record.get(name),
        says,
        lambda frame: [*of_older_protocol(frame), presentable(study_table(frame, metric)), contrasts(frame)],
        drawn or {},
        about,
        f"cnnlab study {name}",
    )


def of_older_protocol(frame):
    """What to say of rows of a study that training as it is today would not give, [] where there is nothing."""
    protocol = frame.attrs.get("protocol", PROTOCOL)
    if protocol == PROTOCOL:
        return []
    return [f"These rows are of protocol {protocol}; [PROTOCOL.md](PROTOCOL.md) says what they cannot tell."]


def of_probe(name, drawn=None, about=""):
    """The Chapter of the probe `name`, with the figures `drawn` from its rows."""
    return Chapter(
        measures.PROBES[name].question,
        lambda record: record.probes[name],
        findings.OF_PROBES[name],
        lambda rows: [findings.probe_table(name, rows)],
        drawn or {},
        about,
        f"cnnlab probe {name}",
    )


def several(*functions):
    """One function from evidence to the Findings of all of `functions`."""
    return lambda evidence: [found for says in functions for found in listed(says(evidence))]


def _networks(record):
    """Rows of dense and convolutional networks: those of baselines and filters, and these with kernels' added."""
    if not {"baselines", "filters", "kernels"} <= record.keys():
        return None
    plain = pd.concat([record["baselines"], record["filters"]], ignore_index=True)
    return plain, pd.concat([plain, record["kernels"]], ignore_index=True)


def _contrast_table(evidence):
    rows, wanted = evidence[1], [label for contrast in CONTRASTS for label in contrast]
    return [presentable(study_table(rows[rows["label"].isin(wanted)]))]


def _recipes(record):
    """Rows of the recipes, those with a target among them; and their seconds side by side."""
    frames = [record[name] for name in ("recipe", "targets") if name in record]
    if not frames:
        return None
    together = pd.concat(frames, ignore_index=True)
    together.attrs["protocol"] = min(frame.attrs.get("protocol", PROTOCOL) for frame in frames)
    return together, record.recipe_seconds


def _frontier(evidence):
    timed = measures.with_baseline_times(*evidence)
    named = {studies.NARROW: "the narrow recipe", studies.WALK[-1].label: "all steps of the walk"}
    named |= {
        label: studies.NAMES[label] for label in (studies.PUBLISHED.label, studies.ASSIGNMENT.label, *studies.TARGETS)
    }
    return figures.recipe_frontier(timed, named, AUGMENTED, measures.time_column(timed), studies.TARGETS)


def _recipe_tables(evidence):
    frame, seconds = evidence
    one_view = "All recipes, from one view of each image, without test-time augmentation:"
    every = presentable(study_table(measures.named(frame), METRIC))
    return [*of_older_protocol(frame), findings.frontier_table(frame, seconds), one_view, every]


def _recipe_changes(record):
    found = _recipes(record)
    return found if found and measures.measured(found[0], studies.of_kind("walk")) else None


def _waterfall(evidence):
    together = measures.complete_seeds(evidence[0])
    start = together.loc[together["label"] == studies.ASSIGNMENT.label, METRIC].mean()
    return figures.recipe_waterfall(measures.effects(evidence[0]), start)


def _seeds(record):
    """({label of SEEDED: (classes, confidences), each (seeds, images)}, the test split); None without a row."""
    chosen = {name: study for name, study in studies.STUDIES.items() if study.dataset == "cifar10"}
    if not any(len(frame) for frame in studies.read_all(chosen, record.store).values()):
        return None
    predicted, confidence = (studies.predictions(chosen, record.store, part) for part in ("predicted", "confidence"))
    several = [label for label in SEEDED if len(predicted.get(label, ())) > 1]
    return {label: (predicted[label], confidence[label]) for label in several}, load_cifar10().splits["test"]


def _said_of_seeds(evidence):
    answers, test = evidence
    _, labels = test.take()
    said = [findings.spread(label, predicted == labels) for label, (predicted, _) in answers.items()]
    said += [findings.ensemble(label, *each, labels) for label, each in answers.items()]
    return said + [findings.suspect_labels(label, *answers[label], labels) for label in answers if label == BEST_RECIPE]


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
    return lambda evidence: [found for label in evidence[1] for found in listed(says(evidence[0][table], label))]


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


def _audited(record):
    if not (record.root / findings.CLAIMS).exists():
        return None
    probed = findings.supplied(record.probes["activations"], record.probes["shift"], record.mars)
    evidence = findings.gather(record.store, load_cifar10(), probed)
    return findings.audit_claims(findings.published_claims(record.root / findings.CLAIMS), evidence)


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
    "sample_size": of_study(
        "sample_size",
        says=findings.sample_size,
        about="As many training steps for each size, fewer than in the other studies, on ever more images.",
        drawn={"sample_size": figures.accuracy_vs_samples},
        contrasts=findings.sample_size_table,
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
        {"calibration": lambda rows: figures.reliability_diagram(findings.reliability_panels(rows))},
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
        "correlation of 0 where that leaves no map at all). Intervals are over images.",
    ),
    "recipe": Chapter(
        studies.find_study("recipe").question,
        _recipes,
        lambda evidence: findings.recipe_findings(*evidence),
        _recipe_tables,
        {"recipe_frontier": _frontier},
        "The assignment's list of future work (augmentation, batch normalisation, schedules) and more, one change a "
        "step, towards what airbench94 reaches on a GPU. A + means: added to the assignment's CNN and to all the + "
        "before it. The *narrow recipe*, with every change but the longer training and the wider blocks, trains in "
        "minutes; there changes are left out, and what could stand in a part's place is compared on validation. What "
        "the test images have had a hand in is in [PROTOCOL.md](PROTOCOL.md).",
        "cnnlab study recipe",
        headline=1,
    ),
    "targets": Chapter(
        studies.find_study("targets").question,
        lambda record: _recipes(record) if "targets" in record else None,
        lambda evidence: findings.targets(*evidence),
        lambda evidence: [findings.target_table(*evidence)],
        about="A baseline time is what the published code's ten epochs take on the same machine, measured in turns. "
        "The seeds are ones with which nothing had been scored before; the settings were chosen on validation.",
        command="cnnlab study targets",
        headline=-1,
    ),
    "recipe_changes": Chapter(
        "What is each change worth: on top, alone and left out?",
        _recipe_changes,
        tables=lambda evidence: [findings.change_table(measures.effects(evidence[0]), evidence[1])],
        figures={"recipe_waterfall": _waterfall},
        about="p-values are corrected for the number of changes in the same place. Not measured: SGD and the large "
        "batches left out of the narrow recipe, whose other settings are made for them; whitening, dirac "
        "initialisation and the rate of norm biases alone, since the assignment's CNN has neither the layer nor the "
        "normalisation for them.",
        command="cnnlab study recipe",
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
        several(lambda frame: findings.against_each(frame, MARS_CNN), findings.choose),
        contrasts=partial(findings.contrast_table, base=MARS_CNN),
    ),
    "audit": Chapter(
        "The audit: which published claims hold?",
        _audited,
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
# What the README asks, and answers in one line.
QUESTIONS = ("filters", "permutation", "sample_size", "shift", "targets")
PREFACE = f"""# Results

Every number on this page is computed from the rows in this folder, by `make report`.

**How to read it.** An accuracy is a mean over seeds, with its 95% t-interval: where the mean over many more seeds would
lie, if this procedure is right 95 times in 100. Differences are paired, seed by seed, and *p* is after Holm's
correction for the comparisons made together. *Same* is a difference shown to be within {whole_points(findings.MARGIN)},
*cannot tell* one whose interval is wider than what would matter. The loss is of the same epoch as the accuracy.
Processor time counts all cores together; the machines did other work meanwhile, so read differences below a factor of
two as none. [PROTOCOL.md](PROTOCOL.md) says what the test images decided, and what makes a row valid."""


def rebuild(root=None):
    """Write the studies' CSVs, the record's figures, RESULTS.md and the README's blocks under `root` (None: the lab's).

    The same rows give the same bytes. Returns the paths written. Raises ValueError, with nothing written, where nothing
    is recorded or the README has a block that nothing fills, FileNotFoundError without a README.
    """
    record = Record(root)
    if not record:
        raise ValueError(f"{record.store.folder} holds no finished trials; run a study first")
    readme, results = record.root / README, record.root / RESULTS
    filled = fill(readme.read_text(encoding="utf-8"), blocks(record))
    written = [write_table(name, frame, record.root) for name, frame in record.items()]
    for name, draw in drawings(record).items():
        written.append(figures.save_figure(draw(), name, record.root / "images", RECORD.label))
    results.write_text(results_page(record), encoding="utf-8")
    readme.write_text(filled, encoding="utf-8")
    return [*written, results, readme]


def drawings(record):
    """{name: function that draws it} of all the figures that `record` has the rows for."""
    found = [(chapter, chapter.of(record)) for chapter in CHAPTERS.values() if chapter.figures]
    return {
        name: partial(draw, evidence)
        for chapter, evidence in found
        if evidence is not None
        for name, draw in chapter.figures.items()
    }


def results_page(record):
    """The text of RESULTS.md: how to read it, a list of contents, and a section a chapter."""
    contents = "\n".join(f"- [{chapter.question}](#{name})" for name, chapter in CHAPTERS.items())
    return (
        "\n\n".join([PREFACE, contents, *(chapter.section(name, record) for name, chapter in CHAPTERS.items())]) + "\n"
    )


def blocks(record):
    """{block name: Markdown} of everything that the README states as measured."""
    said = CHAPTERS["answer"].findings(record)
    cost = {title: table for title, table in record.benchmarks.items() if title == findings.NOTEBOOK_RUN}
    return {
        "answer": "\n\n".join([picture("performance_vs_parameters"), " ".join(map(str, said))]),
        "questions": "\n".join(
            f"- **[{CHAPTERS[name].question}]({RESULTS.as_posix()}#{name})** {CHAPTERS[name].answer(record)}"
            for name in QUESTIONS
        ),
        "cost": " ".join(map(str, findings.benchmark_findings(cost))),
        "chapters": chapter_table(record.root),
        "results": compact(summary(record)),
        "mars": "\n\n".join([CHAPTERS["mars_ladder"].answer(record), picture("mars_ladder")]),
    }


def fill(text, content):
    """`text` with each `<!-- begin:NAME -->...<!-- end:NAME -->` block holding content[NAME]."""

    def put(match):
        begin, name, end = match.groups()
        if name not in content:
            raise ValueError(f"the README has a block {name!r} that nothing fills; expected {', '.join(content)}")
        return f"{begin}{content[name].strip()}\n{end}"

    return BLOCK.sub(put, text)


def write_table(name, frame, root):
    """Write the tidy rows of study `name` as results/<name>.csv under `root`; returns the path."""
    path = Path(root) / "results" / f"{name}.csv"
    frame.drop(columns=UNTABLED, errors="ignore").to_csv(path, index=False, float_format="%.6g")
    return path


def chapter_table(root):
    """The notebooks' chapters side by side, by their headings: a table in Markdown."""
    columns = []
    for name in NOTEBOOKS:
        path = root / name
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"] if path.exists() else []
        prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        chapters = re.findall(r"^## (\d+\..*)$", prose, re.MULTILINE)
        columns.append(pd.Series(chapters, name=f"[{path.stem}]({name})", dtype=object))
    return compact(pd.concat(columns, axis=1).fillna(""))


def compact(table):
    """A DataFrame as a Markdown table without padding, so that a new row changes no other line."""
    return re.sub(r"-{3,}", "---", re.sub(r" {2,}", " ", to_markdown(table)))


def picture(name, folder="images"):
    """The figure `name` in Markdown, with its alternative text."""
    return f"![{figures.alternative_text(name)}]({folder}/{name}.png)"
