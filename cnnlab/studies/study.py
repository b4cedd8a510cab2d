"""A Study: a question put as an experiment, trials x seeds."""

import dataclasses

from cnnlab.training import Trial


@dataclasses.dataclass(frozen=True)
class Study:
    """A question put as an experiment.

    `varied` is the quantity the question is about; `fixed` what is held still, a caveat on
    every conclusion; `trials` one Trial a variant, in the order of the varied quantity, with
    seed 0; `seeds` how many the record holds, and `more_seeds`, {label: number}, of which variants more.
    """

    name: str
    question: str
    varied: str
    fixed: str
    trials: tuple[Trial, ...]
    seeds: int = 5
    more_seeds: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        labels = [trial.label for trial in self.trials]
        if len(set(labels)) != len(labels):
            raise ValueError(f"study {self.name} has two variants of one label: {labels}")

    @property
    def dataset(self):
        """Name of the data set that all variants are trained on, at whatever size of its images."""
        return self.trials[0].dataset

    def runs(self, seeds=None):
        """The trials for seeds 0 to `seeds` - 1 (None: as the study records): all variants of a seed before the next.

        Seed k of every variant has the same split and the same order, so that a study cut
        short still compares like with like. Raises ValueError for no seed.
        """
        if seeds is not None and seeds < 1:
            raise ValueError(f"seeds is {seeds}; expected at least 1")
        counts = {trial.label: seeds or self.more_seeds.get(trial.label, self.seeds) for trial in self.trials}
        return [
            dataclasses.replace(trial, seed=seed)
            for seed in range(max(counts.values()))
            for trial in self.trials
            if seed < counts[trial.label]
        ]

    def within(self, budget):
        """This study cut down to `budget` (a `studies.Budget`).

        Variants that become the same by it stand in it once.
        """
        limited = {}
        for trial in self.trials:
            small = budget.limit(trial, sweep=True)
            limited.setdefault((small.identity, small.precision), small)
        if budget.is_record:
            return self
        return dataclasses.replace(
            self, trials=tuple(limited.values()), seeds=budget.seeds or self.seeds, more_seeds={}
        )
