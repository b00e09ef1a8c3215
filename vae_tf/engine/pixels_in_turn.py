"""A distribution of binary images whose pixels depend on those before them, row by row.

symbol       meaning                              code                       shape
x_i          pixel i, as ±1                                                  [..., 1]
c_i          what pixel i is told                 context                    [..., C]
h^l_i        features of pixel i from layer l                                [..., F]
N, M         pixels near i: before it; or itself  `BEFORE`, `BEFORE_OR_SAME`

    h^1_i     = tanh(W_1 [x at N(i), c_i] + b_1)
    h^(l+1)_i = h^l_i + tanh(W_(l+1) [h^l at M(i), c_i] + b_(l+1))
    p(x_i = 1 | x_<i) = sigmoid(W [h_i, c_i] + b)

What lies beyond the edge counts as 0, neither ink nor paper. Draws follow the same lines pixel by
pixel and keep what was computed for the pixels before: 196 steps cost as much as one pass.
Sources: van den Oord, Kalchbrenner & Kavukcuoglu (2016), Pixel Recurrent Neural Networks, section
3.4, https://arxiv.org/abs/1601.06759; Ramachandran et al. (2017), Fast Generation for Convolutional
Autoregressive Models, https://arxiv.org/abs/1704.06001, for the draws.
"""

import functools

import tensorflow as tf
import tensorflow_probability as tfp

from .distributions import sum_log_sigmoid

tfd = tfp.distributions

IMAGES_PER_CHUNK = 1_000  # drawn at once; what is kept of them meanwhile takes some 20 MB
DRAWS_PER_MEAN = 32


def before(reach):
    """Returns the places (rows down, columns right) within reach of a pixel that come before it."""
    columns = range(-reach, reach + 1)
    above = [(-up, right) for up in range(reach, 0, -1) for right in columns]
    return [*above, *((0, -left) for left in range(reach, 0, -1))]


REACH = 3
BEFORE = before(REACH)  # 24 of 7×7 pixels: what the first layer sees
BEFORE_OR_SAME = [*before(1), (0, 0)]  # 5 of 3×3: what later ones see
SAME = [(0, 0)]


def places(number, layers):
    """Returns the places that layer `number` of these sees."""
    if number == 0:
        return BEFORE
    return SAME if number == len(layers) - 1 else BEFORE_OR_SAME


def apply_layer(number, layers, seen, context):
    """Returns what a layer makes of one pixel, or of many: [..., F], of the last one [..., 1].

    Args:
        number: of the layer, from 0.
        layers: pairs of a kernel and a bias.
        seen: what the layer below made of the pixels at `places`, in their order: a list of
            [..., F]; of the first layer, the pixels themselves, ±1, or 0 beyond the edge: [..., 1].
        context: what the pixel is told: [..., C].
    """
    kernel, bias = layers[number]
    outputs = tf.tensordot(tf.concat([*seen, context], axis=-1), kernel, 1) + bias
    if number == len(layers) - 1:
        return outputs
    return tf.tanh(outputs) + (seen[-1] if number else 0)  # the last that is seen is its own


