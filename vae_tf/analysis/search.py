"""A search for good settings on the validation images, whose trials any worker may run.

Optuna proposes settings (TPE) and keeps the study: all trials of one search, at one address. A
trial is a setting, trained and evaluated; its worth is the importance-weighted bound on log p(x),
nats per validation image, which means the same whatever β the model was trained with. The best of
many seems a little better on these images than it is: final numbers are those of test images.

A worker that is killed leaves its trial running. So workers say now and then that they are alive,
and a trial that has been silent for long is run again, with its setting, in its folder. Optuna does
so for databases alone, and its loop breaks off where a trial was given up too soon; this works with
each of its storages.
"""

import collections
import contextlib
import dataclasses
import hashlib
import json
import threading
import time
from pathlib import Path

import numpy as np

from ..data import Dataset
from ..engine import checks
from ..engine.blocks import DivergenceError
from ..evaluation import Estimate, evaluate
from ..model import VAE
from ..training import Recipe, train

try:
    import optuna
except ModuleNotFoundError as error:
    message = f'a search needs Optuna ({error}). Run: pip install "vae_tf[sweeps]"'
    raise ImportError(message) from error

from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from sqlalchemy.exc import DBAPIError  # Optuna's databases raise it

# Few sizes, because models of one size share compiled programs, and a process keeps some 50 MB of
# each size that it has met.
SPACE = {
    "latent_dim": CategoricalDistribution([2, 4, 8, 16, 32, 64]),
    "hidden_units": CategoricalDistribution([32, 64, 128, 256, 512]),
    "learning_rate": FloatDistribution(1e-3, 5e-2, log=True),
    "beta": FloatDistribution(0.5, 2.0, log=True),
}
POLL = 0.5  # seconds between two looks at what others do


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """What is searched, and what a setting is worth.

    Args:
        data: a `Dataset`; its test images are not looked at.
        recipe: a `Recipe`, of which a setting replaces what it names.
        space: Optuna's distributions, by the names of fields of `Recipe`, else arguments of `VAE`.
        num_samples: K of the bound, an int >= 1.
        seed: of weights, noise and order of the images, the same in every trial.

    Raises:
        TypeError, ValueError: if num_samples or seed is no int, or out of range.
    """

    data: Dataset
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    space: dict = dataclasses.field(default_factory=SPACE.copy)
    num_samples: int = 500
    seed: int = 0

    def __post_init__(self):
        checks.integer("num_samples", self.num_samples, 1)
        checks.integer("seed", self.seed, 0)

    def identity(self):
        """Returns what trials must share in order to be compared: names and plain values."""
        images = {"training": self.data.train.images, "validation": self.data.validation.images}
        recipe = {f"recipe's {key}": value for key, value in vars(self.recipe).items()}
        space = {
            f"space of {name}": {**vars(each), "kind": type(each).__name__}
            for name, each in self.space.items()
        }
        digests = {
            f"SHA-256 of {kind} images": hashlib.sha256(np.ascontiguousarray(each)).hexdigest()
            for kind, each in images.items()
        }
        rest = {"data": self.data.name, "num_samples": self.num_samples, "seed": self.seed}
        return json.loads(json.dumps({**rest, **recipe, **space, **digests}))  # as it will be read

    def folder(self, setting):
        """Returns the name of a setting's run folder, which is no other search's."""
        text = json.dumps([self.identity(), setting], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def bounds(self, setting, directory=None):
        """Trains a model by a setting; returns its bound for each validation image: [N], nats.

        Args:
            setting: a dict, with a value for each name in the space.
            directory: as for `train`.

        Raises:
            DivergenceError: if the training diverges.
        """
        recipe = {name: setting[name] for name in setting if hasattr(self.recipe, name)}
        model = {name: setting[name] for name in setting if name not in recipe}
        shape, is_dynamic = self.data.train.images.shape[1:], self.data.binarization == "dynamic"
        vae = VAE(image_shape=shape, dynamic_binarization=is_dynamic, seed=self.seed, **model)
        recipe = dataclasses.replace(self.recipe, **recipe)
        vae, _ = train(self.data, recipe, vae, verbose=0, directory=directory)
        found = evaluate(vae, self.data.validation.images, self.num_samples)
        return found.marginal_log_likelihood


class Sampler(optuna.samplers.TPESampler):
    """TPE, its draws a function of the trial's number and of the trials so far."""

    def before_trial(self, study, trial):
        """Makes the sampler anew, seeded by the trial's number."""
        self.__init__(seed=trial.number)
        super().before_trial(study, trial)


def open_study(address, search, name="vae_tf"):
    """Returns the Optuna study of a search, made if there is none.

    Args:
        address: where it is: a database's URL, such as "postgresql://host/name", or the path of a
            file, which may lie in a folder that machines share.
        search: a `Search`.
        name: of the study; an address may hold several.

    Raises:
        ImportError: if the database's driver is missing.
        ValueError: if another search is there by that name; nothing is changed then.
    """
    study = optuna.create_study(
        storage=_storage(str(address)),
        study_name=name,
        direction="maximize",
        sampler=Sampler(),
        load_if_exists=True,
    )
    here = search.identity()
    if "search" not in study.user_attrs and not study.get_trials(deepcopy=False):
        study.set_user_attr("search", here)
    there = study.user_attrs.get("search", {})
    if differences := checks.differences(there, here):
        raise ValueError(
            f"{address} holds another search by the name {name!r}: {differences}. Nothing was "
            "changed; choose another name or address."
        )
    return study


def work(study, search, trials, folder=None, grace=60.0, go_on=lambda: True):
    """Runs trials until so many of a study's are finished, by whoever has joined it.

    Training that diverges finishes its trial too, as pruned: a setting that the search then avoids.
    Another error ends the work, and its trial as failed, which does not count. A worker that is
    alone, and is not stopped, finds the same trials each time.

    Args:
        study: what `open_study` returned.
        search: the `Search` that it was given.
        trials: how many, those of before among them, an int >= 1.
        folder: where each trial trains in a folder of its own, so that one whose worker was killed
            goes on, to the same bits. None trains it anew.
        grace: seconds of silence after which a worker is thought dead. The clocks of machines that
            share a study have to agree better than that.
        go_on: a function; where it returns False, the work ends before its next trial.

    Raises:
        TypeError, ValueError: if trials is no int, or out of range.
    """
    checks.integer("trials", trials, 1)
    while go_on():
        _revive(study, grace)
        count = collections.Counter(each.state for each in study.get_trials(deepcopy=False))
        finished = count[TrialState.COMPLETE] + count[TrialState.PRUNED]
        if finished >= trials:
            return
        if finished + count[TrialState.RUNNING] >= trials:
            time.sleep(POLL)  # stays, because one of those may die
            continue
        trial = study.ask(search.space)
        others = study.get_trials(deepcopy=False)[: trial.number]
        if sum(each.state != TrialState.FAIL for each in others) < trials:
            with _alive(trial, grace / 6):
                _run(study, search, trial, folder)
        else:  # workers that looked at the same moment have asked for too many; the last lets go
            study.tell(trial, state=TrialState.FAIL)


def ranking(study):
    """Returns a study's finished trials: those with a bound, the best first, and the diverged.

    Returns:
        Two lists of dicts of `trial`, its number, `setting` and `seconds`. The first has `bound`,
        an `Estimate`, and `behind`, another: the best trial's bound less this, paired by image.
        The second has `reason`.
    """

    def facts(trial):
        seconds = (trial.datetime_complete - trial.datetime_start).total_seconds()
        return {"trial": trial.number, "setting": trial.params, "seconds": round(seconds, 1)}

    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    diverged = study.get_trials(deepcopy=False, states=[TrialState.PRUNED])
    complete.sort(key=lambda trial: -trial.value)
    bounds = np.array([trial.user_attrs["bounds"] for trial in complete])  # [trials, N]
    ranked = [
        facts(trial) | {"bound": Estimate.of(each), "behind": Estimate.of(bounds[0] - each)}
        for trial, each in zip(complete, bounds, strict=True)
    ]
    return ranked, [facts(trial) | {"reason": trial.user_attrs["reason"]} for trial in diverged]


def _storage(address):
    """Returns Optuna's storage at an address, made if there is none."""
    if "://" not in address:
        backend = optuna.storages.journal.JournalFileBackend(address)
        return optuna.storages.JournalStorage(backend)
    # So long SQLite waits for other writers; its own 5 s are few for many workers.
    options = {"connect_args": {"timeout": 60}} if address.startswith("sqlite") else {}
    for is_last in (False, False, False, True):
        try:
            return optuna.storages.RDBStorage(address, engine_kwargs=options)
        except DBAPIError:  # another, who came at the same time, is making the tables
            if is_last:
                raise
            time.sleep(1)


def _run(study, search, trial, folder):
    """Trains and evaluates a trial's setting, and tells the study what came of it."""
    directory = None
    if folder is not None:
        directory = Path(folder, search.folder(trial.params))
        directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        bounds = _when_free(search.bounds, trial.params, directory)
    except DivergenceError as error:
        name, value, outcome = "reason", str(error), {"state": TrialState.PRUNED}
    except Exception:
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        raise
    else:  # kept by image, so that differences are paired, wherever the trials were run
        name, value, outcome = "bounds", np.round(bounds, 4).tolist(), {"values": bounds.mean()}
    # A trial that was silent for too long is finished by now, and another tells what came of it.
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
        trial.set_user_attr(name, value)
        study.tell(trial, **outcome, skip_if_finished=True)


def _when_free(bounds, setting, directory):
    """Calls `bounds`, once a worker that was thought dead, but trains there, has ended."""
    while True:
        with contextlib.suppress(BlockingIOError):
            return bounds(setting, directory)
        time.sleep(POLL)


@contextlib.contextmanager
def _alive(trial, every):
    """Notes in a trial, every so many seconds, that its worker is alive."""
    over = threading.Event()

    def note():
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            trial.set_user_attr("alive", time.time())
            while not over.wait(every):
                trial.set_user_attr("alive", time.time())

    thread = threading.Thread(target=note, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _revive(study, grace):
    """Has trials run again that have been silent for longer than `grace` seconds."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        heard = trial.user_attrs.get("alive", trial.datetime_start.timestamp())
        if time.time() - heard > grace:
            # One of those who find it gets to tell, and the others an error.
            with contextlib.suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
                study.tell(trial.number, state=TrialState.FAIL)
                study.enqueue_trial(trial.params)
