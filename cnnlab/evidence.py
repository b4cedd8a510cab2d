"""Evidence from more than one study or probe: gathered from a Record, with its findings, tables and figures."""

import pandas as pd

from cnnlab import figures, findings, measures, studies
from cnnlab.data import CIFAR10_CLASSES, load_cifar10
from cnnlab.record import MARS_CNN
from cnnlab.wording import VOTE, listing

# Networks with and without convolution: the assignment's two, and two where the CNN has somewhat fewer parameters.
CONTRASTS = (("cnn_32_64_128", "dense_128_64"), ("cnn_32_64_k3", "dense_256_128"))
# Variants whose seeds are compared, and how many of the labels that all seeds contradict are shown.
SEEDED = (*CONTRASTS[0][::-1], studies.PUBLISHED.label, "to_93", "to_94")
BEST_RECIPE, SUSPECTS = SEEDED[-1], 12
# The recipes that a reader meets; their times are compared.
TIMED = (studies.PUBLISHED.label, *(trial.label for trial in studies.WALK[:2]), studies.NARROW, *studies.TARGETS)
# The rungs of the Mars ladder, in order.
LADDER = tuple(trial.label for trial in studies.find_study("mars_ladder").trials)


def rows_of(record, *names):
    """The recorded rows of the studies `names`, in one frame; None where none is recorded."""
    frames = [record[name] for name in names if name in record]
    return pd.concat(frames, ignore_index=True) if frames else None


def networks(record):
    """(rows of baselines and filters, rows of both and kernels); None unless all three are recorded."""
    if not {"baselines", "filters", "kernels"} <= record.keys():
        return None
    return rows_of(record, "baselines", "filters"), rows_of(record, "baselines", "filters", "kernels")


def contrast_rows(found):
    """The table of the networks in CONTRASTS, from what `networks` returned."""
    rows, wanted = found[1], [label for contrast in CONTRASTS for label in contrast]
    return [findings.study_table(rows[rows["label"].isin(wanted)])]


def by_size(record, needed):
    """Rows of `sample_size` and of pretrained features on as many images; None unless the study `needed` is there."""
    return rows_of(record, "sample_size", "transfer_size") if needed in record else None


def with_best(record):
    """Rows of `dense_best`; None unless all three networks to compare are there, two of which other studies share."""
    frame = record.get("dense_best")
    wanted = {studies.DENSE_BEST.label, studies.DENSE.label, studies.CNN.label}
    return frame if frame is not None and wanted <= set(frame["label"]) else None


def seeds(record):
    """({label of SEEDED: (classes, confidences), each (seeds, images)}, the test split); None without BEST_RECIPE's."""
    if "targets" not in record:
        return None
    chosen = {name: study for name, study in studies.STUDIES.items() if study.dataset == "cifar10"}
    parts = ("predicted", "confidence")
    predicted, confidence = (studies.predictions(chosen, record.store, part, SEEDED) for part in parts)
    several = {label: (predicted[label], confidence[label]) for label in SEEDED if len(predicted.get(label, ())) > 1}
    return (several, load_cifar10().splits["test"]) if BEST_RECIPE in several else None


def said_of_seeds(found):
    """Findings on how seeds differ, on their vote, and on labels that may be wrong."""
    answers, (_, labels) = found[0], found[1].take()
    suspects = findings.suspect_labels(BEST_RECIPE, *answers[BEST_RECIPE], labels)
    return [findings.spread(answers, labels), findings.ensemble(answers, labels), suspects]


def suspects(found):
    """The figure of the first SUSPECTS images whose label all seeds of BEST_RECIPE contradict."""
    images, labels = found[1].take()
    predicted, confidence = found[0][BEST_RECIPE]
    rows = measures.contradicted(predicted, confidence, labels)[:SUSPECTS]
    names = [(CIFAR10_CLASSES[labels[row]], CIFAR10_CLASSES[predicted[0, row]]) for row in rows]
    captions = [f"label: {label}\nall seeds: {answer}" for label, answer in names]
    return figures.captioned_images(images[rows], captions, "Which is right, the label or the networks?")


def ablation(frame):
    """The figure of the steps of the study `recipe`."""
    start = studies.ASSIGNMENT.label
    return figures.recipe_ablation(measures.effects(frame), measures.scored(frame), (studies.NAMES[start], start))


def recipes(record):
    """(rows of all recipes, each once, their seconds measured side by side); None unless `targets` is recorded."""
    if "targets" not in record:
        return None
    return rows_of(record, "recipe", "targets", "training").drop_duplicates("key"), record.recipe_seconds


def timed(found):
    """The rows of TIMED with times measured side by side; where there are none, with the times of their trainings."""
    rows = measures.with_baseline_times(*found)
    rows = rows[rows["label"].isin(TIMED)]
    measured = rows[rows[measures.BASELINE_TIMES].notna()]
    return rows if measured.empty else measured


def frontier(found):
    """The figure of the TIMED recipes, from what `recipes` returned."""
    names = {label: studies.NAMES[label] for label in TIMED} | {studies.NARROW: "the narrow recipe"}
    return figures.recipe_frontier(timed(found), names)


