"""What the package needs of Keras and TensorFlow that they do not offer: all of it stands here.

Each has its reason beside it, and `tests/test_internals.py` fails when one is gone.
"""

import contextlib
import random
import threading
import weakref

import keras
import tensorflow as tf
from keras.src.trainers.data_adapters import data_adapter_utils
from tensorflow.python.framework import op_callbacks, ops

_seeding = threading.RLock()
# The inputs that numbers became, as long as something holds them: a function within another one
# brings its own along, and each may be captured only once.
_numbers = weakref.WeakValueDictionary()
SIMPLE = (0.0, 0.5, 1.0, 2.0)  # sizes of numbers with which XLA computes faster than with others


def batches_taken(optimizer):
    """Returns the variable that counts the batches whose gradients a Keras optimizer was given.

    Its public `iterations` counts only once the batches that it accumulates to one update.
    """
    return getattr(optimizer, "inner_optimizer", optimizer)._iterations


def ops_are_watched():
    """Tells whether something looks at every operation, as `tf.debugging.enable_check_numerics`.

    XLA compiles nothing then.
    """
    return op_callbacks.should_invoke_op_callbacks()


def profiles_batches(callback):
    """Tells whether Keras's `TensorBoard` is to profile single batches, which it alone knows."""
    return getattr(callback, "_should_trace", False)


def weights_of_classes(labels, weights):
    """Returns the weight of each image's class, [N], as Keras has it where it is given arrays."""
    return data_adapter_utils.class_weight_to_sample_weights(labels, weights)


def raise_interrupt(error):
    """Raises `KeyboardInterrupt`, if it is what an error comes of; tracing may wrap it."""
    cause = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        cause = cause.__cause__ or cause.__context__


@contextlib.contextmanager
def numbers_as_inputs():
    """Makes inputs of the floats in a graph that is traced meanwhile, such as rates of decay.

    Graphs that differ in such numbers alone are then equal. One input serves all places of a value.
    TensorFlow has no other way to have a function that it traces capture a constant.
    """

    def capture(op_type, inputs, attrs, outputs, op_name=None, graph=None):
        # A number in Python may be cast to the type of others before it is used.
        if op_type not in ("Const", b"Const", "Cast") or not hasattr(graph, "capture"):
            return None
        value = tf.get_static_value(outputs[0])
        if value is None or value.shape or not outputs[0].dtype.is_floating:
            return None
        if abs(value) in SIMPLE:
            return None
        key = outputs[0].dtype, value.tobytes()
        number = _numbers.get(key)
        if number is None:
            with tf.init_scope():
                _numbers[key] = number = tf.constant(value)
        return [graph.capture(number)]

    op_callbacks.add_op_callback(capture)
    try:
        yield
    finally:
        op_callbacks.remove_op_callback(capture)


@contextlib.contextmanager
def default_seeds(seed):
    """Has Keras's initializers that are given no seed, and are made meanwhile, draw from this one.

    They take theirs from Python's `random`; Keras's own way would be to seed that for everybody.
    """
    with _seeding:  # one thread at a time
        state = random.getstate()
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)


def forget_gradients(graph):
    """Lets go of the custom gradients in a graph that nobody will differentiate.

    TensorFlow keeps them for ever, and with each the whole graph: 6 MB for every model that trains,
    because Keras's optimizers have one.
    """
    for operation in graph.get_operations():
        with contextlib.suppress(ValueError):  # most have no such attribute
            name = operation.get_attr("_gradient_op_type").decode()
            if name.startswith("CustomGradient-"):
                ops.gradient_registry._registry.pop(name, None)


def let_go(model, name):
    """Has a model no longer count the layer that an attribute holds, if no other one holds it.

    Keras counts a layer for ever, also when the attribute is set anew.
    """
    layer = vars(model).get(name)
    holders = [value is layer for value in vars(model).values()].count(True)
    if isinstance(layer, keras.Layer) and holders == 1:
        model._tracker.untrack(layer)
