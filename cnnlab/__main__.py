"""The lab's command line: `python -m cnnlab COMMAND`."""

import argparse
import importlib
import sys

from cnnlab import budgets
from cnnlab.findings import OF_PROBES, adjacent, change_table, recipe_findings, study_table
from cnnlab.machine import import_keras, whole_number
from cnnlab.measures import METRIC, PROBES, effects, evaluate_mars, measured, named, run_probe, write_mars
from cnnlab.notebook import execute_notebook
from cnnlab.report import Record, rebuild

EXIT_FAILED = 1
EXIT_BAD_ARGUMENTS = 2
EXIT_INTERRUPTED = 130


def main(arguments=None):
    """Run one command; returns its exit code: 0 done, 1 failed, 2 bad arguments, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        if options.run in (_study, _train, _probe, _record, _report):
            import_keras()
        options.run(options)
    except KeyboardInterrupt:
        kept = "nothing is kept of this training, and the same command begins it again"
        if options.run is not _train:
            kept = "finished trials are kept, and the same command goes on from here"
        print(f"\nstopped: {kept}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except ValueError as error:
        print(f"cnnlab: {error}", file=sys.stderr)
        return EXIT_BAD_ARGUMENTS
    except (OSError, RuntimeError) as error:
        print(f"cnnlab: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m cnnlab",
        description="A laboratory for convolutional networks: run its experiments, read them back.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser("data", help="fetch and verify the data, so that later runs need no network")
    command.add_argument("--path", help="where the data lies on this machine (default: cache, then download)")
    command.add_argument("--mars", action="store_true", help="the Mars images instead of CIFAR-10")
    command.set_defaults(run=_data)

    command = commands.add_parser("notebook", help="execute a notebook top to bottom")
    command.add_argument("path", help="the notebook, e.g. cnn_assignment.ipynb")
    _add_budget(command, "quick")
    command.set_defaults(run=_notebook)

    command = commands.add_parser("study", help="run what is missing of a study, and show its table and findings")
    command.add_argument("name", help="a study: recipe, " + _names("study", "studies", "STUDIES"))
    command.add_argument("--seeds", type=whole_number(1), help="how many paired seeds (default: as the study records)")
    command.add_argument("--store", help="folder of the result rows (default: the budget's)")
    command.add_argument("--keep-models", action="store_true", help="keep the trained models under runs/")
    _add_budget(command, "full")
    command.set_defaults(run=_study)

    command = commands.add_parser("train", help="train one recipe on the way from 74 to 94%%, and keep its model")
    command.add_argument("--recipe", required=True, help="a recipe: " + _names("train", "recipe_studies", "RECIPES"))
    command.add_argument(
        "--seed", type=whole_number(0), default=0, help="of weights, order and augmentation (default: 0)"
    )
    command.add_argument("--out", help="the .keras file to write (default: under runs/); its row goes beside it")
    _add_budget(command, "full")
    command.set_defaults(run=_train)

    command = commands.add_parser("probe", help="measure an inductive bias on trained models")
    command.add_argument("name", help="a probe: " + _names("probe", "probes", "PROBES"))
    command.add_argument("--seeds", type=whole_number(1), help="how many seeds (default: as the probe records)")
    command.set_defaults(run=_probe)

    command = commands.add_parser("record", help="run what is missing of the record's studies and probes (hours)")
    command.add_argument(
        "--dataset", choices=["cifar10", "mars"], help="only what is trained on this data set (default: all)"
    )
    command.set_defaults(run=_record)

    command = commands.add_parser("report", help="rebuild RESULTS.md, the README's blocks and figures from results/")
    command.set_defaults(run=_report)
    return parser


def _names(command, module, table):
    """The keys of a table, read only for that command's help: importing Keras takes seconds."""
    if command not in sys.argv or not {"-h", "--help"} & set(sys.argv):
        return "see --help"
    import_keras()
    return ", ".join(getattr(importlib.import_module(f"cnnlab.{module}"), table))


