"""A Study, which is a question put as an experiment, and the Budget that limits what a run of it may cost."""

import dataclasses
import os

from cnnlab.data import SHAPES
from cnnlab.machine import root
from cnnlab.training import Trial
from cnnlab.wording import plural

PROFILE_VARIABLE = "CNNLAB_PROFILE"


@dataclasses.dataclass(frozen=True)
class Study:
    """A question put as an experiment.

    `varied`: the quantity the question is about; `fixed`: what is held constant, a caveat on every
    conclusion; `trials`: one Trial a variant, in the order of the varied quantity, with its first seed; `seeds`: how
    many the record holds, counting from the first; `more_seeds`: {label: number} for variants with another number;
    `costliest`: label of a variant that takes as long as all the others together, and so gets one seed in any budget
    but the record's.
    """

    name: str
    question: str
    varied: str
    fixed: str
    trials: tuple[Trial, ...]
    seeds: int = 10
    more_seeds: dict[str, int] = dataclasses.field(default_factory=dict)
    costliest: str | None = None

    def __post_init__(self):
        labels = [trial.label for trial in self.trials]
        if len(set(labels)) != len(labels):
            raise ValueError(f"study {self.name} has two variants with the same label: {labels}")

    @property
    def dataset(self):
        """Name of the data set of the first variant; the others may take its images at another size."""
        return self.trials[0].dataset

    def runs(self, seeds=None):
        """The trials of `seeds` seeds (None: as the study records): all variants of a seed before the next.

        Seed k of every variant has the same split and the same order, so that a study cut
        short still compares like with like. Raises ValueError for fewer than one seed.
        """
        if seeds is not None and seeds < 1:
            raise ValueError(f"seeds is {seeds}; expected at least 1")
        counts = {trial.label: seeds or self.more_seeds.get(trial.label, self.seeds) for trial in self.trials}
        return [
            dataclasses.replace(trial, seed=trial.seed + turn)
            for turn in range(max(counts.values()))
            for trial in self.trials
            if turn < counts[trial.label]
        ]

    def within(self, budget):
        """This study cut down to `budget` (a `studies.Budget`).

        Variants that become equal are kept once, and no more of them than the budget allows.
        """
        if budget.is_record:
            return self
        limited = {}
        for trial in self.trials:
            small = budget.limit(trial, sweep=True)
            limited.setdefault((small.identity, small.precision), small)
        trials, seeds = tuple(limited.values())[: budget.sweep_variants], budget.seeds or self.seeds
        if self.costliest is None:
            return dataclasses.replace(self, trials=trials, seeds=seeds, more_seeds={})
        others = {trial.label: seeds for trial in trials if trial.label != self.costliest}
        return dataclasses.replace(self, trials=trials, seeds=1, more_seeds=others)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Limits of a run; None means that the protocol's own number stands.

    `seeds`: of a study (None: as many as the study records); at most `epochs`, `train_images` and
    `eval_images`; at most `sweep_variants` of a study, each with at most `sweep_images`, `sweep_epochs` and
    `sweep_eval_images`; `sample_images`: for figures that need a sample of the test set; `map_images`: images of it
    whose attribution maps are tested; `scoring_batch`: images scored at once in a notebook, where fewer need less
    memory; `dots_per_inch`: of its figures. `own`: the key in a `Trial` of the reader's own data set (see `on`), which
    has `own_images` training images and at least `fewest_steps` steps an epoch.
    """

    name: str
    seeds: int | None = None
    epochs: int | None = None
    train_images: int | None = None
    eval_images: int | None = None
    sweep_variants: int | None = None
    sweep_images: int | None = None
    sweep_epochs: int | None = None
    sweep_eval_images: int | None = None
    sample_images: int = 2_000
    map_images: int = 60
    scoring_batch: int = 250
    dots_per_inch: int | None = None
    fewest_steps: int = 50
    own: str | None = None
    own_images: int | None = None

    @property
    def is_record(self):
        """Whether its results belong to the record: nothing is cut down, and the data set is one of the record's."""
        return self.name == "full" and self.own is None

    def on(self, dataset):
        """This budget for `dataset`, a `data.Dataset`: unchanged if it is one of the record's.

        For the reader's own: the trials that it `limit`s train on that; limits that would hardly cut it are dropped; a
        few pictures, which fill a handful of batches, are passed over several times an epoch; all requested variants
        are trained; and everything written goes to a folder of its own under runs/.
        """
        if dataset.key in SHAPES:
            return self
        sizes = {name: len(split) for name, split in dataset.splits.items()}
        unseen = min(sizes.get(name, 0) for name in ("validation", "test"))
        limits = {
            name: _cut(getattr(self, name), unseen if "eval" in name else sizes["train"])
            for name in ("train_images", "eval_images", "sweep_images", "sweep_eval_images")
        }
        return dataclasses.replace(self, own=dataset.key, own_images=sizes["train"], sweep_variants=None, **limits)

    @property
    def label(self):
        """What to write beside a figure or a number that this budget produced."""
        if self.is_record:
            return "the record's full protocol"
        if self.own:
            return f"{self.name} budget, on {self.own}"
        return f"{self.name} budget: at most {self.train_images:,} training images and {plural(self.epochs, 'epoch')}"

    @property
    def sweep_label(self):
        """`label` for a study of many variants."""
        if self.is_record or self.own:
            return self.label
        epochs, seeds = plural(self.sweep_epochs, "epoch"), plural(self.seeds, "seed")
        return f"{self.name} budget: {self.sweep_images:,} training images, {epochs}, {seeds}"

    @property
    def folder(self):
        """Where a run of this budget keeps its results: for the record, the top level."""
        return root() if self.is_record else root() / "runs" / (self.own or self.name)

    @property
    def images_folder(self):
        """Folder of the figures."""
        return self.folder / "images"

    @property
    def store_folder(self):
        """Folder of the result rows."""
        return self.folder / "results" / "trials"

    @property
    def models_folder(self):
        """Folder of trained models, which are never part of the record (they are large)."""
        return root() / "runs" / "models" if self.is_record else self.folder / "models"

    def limit(self, trial, sweep=False):
        """`trial` within this budget; `sweep` for one of a study's many variants."""
        images = self.sweep_images if sweep else self.train_images
        epochs = self.sweep_epochs if sweep else self.epochs
        changes = {
            "epochs": _least(trial.epochs, epochs),
            "train_images": _least(trial.train_images, images),
            "eval_images": _least(trial.eval_images, self.eval_images, self.sweep_eval_images if sweep else None),
        }
        if trial.steps_per_epoch is not None and images is not None:
            changes["steps_per_epoch"] = _least(trial.steps_per_epoch, max(1, images // trial.batch_size))
        if self.own:
            changes["dataset"] = self.own
            steps = _least(self.own_images, changes["train_images"]) // trial.batch_size
            if trial.steps_per_epoch is None and steps < self.fewest_steps:
                changes["steps_per_epoch"] = self.fewest_steps
        return dataclasses.replace(trial, **changes)


def _cut(limit, size):
    """`limit`, or None if it leaves out a tenth of `size` images or less: with another seed there may be fewer."""
    return None if limit is None or limit > 0.9 * size else limit


def _least(*numbers):
    known = [number for number in numbers if number is not None]
    return min(known) if known else None


def _table(*budgets):
    return {budget.name: budget for budget in budgets}


BUDGETS = _table(
    Budget("full"),
    # Scoring an image costs a third of training on it: a sweep of few images is not scored on many. 3,200 are 50
    # batches of 64; the backend runs 25 at once.
    Budget(
        "quick", seeds=2, epochs=4, train_images=20_000, eval_images=5_000, sweep_images=3_200, sweep_epochs=3,
        sweep_eval_images=1_000, sample_images=1_000, map_images=12,
    ),
    Budget(
        "smoke", seeds=1, epochs=1, train_images=512, eval_images=256, sweep_variants=2, sweep_images=64,
        sweep_epochs=1, sweep_eval_images=64, sample_images=100, map_images=2, fewest_steps=4, dots_per_inch=50,
    ),
)  # fmt: skip
# A picture of 64x64 pixels costs as much as four of CIFAR-10's, and there are fewer of them.
MARS_BUDGETS = _table(
    Budget("full", scoring_batch=100),
    Budget(
        "quick", seeds=2, epochs=5, train_images=2_000, eval_images=500, sweep_images=640, sweep_epochs=2,
        sample_images=600, map_images=12, scoring_batch=100,
    ),
    Budget(
        "smoke", seeds=1, epochs=1, train_images=64, eval_images=32, sweep_variants=2, sweep_images=64, sweep_epochs=1,
        sample_images=32, map_images=2, scoring_batch=100, dots_per_inch=50,
    ),
)  # fmt: skip
OF_DATASETS = dict.fromkeys(("mars", "mars64", "mars224"), MARS_BUDGETS)


def find_budget(name=None, dataset="cifar10"):
    """The budget called `name` for a data set of `data.LOADERS`.

    Default of `name`: the environment variable CNNLAB_PROFILE, else quick. Raises ValueError
    listing the known names.
    """
    name = name or os.environ.get(PROFILE_VARIABLE) or "quick"
    if name not in BUDGETS:
        raise ValueError(f"no budget is called {name!r}; expected one of {', '.join(BUDGETS)}")
    return OF_DATASETS.get(dataset, BUDGETS)[name]
