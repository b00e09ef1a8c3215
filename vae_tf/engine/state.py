"""What a model has beside its weights: numbers that can be set, and metrics of every batch."""

import keras
import tensorflow as tf

from . import replicas


class Setting:
    """An attribute of a model that holds a checked number, which can be set at any time.

    Compiled programs read it from a variable, so that setting it compiles nothing. Keras does not
    track that variable, because it is no weight: its value stands in the model's configuration.

    Args:
        check: a function of `checks`, called with the attribute's name, the value, and `limits`.
        dtype: of the variable; None is the model's `float_type`.
        doc: what the attribute is.
    """

    def __init__(self, check, *limits, dtype=None, doc=None):
        self.check, self.limits, self.dtype, self.__doc__ = check, limits, dtype, doc

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, model, owner=None):
        if model is None:
            return self
        number, variable = getattr(model._settings, self.name)
        # What restores variables sets that one alone. A float is as it was given, not rounded.
        value = variable.value.numpy()
        return number if value == value.dtype.type(number) else value.item()

    def __set__(self, model, value):
        number = self.check(self.name, value, *self.limits)
        _, variable = getattr(model._settings, self.name, (None, None))
        if variable is None:
            variable = keras.Variable(
                0, trainable=False, dtype=self.dtype or model.float_type, name=self.name
            )
        variable.assign(number)
        setattr(model._settings, self.name, (number, variable))


class BatchMean(keras.metrics.Mean):
    """A mean over images that also knows the mean over those of the last batch, `last`."""

    def __init__(self, name, dtype=None):
        super().__init__(name, dtype)
        self.last = self.add_variable((), "zeros", dtype=self.dtype, name="last")

    def update_state(self, values, sample_weight=None):
        """Takes the values of a batch's images, [B], with their weights, [B] or None."""
        super().update_state(values, sample_weight)
        # Of a replica this is a share; Keras adds the shares up where they are read.
        self.last.assign(tf.cast(weighted_mean(values, sample_weight), self.dtype))


def weighted_mean(values, weights):
    """Returns the mean over images, of values [B] with weights [B] or None.

    In a replica it returns its share: the sum of the shares is the mean over all images.
    """
    if weights is None and not replicas.replica():
        return tf.reduce_mean(values)
    weights = tf.ones_like(values) if weights is None else tf.cast(weights, values.dtype)
    # A batch in which no image has weight has no mean: it changes nothing.
    in_all = replicas.total(tf.reduce_sum(weights))
    return tf.math.divide_no_nan(tf.reduce_sum(weights * values), in_all)
