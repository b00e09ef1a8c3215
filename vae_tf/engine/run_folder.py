"""The folder of a training run: what it takes to go on, and what came of it.

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
import hashlib
import io
import json
from pathlib import Path

import keras
import numpy as np

from . import atomic, checks, replicas
from .batches import digest

FORMAT = 2
STATE, MODEL, HISTORY, LAST_GOOD = "state.npz", "model.keras", "history.csv", "last_good.keras"
DIGEST = hashlib.sha256().digest_size


def snapshot(vae, columns):
    """Returns all that a run's next update depends on, and its history so far: a dict of arrays.

    Args:
        vae: the compiled model.
        columns: the history, a dict of arrays.
    """
    variables = {f"variable_{i}": variable.numpy() for i, variable in enumerate(_variables(vae))}
    return variables | columns


def restore(vae, snapshot):
    """Gives the variables of a compiled model of the same kind the values of a snapshot."""
    for i, variable in enumerate(_variables(vae)):
        if variable.synchronization != "on_read":  # a metric's, which begins anew in each epoch
            variable.assign(snapshot[f"variable_{i}"])


def _variables(vae):
    vae.optimizer.build(vae.trainable_variables)
    return [*vae.variables, *vae.optimizer.variables]


@contextlib.contextmanager
def open_run(directory, identity, strategy=None):
    """Yields the `RunFolder`, made if there is none, which no other process then trains in.

    Of several workers the first one alone reads and writes it, and tells the others.

    Args:
        directory: its path; the folder that it is in has to exist. None yields None.
        identity: what makes a run that one and no other: a dict of what JSON can hold.
        strategy: the model's `tf.distribute` strategy, if any.

    Raises:
        OSError: if it cannot be written to, or if another process is training in it.
        ValueError: if the identity is not that of the first worker.
        WorkerError: if another worker is gone, now or while the folder is open.
    """
    replicas.check_same(strategy, identity)
    if directory is None:
        with replicas.told_when_gone(strategy):
            yield None
        return
    directory = Path(directory).absolute()
    with contextlib.ExitStack() as stack:
        stack.enter_context(replicas.told_when_gone(strategy))

        def take():
            directory.mkdir(exist_ok=True)
            try:
                stack.enter_context(atomic.locked(directory / ".lock", wait=False))
            except BlockingIOError as error:
                message = "another process is training in this directory"
                raise BlockingIOError(error.errno, message, str(directory)) from None
            for name in (STATE, MODEL, HISTORY, LAST_GOOD):
                atomic.remove_leftovers(directory / name)
            return b""

        replicas.from_chief(strategy, take)
        yield RunFolder(directory, identity, strategy)


def identity_of(vae, base, settings, training_images, validation_images):
    """Returns what the course of a run depends on, as names and plain values.

    Args:
        vae: the model in its first state; its class is `base` or one below it.
        settings: how to train, a dict of plain values.
        training_images, validation_images: arrays.
    """
    config = keras.saving.serialize_keras_object(vae.get_config())
    arrays = {
        "initial weights": vae.get_weights(),
        "training images": [training_images],
        "validation images": [validation_images],
    }
    return {
        **settings,
        "class": f"{type(vae).__module__}.{type(vae).__qualname__}",
        **{f"model's {name}": value for name, value in config.items() if name != "name"},
        **{f"model's {name}": value for name, value in _plain_attributes(vae, base).items()},
        **{f"SHA-256 of {name}": digest(values) for name, values in arrays.items()},
    }


def _plain_attributes(model, base):
    """Returns the numbers and texts that subclasses of `base`, or this model alone, have added.

    They are attributes that no configuration need hold, and that training may depend on.
    """
    bare = base(image_shape=(1, 1))
    bare.compile()
    known = set(dir(base)) | set(vars(bare))
    classes = [each for each in reversed(type(model).__mro__) if not issubclass(base, each)]
    places = [*(vars(each) for each in classes), vars(model)]
    return {
        name: value
        for place in places
        for name, value in place.items()
        if name not in known and isinstance(value, bool | int | float | str)
    }


class RunFolder:
    """What `open_run` yields."""

    def __init__(self, directory, identity, strategy=None):
        self.directory, self.strategy = directory, strategy
        self.is_ours = replicas.is_chief(strategy)
        self.identity = json.loads(json.dumps(identity))  # as it will be read

    def read(self):
        """Returns the arrays that were written last, a dict, or None in a folder that is new.

        Raises:
            ValueError: if the file is damaged, of a newer format or another run's; and if there is
                none beside a model or a history, which would be taken for this run's.
        """
        content = replicas.from_chief(self.strategy, self._content)
        if not content:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = dict(stored)
        if (version := int(arrays.pop("format"))) > FORMAT:
            raise ValueError(
                f"{self.directory / STATE} is of format {version}; this version of vae_tf reads up "
                f"to {FORMAT}. Install a newer one, or choose another directory."
            )
        self._check(json.loads(str(arrays.pop("identity"))))
        return arrays

    def _content(self):
        """Returns the bytes of a state that is whole, or none in a folder that is new."""
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
            return b""
        content, digest = data[:-DIGEST], data[-DIGEST:]
        if (found := hashlib.sha256(content).digest()) != digest:
            raise ValueError(
                f"{file} is damaged: its SHA-256 is {found.hex()}, and {digest.hex()} was written. "
                "Delete it, and what is beside it, to train anew."
            )
        return content

    def write(self, arrays):
        """Writes arrays, a dict, in place of those before."""
        if not self.is_ours:
            return
        buffer = io.BytesIO()
        np.savez(buffer, format=FORMAT, identity=json.dumps(self.identity), **arrays)
        content = buffer.getvalue()
        with atomic.replacing(self.directory / STATE) as temporary:
            temporary.write_bytes(content + hashlib.sha256(content).digest())

    def finish(self, vae, history):
        """Writes what readers want of a finished run, where it is not yet there."""
        if not (self.directory / MODEL).exists():
            self._save(vae, MODEL)
        if self.is_ours and not (self.directory / HISTORY).exists():
            history.to_csv(self.directory / HISTORY)

    def keep(self, vae):
        """Writes the last good model of a run that diverged."""
        self._save(vae, LAST_GOOD)

    def _save(self, vae, name):
        if not self.is_ours:
            return
        with atomic.replacing(self.directory / name) as temporary:
            replicas.outside(self.strategy, lambda: vae.save(temporary))

    def _check(self, there):
        if found := checks.differences(there, self.identity):
            raise ValueError(
                f"{self.directory} holds another run: {found}. Nothing was changed; choose "
                "another directory."
            )
