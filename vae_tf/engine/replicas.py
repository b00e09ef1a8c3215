"""What the replicas of a `tf.distribute` strategy share: places in the batch, means, decisions.

A batch is the global one. Its images are dealt out in order, and every image keeps the noise of its
place in the batch, so that replicas together do what one process does. In a single process all of
this is nothing.
"""

import builtins
import concurrent.futures
import contextlib
import json

import numpy as np
import tensorflow as tf

from . import checks

GONE = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


class WorkerError(RuntimeError):
    """Another worker of a `tf.distribute` strategy is gone, so that this one cannot go on."""


def replica():
    """Returns the context of the replica that runs, or None where there is just one."""
    context = tf.distribute.get_replica_context()
    return context if context and context.num_replicas_in_sync > 1 else None


def total(value):
    """Returns the sum of a tensor over all replicas."""
    context = replica()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value) if context else value


def rows_before(rows):
    """Returns how many rows of the batch the replicas before this one have, if it has `rows`."""
    context = replica()  # no := in what is traced: AutoGraph, in a function of one's own, warns
    if not context:
        return 0
    place, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
    all_rows = total(tf.one_hot(place, count, dtype=tf.int32) * rows)
    return tf.reduce_sum(tf.where(tf.range(count) < place, all_rows, 0))


def told_apart(pair):
    """Returns a seed of two integers, int32 [2], marked by the replica; a marked one, as it was.

    Whatever draws noise from a marked seed draws other noise in each replica. Noise that counts
    rows over the whole batch, by `rows_before`, takes the mark off again.
    """
    context = replica()
    if not context:
        return pair
    # Odd multipliers, so that no two replicas have the same; the first one keeps the seed.
    place = tf.cast(context.replica_id_in_sync_group, tf.uint32)
    marks = place * tf.constant([0x9E3779B1, 0x85EBCA6B], tf.uint32)
    return tf.bitcast(tf.bitwise.bitwise_xor(tf.bitcast(pair, tf.uint32), marks), tf.int32)


def are_several(strategy):
    """Tells whether a strategy has replicas that have to work together."""
    return strategy.num_replicas_in_sync > 1


def shares(strategy, batch):
    """Returns a batch, a structure of tensors, dealt out to the replicas in order."""
    if not are_several(strategy):
        return batch

    def share(context):
        count, place = context.num_replicas_in_sync, context.replica_id_in_sync_group

        def cut(rows):
            each = -(-len(rows) // count)
            return rows[place * each : (place + 1) * each]

        return tf.nest.map_structure(cut, batch)

    return strategy.experimental_distribute_values_from_function(share)


def to_each(strategy, dataset):
    """Returns a dataset of single values as Keras takes it: every replica is given each value."""
    if not are_several(strategy):
        return dataset
    here = len(strategy.extended.worker_devices)
    repeated = dataset.flat_map(lambda value: tf.data.Dataset.from_tensors(value).repeat(here))
    return strategy.distribute_datasets_from_function(lambda context: repeated)


def as_numbers(strategy, pipeline):
    """Returns a pipeline whose numbers workers can add up, as Keras does once: not uint8."""
    if not are_processes(strategy) or not isinstance(pipeline, tf.data.Dataset):
        return pipeline

    def number(tensor):
        return tf.cast(tensor, tf.float32) if tensor.dtype == tf.uint8 else tensor

    return pipeline.map(
        lambda *batch: tf.nest.map_structure(number, batch if batch[1:] else batch[0])
    )


def first(strategy, value):
    """Returns what the first replica of this process has of a value."""
    return strategy.experimental_local_results(value)[0]


def step_function(model, step):
    """Returns what Keras calls for a step: of an iterator of batches it returns the logs.

    Keras's own fails on scalars where there are several workers, and gives means of means.
    """
    strategy = model.distribute_strategy

    def run(data):
        logs = strategy.run(step, args=(data,))
        metrics = {metric.name: metric for metric in model.metrics}
        mean = tf.distribute.ReduceOp.MEAN
        return {
            name: metrics[name].result() if name in metrics else strategy.reduce(mean, value, None)
            for name, value in logs.items()
        }

    run = run if model.run_eagerly else tf.function(run, autograph=False, reduce_retracing=True)

    def function(iterator):
        logs = None
        with strategy.scope():
            for _, data in zip(range(model.steps_per_execution), iterator, strict=False):
                logs = run(data)
        if logs is None:
            raise StopIteration
        return logs

    return function


def reader(strategy, variables):
    """Returns a function that returns the sums over replicas of what scalars hold: [variables]."""
    if not variables or not are_several(strategy):
        return lambda: np.array([variable.value.numpy() for variable in variables])

    @tf.function(autograph=False)
    def read():
        each = strategy.run(lambda: tf.stack([variable.value for variable in variables]))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, each, axis=None)

    def values():
        with strategy.scope():
            return read().numpy()

    return values


