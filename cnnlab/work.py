"""Working through a list of trials: what is stored already is left, and several processes share the rest."""

import time
from datetime import timedelta

from cnnlab.machine import release

# Seconds between two looks at a trial that another process is running.
POLL_SECONDS = 2.0


def work_through(name, runs, store, train, cost, progress=True):
    """See to it that `store` (a `store.Store`) has the result of each of `runs`.

    `name`: of the whole, for its titles; `runs`: trials or recipes, with label and seed;
    `train(trial, title)` trains one and saves it in `store` (`title` of its progress bar; None:
    no bar); `cost(trial)`: the work in it, in any unit, for the time left. Whoever is killed, at
    any moment, loses no finished trial. A trial that another process runs is left to it.
    Raises OSError at once if the store cannot be written.
    """
    store.check_writable()
    waiting = [trial for trial in runs if trial not in store]
    clock = _Clock(waiting, cost)
    release()
    while waiting:
        elsewhere = []
        for trial in waiting:
            title = f"{name} {len(runs) - clock.left + 1}/{len(runs)}  {trial.label} seed {trial.seed}"
            seconds = time.perf_counter()
            if not _settle(trial, store, train, title if progress else None):
                elsewhere.append(trial)
                continue
            clock.finished(trial, time.perf_counter() - seconds)
            if progress:
                print(f"{title}: {clock.remaining()}", flush=True)
        waiting = elsewhere
        if waiting:
            time.sleep(POLL_SECONDS)


def _settle(trial, store, train, title):
    """See to it that `store` has `trial`; False where another process is at work on it."""
    with store.claim(trial) as mine:
        if not mine:
            return False
        if trial in store:  # Finished by another process since we looked.
            return True
        train(trial, title)
    release()
    return True


class _Clock:
    """Time left of a list of trials, from what they cost and what was done in which time."""

    def __init__(self, trials, cost):
        self.cost = cost
        self.left, self.work_left = len(trials), sum(map(cost, trials))
        self.work_done = self.seconds = 0.0

    def finished(self, trial, seconds):
        self.left -= 1
        self.work_left -= self.cost(trial)
        self.work_done += self.cost(trial)
        self.seconds += seconds

    def remaining(self):
        if not self.left:
            return "done"
        left = self.seconds / self.work_done * self.work_left
        return f"done, {self.left} to go, about {timedelta(seconds=round(left))} left"
