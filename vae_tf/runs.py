"""A training run: its history, what it takes to go on, and the folder that keeps both.

file             holds                                                              is written
state.npz        weights, optimizer, history so far, and whose they are             as it goes
model.keras      the trained model                                                  at the end
history.csv      a row per update                                                   at the end
last_good.keras  the last model whose loss was fine                                 if it diverged
.lock            nothing; whoever trains in the folder holds it                     at the start

`state.npz` alone decides how the run goes on; the others can be deleted, and those of a finished
run are then written again. Each is written beside and renamed, so a kill at any moment leaves all
of them whole. NumPy reads `state.npz` with `allow_pickle=False`; its last 32 bytes are the SHA-256
of those before.
"""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
from pathlib import Path

import numpy as np

from . import files

FORMAT = 1
STATE, MODEL, HISTORY, LAST_GOOD = "state.npz", "model.keras", "history.csv", "last_good.keras"
DIGEST = hashlib.sha256().digest_size

# The history so far, of a run that has made no update.
NOTHING = {
    "log_likelihood": np.zeros(0, np.float32),
    "kl": np.zeros(0, np.float32),
    "evaluated": np.zeros(0, int),
    "training_log_likelihood": np.zeros(0, np.float32),
    "training_kl": np.zeros(0, np.float32),
    "validation_log_likelihood": np.zeros(0, np.float32),
    "validation_kl": np.zeros(0, np.float32),
}


@dataclasses.dataclass(frozen=True)
class History:
    """What happened in training: both terms of the ELBO, in nats per digit.

    Attributes:
        log_likelihood, kl: of each update's own batch, before the update: [updates].
        evaluated: the numbers of the updates after which whole sets were evaluated: [E].
        training, validation: both terms on training digits and on validation digits, equally many
            and with the same noise: dicts of `log_likelihood` and `kl`, each [E].
    """

    log_likelihood: np.ndarray
    kl: np.ndarray
    evaluated: np.ndarray
    training: dict
    validation: dict

    @classmethod
    def of(cls, columns):
        """Returns the history in a dict of the arrays that `NOTHING` names."""
        training, validation = (
            {term: columns[f"{kind}_{term}"] for term in ("log_likelihood", "kl")}
            for kind in ("training", "validation")
        )
        return cls(
            columns["log_likelihood"], columns["kl"], columns["evaluated"], training, validation
        )

    @property
    def updates(self):
        """The updates' numbers, from 1: [updates]."""
        return np.arange(1, len(self.kl) + 1)

    def to_csv(self, path):
        """Writes a row per update; evaluations stand in the rows of their updates."""
        sets = {"training": self.training, "validation": self.validation}
        columns = [f"{name}_{term}" for name, terms in sets.items() for term in terms]
        rows = zip(*(values for terms in sets.values() for values in terms.values()), strict=True)
        evaluations = dict(zip(self.evaluated.tolist(), rows, strict=True))
        with files.whole(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["update", "log_likelihood", "kl", *columns])
            for update, *terms in zip(self.updates, self.log_likelihood, self.kl, strict=True):
                writer.writerow([update, *terms, *evaluations.get(int(update), ())])


def state(vae, columns):
    """Returns all that a run's next update depends on, and its history so far: a dict of arrays.

    Args:
        vae: the compiled model.
        columns: the history, as `NOTHING` names it.
    """
    variables = {f"variable_{i}": variable.numpy() for i, variable in enumerate(_variables(vae))}
    return variables | columns


def restore(vae, state):
    """Gives the variables of a compiled model of the same configuration the values in a state."""
    for i, variable in enumerate(_variables(vae)):
        variable.assign(state[f"variable_{i}"])


def _variables(vae):
    vae.optimizer.build(vae.trainable_variables)
    return [*vae.variables, *vae.optimizer.variables]


@contextlib.contextmanager
def opened(directory, identity):
    """Yields the `Folder` of a run, made if there is none, which no other process then trains in.

    Args:
        directory: its path; the folder that it is in has to exist.
        identity: what makes a run that one and no other: a dict of what JSON can hold.

    Raises:
        OSError: if it cannot be written to, or if another process is training in it.
    """
    directory = Path(directory).absolute()
    directory.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(directory / ".lock", wait=False))
        except BlockingIOError as error:
            message = "another process is training in this directory"
            raise BlockingIOError(error.errno, message, str(directory)) from None
        for name in (STATE, MODEL, HISTORY, LAST_GOOD):
            files.sweep(directory / name)
        yield Folder(directory, identity)


class Folder:
    """What `opened` yields."""

    def __init__(self, directory, identity):
        self.directory = directory
        self.identity = json.loads(json.dumps(identity))  # as it will be read

    def read(self):
        """Returns the arrays that were written last, a dict, or None in a folder that is new.

        Raises:
            ValueError: if the file is damaged, of a newer format or another run's; and if there is
                none beside a model or a history, which would be overwritten.
        """
        file = self.directory / STATE
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            for other in (MODEL, HISTORY):
                if (self.directory / other).exists():
                    raise ValueError(
                        f"{self.directory} holds {other} but no {STATE}, so it is not known which "
                        "run that is. Choose another directory, or move that file away."
                    ) from None
            return None
        content, digest = data[:-DIGEST], data[-DIGEST:]
        if (found := hashlib.sha256(content).digest()) != digest:
            raise ValueError(
                f"{file} is damaged: its SHA-256 is {found.hex()}, and {digest.hex()} was written. "
                "Delete it, and what is beside it, to train anew."
            )
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = dict(stored)
        if (version := int(arrays.pop("format"))) > FORMAT:
            raise ValueError(
                f"{file} is of format {version}; this version of vae_tf reads up to {FORMAT}. "
                "Install a newer one, or choose another directory."
            )
        self._check(json.loads(str(arrays.pop("identity"))))
        return arrays

    def write(self, arrays):
        """Writes arrays, a dict, in place of those before."""
        buffer = io.BytesIO()
        np.savez(buffer, format=FORMAT, identity=json.dumps(self.identity), **arrays)
        content = buffer.getvalue()
        with files.whole(self.directory / STATE) as temporary:
            temporary.write_bytes(content + hashlib.sha256(content).digest())

    def finish(self, vae, history):
        """Writes what readers want of a finished run, where it is not yet there."""
        if not (self.directory / MODEL).exists():
            self._save(vae, MODEL)
        if not (self.directory / HISTORY).exists():
            history.to_csv(self.directory / HISTORY)

    def keep(self, vae):
        """Writes the last good model of a run that diverged."""
        self._save(vae, LAST_GOOD)

    def _save(self, vae, name):
        with files.whole(self.directory / name) as temporary:
            vae.save(temporary)

    def _check(self, there):
        here = self.identity
        names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
        if names:
            differences = "; ".join(
                f"{name} is {there.get(name)!r} there and {here.get(name)!r} here" for name in names
            )
            raise ValueError(
                f"{self.directory} holds another run: {differences}. Nothing was changed; choose "
                "another directory."
            )