def are_processes(strategy):
    """Tells whether a strategy's replicas are in several processes."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return False
    return strategy.num_replicas_in_sync > len(strategy.extended.worker_devices)


def is_chief(strategy):
    """Tells whether this process is the one that writes files: the first worker, or the only."""
    if not are_processes(strategy):
        return True
    resolver = strategy.cluster_resolver
    kind = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return (resolver.task_type, resolver.task_id) == (kind, 0)


def from_chief(strategy, function):
    """Returns the bytes that a function returns in the chief's process, where alone it is called.

    Raises:
        Exception: what the function raises, in every process.
        WorkerError: if another worker is gone.
    """
    if not are_processes(strategy):
        return function()
    data = error = None
    if is_chief(strategy):
        try:
            data = b"=" + function()
        except Exception as raised:
            error = raised
            data = b"!" + json.dumps([type(error).__name__, str(error)]).encode()
    data = np.frombuffer(data or b"", np.uint8)
    with told_when_gone(strategy):
        filled = np.zeros(int(_sum(strategy, len(data))), np.int32)
        filled[: len(data)] = data  # zeros, where it is not the chief's
        data = np.asarray(_sum(strategy, filled), np.uint8).tobytes()
    if error:
        raise error
    if data[:1] == b"!":
        name, message = json.loads(data[1:])
        kind = getattr(builtins, name, RuntimeError)
        raise (kind if issubclass(kind, Exception) else RuntimeError)(message)
    return data[1:]


def check_same(strategy, facts):
    """Does nothing, if every worker has the same facts: a dict of what JSON can hold.

    Raises:
        ValueError: in each worker whose facts are not the chief's; the others meet a `WorkerError`
            once that one has ended.
    """
    if are_processes(strategy):
        here = json.loads(json.dumps(facts))
        there = json.loads(from_chief(strategy, json.dumps(facts).encode))
        if found := checks.differences(there, here):
            raise ValueError(f"all workers must train alike: {found}, where there is the first.")


def outside(strategy, function):
    """Calls a function; among workers in a thread of its own, where no strategy's scope is open.

    Variables that are made in a scope, as Keras does when it saves, are sent to all workers, and
    whoever makes them would wait for those.
    """
    if not are_processes(strategy):
        return function()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


@contextlib.contextmanager
def told_when_gone(strategy):
    """Raises `WorkerError` for what TensorFlow raises when another worker is gone."""
    try:
        yield
    except GONE as error:
        if not are_processes(strategy):
            raise
        raise WorkerError(
            "another worker of the strategy stopped, or cannot be reached, so this one stops too. "
            "Start all workers again: `vae_tf.train` with a directory goes on from what it holds."
        ) from error


def _sum(strategy, value):
    """Returns the sum of what the processes have, of which each one's first replica gives it."""
    value, here = np.asarray(value, np.int32), len(strategy.extended.worker_devices)
    each = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(value * (context.replica_id_in_sync_group % here == 0))
    )
    return strategy.reduce(tf.distribute.ReduceOp.SUM, each, axis=None).numpy()
