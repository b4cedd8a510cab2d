"""The reader's own pictures on the command line: train on a folder of them, score the model, and pack it."""

import subprocess
import sys
from pathlib import Path

from cnnlab.machine import import_keras, output_path, root

# The network trained on the reader's own pictures unless another is named.
VARIANT = "cnn_32_64_128"


def learn(options):
    """`cnnlab study --folder`: train networks on it from scratch, compare them over seeds, and pack the chosen one."""
    from cnnlab import data, studies

    labels = [trial.label for trial in studies.find_study(options.name).trials] if options.name else [VARIANT]
    study = studies.study_of(options.variant or labels)
    if options.store and Path(options.store).resolve().is_relative_to(root() / "results"):
        raise ValueError(f"{options.store} is part of the record, not a place for your own pictures; name another")
    dataset = data.load_folder(options.folder, options.size, options.groups)
    budget = studies.find_budget(options.budget).on(dataset)
    store, study = studies.Store(options.store or budget.store_folder), study.within(budget)
    store.check_writable()
    import_keras()
    from cnnlab import findings, measures, training

    # The models of the first seed are kept, because one of them is packed.
    studies.run_study(study, store, 1, models_folder=budget.models_folder)
    models_folder = budget.models_folder if options.keep_models else None
    frame = studies.run_study(study, store, options.seeds, models_folder=models_folder)
    print(f"\n{study.question}\n\n{findings.to_markdown(findings.study_table(frame))}\n")
    shares = {int(seed): measures.majority_share(data.load(dataset.key, int(seed))) for seed in frame["seed"].unique()}
    said, chosen = findings.against_constant(frame, shares), frame["label"].iloc[0]
    if frame["label"].nunique() > 1:
        print(findings.to_markdown(findings.contrast_table(frame)), "\n")
        choice = findings.choose(frame)
        said, chosen = [*said, choice], choice.numbers["chosen"]
    print(*(finding.sentence for finding in said), sep="\n")
    row = frame[frame["label"] == chosen].iloc[0]
    path = training.model_path(budget.models_folder, row["key"])
    if not path.exists():
        trial = next(trial for trial in study.trials if trial.label == chosen)
        studies.trained_model(trial, budget.models_folder, store)
    print(f"\n{chosen}, seed {row['seed']}:")
    _show_answers(dataset, store.predictions(row["key"])["predicted"])
    _pack(path, budget.folder / "model.tar.gz")


def transfer(options):
    """`cnnlab transfer`: train a linear probe on a pretrained network, and pack it."""
    from cnnlab import data

    if options.out:
        output_path(options.out)
    dataset = data.load_folder(options.folder, options.size, options.groups)
    import_keras()
    from cnnlab import training

    path = output_path(options.out or root() / "runs" / "transfer" / dataset.name / "model.keras")
    probe = training.linear_probe(dataset, options.backbone)
    training.save_with_row(probe.model, probe.row, path)
    print()
    _show_answers(dataset, probe.probabilities["test"].argmax(axis=1))
    _pack(path, path.with_name("model.tar.gz"))


def _show_answers(dataset, answers):
    """Print the share of the first test images that is answered correctly, and what each class is taken for."""
    from cnnlab import findings, measures

    table = measures.metadata_of(dataset, "test").head(len(answers))
    print(f"{findings.rightly_answered(answers == table['label'], table['group'])}\n")
    print(findings.to_markdown(findings.confusions_table(table["label"], answers, dataset.class_names)), "\n")


def _pack(model, archive):
    # In a separate process, because this package knows nothing of SageMaker.
    command = [sys.executable, "-m", "sagemaker_scripts.package_model", model, "--output", archive]
    if subprocess.run(command, check=False).returncode:
        raise RuntimeError(f"{model} was saved, but not packed; see the error above")
