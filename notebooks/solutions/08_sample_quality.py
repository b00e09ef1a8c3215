"""Solutions of the exercises of `08_sample_quality.ipynb`."""

import numpy as np

import vae_tf
from vae_tf.analysis import baselines, classifier, latent, samples
from vae_tf.evaluation import Estimate


def percent(share):
    """Returns the estimate of a share in per cent, as plain numbers."""
    return Estimate(100 * share.mean, 100 * share.standard_error)._asdict()


def readings(digits):
    """Returns what the judge makes of real digits and of each model's samples."""
    train, count = digits.train.images, len(digits.test)
    models = {
        "full": vae_tf.load_pretrained("full"),
        "writeup": vae_tf.load_pretrained("writeup"),
        "mixture": baselines.fit_mixture(train, 100, max_iterations=30)[0],
        "independent pixels": baselines.independent_pixels(train),
    }
    judge = classifier.load_classifier()
    drawn = {name: judge(model.sample(count, seed=8)) for name, model in models.items()}
    return judge, {"real digits": judge(digits.test.images)} | drawn


def exercise_1(digits):
    """Counts what is recognised above three thresholds."""
    _, read = readings(digits)
    found = {"thresholds": [0.5, 0.9, 0.99], "num_images": len(digits.test), "seed": 8}
    for threshold in found["thresholds"]:
        found[f"above {threshold}, %"] = {
            name: percent(classifier.recognition(each.probabilities, threshold).confident)
            for name, each in read.items()
        }
    return found


def exercise_2(digits):
    """Takes the class of noise from the judge: its answers are those of a judge of digits only."""
    judge, read = readings(digits)
    found = {"num_images": len(digits.test), "seed": 8}
    for name, each in read.items():
        forced = classifier.softmax(each.logits[:, :10], judge.temperature)  # [N, 10]
        found[name] = {
            "with it, %": percent(classifier.recognition(each.probabilities).confident),
            "without it, %": percent(Estimate.of(forced.max(axis=1) > 0.9)),
        }
    return found


def measures(digits, pictures, judge):
    """Returns recognition, Fréchet distance, precision, recall and copies of some pictures."""
    real, read = judge(digits.test.images), judge(pictures)
    quarter = len(digits.test) // 4
    distances = samples.repeated(samples.frechet_distance, real.features, read.features)
    within = samples.repeated(samples.precision_recall, real.features, read.features, quarter)
    apart, _ = samples.nearest(pictures, digits.train.images)
    recognised = classifier.recognition(read.probabilities)
    off = samples.repeated(samples.total_variation, real.classes, read.classes)
    return {
        "recognised, %": percent(recognised.confident),
        "no digit, %": percent(recognised.no_digit),
        "class shares off by, %": 100 * off.mean(),
        "frechet": Estimate(distances.mean(), distances.std(ddof=1))._asdict(),
        "precision": within[:, 0].mean(),
        "recall": within[:, 1].mean(),
        "copies, %": 100 * float((apart == 0).mean()),
    }


def exercise_3(digits):
    """Measures three models that cheat."""
    rng, count, judge = np.random.default_rng(0), len(digits.test), classifier.load_classifier()
    train, labels = digits.train.images, digits.train.labels
    hundred = rng.choice(train, 100, replace=False)
    cheats = {
        "shows training digits": rng.choice(train, count, replace=False),
        "shows 100 training digits": rng.choice(hundred, count),
        "shows training digits that are 1s": rng.choice(train[labels == 1], count),
    }
    found = {name: measures(digits, each, judge) for name, each in cheats.items()}
    return found | {"num_images": count, "seed": 0}


def exercise_4(digits):
    """Measures the samples of a model trained with β = 0.1, beside those of β = 1."""
    judge, count, found = classifier.load_classifier(), len(digits.test), {}
    for beta in (0.1, 1.0):
        vae, _ = vae_tf.train(digits, vae=vae_tf.VAE(beta=beta), seed=0, verbose=0)
        evaluation = vae_tf.evaluate(vae, digits.test.images, num_samples=100)
        p = vae.sample(count, seed=8, mean=True).numpy()
        tossed = np.minimum(p, 1 - p).sum(axis=(1, 2))  # pixels drawn against the likelier value
        posterior = vae.posterior(digits.train.images)
        together = latent.AggregatePosterior(posterior.mean(), posterior.stddev())
        of_digits = judge(vae.reconstruct(digits.train.images[:count], seed=8)).probabilities
        found[f"beta {beta}"] = {
            "elbo": evaluation.estimates["elbo"]._asdict(),
            "bound": evaluation.estimates["marginal_log_likelihood"]._asdict(),
            "pixels off the likelier value": Estimate.of(tossed)._asdict(),
            "KL of all codes from the prior": together.kl(num_samples=2_000)._asdict(),
            "recognised with digits' codes, %": percent(
                classifier.recognition(of_digits).confident
            ),
        } | measures(digits, np.asarray(vae.sample(count, seed=8)), judge)
    return found | {"num_images": count, "num_samples": 100, "seed": 8, "training_seed": 0}
