"""Trains and stores the weights that come with the package, from all of MNIST.

python scripts/train_pretrained.py                # all of them: `make pretrained`
python scripts/train_pretrained.py writeup full   # some
"""

import json
import sys
import time

import keras
import numpy as np
import scipy.optimize
import scipy.special
import tensorflow as tf

from vae_tf import VAE, Recipe, load_mnist, train
from vae_tf.analysis.classifier import CLASSES, Classifier, make_network
from vae_tf.engine import atomic
from vae_tf.pretrained import FOLDER

SEED = 0
RECIPES = {"writeup": Recipe.writeup(), "full": Recipe.full()}
NOISE_SHARE = 1 / 6  # images of noise in a classifier's training, for each digit


def store(model, name, facts):
    """Writes a model and facts about it to where the package has its weights."""
    with atomic.replacing(FOLDER / f"{name}.keras") as temporary:
        model.save(temporary)
    with atomic.replacing(FOLDER / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"{name}: {facts}")


def train_vae(digits, name):
    """Trains and stores the VAE of a recipe, without its optimizer."""
    recipe, start = RECIPES[name], time.perf_counter()
    vae, history = train(digits, recipe, seed=SEED, verbose=2)
    elbo = history.validation["log_likelihood"][-1] - history.validation["kl"][-1]
    print(f"{name}: validation ELBO {elbo:.2f} nats")
    count = recipe.images_per_class
    facts = {
        "digits": len(digits.train.balanced(count) if count else digits.train),
        "updates": recipe.updates,
        "batch_size": recipe.batch_size,
        "seed": SEED,
        "seconds": round(time.perf_counter() - start, 1),  # two cores, compiling included
    }
    bare = VAE.from_config(vae.get_config() | {"name": name})
    bare.set_weights(vae.get_weights())
    store(bare, name, facts)


def train_classifier(digits, epochs=16, batch_size=128, learning_rate=2e-3, seed=0, verbose=0):
    """Trains a classifier on the training digits, every batch shifted by up to a pixel.

    Noise is among the images, each of its pixels from a digit of its own, as an eleventh class: a
    network that has only seen digits is sure that noise is an 8. Adam's rate falls to 0 along a
    cosine. The temperature is then fitted on the validation digits.

    Args:
        digits: what `load_mnist` returns.
        epochs, batch_size, learning_rate, verbose: as in Keras; the rate is that at the start.
        seed: of the weights, the noise, the order, the shifts and dropout; an int in [0, 2³¹).

    Returns:
        A `Classifier`.
    """
    # Seeds below 2³¹: one for each layer that draws, and the last for the order of the images.
    *seeds, order = (np.random.SeedSequence(seed).generate_state(16) >> 1).tolist()
    seeds = iter(seeds)
    network = make_network(seeds)
    images, labels = digits.train.images, digits.train.labels
    noise = np.random.default_rng(seed).permuted(images, axis=0)[: round(NOISE_SHARE * len(images))]
    images = np.concatenate([images, noise])
    labels = np.concatenate([labels, np.full(len(noise), CLASSES, labels.dtype)])
    train = tf.data.Dataset.from_tensor_slices((images, labels))
    train = train.cache().shuffle(len(images), seed=order).batch(batch_size)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * len(train))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    training = _shifting_and_dropping(network, seeds)
    training.compile(keras.optimizers.Adam(rate), loss)
    training.fit(train, epochs=epochs, shuffle=False, verbose=verbose)
    logits = Classifier(network)(digits.validation.images).logits
    return Classifier(network, fit_temperature(logits, digits.validation.labels))


def _shifting_and_dropping(network, seeds):
    """Returns the network's logits as a model that shifts digits and drops features in training."""
    layers, channels_last = keras.layers, {"data_format": "channels_last"}
    inputs = keras.Input((14, 14))
    padded = layers.ZeroPadding2D(1, **channels_last)(layers.Reshape((14, 14, 1))(inputs))
    shifted = layers.RandomCrop(14, 14, seed=next(seeds), **channels_last)(padded)
    features = network.get_layer("features")(layers.Reshape((14, 14))(shifted))
    kept = layers.Dropout(0.3, seed=next(seeds))(features)
    return keras.Model(inputs, network.get_layer("logits")(kept))


def fit_temperature(logits, labels):
    """Returns the temperature T under which the labels are most probable, a float.

    Args:
        logits: [N, C], of digits that the network was not trained on.
        labels: [N], 0 to C − 1.

    Source: Guo et al. (2017), On Calibration of Modern Neural Networks, section 4.2.
    """

    def loss(log_temperature):
        log_probabilities = scipy.special.log_softmax(logits / np.exp(log_temperature), axis=1)
        return -log_probabilities[np.arange(len(labels)), labels].mean()  # over digits

    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=(-3, 3)).x))


def train_and_store_classifier(digits):
    """Trains and stores the classifier that samples are measured by."""
    start = time.perf_counter()
    classifier = train_classifier(digits, seed=SEED, verbose=2)
    right = {
        name: (classifier(split.images).classes == split.labels).mean()
        for name, split in {"validation": digits.validation, "test": digits.test}.items()
    }
    facts = {
        "digits": len(digits.train),
        "seed": SEED,
        "temperature": round(classifier.temperature, 4),
        "accuracy": {name: round(float(value), 4) for name, value in right.items()},
        "seconds": round(time.perf_counter() - start, 1),  # two cores
    }
    store(classifier.network, "classifier", facts)


def main():
    """Trains what the command line names, or everything."""
    digits = load_mnist()
    if digits.is_sample:
        raise SystemExit("pretrained weights need all of MNIST: set VAE_TF_MNIST_DIR")
    for name in sys.argv[1:] or [*RECIPES, "classifier"]:
        if name == "classifier":
            train_and_store_classifier(digits)
        elif name in RECIPES:
            train_vae(digits, name)
        else:
            raise SystemExit(f"names are {', '.join(RECIPES)} and classifier; received {name}")


if __name__ == "__main__":
    main()