class PixelsInTurn(tfd.Distribution):
    """p(x) = Π_i p(x_i | x_<i): batch shape [...], event shape [height, width], 0 or 1.

    It is what `tfd.Autoregressive` would be, and draws in one pass's time instead of 196.

    Its `mean` is an estimate, because there is no formula for it: the probabilities of 32 draws,
    from a noise of its own that is always the same, are averaged.

    Args:
        context: what each pixel is told: [..., height, width, C].
        layers: pairs of a kernel and a bias, as `kernel_shapes` has them.
    """

    def __init__(self, context, layers):
        self.context, self.layers = tf.convert_to_tensor(context), layers
        self.distribution = tfd.Bernoulli(logits=0.0, dtype=tf.uint8)  # what a pixel is of
        super().__init__(
            dtype=tf.uint8,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters={"context": context, "layers": layers},
        )

    def _batch_shape(self):
        return self.context.shape[:-3]

    def _batch_shape_tensor(self):
        return tf.shape(self.context)[:-3]

    def _event_shape(self):
        return self.context.shape[-3:-1]

    def _event_shape_tensor(self):
        return tf.shape(self.context)[-3:-1]

    def _log_prob(self, images):
        signs, logits = self._logits(images)
        return sum_log_sigmoid(signs, logits)  # over pixels

    def upper(self, rows):
        """Returns the distribution of the upper rows, which do not depend on the lower ones."""
        return PixelsInTurn(self.context[..., :rows, :, :], self.layers)

    def _logits(self, images):
        """Returns pixels as ±1, and the logits of their being 1: [..., pixels] both."""
        height, width, count = self.context.shape[-3:]
        signs = 2.0 * tf.cast(images, self.context.dtype) - 1.0
        batch = tf.broadcast_dynamic_shape(tf.shape(signs)[:-2], tf.shape(self.context)[:-3])
        signs = tf.broadcast_to(signs, tf.concat([batch, [height, width]], axis=0))
        context = tf.broadcast_to(self.context, tf.concat([batch, [height, width, count]], axis=0))
        outputs = tf.reshape(signs, [-1, height, width, 1])
        context = tf.reshape(context, [-1, height, width, count])
        for number in range(len(self.layers)):
            seen = _shifted(outputs, places(number, self.layers))
            outputs = apply_layer(number, self.layers, seen, context)
        shape = tf.concat([batch, [height * width]], axis=0)
        return tf.reshape(signs, shape), tf.reshape(outputs, shape)

    def _sample_n(self, n, seed=None):
        context = tf.repeat(self.context[None], n, axis=0)
        return self._draw(context, tfp.random.sanitize_seed(seed))[0]

    def _mean(self):
        def add(total, number):
            return total + tf.sigmoid(self._draw(self.context, tf.stack([number, 0]))[1])

        total = tf.foldl(add, tf.range(DRAWS_PER_MEAN), tf.zeros_like(self.context[..., 0]))
        return total / DRAWS_PER_MEAN

    def complete(self, images, is_given, seed):
        """Returns images of which the rest is drawn: [..., height, width], uint8.

        Each pixel is drawn given all those before it, the given ones among them. Given ones that
        come later tell nothing of it; what they say has to be in the context.

        Args:
            images: [..., height, width], 0 or 1; only what is given is looked at.
            is_given: [height, width], bool.
            seed: two integers.
        """
        return self._draw(self.context, seed, tf.cast(images, self.context.dtype), is_given)[0]

    def _draw(self, context, seed, images=None, is_given=None):
        """Returns draws, uint8, and their logits: [..., height, width] both."""
        shape, (height, width, count) = tf.shape(context)[:-1], context.shape[-3:]
        noise = tf.random.stateless_uniform(shape, seed, dtype=context.dtype)
        if images is not None:  # −1 is below every probability, and 2 above
            noise = tf.where(is_given, 2 - 3 * tf.broadcast_to(images, shape), noise)
        context = tf.reshape(context, [-1, height, width, count])
        noise = tf.reshape(noise, [-1, height, width, 1])
        layers = [tuple(map(tf.convert_to_tensor, layer)) for layer in self.layers]
        sizes = tuple(tuple(kernel.shape) for kernel, _ in layers)
        draw_rows = _row_drawer((height, width, count), sizes, context.dtype)
        size = IMAGES_PER_CHUNK if context.shape[0] else tf.shape(context)[0]
        starts = range(0, context.shape[0] or 1, IMAGES_PER_CHUNK)  # one, while being traced
        parts = [draw_rows(layers, context[i : i + size], noise[i : i + size]) for i in starts]
        signs, logits = (tf.concat(each, axis=0) for each in zip(*parts, strict=True))
        return tf.reshape(tf.cast(signs > 0, tf.uint8), shape), tf.reshape(logits, shape)


