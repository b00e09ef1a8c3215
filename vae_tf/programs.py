"""Compiled functions that models of one configuration share.

Compiling with XLA costs a second or two, often more than the work itself. A `tf.function` that
captures a model's variables is compiled for that one model. Here the variables are arguments: a
twin of the model, private to the program, takes their values in, does the work and gives them
back, all inside one XLA program. So ten models of one shape compile once.
"""

import functools
import json

import keras
import tensorflow as tf

_made = {}  # (function, class, configuration) -> its program


def shared(function):
    """Compiles `function(model, *tensors)` once for all models of one configuration.

    Args:
        function: takes a twin of the model (same class, configuration and optimizer) and tensors,
            returns tensors; may read and assign the model's variables.

    Returns:
        A function of the same arguments. What `function` assigns in the twin is assigned in the
        model that was passed. As with any `tf.function`, other shapes compile anew.
    """

    @functools.wraps(function)
    def call(model, *tensors):
        key = (function, type(model), _configuration(model))
        if key not in _made:
            _made[key] = _compile(function, _twin(model))
        return _made[key](_variables(model), *tensors)

    return call


def _compile(function, twin):
    own = _variables(twin)

    @tf.function(jit_compile=True, autograph=False)
    def program(variables, *tensors):
        for mine, theirs in zip(own, variables, strict=True):
            mine.assign(theirs)
        result = function(twin, *tensors)
        for mine, theirs in zip(own, variables, strict=True):
            theirs.assign(mine)
        return result

    return program


def _variables(model):
    """Returns the state of the model and its optimizer: `tf.Variable`s, in a fixed order."""
    groups = [model.trainable_variables, model.non_trainable_variables, model.metrics_variables]
    if model.optimizer is not None:
        groups.append(model.optimizer.variables)
    return [variable.value for group in groups for variable in group]


def _configuration(model):
    """Returns, as text, what a program depends on besides the values of variables."""
    config = {**model.get_config(), "name": None, "seed": None}  # the seed is a variable
    trainable = [layer.trainable for layer in model.layers]
    optimizer = model.optimizer and keras.saving.serialize_keras_object(model.optimizer)
    if optimizer:
        optimizer["config"]["name"] = None
        if isinstance(optimizer["config"].get("learning_rate"), float):
            optimizer["config"]["learning_rate"] = None  # a variable as well
    return json.dumps([config, trainable, optimizer], default=str)


def _twin(model):
    twin = type(model).from_config(model.get_config())
    for layer, original in zip(twin.layers, model.layers, strict=True):
        layer.trainable = original.trainable
    if model.optimizer is not None:
        config = keras.saving.serialize_keras_object(model.optimizer)
        twin.compile(optimizer=keras.saving.deserialize_keras_object(config))
        twin.optimizer.build(twin.trainable_variables)
    return twin
