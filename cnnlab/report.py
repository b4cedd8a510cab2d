"""The record in words: README tables, study figures and one CSV a study, rebuilt from results/."""

import re
from pathlib import Path

import pandas as pd

from cnnlab import recipe_studies, studies
from cnnlab.data import load_cifar10
from cnnlab.figures import (
    FIGURES,
    accuracy_by_sol,
    accuracy_vs_samples,
    class_recalls,
    group_scores,
    performance_vs_parameters,
    receptive_field,
    recipe_frontier,
    recipe_waterfall,
    reliability_diagram,
    save_figure,
    shift_curve,
    study_points,
    tabular_points,
)
from cnnlab.findings import (
    CLAIMS,
    HEADLINE,
    RECIPE_TURNS,
    adjacent,
    against_baseline,
    against_each,
    audit_claims,
    audit_summary,
    audit_table,
    benchmark_findings,
    cameras,
    change_table,
    choose,
    constant_answers,
    contest_table,
    contests,
    epochs_confound,
    first_seen,
    from_mars,
    from_probes,
    gather,
    help_chosen,
    lost_classes,
    permutation,
    presentable,
    published_claims,
    recipe_findings,
    reliability_panels,
    sample_size,
    score_table,
    sol_trend,
    stopping,
    study_table,
    to_markdown,
)
from cnnlab.measures import (
    AUGMENTED,
    BENCHMARKS_FOLDER,
    MARS_FOLDER,
    METRIC,
    PLAIN_NETWORKS,
    PROBES_FOLDER,
    complete_seeds,
    effective_diameters,
    effects,
    measured,
    named,
    read_benchmarks,
    read_mars,
    read_probe,
    side_by_side,
    time_column,
    with_baseline_times,
)
from cnnlab.studies import (
    ASSIGNMENT,
    INSTEAD,
    NAMES,
    NARROW,
    PUBLISHED,
    STEPS,
    TARGETS,
    WALK,
    WITHOUT,
    Store,
    of_kind,
)
from cnnlab.wording import listing

README = Path("README.md")
RECORD = studies.find_budget("full")
# Studies that ask something else than whether each variant beats the one before it.
SAID = {
    "epochs": lambda frame: [epochs_confound(frame)],
    "permutation": lambda frame: [permutation(frame)],
    "sample_size": lambda frame: [sample_size(frame)],
    "mars_baseline": lambda frame: [*adjacent(frame), stopping(frame)],
    "mars_kernels": lambda frame: [
        *against_each(frame, MARS_CNN),
        choose(frame),
        stopping(frame),
    ],
    "mars_help": lambda frame: [*help_chosen(frame), stopping(frame)],
}
MARS_DENSE, MARS_CNN = PLAIN_NETWORKS
# A convolutional network and a dense one, of which the first has somewhat fewer parameters.
SIMILAR_SIZE = ("cnn_32_64_k3", "dense_256_128")
# The published sweep reports the last epoch, so its confound is measured there.
METRICS = {"epochs": "test_accuracy_last"}
# (height, width) of CIFAR-10's images, on which the networks of the probes were trained.
IMAGE_SIZE = (32, 32)
BLOCK = re.compile(r"(<!-- begin:(\S+) -->\n).*?(<!-- end:\2 -->)", re.DOTALL)
# Bookkeeping of a row that a reader of the table does without; it stays in the row's own file.
UNTABLED = ["options", "finished", "python", "numpy", "data_version"]


def rebuild(root=Path()):
    """Write README blocks, figures of studies and CSVs under `root` from its results/.

    The same rows give the same bytes. Returns the paths written. Raises FileNotFoundError
    without a README, ValueError where it has a block that nothing fills.
    """
    root = Path(root)
    frames = record(root / RECORD.store_folder)
    if not frames:
        raise ValueError(f"{root / RECORD.store_folder} holds no finished trials; run a study first")
    of_recipes = recipes(root)
    tables = frames if of_recipes.empty else frames | {recipe_studies.STUDY.name: of_recipes}
    written = [write_table(name, frame, root) for name, frame in tables.items()]
    written += [
        save_figure(figure, name, root / RECORD.images_folder, RECORD.label)
        for name, figure in figures(frames, root / PROBES_FOLDER, root / MARS_FOLDER).items()
    ]
    written += [
        save_figure(figure, name, root / RECORD.images_folder, RECORD.label)
        for name, figure in recipe_figures(of_recipes, recipe_seconds(root)).items()
    ]
    readme = root / README
    readme.write_text(fill(readme.read_text(encoding="utf-8"), blocks(frames, root)), encoding="utf-8")
    return [*written, readme]


def record(folder):
    """{study: tidy frame} of the studies that the store `folder` has two variants of: one is another study's."""
    frames = studies.read_all(studies.STUDIES, Store(folder))
    return {name: frame for name, frame in frames.items() if not frame.empty and frame["label"].nunique() > 1}