def ladder(record):
    """The tables of the Mars evaluation, with "chosen", a label, and "seconds", {label: of one training}, added."""
    if not {"scores", "validation", "against"} <= record.mars.keys() or "mars_ladder" not in record:
        return None
    seconds = record["mars_ladder"].groupby("label")["cpu_seconds"].median()
    return {**record.mars, "seconds": seconds.to_dict(), "chosen": record.mars_networks[-1]}


def climbed(found):
    """Findings on the `ladder`: its contests, the choice, the aims, and both kinds of interval."""
    chosen, scores, against = (found[name] for name in ("chosen", "scores", "against"))
    fuller = studies.MARS_WITH_VALIDATION.get(chosen, chosen)
    last = [label for label in (fuller, fuller + VOTE) if label in set(scores["label"]) - {chosen}]
    return [
        findings.contests(against, chosen, baseline=MARS_CNN),
        findings.contests(against, MARS_CNN, baseline=measures.NEAREST),
        findings.chosen_network(found["validation"]),
        findings.aims(scores, chosen),
        *(says(scores, label) for label in last for says in (findings.aims, findings.against_published)),
        findings.two_intervals(scores, MARS_CNN),
    ]


def ladder_figure(found):
    """The figure of the rungs beside published results, without the votes, which lie where their seeds do."""
    rungs = findings.rungs(found["scores"], LADDER)
    published = {name.split(":")[0].split(",")[0]: accuracy for name, accuracy, _ in findings.PUBLISHED}
    return figures.group_scores(rungs[~rungs["label"].str.endswith(VOTE)], published)


def mars(record):
    """The tables of the Mars evaluation, and the labels of the networks to look at closely."""
    return (record.mars, record.mars_networks) if record.mars else None


def said_of_mars(found):
    """Findings on the data set, then, question by question, on each network looked at closely."""
    tables, labels = found
    asked = {
        findings.lost_classes: "recalls",
        findings.hardest_classes: "recalls",
        findings.cameras: "cameras",
        findings.sol_trend: "trend",
        findings.first_seen: "frames",
    }
    said = [says(tables[table], label) for says, table in asked.items() for label in labels]
    return [findings.constant_answers(tables["images"]), *said]


def mars_tables(found):
    """The table of contests, then the tables of each network looked at closely."""
    tables, labels = found
    shown = [findings.mars_table(name, tables[name], labels) for name in ("recalls", "cameras", "trend", "frames")]
    return ["Lead over each baseline, in percentage points:", findings.contest_table(tables["against"]), *shown]


def looked_at(found, table):
    """The rows of the Mars `table` for the networks looked at closely: all of them would be unreadable."""
    tables, labels = found
    return tables[table][tables[table]["label"].isin(labels)]


def audit(record, dataset=None):
    """`findings.audit_claims` by the evidence in `record`, for all claims or those on `dataset`; None without claims.

    CIFAR-10's images are read only for claims about them.
    """
    path = record.root / findings.CLAIMS
    if not path.exists():
        return None
    images = load_cifar10() if dataset in (None, "cifar10") else None
    probed = measures.supplied(record.probes["activations"], record.probes["shift"], record.mars)
    return findings.audit_claims(path, measures.gather_evidence(record.store, images, probed), dataset)


def when_and_where(tables):
    """One line: when and on which machines the benchmarks `tables` were measured."""
    measured = {f"{table.attrs['finished'][:10]} ({table.attrs['cpu']})" for table in tables.values()}
    return [f"Measured on {listing(sorted(measured))}."]


def trainings(record):
    """(`record`, the rows of all its studies, each once); None where nothing is recorded."""
    return (record, pd.concat(record.values()).drop_duplicates("key")) if record else None


def made_on(rows):
    """One line: how many trainings `rows` holds, on which machines and software, and how long they took."""
    machines = listing(sorted({_machine(row) for row in rows.itertuples()}))
    software = listing(sorted({f"Keras {r.keras} on {r.backend} {r.backend_version}" for r in rows.itertuples()}))
    precisions, hours = listing(sorted(set(rows["precision"]))), rows["cpu_seconds"].sum() / 3600
    how = f"on {machines}, in {precisions}, with {software}"
    return f"{len(rows)} trainings {how}; {hours:.1f} processor hours without a GPU."


def on_gpu(rows):
    """A caption and the table that compares seeds trained with and without a GPU; [] where `rows` has none."""
    table = findings.on_gpu_table(rows)
    said = "Mean test accuracy of the variants that have seeds of both kinds; each variant counts once:"
    return [] if table.empty else [said, table]


def _machine(row):
    beside = f", {row.accelerator}" if row.accelerator != "none" else ""
    return f"{row.cpu} ({row.cores} cores{beside})"


def plan(record):
    """One row per study: what it varies, how many seeds it plans and has, and their cost; some share trainings."""
    rows = []
    for study in studies.STUDIES.values():
        frame = record.get(study.name, pd.DataFrame(columns=["label", "seed", "cpu_seconds"]))
        seeds = sorted(set(frame.groupby("label")["seed"].nunique())) or [0]
        rows.append(
            {
                "Study": study.name,
                "Varied": study.varied,
                "Variants": len(study.trials),
                "Seeds planned": study.seeds,
                "Seeds recorded": listing(dict.fromkeys([seeds[0], seeds[-1]])).replace(" and ", " to "),
                "Processor hours": f"{frame['cpu_seconds'].sum() / 3600:.1f}",
            }
        )
    return pd.DataFrame(rows)
