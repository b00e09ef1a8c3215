"""Compiled functions that models of one configuration share.

Compiling with XLA costs a second or two, often more than the work itself. A `tf.function` that
captures a model's variables is compiled for that one model. Here the variables are arguments: a
twin of the model, private to the program, takes their values in, does the work and, if that is
training, gives them back, all inside one XLA program. So ten models of one shape compile once.
"""

import functools
import json

import keras
import tensorflow as tf

_made = {}  # (function, class, configuration) -> its program


def shared(function=None, *, trains=False):
    """Compiles `function(model, *tensors)` once for all models of one configuration.

    Args:
        function: takes a twin of the model (same class and configuration) and tensors, returns
            tensors. It may read the model's weights.
        trains: whether it may also read and assign all variables of the model and its optimizer.
            What it assigns in the twin is then assigned in the model that was passed.

    Returns:
        A function of the same arguments; as with any `tf.function`, other shapes compile anew. And
        as its attribute `of` one that takes the model alone and returns its program, for calling
        that often with tensors of the same shapes. A decorator, if `function` is not given.
    """
    if function is None:
        return functools.partial(shared, trains=trains)
    compile_, variables = (_compile_training, _state) if trains else (_compile, _weights)

    def program_and_values(model):
        key = (function, type(model), _configuration(model, with_optimizer=trains))
        if key not in _made:
            _made[key] = compile_(function, _twin(model, with_optimizer=trains))
        return _made[key], [variable.value for variable in variables(model)]

    @functools.wraps(function)
    def call(model, *tensors):
        program, values = program_and_values(model)
        return program(values, *tensors)

    call.of = lambda model: _looked_up_once(*program_and_values(model))
    return call


def _looked_up_once(program, values):
    """Returns `program` of these values: TensorFlow finds what it traced at the first call."""
    traced = None

    def call(*tensors):
        nonlocal traced
        if traced is None:
            traced = program.get_concrete_function(values, *tensors)
        return traced(values, *tensors)

    return call


def _compile(function, twin):
    own = _weights(twin)

    def program(values, *tensors):
        mapping = [
            (mine, tf.convert_to_tensor(value)) for mine, value in zip(own, values, strict=True)
        ]
        with keras.StatelessScope(state_mapping=mapping):
            return function(twin, *tensors)

    return _compiled(program)


def _compile_training(function, twin):
    own = [variable.value for variable in _state(twin)]

    def program(variables, *tensors):
        for mine, theirs in zip(own, variables, strict=True):
            mine.assign(theirs)
        result = function(twin, *tensors)
        for mine, theirs in zip(own, variables, strict=True):
            theirs.assign(mine)
        return result

    return _compiled(program)


def _compiled(program):
    # TensorFlow counts tracings by place in the source, and after five warns that one function was
    # traced too often. These are many, each traced once a shape: a partial has a count of its own.
    return tf.function(functools.partial(program), jit_compile=True, autograph=False)


def _weights(model):
    """Returns the model's weights and random seeds: Keras variables, in a fixed order."""
    return [*model.trainable_variables, *model.non_trainable_variables]


def _state(model):
    """Returns all variables of the model and its optimizer, in a fixed order."""
    model.optimizer.build(model.trainable_variables)
    return [*_weights(model), *model.metrics_variables, *model.optimizer.variables]


def _configuration(model, with_optimizer):
    """Returns, as text, what a program depends on besides the values of variables."""
    config = {**model.get_config(), "name": None}
    for name in ("seed", "beta", "kl_warmup"):
        config.pop(name, None)  # these are variables
    trainable = [layer.trainable for layer in model.layers]
    optimizer = keras.saving.serialize_keras_object(model.optimizer) if with_optimizer else None
    if optimizer:
        optimizer["config"]["name"] = None
        if isinstance(optimizer["config"].get("learning_rate"), float):
            optimizer["config"]["learning_rate"] = None  # a variable as well
    return json.dumps([config, trainable, optimizer], default=str)


def _twin(model, with_optimizer):
    twin = type(model).from_config(model.get_config())
    for layer, original in zip(twin.layers, model.layers, strict=True):
        layer.trainable = original.trainable
    if with_optimizer:
        config = keras.saving.serialize_keras_object(model.optimizer)
        twin.compile(optimizer=keras.saving.deserialize_keras_object(config))
    return twin