def figures(frames, probes_folder=PROBES_FOLDER, mars_folder=MARS_FOLDER):
    """{name: Figure} of all that the record can draw: `frames` of its studies, its probes' rows and Mars tables."""
    titles = {
        "filters": ("filters_study", "Test accuracy by number of filters"),
        "filters_gap": ("filters_gap_study", "Filters, with global average pooling"),
        "kernels": ("kernels_study", "Test accuracy by kernel size"),
        "permutation": ("permutation", "Ordinary and permuted pixels"),
        "mars_kernels": ("mars_kernels_study", "Mars: test accuracy by kernel size"),
        "mars_help": ("mars_help_study", "Mars: what may help the network"),
    }
    drawn = {name: study_points(frames[study], title) for study, (name, title) in titles.items() if study in frames}
    if "epochs" in frames:
        title = "One network, two numbers of epochs"
        drawn["epochs_confound"] = study_points(frames["epochs"], title, "test_accuracy_last")
    if {"baselines", "filters"} <= frames.keys():
        drawn["performance_vs_parameters"] = performance_vs_parameters(networks(frames))
    if "sample_size" in frames:
        drawn["sample_size"] = accuracy_vs_samples(frames["sample_size"])
    return drawn | _probe_figures(probes_folder) | _mars_figures(read_mars(mars_folder), mars_networks(frames))


def recipes(root=Path()):
    """The recorded rows of the recipes, a tidy frame; empty where there are none."""
    return recipe_studies.read(store=recipe_studies.store_of(folder=Path(root) / recipe_studies.record_store().folder))


def recipe_seconds(root=Path()):
    """{label: seconds of a training's steps, one for each round}, all recipes measured side by side by `make bench`.

    None where that was not done.
    """
    tables = read_benchmarks(Path(root) / BENCHMARKS_FOLDER)
    if RECIPE_TURNS not in tables:
        return None
    rounds = tables[RECIPE_TURNS].set_index("recipe").filter(regex=r"^round_\d+$")
    return {label: list(seconds) for label, seconds in zip(rounds.index, rounds.to_numpy(), strict=True)}


def recipe_figures(frame, seconds=None):
    """{name: Figure} of the recipes' rows, as far as they are recorded: none where there are none.

    `seconds` as `recipe_seconds` has them.
    """
    if frame.empty:
        return {}
    # The end of the walk is a step too, and bears its target's name alone elsewhere.
    names = NAMES | {STEPS[-1][0]: f"+ {STEPS[-1][1]}: {NAMES[STEPS[-1][0]]}"}
    names |= {label: f"narrow recipe, {NAMES[label]}" for label, _, _ in (*WITHOUT, *INSTEAD)}
    names[NARROW] += ": the narrow recipe"
    timed = side_by_side(with_baseline_times(frame), seconds)
    walk, beside = [recipe.label for recipe in WALK], [*TARGETS, PUBLISHED.label]
    drawn = recipe_frontier(timed, walk, AUGMENTED, time_column(timed), beside, TARGETS, names)
    found = {"recipe_frontier": drawn}
    if measured(frame, of_kind("walk")):
        together = complete_seeds(frame)
        start = together.loc[together["label"] == ASSIGNMENT.label, METRIC].mean()
        found["recipe_waterfall"] = recipe_waterfall(effects(frame), start)
    return found


def networks(frames):
    """Rows of the dense baselines and the four filter configurations in one frame."""
    return pd.concat([frames["baselines"], frames["filters"]], ignore_index=True)


def answers(frames):
    """Convolution against none, as Findings: the assignment's networks, and two of similar size."""
    found = [against_baseline(networks(frames))]
    if "kernels" in frames:
        similar = pd.concat([frames["baselines"], frames["kernels"]], ignore_index=True)
        found.append(against_baseline(similar, *SIMILAR_SIZE))
    return found


def blocks(frames, root=Path()):
    """{block name: Markdown} of everything that the README states as measured."""
    text = {f"table:{name}": f"Not recorded yet: `python -m cnnlab study {name}`." for name in studies.STUDIES}
    text |= {f"table:{name}": _study(name, frame) for name, frame in frames.items()}
    text["answer"] = "\n\n".join(finding.sentence for finding in answers(frames))
    of_recipes = recipes(root)
    text["made-on"] = _made_on([*frames.values(), of_recipes])
    text["audit"] = _audit(root)
    text["recipe"] = _recipes(of_recipes, recipe_seconds(root), read_probe("normalisation", root / PROBES_FOLDER))
    text["mars"] = _mars(read_mars(root / MARS_FOLDER), mars_networks(frames))
    text["benchmarks"] = _benchmarks(read_benchmarks(root / BENCHMARKS_FOLDER))
    text["figures"] = "\n".join(f"- `{name}`: {described}" for name, described in FIGURES.items())
    return text


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
    path = root / "results" / f"{name}.csv"
    frame.drop(columns=UNTABLED, errors="ignore").to_csv(path, index=False, float_format="%.6g")
    return path