def kernel_shapes(features, layers, context):
    """Returns the shapes of the kernels: of `layers` hidden ones of a width, and of the last.

    Args:
        features, layers, context: ints >= 1; context is C.
    """
    shapes = [(len(BEFORE) + context, features)]
    shapes += [(len(BEFORE_OR_SAME) * features + context, features)] * (layers - 1)
    return [*shapes, (features + context, 1)]


def _shifted(images, offsets):
    """Returns images [B, height, width, F] as each place sees them: a list of the same shape."""
    height, width = images.shape[1:3]
    reach = max(-down for down, _ in offsets)
    padded = tf.pad(images, [(0, 0), (reach, 0), (reach, reach), (0, 0)])
    return [
        padded[:, reach + down : reach + down + height, reach + right : reach + right + width]
        for down, right in offsets
    ]


@functools.cache
def _row_drawer(shape, sizes, dtype):
    """Returns a compiled `_draw_rows` for any number of images.

    Args:
        shape: height, width and C.
        sizes: the shapes of the kernels.
        dtype: of all of them.
    """
    layers = [tuple(tf.TensorSpec(part, dtype) for part in (size, size[1:])) for size in sizes]
    context = tf.TensorSpec([None, *shape], dtype)
    noise = tf.TensorSpec([None, *shape[:2], 1], dtype)
    return tf.function(_draw_rows, input_signature=[layers, context, noise], autograph=False)


def _draw_rows(layers, context, noise):
    """Returns pixels drawn, ±1, and their logits: [B, height, width] both.

    A loop over rows; the columns of a row are unrolled, and what was computed for pixels before is
    kept in Python lists. That is twenty times as fast as a loop over pixels that writes into
    tensors.

    Args:
        layers: a list of pairs of a kernel and a bias.
        context: [B, height, width, C].
        noise: uniform in [0, 1): [B, height, width, 1]. A pixel is 1 if it is below.
    """
    count, (height, width) = tf.shape(context)[0], context.shape[1:3]
    context, noise = (tf.transpose(each, [1, 2, 0, 3]) for each in (context, noise))
    offsets = [places(number, layers) for number in range(len(layers))]
    features = [1, *(kernel.shape[1] for kernel, _ in layers[:-1])]  # of what each layer sees
    beyond = [tf.zeros([count, each], context.dtype) for each in features]
    # The rows above that each layer but the last still sees: [rows, width, B, F].
    above = [
        tf.zeros([max(-down for down, _ in seen), width, count, each], context.dtype)
        for seen, each in zip(offsets[:-1], features, strict=False)
    ]

    def draw_row(y, drawn, logits, *above):
        rows = [[*map(tf.unstack, tf.unstack(each)), []] for each in above] + [[[]]]
        told, uniform, found = tf.unstack(context[y]), tf.unstack(noise[y]), []
        for x in range(width):
            for number in range(len(layers)):
                seen = [
                    rows[number][down - 1][x + right] if 0 <= x + right < width else beyond[number]
                    for down, right in offsets[number]
                ]
                outputs = apply_layer(number, layers, seen, told[x])
                (found if number + 1 == len(layers) else rows[number + 1][-1]).append(outputs)
            is_ink = uniform[x] < tf.sigmoid(outputs)
            rows[0][-1].append(2 * tf.cast(is_ink, outputs.dtype) - 1)
        drawn, logits = drawn.write(y, rows[0][-1]), logits.write(y, found)
        return y + 1, drawn, logits, *(tf.stack(each[1:]) for each in rows[:-1])

    arrays = [tf.TensorArray(context.dtype, height) for _ in range(2)]
    _, *arrays = tf.while_loop(lambda y, *_: y < height, draw_row, (0, *arrays, *above))[:3]
    return [tf.transpose(each.stack()[..., 0], [2, 0, 1]) for each in arrays]
