"""Trains the models of notebook 12, and measures what each part of them gives.

    python scripts/train_pixel.py                      # all of it; stopped, it goes on
    python scripts/train_pixel.py --train both         # one model alone
    python scripts/train_pixel.py --measure            # what is trained, on the test digits

"both" is the `PixelVAE` that comes with the package. The others leave out a part each: "pixels in
turn alone" has one Gaussian for a prior, learned too, which is N(0, I) seen by other networks;
"mixture prior alone" has pixels that are independent given the code. All of MNIST is needed.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from vae_tf import MixtureVAE, PixelVAE, Recipe, evaluate, load_mnist, load_pretrained, train
from vae_tf.analysis import bounds, quality, results
from vae_tf.engine import atomic
from vae_tf.pretrained import FOLDER, how_trained

SEED, SAMPLE_SEED, NUM_SAMPLES = 0, 8, 500
ROOT = Path(__file__).parent.parent
PIXELS = Recipe(
    updates=40_000, batch_size=64, learning_rate=5e-3, kl_warmup=0.2, evaluate_every=1_000
)
MODELS = {
    "both": (PixelVAE, {}, PIXELS),
    "pixels in turn alone": (PixelVAE, {"components": 1}, PIXELS),
    "mixture prior alone": (MixtureVAE, {}, Recipe.full()),
}
STORED = {"both": "pixel"}  # what comes with the package, and its name there


def folder_of(name):
    """Returns the folder of a model's run."""
    return ROOT / "runs" / name.replace(" ", "_")


def train_model(digits, name):
    """Trains a model, in a folder from which a stopped run goes on; notes how long it took."""
    kind, arguments, recipe = MODELS[name]
    folder = folder_of(name)
    folder.parent.mkdir(exist_ok=True)
    start, processor_start = time.perf_counter(), time.process_time()
    vae = kind(**arguments, seed=SEED, name=STORED.get(name))
    vae, history = train(digits, recipe, vae, verbose=2, directory=folder)
    facts = {
        "arguments": arguments,
        "digits": len(digits.train),
        "updates": recipe.updates,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "seed": SEED,
        "weights": vae.count_params(),
        # Since this start; a run that was stopped took longer.
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(time.process_time() - processor_start, 1),
    }
    elbo = history.validation["log_likelihood"] - history.validation["kl"]
    print(f"{name}: validation ELBO {elbo[-1]:.2f} nats; {facts}")
    (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    if name in STORED:
        bare = kind.from_config(vae.get_config() | {"name": STORED[name]})
        bare.set_weights(vae.get_weights())
        with atomic.replacing(FOLDER / f"{STORED[name]}.keras") as temporary:
            bare.save(temporary)
        with atomic.replacing(FOLDER / f"{STORED[name]}.json") as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n")


def trained(name):
    """Returns the model of a finished run, and how it was made."""
    kind, arguments, _ = MODELS[name]
    vae, folder = kind(**arguments, seed=SEED), folder_of(name)
    vae.load_weights(folder / "model.keras")
    return vae, json.loads((folder / "facts.json").read_text())


def fitted_afterwards(vae, images, components=100, seed=0):
    """Returns a trained VAE with a mixture, fitted to the codes of these images, for its prior."""
    from sklearn.mixture import GaussianMixture

    codes = vae.posterior(images).sample(seed=[seed, 0])
    mixture = GaussianMixture(components, covariance_type="diag", random_state=seed).fit(codes)
    better = MixtureVAE(components)
    better.encoder.set_weights(vae.encoder.get_weights())
    better.decoder.set_weights(vae.decoder.get_weights())
    better.prior_logits.assign(np.log(mixture.weights_))
    better.prior_loc.assign(mixture.means_)
    better.prior_log_scale.assign(np.log(mixture.covariances_) / 2)
    return better


def seconds_to_draw(vae):
    """Returns how long 100 and 10,000 samples take once such a model has drawn; a dict, seconds."""
    found = {}
    for count in (100, 10_000):
        start = time.perf_counter()
        np.asarray(vae.sample(count))
        found[f"{count:,}"] = round(time.perf_counter() - start, 3)
    return found


def measure(digits):
    """Records the measures of all models, and of real digits, on the 9,000 test digits."""
    out, test, train_images = ROOT / "figures", digits.test.images, digits.train.images
    forest = quality.fit_forest(digits.train, digits.validation)
    plain = load_pretrained("full")
    models = {"plain": (plain, {"recipe": "Recipe.full()"})}
    models["mixture fitted afterwards"] = fitted_afterwards(plain, train_images), {"of": "plain"}
    models |= {name: trained(name) for name in MODELS}
    rows = {"real digits": (None, {})} | models
    measured, draws = {}, {}
    for name, (vae, facts) in rows.items():
        start = time.perf_counter()
        drawn = None if vae is None else np.asarray(vae.sample(len(test), seed=SAMPLE_SEED))
        draws[name] = np.packbits((test if drawn is None else drawn)[:100].reshape(100, -1), axis=1)
        found = quality.measure(drawn, test, train_images)
        found["forest_recognised_percent"] = forest.recognised_percent(
            test if drawn is None else drawn
        )
        values = {key: estimate._asdict() for key, estimate in found.items()}
        if vae is not None:
            evaluation = evaluate(vae, test, num_samples=NUM_SAMPLES)
            values |= evaluation.summary()
            values["seconds_to_draw"] = seconds_to_draw(vae)
            values["active_units"] = int(bounds.active_units(vae, test).sum())
        entry = f"high quality, {name}"
        results.record(
            out,
            entry,
            digits,
            values,
            sample_seed=SAMPLE_SEED,
            training=facts,
            num_draws=len(test),
            command="python scripts/train_pixel.py --measure",
        )
        measured[name] = results.read(out)[entry]
        print(f"{name}, {time.perf_counter() - start:.0f} s")
        for key, value in values.items():
            print(f"    {key:26} {value}", flush=True)
    facts = {key: value for key, value in how_trained("pixel").items() if key != "measured"}
    with atomic.replacing(FOLDER / "pixel.json") as temporary:
        temporary.write_text(json.dumps(facts | {"measured": measured}, indent=1) + "\n")
    with atomic.replacing(FOLDER / "pixel_draws.npz") as temporary:
        np.savez_compressed(temporary, **draws)


def main():
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser(description="Train and measure the models of notebook 12.")
    parser.add_argument("--train", nargs="+", choices=MODELS, metavar="NAME", help="these alone")
    parser.add_argument("--measure", action="store_true", help="measure what is trained")
    arguments = parser.parse_args()
    digits = load_mnist()
    if digits.is_sample:
        raise SystemExit("this needs all of MNIST: set VAE_TF_MNIST_DIR")
    everything = not (arguments.train or arguments.measure)
    for name in MODELS if everything else arguments.train or ():
        train_model(digits, name)
    if everything or arguments.measure:
        measure(digits)


if __name__ == "__main__":
    main()
