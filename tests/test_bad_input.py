"""Bad input: every public function refuses it by name, before any work or writing.

One table. A case is a function, its bad arguments, the error, and what its message must say.
"""

import json
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import vae_tf
from vae_tf import VAE, Recipe, figures
from vae_tf.analysis import baselines, bounds, results
from vae_tf.analysis.writeup import WriteupVAE, audit, train_writeup
from vae_tf.data import Dataset, Split, binarize
from vae_tf.engine import blocks, checks
from vae_tf.sources import mnist

tfd = tfp.distributions

RECIPE = {"updates": 4, "batch_size": 8, "learning_rate": 1e-3, "images_per_class": 5}
WEIGHTS, MEANS = [0.5, 0.5], np.full((2, 3, 3), 0.5)
MIXTURE = baselines.BernoulliMixture(WEIGHTS, MEANS)


@pytest.fixture(scope="module")
def made(tmp_path_factory, images, digits):
    """What good input is, and files that are not what they should be."""
    vae, writeup = VAE(seed=1), WriteupVAE(seed=1)
    vae.compile()
    broken = VAE()
    broken.set_weights([np.full_like(weights, np.nan) for weights in broken.get_weights()])
    folder = tmp_path_factory.mktemp("files")
    vae.save(folder / "good.keras")
    vae.decoder.save(folder / "decoder.keras")
    (folder / "text.keras").write_text("no model")
    (folder / "empty.keras").touch()
    (folder / "half.keras").write_bytes((folder / "good.keras").read_bytes()[:5_000])
    for name, change in {
        "newer": {"format": 4},
        "shapes": {"latent_dim": 3},
        "unknown": {"depth": 2},
        "huge": {"hidden_units": 2**40},
    }.items():
        resaved(folder / "good.keras", folder / f"{name}.keras", change)
    return SimpleNamespace(
        vae=vae, writeup=writeup, broken=broken, images=images, digits=digits, folder=folder,
        empty=Dataset(*[Split(images[:0], np.zeros(0, np.uint8))] * 3, "sample"),
        unlabelled=vae_tf.from_arrays(images),
    )  # fmt: skip


