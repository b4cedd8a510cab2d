"""The lab's command line: `cnnlab COMMAND`, or `python -m cnnlab COMMAND`."""

import argparse
import errno
import sys
from pathlib import Path

from cnnlab import own_pictures
from cnnlab.machine import ROOT_VARIABLE, gather_caches, import_keras, root, whole_number

EXIT_FAILED = 1
EXIT_BAD_ARGUMENTS = 2
EXIT_INTERRUPTED = 130
BUDGET_NAMES = ("full", "quick", "smoke")
# The keys of `measures.PROBES`, repeated here because `measures` imports TensorFlow.
PROBE_NAMES = (
    "shift", "equivariance", "receptive_field", "tabular", "activations", "calibration", "conformal", "attribution",
    "corruptions", "first_layer", "nearest",
)  # fmt: skip
# Write errors that a person can fix by naming another place.
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOSPC)


def main(arguments=None):
    """Run one command and return its exit code: 0 done, 1 failed, 2 bad arguments, 130 interrupted."""
    options = _parser().parse_args(arguments)
    gather_caches()
    try:
        options.run(options)
    except KeyboardInterrupt:
        kept = "finished work is kept, and the same command continues from here"
        if options.run in (_data, _notebook):
            kept = "the same command starts again from the beginning"
        print(f"\nstopped: {kept}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except ValueError as error:
        print(f"cnnlab: {error}", file=sys.stderr)
        return EXIT_BAD_ARGUMENTS
    except (OSError, RuntimeError) as error:
        print(f"cnnlab: {_said(error)}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _said(error):
    """One line about `error`, with what to do where a file cannot be written."""
    if getattr(error, "errno", None) in _UNWRITABLE and error.filename:
        return (
            f"{error.filename} cannot be written ({error.strerror}): fix that, or name another place "
            f"(rows: --store; a model: --out; all of runs/ and results/: the environment variable {ROOT_VARIABLE})"
        )
    return error


def _parser():
    parser = argparse.ArgumentParser(
        prog="cnnlab", description="A laboratory for convolutional networks: run its experiments and read the results."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser("data", help="fetch and verify the data, so that later runs need no network")
    command.add_argument("--path", help="where the data are on this machine (default: cache, then download)")
    command.add_argument("--mars", action="store_true", help="the Mars images instead of CIFAR-10")
    command.set_defaults(run=_data)

    command = commands.add_parser("notebook", help="execute a notebook from top to bottom")
    command.add_argument("path", help="the notebook, e.g. cnn_assignment.ipynb")
    _add_budget(command, "quick")
    command.set_defaults(run=_notebook)

    command = commands.add_parser("study", help="run the missing trials of a study, and show its table and findings")
    command.add_argument("name", nargs="?", help="a study: " + _names("study", "STUDIES"))
    _add_folder(command, "your own pictures in place of the study's: ", 64)
    command.add_argument(
        "--variant", nargs="+", help=f"networks to train on them (default: the study's, else {own_pictures.VARIANT})"
    )
    command.add_argument("--seeds", type=whole_number(1), help="how many paired seeds (default: as in the record)")
    command.add_argument("--store", help="folder for the result rows (default: the budget's)")
    command.add_argument("--keep-models", action="store_true", help="keep the trained models under runs/")
    _add_budget(command, "full")
    command.set_defaults(run=_study)

    command = commands.add_parser("train", help="train one recipe on the way from 74 to 94%%, and keep its model")
    command.add_argument("--recipe", required=True, help="a recipe: " + _names("train", "RECIPES"))
    command.add_argument(
        "--seed", type=whole_number(0), help="seed for weights, order and augmentation (default: the recipe's first)"
    )
    command.add_argument("--out", help="the .keras file to write (default: under runs/); its row goes beside it")
    _add_budget(command, "full")
    command.set_defaults(run=_train)

    command = commands.add_parser(
        "transfer", help="train on your own pictures, on top of a pretrained network, and pack the model"
    )
    _add_folder(command, "", 224, required=True)
    command.add_argument("--backbone", help="another pretrained .keras network (default: EfficientNet-Lite0)")
    command.add_argument(
        "--out", help="the .keras file to write (default: under runs/); the packed model goes beside it"
    )
    command.set_defaults(run=own_pictures.transfer)

    command = commands.add_parser("probe", help="measure an inductive bias on trained models")
    command.add_argument("name", help="a probe: " + ", ".join(PROBE_NAMES))
    command.add_argument("--seeds", type=whole_number(1), help="how many seeds (default: as in the record)")
    command.add_argument(
        "--images",
        help="for corruptions: your copy of CIFAR-10.1, CIFAR-10-C or the like in place of the test images, a .npy "
        "with its labels beside it or a folder of these (--seeds is then 1 by default)",
    )
    command.set_defaults(run=_probe)

    command = commands.add_parser("record", help="run what the record's studies and probes lack (takes hours)")
    command.add_argument(
        "--dataset", choices=["cifar10", "mars"], help="only what is trained on this data set (default: all)"
    )
    command.set_defaults(run=_record)

    command = commands.add_parser("report", help="rebuild tables, figures and README from results/")
    command.set_defaults(run=_report)
    return parser


def _names(command, table):
    """The keys of a `table` of `studies`, read only for that command's help, so that nothing else waits for it."""
    if command not in sys.argv or not {"-h", "--help"} & set(sys.argv):
        return "see --help"
    from cnnlab import studies

    return ", ".join(getattr(studies, table))


def _add_folder(command, about, size, required=False):
    command.add_argument(
        "--folder", required=required, help=f"{about}a folder with a folder of pictures per class, or train/ and test/"
    )
    command.add_argument("--size", type=whole_number(8), default=size, help="side of the images (default: %(default)s)")
    command.add_argument(
        "--groups", help="CSV of file and group, of pictures taken together (default: found or guessed)"
    )


def _add_budget(command, default):
    command.add_argument(
        "--budget", choices=BUDGET_NAMES, default=default, help="how much to compute (default: %(default)s)"
    )


def _data(options):
    from cnnlab import data

    if options.mars:
        # The sizes that the networks take; the first load warns of anything odd in the set.
        loaded = [data.load_mars(options.path, size=size) for size in data.MARS_SIZES]
    else:
        loaded = [data.load_cifar10(options.path)]
    for dataset in loaded:
        sizes = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
        print(f"{dataset.name}: {sizes} images of {'x'.join(map(str, dataset.input_shape))}, verified")


def _notebook(options):
    path = next((path for path in (Path(options.path), root() / options.path) if path.is_file()), None)
    if path is None:
        raise OSError(f"there is no notebook {options.path}, here or in {root()}")
    from cnnlab.execution import execute_notebook
    from cnnlab.studies import find_budget

    budget = find_budget(options.budget)
    copy = execute_notebook(path, budget)
    print(f"\nexecuted notebook: {copy}\nfigures:           {budget.images_folder}/")


def _study(options):
    if options.folder:
        own_pictures.learn(options)
        return
    if not options.name or options.variant or options.groups:
        raise ValueError("name a study (cnnlab study --help), or give --folder; --variant and --groups need --folder")
    from cnnlab import studies

    study = studies.find_study(options.name)
    budget = studies.find_budget(options.budget, study.dataset)
    store = studies.Store(options.store or budget.store_folder)
    store.check_writable()
    import_keras()
    from cnnlab.report import CHAPTERS, Record, of_study

    study = study.within(budget)
    models_folder = budget.models_folder if options.keep_models else None
    frame = studies.run_study(study, store, options.seeds, models_folder=models_folder)
    record = Record(budget.folder, {options.name: frame})
    chapter = CHAPTERS.get(options.name) or of_study(options.name)
    print(f"\n{study.question}\n", *chapter.shown(record), sep="\n")
    print("", *(finding.sentence for finding in chapter.findings(record)), sep="\n")


def _train(options):
    from cnnlab import studies

    budget = studies.find_budget(options.budget)
    studies.model_file(studies.find_recipe(options.recipe, options.seed), options.out, budget)
    import_keras()
    result, path = studies.train_recipe(options.recipe, options.seed, options.out, budget)
    for split, short in (("validation", "val"), ("test", "test")):
        plain, augmented = (result.row[f"{short}_accuracy_{which}"] for which in ("last", "tta"))
        if plain is not None:
            views = f", with test-time augmentation {augmented:.2%}" if result.trial.tta else ""
            print(f"{split} accuracy {plain:.2%}{views}")
    print(f"{result.row['seconds']:.0f} s; saved as {path}, its row as {path.with_suffix('.json')}")
    print(f"pack it: python sagemaker_scripts/package_model.py {path} --row {path.with_suffix('.json')}")


def _probe(options):
    from cnnlab import studies

    # `measures` says so too, but only after loading TensorFlow.
    if options.name in studies.STUDIES:
        raise ValueError(f"{options.name} trains networks of its own, so it is a study: cnnlab study {options.name}")
    if options.name not in PROBE_NAMES:
        raise ValueError(f"no probe is called {options.name!r}; expected one of {', '.join(PROBE_NAMES)}")
    if options.images and options.name != "corruptions":
        raise ValueError(f"--images is for the probe corruptions; {options.name} measures on the lab's own images")
    import_keras()
    from cnnlab import findings, measures
    from cnnlab.record import listed

    if options.images:
        rows = measures.measure_images(options.images, options.seeds or 1)
        print(findings.to_markdown(findings.probe_table(options.name, rows)))
        counts = " to ".join(f"{count:,}" for count in sorted({rows["images"].min(), rows["images"].max()}))
        print(f"\nEach measured on {counts} images.")
        return
    rows = measures.run_probe(options.name, options.seeds)
    print(*listed(findings.OF_PROBES[options.name](rows)), sep="\n")


def _record(options):
    import_keras()
    from cnnlab import data, measures, studies

    record = studies.find_budget("full")
    store = studies.record_store()
    for study in studies.STUDIES.values():
        if options.dataset in (None, "mars" if study.dataset.startswith("mars") else study.dataset):
            studies.run_study(study, store, models_folder=record.models_folder)
    if options.dataset != "mars":
        for name in measures.PROBES:
            measures.run_probe(name)
    if options.dataset != "cifar10":
        names = ("predicted", "confidence", "validation_predicted")
        answers = (studies.predictions(studies.MARS_STUDIES, store, name) for name in names)
        measures.write_mars(measures.evaluate_mars(data.load("mars64"), *answers))


def _report(options):
    import_keras()
    from cnnlab import results

    for path in results.rebuild():
        print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