def _add_budget(command, default):
    command.add_argument(
        "--budget", choices=list(budgets.BUDGETS), default=default, help="how much it may cost (default: %(default)s)"
    )


def _data(options):
    from cnnlab import data

    if options.mars:
        # The sizes that the networks take; the first load says what is odd about the set.
        loaded = [data.load_mars(options.path, size=size) for size in data.MARS_SIZES]
    else:
        loaded = [data.load_cifar10(options.path)]
    for dataset in loaded:
        sizes = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
        print(f"{dataset.name}: {sizes} images of {'x'.join(map(str, dataset.input_shape))}, verified")


def _notebook(options):
    pass

    budget = budgets.find(options.budget)
    copy = execute_notebook(options.path, budget)
    print(f"\nexecuted notebook: {copy}\nfigures:           {budget.images_folder}/")


def _study(options):
    if options.name == "recipe":
        _recipe_study(options)
        return
    from cnnlab import studies
    from cnnlab.store import Store

    try:
        study = studies.find(options.name)
    except ValueError as error:
        raise ValueError(f"{error}, recipe") from None
    budget = budgets.find(options.budget, study.dataset)
    study = study.within(budget)
    store = Store(options.store or budget.store_folder)
    models_folder = budget.models_folder if options.keep_models else None
    frame = studies.run_study(study, options.seeds or study.seeds, store, models_folder=models_folder)
    print(f"\n{study.question}\n\n{study_table(frame).to_string(index=False)}\n")
    for finding in adjacent(frame):
        print(finding.sentence)


def _recipe_study(options):
    from cnnlab import recipe_studies

    pass
    pass

    budget = budgets.find(options.budget)
    study, store = recipe_studies.STUDY.within(budget), recipe_studies.store_of(budget, options.store)
    models_folder = budget.models_folder if options.keep_models else None
    if budget.is_record and not options.seeds:
        frame = recipe_studies.run_record(store, models_folder=models_folder)
    else:
        frame = recipe_studies.run(options.seeds or study.seeds, store, study, models_folder=models_folder)
    table = study_table(named(frame), METRIC)
    print(f"\n{study.question}\n\n{table.to_string(index=False)}\n")
    # The record's rows have times that were measured side by side.
    seconds = Record().recipe_seconds if budget.is_record and not options.store else None
    if measured(frame):
        print(f"{change_table(effects(frame), seconds).to_string(index=False)}\n")
    for finding in recipe_findings(frame, seconds):
        print(finding.sentence)


def _train(options):
    from cnnlab import recipe_studies

    result, path = recipe_studies.train(options.recipe, options.seed, options.out, budgets.find(options.budget))
    for split, short in (("validation", "val"), ("test", "test")):
        plain, augmented = (result.row[f"{short}_accuracy_{which}"] for which in ("last", "tta"))
        if plain is not None:
            views = f", with test-time augmentation {augmented:.2%}" if result.trial.tta else ""
            print(f"{split} accuracy {plain:.2%}{views}")
    print(f"{result.row['seconds']:.0f} s; kept as {path}, its row as {path.with_suffix('.json')}")
    print(f"pack it: python sagemaker_scripts/package_model.py {path} --row {path.with_suffix('.json')}")


def _probe(options):
    pass
    pass

    rows = run_probe(options.name, options.seeds)
    print(OF_PROBES[options.name](rows).sentence)


def _record(options):
    from cnnlab import data, recipe_studies, studies
    from cnnlab.store import Store

    record = budgets.find("full")
    store = Store(record.store_folder)
    for study in studies.STUDIES.values():
        if options.dataset in (None, "mars" if study.dataset.startswith("mars") else study.dataset):
            studies.run_study(study, study.seeds, store, models_folder=record.models_folder)
    if options.dataset != "mars":
        for name in PROBES:
            run_probe(name)
        recipe_studies.run_record(models_folder=record.models_folder)
    if options.dataset != "cifar10":
        write_mars(evaluate_mars(data.load_mars(), studies.predictions(studies.MARS_STUDIES, store)))


def _report(options):
    pass

    for path in rebuild():
        print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