def _probe_figures(folder):
    draw = {
        "shift": ("shift_accuracy", shift_curve),
        "receptive_field": ("receptive_field", _receptive_field),
        "tabular": ("tabular", tabular_points),
        "calibration": ("calibration", lambda rows: reliability_diagram(reliability_panels(rows))),
    }
    recorded = {probe: read_probe(probe, folder) for probe in draw}
    return {draw[probe][0]: draw[probe][1](rows) for probe, rows in recorded.items() if len(rows)}


def _mars_figures(tables, chosen):
    """Scores of every network; what would be a thicket of them, of the `chosen` labels alone."""
    if not tables:
        return {}
    recalls, sols = (tables[name][tables[name]["label"].isin(chosen)] for name in ("recalls", "sols"))
    return {
        "mars_scores": group_scores(tables["scores"]),
        "mars_class_recalls": class_recalls(recalls),
        "mars_accuracy_by_sol": accuracy_by_sol(sols),
    }


def mars_networks(frames):
    """Labels of the Mars networks to look at closely: the two baselines, and what validation chose of what may help."""
    found = [MARS_DENSE, MARS_CNN]
    if "mars_help" in frames:
        found.append(help_chosen(frames["mars_help"])[0].numbers["chosen"])
    return list(dict.fromkeys(found))


def _receptive_field(rows):
    return receptive_field(rows, effective_diameters(rows), IMAGE_SIZE)


def _study(name, frame):
    """The table of a study and what it says; a study without a sentence of its own compares neighbours."""
    table = to_markdown(presentable(study_table(frame, METRICS.get(name, HEADLINE))))
    said = SAID[name](frame) if name in SAID else adjacent(frame)
    held_still = f"Held still: {studies.find_study(name).fixed}."
    return f"{table}\n\n{held_still}\n\n" + "\n".join(f"- {finding.sentence}" for finding in said)


def _recipes(frame, seconds, normalisation):
    """The table of the recipes, and what each change is worth.

    `seconds` as `recipe_seconds` has them; `normalisation`: rows of that probe, empty where it was not run.
    """
    if frame.empty:
        return "Not recorded yet: `python -m cnnlab study recipe` makes the rows."
    said = recipe_findings(frame, seconds, normalisation)
    parts = ["\n".join(f"- {finding.sentence}" for finding in said)]
    if measured(frame):
        parts.append("What each change is worth; p-values are corrected for the number of changes in the same place:")
        parts.append(to_markdown(change_table(effects(frame), seconds)))
    parts.append(
        "All of them, from one view, without test-time augmentation; processor times are of hours and machines of "
        "different speed, so that changes are better compared by the times above:"
    )
    parts.append(to_markdown(presentable(study_table(named(frame), METRIC))))
    return "\n\n".join(parts)


def _benchmarks(tables):
    """What the kept benchmarks say, a line a table."""
    if not tables:
        return "Not measured yet: `make bench RECORD=results/benchmarks` keeps what it measures."
    days = sorted({table.attrs["finished"][:10] for table in tables.values()})
    measured_on = f"Measured on {listing(days)}, each of these in one run:"
    return "\n".join([measured_on, "", *(f"- {found.sentence}" for found in benchmark_findings(tables))])


def _mars(tables, chosen):
    """What the evaluation of the recorded Mars networks says; in detail of the `chosen` labels alone."""
    if not tables:
        return "Not recorded yet: `make mars PROFILE=full` makes the rows."
    shown = [
        to_markdown(score_table(tables["scores"])),
        "In percentage points, above:",
        to_markdown(contest_table(tables["against"])),
    ]
    said = [constant_answers(tables["images"])]
    for sentence, name in (
        (contests, "against"),
        (lost_classes, "recalls"),
        (cameras, "cameras"),
        (sol_trend, "trend"),
        (first_seen, "frames"),
    ):
        said += [sentence(tables[name], label) for label in chosen]
    return "\n\n".join([*shown, "\n".join(f"- {finding.sentence}" for finding in said)])


def _audit(root):
    supplied = from_probes(root / PROBES_FOLDER) | from_mars(root / MARS_FOLDER)
    audited = audit_claims(
        published_claims(root / CLAIMS),
        gather(Store(root / RECORD.store_folder), load_cifar10(), supplied),
    )
    return f"{audit_summary(audited).sentence}\n\n{to_markdown(audit_table(audited))}"


def _made_on(frames):
    rows = pd.concat([frame for frame in frames if not frame.empty]).drop_duplicates("key")
    machines = listing(sorted({f"{row.cpu}, {row.cores} cores" for row in rows.itertuples()}))
    software = listing(
        sorted({f"Keras {row.keras} on {row.backend} {row.backend_version}" for row in rows.itertuples()})
    )
    return (
        f"{len(rows)} trainings on {machines} ({listing(sorted(set(rows['precision'])))}; {software}), "
        f"{rows['cpu_seconds'].sum() / 3600:.1f} processor hours in all."
    )