def resaved(source, target, change):
    """Copies a saved model, with changes to its configuration."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"] |= change
                content = json.dumps(config)
            new.writestr(name, content)


class PixelByPixel(VAE):
    """Its likelihood is not one distribution of an image, but one for every pixel."""

    def likelihood(self, latents):
        return tfd.Bernoulli(logits=self.decode(latents))


class RowByRow(VAE):
    def likelihood(self, latents):
        return tfd.Independent(tfd.Bernoulli(logits=self.decode(latents)), 1)


class Cropped(VAE):
    def likelihood(self, latents):
        return tfd.Independent(tfd.Bernoulli(logits=self.decode(latents)[..., 1:]), 2)


class Logits(VAE):
    def likelihood(self, latents):
        return self.decode(latents)


ONE_PER_PIXEL = (
    r"likelihood must have event shape \[14, 14\], batch shape \[1\]; received event shape "
    r"\(\) and batch shape \(1, 14, 14\)\. Wrap it in tfd\.Independent\(\.\.\., 2\)\."
)


def fit(m, x=None, **bad):
    m.vae.fit(m.images if x is None else x, **{"verbose": 0} | bad)


def split(m, images=None, labels=None):
    Split(
        m.images[:2] if images is None else images, np.uint8([1, 2]) if labels is None else labels
    )


def record(m, directory=".", name="bad", digits=None, values=None):
    results.record(
        directory, name, digits or m.digits, {"value": 1.0} if values is None else values
    )


FUNCTIONS = {
    "load_mnist": lambda m, source="auto", **bad: vae_tf.load_mnist(source, **bad),
    "load_fashion_mnist": lambda m, **bad: vae_tf.load_fashion_mnist(**bad),
    "binarize": lambda m, images: binarize(images),
    "Split": split,
    "balanced": lambda m, per_class: m.digits.train.balanced(per_class),
    "VAE": lambda m, **bad: VAE(**bad),
    "fit": fit,
    "fit validation": lambda m, images=None, sample_weight=None: fit(
        m, validation_data=(m.images if images is None else images, None, sample_weight)
    ),
    "fit validation alone": lambda m, images: fit(m, validation_data=images),
    "keras evaluate": lambda m, images=None, **bad: m.vae.evaluate(
        m.images if images is None else images, verbose=0, **bad
    ),
    "fit another": lambda m, vae: (vae.compile(), vae.fit(m.images, verbose=0)),
    "prior": lambda m, prior: checks.distribution_shape("prior", prior, [], [8]),
    "predict": lambda m, images: m.vae.predict(images, verbose=0),
    "train_on_batch": lambda m, images=None, **bad: m.vae.train_on_batch(
        m.images if images is None else images, **bad
    ),
    "test_on_batch": lambda m, images: m.vae.test_on_batch(images),
    "predict_on_batch": lambda m, images: m.vae.predict_on_batch(images),
    "compile": lambda m, **bad: VAE().compile(**bad),
    "likelihood": lambda m, latents: m.vae.likelihood(latents),
    "posterior": lambda m, images: m.vae.posterior(images),
    "elbo_terms": lambda m, **bad: m.vae.elbo_terms(m.images, **{"seed": [0, 0]} | bad),
    "sample": lambda m, num_images=3, seed=0: m.vae.sample(num_images, seed),
    "reconstruct": lambda m, images=None, seed=0: m.vae.reconstruct(
        m.images if images is None else images, seed
    ),
    "Recipe": lambda m, **bad: Recipe(**RECIPE | bad),
    "train": lambda m, digits=None, recipe=None, vae=None, seed=0: vae_tf.train(
        m.digits if digits is None else digits, recipe or Recipe(**RECIPE), vae, seed, verbose=0
    ),
    "train a big batch": lambda m, batch_size: vae_tf.train(
        m.digits, Recipe(**RECIPE | {"batch_size": batch_size}), verbose=0
    ),
    "evaluate": lambda m, images=None, vae=None, **bad: vae_tf.evaluate(
        vae or m.vae, m.images if images is None else images, **bad
    ),
    "bound_curve": lambda m, images=None, **bad: bounds.bound_curve(
        m.vae, m.images if images is None else images, **bad
    ),
    "active_units": lambda m, images: bounds.active_units(m.vae, images),
    "inference_gaps": lambda m, images=None, **bad: bounds.inference_gaps(
        m.vae, m.images if images is None else images, **bad
    ),
    "audit": lambda m, images=None, vae=None, **bad: audit(
        vae or m.writeup, m.images if images is None else images, **bad
    ),
    "train_writeup": lambda m, **bad: train_writeup(**{"digits": m.digits} | bad),
    "from_arrays": lambda m, images=None, **bad: vae_tf.from_arrays(
        m.images if images is None else images, **bad
    ),
    "load_pretrained": lambda m, name: vae_tf.load_pretrained(name),
    "load_model": lambda m, path: vae_tf.load_model(
        m.folder / path if isinstance(path, str) else path
    ),
    "export_explorer": lambda m, vae=None, digits=None, path="page.html": vae_tf.export_explorer(
        vae or m.vae, m.digits if digits is None else digits, path
    ),
    "fit_mixture": lambda m, images=None, **bad: baselines.fit_mixture(
        m.images if images is None else images, **{"num_components": 2} | bad
    ),
    "independent_pixels": lambda m, images: baselines.independent_pixels(images),
    "uniform": lambda m, image_shape: baselines.uniform(image_shape),
    "BernoulliMixture": lambda m, weights=WEIGHTS, means=MEANS: baselines.BernoulliMixture(
        np.array(weights), means
    ),
    "mixture sample": lambda m, num_images=3, seed=0: MIXTURE.sample(num_images, seed),
    "mixture log_likelihood": lambda m, images: MIXTURE.log_likelihood(images),
    "record": record,
    "figures.digits": lambda m, **bad: figures.digits(**{"images": m.images} | bad),
    "figures.rows": lambda m, **bad: figures.rows(**{"images": [m.images], "names": "a"} | bad),
    "figures.save": lambda m, figure=None, path="a": figures.save(
        figure or figures.digits(m.images[:1]), path
    ),
}
VALUE, TYPE = ValueError, TypeError
WRONG_IMAGES = {  # functions of good images
    "grey": (lambda x: x * 0.5, VALUE, r"0 and 1; .*\[0, 0.5\]. Binarize .*> 0.5\), or override"),
    "grey levels": (
        lambda x: x * 255,
        VALUE,
        r"0 and 1; .*\[0, 255\]. Binarize .*> 127\), or div",
    ),
    "minus one": (lambda x: x * -1.0, VALUE, r"only 0 and 1; received .*\[-1, -?0\]"),
    "nan": (lambda x: np.where(x, np.nan, 0.0), VALUE, r"only 0 and 1; received .*nan"),
    "infinite": (lambda x: np.where(x, np.inf, 0.0), VALUE, r"only 0 and 1; received .*inf\]"),
    "one image": (lambda x: x[0], VALUE, r"must be \[N, .*received \[14, 14\]"),
    "channels": (
        lambda x: np.stack([x, x], axis=-1),
        VALUE,
        r"must be \[N, .*received \[64, 14, 14, 2\]",
    ),
    "none": (lambda x: x[:0], VALUE, r"N >= 1; received \[0, 14, 14\]"),
    "texts": (lambda x: x.astype(str), TYPE, "array of numbers; received <U"),
    "objects": (lambda x: x.astype(object), TYPE, "array of numbers; received ndarray"),
    "complex": (lambda x: x * 1j, TYPE, "array of numbers; received complex128"),
    "ragged": (lambda x: [[[0, 1]], [[0]]], TYPE, "array of numbers; received list"),
    "a dict": (lambda x: {"images": x}, TYPE, "array of numbers; received dict"),
}
OF_ANOTHER_SHAPE = {
    "shape": (
        lambda x: x[:, :13],
        VALUE,
        r"must be \[N, 14, 14\].* received \[64, 13, 14\]\. Make .* image_shape=\(13, 14\)",
    )
}
TAKE_IMAGES = ["fit validation", "keras evaluate", "predict", "reconstruct", "evaluate", "audit"]
TAKE_IMAGES += ["bound_curve", "active_units", "inference_gaps"]
TAKE_IMAGES += [f"{do}_on_batch" for do in ("train", "test", "predict")]
FORMS = [
    (dict(size=size), VALUE, f"size must be 14 or 28; received {re.escape(repr(size))}")
    for size in (0, 20, 56, "28", (28, 28), None, True)
] + [
    (dict(binarization=value), VALUE, f'"threshold", "dynamic", "none"; received {value!r}')
    for value in ("Dynamic", "", None, 0.5, True)
]
BAD = {
    "load_mnist": [
        (dict(source=source), VALUE, f'"sample" or the path .* received {re.escape(repr(source))}')
        for source in ("kears", "", "Auto", "no/such", Path("tfds"), None, 3, ["x"])
    ]
    + FORMS,
    "load_fashion_mnist": [
        (dict(source=source), VALUE, f'"keras" or the path .* received {re.escape(repr(source))}')
        for source in ("kears", "tfds", "no/such", None)
    ]
    + FORMS,
    "binarize": [
        (dict(images=np.zeros([2, 28, 28])), VALUE, r"uint8 \[N, 28, 28\].*received float64"),
        (dict(images=np.zeros([28, 28], np.uint8)), VALUE, r"received uint8 \[28, 28\]"),
        (dict(images=np.zeros([2, 28, 28, 1], np.uint8)), VALUE, r"\[2, 28, 28, 1\]"),
        (dict(images=np.zeros([2, 14, 14], np.uint8)), VALUE, r"\[2, 14, 14\]"),
        (dict(images=None), VALUE, "received object"),
    ],
    "Split": [
        (dict(images=np.zeros([2, 28], np.uint8)), VALUE, r"received uint8 \[2, 28\]"),
        (dict(images=np.zeros([2, 14, 14])), VALUE, "received float64"),
        (dict(images=np.full([2, 14, 14], 7, np.uint8)), VALUE, r"up to 7\. .*127\).* or divide"),
        (dict(images=[[0]]), TYPE, "NumPy arrays; received list"),
        (dict(labels=np.uint8([0, 1, 2])), VALUE, r"2 images .* received uint8 \[3\]"),
        (dict(labels=np.array([0, -1])), VALUE, r"ints >= 0 .* received .*\[-1, 0\]"),
        (dict(labels=np.array([0, 0.5])), VALUE, "received float64"),
        (dict(labels=np.array([0, np.nan])), VALUE, "received float64"),
        (dict(labels=np.array(["0", "1"])), VALUE, "received <U1"),
    ],
    "balanced": [
        (dict(per_class=count), error, f"per_class must be .* received .*{count}")
        for error, counts in ((VALUE, (0, -1)), (TYPE, (2.0, True, np.True_, "3", None)))
        for count in counts
    ],
    "VAE": [
        (dict(latent_dim=0), VALUE, r"latent_dim must be in \[1, 65536\]; received 0"),
        (dict(latent_dim=-3), VALUE, "latent_dim .* received -3"),
        (dict(latent_dim=2.5), TYPE, "latent_dim must be an int; received 2.5"),
        (dict(latent_dim="8"), TYPE, "latent_dim must be an int; received '8'"),
        (dict(latent_dim=True), TYPE, "latent_dim must be an int; received True"),
        (dict(latent_dim=2**40), VALUE, "latent_dim .* received 1099511627776"),
        (dict(latent_dim=None), TYPE, "latent_dim must be an int; received None"),
        (dict(hidden_units=0), VALUE, "hidden_units"),
        (dict(hidden_units=2**40), VALUE, "hidden_units"),
        (dict(hidden_units=()), VALUE, r"hidden_units must be an int or several; received \(\)"),
        (dict(hidden_units=(200, 0)), VALUE, "hidden_units .* received 0"),
        (dict(hidden_units=(200, 2.5)), TYPE, "hidden_units must be an int; received 2.5"),
        (dict(hidden_units="128"), TYPE, "hidden_units must be an int; received '128'"),
        (dict(objective="ELBO"), VALUE, "objective must be \"elbo\" or \"iwae\"; received 'ELBO'"),
        (dict(objective=None), VALUE, "objective must .* received None"),
        (dict(dynamic_binarization=1), TYPE, "dynamic_binarization must be True or False; rec.* 1"),
        (dict(dynamic_binarization="yes"), TYPE, "dynamic_binarization .* received 'yes'"),
        (dict(image_shape=(14,)), VALUE, r"image_shape must be \(height, width\)"),
        (dict(image_shape=(9, 12, 1)), VALUE, r"received \(9, 12, 1\)\. Leave the channel out"),
        (dict(image_shape=(14, 0)), VALUE, "image_shape .* received 0"),
        (dict(image_shape=14), VALUE, r"image_shape must be \(height, width\); received 14"),
        (dict(image_shape=(14, 1.5)), TYPE, "image_shape must be an int; received 1.5"),
        (dict(beta=-1), VALUE, "beta .* received -1"),
        (dict(beta=np.nan), VALUE, "beta .* received nan"),
        (dict(beta="1"), TYPE, "beta must be a number"),
        (dict(beta=1e30), VALUE, "beta"),
        (dict(kl_warmup=-1), VALUE, "kl_warmup"),
        (dict(kl_warmup=0.5), TYPE, "kl_warmup"),
        (dict(num_samples=0), VALUE, "num_samples"),
        (dict(num_samples=2**40), VALUE, "num_samples"),
        (dict(seed=-1), VALUE, "seed .* received -1"),
        (dict(seed=2**31), VALUE, "seed .* received 2147483648"),
        (dict(seed=0.5), TYPE, "seed"),
        (dict(seed=None), TYPE, "seed"),
        (dict(latents=3), VALUE, "latents"),
    ],
    "fit": [
        *((dict(x=lambda m, f=f: f(m.images)), *rest) for f, *rest in WRONG_IMAGES.values()),
        (dict(x="digits"), TYPE, "array of numbers; received <U6"),
        (dict(x=lambda m: m.digits), TYPE, "array of numbers; received Dataset"),
        (dict(x=lambda m: m.digits.train), TYPE, "array of numbers; received Split"),
        (dict(batch_size=0), VALUE, "batch_size .* received 0"),
        (dict(batch_size=-32), VALUE, "batch_size .* received -32"),
        (dict(batch_size=16.0), TYPE, "batch_size must be an int; received 16.0"),
        (dict(batch_size="16"), TYPE, "batch_size"),
        (dict(batch_size=2**40), VALUE, "batch_size"),
        (dict(epochs=0), VALUE, "epochs .* received 0"),
        (dict(epochs=-1), VALUE, "epochs .* received -1"),
        (dict(epochs=1.5), TYPE, "epochs must be an int; received 1.5"),
        (dict(epochs=2**40), VALUE, "epochs"),
        (dict(steps_per_epoch=0), VALUE, "steps_per_epoch"),
        (dict(steps_per_epoch=2.0), TYPE, "steps_per_epoch must be an int; received 2.0"),
        (dict(y=np.ones(63)), VALUE, r"y must be as long as x, 64; received \(63,\)"),
        (dict(y=[1, 2]), VALUE, r"y must be as long as x, 64; received \(2,\)"),
        (dict(y=3), VALUE, r"y must be as long as x, 64; received \(\)"),
        (dict(speed=3), TYPE, "unexpected keyword argument 'speed'"),
        (dict(sample_weight=np.ones(63)), VALUE, r"sample_weight must be \[64\]; received \[63\]"),
        (dict(sample_weight=np.ones((64, 14))), VALUE, "sample_weight"),
        (dict(sample_weight=np.full(64, -1.0)), VALUE, r"sample_weight .* received .*\[-1, -1\]"),
        (dict(sample_weight=np.full(64, np.nan)), VALUE, "sample_weight .* received .*nan"),
        (dict(sample_weight=["a"] * 64), TYPE, "sample_weight must be an array of numbers"),
        (dict(validation_steps=0), VALUE, "validation_steps must be .* received 0"),
        (dict(validation_steps=1.5), TYPE, "validation_steps must be an int; received 1.5"),
        (dict(validation_batch_size="a"), TYPE, "validation_batch_size must be an int"),
        (dict(validation_freq=0), VALUE, "validation_freq must be .* received 0"),
        (
            dict(y=np.zeros(64), class_weight={0: np.nan}),
            VALUE,
            "class_weight must be finite and >= 0",
        ),
        (dict(class_weight={0: 1.0}), VALUE, "class_weight needs classes, as y"),
        (
            dict(y=np.zeros(64), class_weight={0: 1.0}, sample_weight=np.ones(64)),
            VALUE,
            "class_weight needs .* no sample_weight beside it",
        ),
        (dict(y={"a": np.zeros(64), "b": None}), VALUE, r"y must be as long as x.*received \(\)"),
        (dict(validation_split=-0.5), VALUE, "validation_split .* received -0.5"),
        (dict(validation_split=1.0), VALUE, "validation_split .* received 1.0"),
        (dict(validation_split=0.99), VALUE, "validation_split must leave .* 0.99 of 64"),
    ],
    "fit another": [
        (dict(vae=lambda m: PixelByPixel()), VALUE, ONE_PER_PIXEL),
        (dict(vae=lambda m: RowByRow()), VALUE, r"shape \(14,\) and batch shape \(1, 14\)\.$"),
        (dict(vae=lambda m: Cropped()), VALUE, r"shape \(14, 13\) and batch shape \(1,\)\.$"),
        (dict(vae=lambda m: Logits()), TYPE, "likelihood must return a TFP distribution; received"),
    ],
    "prior": [
        (dict(prior=tfd.Normal(tf.zeros(8), 1.0)), VALUE, r"prior must .*Independent\(\.\.\., 1\)"),
        (dict(prior=tfd.Normal(0.0, 1.0)), VALUE, r"prior must have event shape \[8\], .*\(\)\.$"),
        (dict(prior=tfd.MultivariateNormalDiag(tf.zeros(7))), VALUE, r"received .* \(7,\)"),
        (dict(prior=np.zeros(8)), TYPE, "prior must return a TFP distribution; received ndarray"),
    ],
    "fit validation": [
        (dict(sample_weight=np.ones(63)), VALUE, r"sample_weight must be \[64\]; received \[63\]"),
        (dict(sample_weight=np.full(64, np.nan)), VALUE, "sample_weight .* received .*nan"),
    ],
    "fit validation alone": [
        (dict(images=lambda m: 255 * m.images), VALUE, r"must hold only 0 and 1; .* \[0, 255\]"),
        (dict(images=lambda m: m.images[:, :13]), VALUE, r"received \[64, 13, 14\]"),
    ],
    "keras evaluate": [
        (dict(sample_weight=np.ones(63)), VALUE, r"sample_weight must be \[64\]; received \[63\]"),
        (dict(sample_weight=np.full(64, -1.0)), VALUE, r"sample_weight .* received .*\[-1, -1\]"),
        (dict(batch_size=0), VALUE, "batch_size .* received 0"),
        (dict(batch_size=16.0), TYPE, "batch_size must be an int; received 16.0"),
    ],
    "train_on_batch": [
        (dict(sample_weight=np.ones(63)), VALUE, r"sample_weight must be \[64\]; received \[63\]"),
        (dict(sample_weight=np.full(64, np.nan)), VALUE, "sample_weight .* received .*nan"),
        (dict(y=np.ones(63)), VALUE, r"y must be as long as x, 64; received \(63,\)"),
    ],
    "compile": [
        *(
            (dict(steps_per_execution=steps), VALUE, f"steps_per_execution .* received {steps}")
            for steps in (0, -1, 2**40)
        ),
        *(
            (dict(steps_per_execution=steps), TYPE, "steps_per_execution must be an int; received")
            for steps in (None, 2.0, "many", True)
        ),
        (dict(loss="mse"), VALUE, "loss must not be given, .* its own .* received 'mse'"),
        (dict(metrics=["mae"]), VALUE, r"metrics must not be given, .* received \['mae'\]"),
        (dict(weighted_metrics=["mae"]), VALUE, "weighted_metrics must not be given"),
        (dict(loss_weights=[2.0]), VALUE, "loss_weights must not be given"),
    ],
    "likelihood": [
        (dict(latents=np.zeros((3, 5))), VALUE, r"latents must be \[..., 8\]; received \(3, 5\)"),
        (dict(latents=np.zeros((2, 3, 9))), VALUE, r"received \(2, 3, 9\)"),
        (dict(latents=np.float32(1)), VALUE, r"received \(\)"),
    ],
    "posterior": [
        (dict(images=lambda m: {"image": m.images}), TYPE, "received a dict of image. Have the"),
        (dict(images=lambda m: m.images[0]), VALUE, r"\[B, 14, 14\]; received \(14, 14\)"),
        (dict(images=lambda m: m.images[..., None, None]), VALUE, r"\(64, 14, 14, 1, 1\)"),
        (dict(images=lambda m: m.images[:, :13]), VALUE, r"\(64, 13, 14\)\. .*=\(13, 14\)\."),
    ],
    "elbo_terms": [
        (dict(seed=3), VALUE, "seed must be two integers; received 3"),
        (dict(seed=None), VALUE, "seed must be two integers; received None"),
        (dict(seed=[0.5, 1.0]), VALUE, "seed must be two integers; received"),
        (dict(num_samples=0), VALUE, "num_samples"),
        (dict(num_samples=1.5), TYPE, "num_samples"),
    ],
    "sample": [
        (dict(num_images=0), VALUE, "num_images .* received 0"),
        (dict(num_images=-1), VALUE, "num_images .* received -1"),
        (dict(num_images=2.5), TYPE, "num_images must be an int; received 2.5"),
        (dict(num_images=10**12), VALUE, r"num_images must be in \[1, 1000000\]"),
        (dict(num_images=None), TYPE, "num_images"),
        (dict(seed=-1), VALUE, "seed"),
        (dict(seed=2**31), VALUE, "seed"),
    ],
    "reconstruct": [(dict(seed=0.5), TYPE, "seed"), (dict(seed=-1), VALUE, "seed")],
    "Recipe": [
        (dict(updates=0), VALUE, "updates .* received 0"),
        (dict(updates=1.5), TYPE, "updates must be an int; received 1.5"),
        (dict(updates=10**12), VALUE, "updates"),
        (dict(batch_size=0), VALUE, "batch_size"),
        (dict(batch_size="32"), TYPE, "batch_size"),
        (dict(batch_size=10**12), VALUE, "batch_size"),
        (dict(learning_rate=0), VALUE, "learning_rate must be > 0; received 0"),
        (dict(learning_rate=-1e-3), VALUE, "learning_rate .* received -0.001"),
        (dict(learning_rate=np.nan), VALUE, "learning_rate .* received nan"),
        (dict(learning_rate=np.inf), VALUE, "learning_rate .* received inf"),
        (dict(learning_rate=1e39), VALUE, r"learning_rate .* received 1e\+39"),
        (dict(learning_rate="fast"), TYPE, "learning_rate must be a number; received 'fast'"),
        (dict(learning_rate=True), TYPE, "learning_rate"),
        (dict(warmup=1.0), VALUE, "warmup"),
        (dict(images_per_class=0), VALUE, "images_per_class"),
        (dict(num_samples=-2), VALUE, "num_samples"),
        (dict(averaging=1.0), VALUE, "averaging"),
        (dict(evaluate_every=0), VALUE, "evaluate_every"),
        (dict(beta=-1.0), VALUE, "beta"),
        (dict(kl_warmup=1.0), VALUE, "kl_warmup"),
    ],
    "train": [
        (dict(recipe="writeup"), TYPE, "recipe must be a Recipe, .*received 'writeup'"),
        (dict(recipe={"updates": 3}), TYPE, "recipe must be a Recipe, .*received dict"),
        (dict(recipe=Recipe), TYPE, "recipe must be a Recipe, .*received type"),
        (dict(digits=lambda m: m.images), TYPE, "from_arrays returns; received ndarray"),
        (dict(digits=lambda m: m.digits.train), TYPE, "from_arrays returns; received Split"),
        (dict(digits=lambda m: m.empty), VALUE, "balanced needs labels"),
        (dict(digits=lambda m: m.unlabelled, recipe=Recipe.writeup()), VALUE, r"Recipe\(\)"),
        (dict(seed=-1), VALUE, "seed .* received -1"),
        (dict(seed=0.5), TYPE, "seed must be an int; received 0.5"),
        (dict(vae="vae"), TYPE, r"vae must be a vae_tf\.VAE or None; received 'vae'"),
        (dict(vae=VAE), TYPE, r"vae must be a vae_tf\.VAE or None; received type"),
        (dict(vae=lambda m: m.broken), VALUE, "a finite loss before training; its loss is nan"),
        (dict(vae=lambda m: VAE(image_shape=(7, 7))), VALUE, r"must be \[N, 7, 7\]"),
    ],
    "train a big batch": [(dict(batch_size=64), VALUE, "64 images; received 50 .*smaller")],
    "evaluate": [
        (dict(vae=lambda m: m.vae.encoder), TYPE, r"must be a vae_tf\.VAE; received Sequential"),
        (dict(vae=lambda m: m.broken), VALUE, "weights within .*received one of size nan. Train"),
        (dict(num_samples=0), VALUE, "num_samples"),
        (dict(num_samples=2.0), TYPE, "num_samples"),
        (dict(num_samples=True), TYPE, "num_samples"),
        (dict(num_samples=10**12), VALUE, "num_samples"),
        (dict(seed=-1), VALUE, "seed"),
        (dict(seed=None), TYPE, "seed"),
        (dict(images_per_chunk=0), VALUE, "images_per_chunk"),
        (dict(samples_per_chunk=0), VALUE, "samples_per_chunk"),
        (dict(posterior=3), TYPE, "posterior must be a function of images; received 3"),
        (
            dict(posterior=lambda m: lambda images: m.vae.prior()),
            VALUE,
            r"posterior must have .* batch shape \[64\]; received .* batch shape \(\)",
        ),
    ],
    "bound_curve": [
        (dict(posterior=3), TYPE, "posterior must be a function of images; received 3"),
        (dict(num_samples=[]), VALUE, "num_samples must rise"),
        (dict(num_samples=[5, 5]), VALUE, r"num_samples must rise; received \[5, 5\]"),
        (dict(num_samples=[0, 5]), VALUE, "num_samples"),
        (dict(num_samples=5), VALUE, "num_samples must be several rising ints; received 5"),
    ],
    "active_units": [(dict(images=lambda m: m.images[:1]), VALUE, "at least 2 images")],
    "inference_gaps": [
        (dict(updates=0), VALUE, "updates"),
        (dict(draws=0), VALUE, "draws"),
        (dict(learning_rate=0), VALUE, "learning_rate must be > 0"),
        (dict(learning_rate="fast"), TYPE, "learning_rate"),
    ],
    "audit": [
        (dict(vae=lambda m: m.vae), TYPE, "must be a WriteupVAE; received VAE"),
        (dict(num_samples=0), VALUE, "num_samples"),
    ],
    "train_writeup": [
        (dict(epochs=0), VALUE, "epochs"),
        (dict(seed=-1), VALUE, "seed"),
        (dict(digits=lambda m: m.empty), VALUE, "balanced needs labels"),
    ],
    "from_arrays": [
        (dict(images=lambda m: 255 * m.images), VALUE, r"only 0 and 1; received .*\[0, 255\]"),
        (dict(images=lambda m: m.images[0]), VALUE, r"must be \[N, height, width\]"),
        (dict(images=lambda m: m.images[:9]), VALUE, "10 or more, for three splits; received 9"),
        (dict(images=np.full([20, 3, 3], np.nan)), VALUE, "images must be finite"),
        (dict(images="images"), TYPE, "array of numbers"),
        (dict(labels=np.zeros(63, int)), VALUE, r"64 images needs as many ints .*\[63\]"),
        (dict(labels=np.full(64, -1)), VALUE, "ints >= 0"),
        (dict(labels=np.full(64, 0.5)), VALUE, "received float64"),
        (dict(labels=["a"] * 64), TYPE, "labels must be an array of numbers"),
        (dict(name=3), TYPE, "name must be a text; received 3"),
        (dict(name=""), TYPE, "name must be a text; received ''"),
        (dict(seed=-1), VALUE, "seed"),
    ],
    "load_pretrained": [
        (dict(name=name), VALUE, "literature, literature_iwae, pixel; received")
        for name in ("best", "", None, ["full"], "../full")
    ],
    "load_model": [
        (dict(path="text.keras"), VALUE, r"text\.keras cannot be loaded; give .*not a zip"),
        (dict(path="empty.keras"), VALUE, r"empty\.keras cannot be loaded; .*not a zip"),
        (dict(path="half.keras"), VALUE, r"half\.keras cannot be loaded; .*not a zip"),
        (dict(path="decoder.keras"), VALUE, "of class vae_tf>VAE .*not None.*register_keras_s"),
        (dict(path="newer.keras"), VALUE, "format 3 or older; received format 4.*update vae_tf"),
        (dict(path="shapes.keras"), VALUE, r"shapes\.keras cannot be loaded; .*not be loaded"),
        (dict(path="unknown.keras"), VALUE, "depth"),
        (dict(path="huge.keras"), VALUE, "hidden_units .* received 1099511627776"),
        (dict(path="missing.keras"), FileNotFoundError, r"missing\.keras is not a file"),
        (dict(path=3), TYPE, "path must be a string or a Path; received 3"),
    ],
    "export_explorer": [
        (dict(vae="vae.keras"), TYPE, r"must be a vae_tf\.VAE; received 'vae.keras'"),
        (dict(vae=lambda m: m.broken), VALUE, "weights within .*received one of size nan"),
        (dict(digits=lambda m: m.images), TYPE, "from_arrays returns; received ndarray"),
        (dict(digits=lambda m: m.empty), VALUE, "N >= 1"),
        (dict(vae=lambda m: VAE(image_shape=(28, 28))), VALUE, r"must be \[N, 28, 28\]"),
        (dict(path=3), TYPE, "path must be a string or a Path; received 3"),
        (dict(path="no/page.html"), FileNotFoundError, "no is not a folder; make it first"),
        (dict(path="."), IsADirectoryError, "give the name of a file in it"),
    ],
    "fit_mixture": [
        (dict(num_components=0), VALUE, "num_components"),
        (dict(num_components=65), VALUE, "num_components .* received 65"),
        (dict(num_components=2.0), TYPE, "num_components"),
        (dict(smoothing=0), VALUE, "smoothing must be > 0"),
        (dict(smoothing=-1), VALUE, "smoothing"),
        (dict(smoothing="some"), TYPE, "smoothing"),
        (dict(seed=-1), VALUE, "seed"),
        (dict(max_iterations=0), VALUE, "max_iterations"),
        (dict(tolerance=float("nan")), VALUE, "tolerance"),
    ],
    "uniform": [
        (dict(image_shape=(14,)), VALUE, "image_shape"),
        (dict(image_shape=(-1, 14)), VALUE, "image_shape .* received -1"),
    ],
    "BernoulliMixture": [
        (dict(weights=[0.5, 0.4]), VALUE, "sum 1"),
        (dict(weights=[1.5, -0.5]), VALUE, "positive"),
        (dict(weights=[[1.0]]), VALUE, r"weights must be \[K\]"),
        (dict(weights=[1.0]), VALUE, r"means must be \[1, height, width\]"),
        (dict(means=np.full((2, 9), 0.5)), VALUE, r"means must be .* received \(2, 9\)"),
        (dict(means=np.zeros((2, 3, 3))), VALUE, r"means must be in \(0, 1\)"),
        (dict(means=np.full((2, 3, 3), np.nan)), VALUE, r"in \(0, 1\); received \[nan"),
    ],
    "mixture sample": [
        (dict(num_images=0), VALUE, "num_images"),
        (dict(seed=0.5), TYPE, "seed"),
    ],
    "mixture log_likelihood": [
        (dict(images=lambda m: m.images), VALUE, r"must be \[N, 3, 3\], N >= 1; received \[64, 14"),
    ],
    "record": [
        (dict(values={"value": np.nan}), VALUE, r"bad\.value must be finite .*received nan"),
        (dict(values={"value": -np.inf}), VALUE, r"bad\.value must be finite .*received -inf"),
        (dict(values={"value": {"x": [1.0, np.nan]}}), VALUE, r"bad\.value"),
        (dict(values={"value": 1j}), TYPE, r"bad\.value must be a number; received 1j"),
        (dict(values=[1.0]), TYPE, "values must be a dict of numbers; received list"),
        (dict(name=3), TYPE, "name must be a text; received 3"),
        (dict(digits="MNIST"), TYPE, "from_arrays returns; received str"),
        (dict(directory="no"), FileNotFoundError, "no is not a folder"),
    ],
    "figures.digits": [
        (dict(columns=0), VALUE, "columns must be an int >= 1; received 0"),
        (dict(columns=2.5), VALUE, "columns must be an int >= 1; received 2.5"),
        (dict(images=lambda m: m.images * 255), VALUE, r"\[0, 1\]; received .*\[0, 255\]"),
    ],
    "figures.rows": [
        (dict(names=None), TYPE, "names are needed; received None"),
        (dict(images=[], names=[]), VALUE, "number of rows"),
        (dict(group=0), VALUE, "group"),
    ],
    "figures.save": [
        (dict(figure=[1]), TYPE, "figure must be a matplotlib Figure; received list"),
        (dict(path="a.png"), VALUE, "path must have no ending"),
    ],
}  # fmt: skip
for name in [*TAKE_IMAGES, "fit_mixture", "independent_pixels"]:
    kinds = WRONG_IMAGES | (OF_ANOTHER_SHAPE if name in TAKE_IMAGES else {})
    BAD[name] = BAD.get(name, []) + [
        (dict(images=lambda m, f=f: f(m.images)), *rest) for f, *rest in kinds.values()
    ]
CASES = [(name, *case) for name, cases in BAD.items() for case in cases]


@pytest.fixture(scope="module", autouse=True)
def _nothing_trained(made):
    before = made.vae.get_weights()
    yield
    for old, new in zip(before, made.vae.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("name", "bad", "error", "says"),
    CASES,
    ids=[f"{i}-{name}-{'-'.join(bad)}" for i, (name, bad, *_) in enumerate(CASES)],
)
def test_bad_input_is_refused_by_name_before_any_work(
    made, tmp_path, monkeypatch, name, bad, error, says
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAE_TF_CACHE", str(tmp_path))
    keras_own = [(keras.Model, f"make_{kind}_function") for kind in ("train", "test")]
    for place, work in ((blocks.BlockRunner, "__init__"), *keras_own):
        monkeypatch.setattr(place, work, lambda *_, **__: pytest.fail("work began"))
    monkeypatch.setattr(mnist, "_serve", lambda *_: pytest.fail("loading began"))
    bad = {key: value(made) if type(value) is type(split) else value for key, value in bad.items()}
    with pytest.raises(error, match=says) as caught:
        FUNCTIONS[name](made, **bad)
    assert type(caught.value) is error
    assert not list(tmp_path.iterdir())


def test_the_page_on_reliability_counts_the_table():
    page = Path(__file__).parent.parent / "docs" / "reliability.md"
    assert f"| {len(CASES)} bad inputs |" in page.read_text()
    assert len({(name, str(bad), says) for name, bad, _, says in CASES}) == len(CASES)
