"""Solutions of the exercises of `05_samples.ipynb`."""

import numpy as np
from sklearn.mixture import GaussianMixture

import vae_tf
from vae_tf.analysis import classifier, samples
from vae_tf.evaluation import Estimate

COUNT = 10_000  # pictures that are read


def cut(means):
    """Returns the likelier value of each pixel, 0 or 1."""
    return (np.asarray(means) > 0.5).astype(np.uint8)


def surest(pictures):
    """Returns the probability of the likeliest digit, for each picture: [N]."""
    return classifier.load_classifier()(pictures).probabilities[:, :10].max(axis=1)


def read_as_one(pictures):
    """Returns the share of pictures that are read as one digit, in per cent."""
    return Estimate.of(100 * (surest(pictures) > 0.9))._asdict()


def decoded(vae, codes):
    """Returns a sample and the mean, cut at ½, of each code."""
    likelihood = vae.likelihood(codes)
    return {"samples": likelihood.sample(seed=[1, 1]), "means, cut": cut(likelihood.mean())}


def exercise_1(digits):
    """Widens and narrows the prior that codes are drawn from."""
    vae = vae_tf.load_pretrained("writeup")
    lengths = np.linalg.norm(vae.posterior(digits.validation.images).sample(seed=[0, 0]), axis=1)
    found = {"length of a digit's code": Estimate.of(lengths)._asdict()}
    found |= {"tau": [0.5, 1.0, 1.5], "num_images": COUNT, "seed": 1}
    for tau in found["tau"]:
        codes = tau * vae.prior().sample(COUNT, seed=[1, 0])
        pictures = decoded(vae, codes)
        found[f"tau {tau}"] = {name: read_as_one(each) for name, each in pictures.items()}
        found[f"tau {tau}"]["length"] = Estimate.of(np.linalg.norm(codes, axis=1))._asdict()
        p = vae.likelihood(codes).mean().numpy()
        tossed = np.minimum(p, 1 - p).sum(
            axis=(1, 2)
        )  # pixels of a draw that are not the likelier value
        found[f"tau {tau}"]["pixels off the likelier value"] = Estimate.of(tossed)._asdict()
    return found


def exercise_2(digits):
    """Draws codes from mixtures of Gaussians that are fitted to the codes of training digits."""
    vae = vae_tf.load_pretrained("full")
    posterior = vae.posterior(digits.train.images[:20_000])
    of_digits = posterior.sample(seed=[2, 0]).numpy().astype(float)  # [20000, 8]
    codes = {
        "prior": vae.prior().sample(COUNT, seed=[1, 0]).numpy(),
        "codes of digits": of_digits[:COUNT],
    }
    for components in (1, 10):
        mixture = GaussianMixture(components, random_state=0).fit(of_digits)
        codes[f"mixture of {components}"] = mixture.sample(COUNT)[0]
    judge = classifier.load_classifier()
    real = judge(digits.test.images).classes
    found = {"num_images": COUNT, "codes_fitted": len(of_digits), "components": [1, 10], "seed": 1}
    for name, each in codes.items():
        pictures = decoded(vae, each.astype(np.float32))
        off = samples.total_variation(judge(pictures["samples"]).classes, real)
        found[name] = {kind: read_as_one(drawn) for kind, drawn in pictures.items()}
        found[name]["class shares off by, %"] = 100 * off
    return found


def exercise_3(digits):
    """Draws the pixels of each code twice, and compares the two pictures."""
    vae, judge = vae_tf.load_pretrained("writeup"), classifier.load_classifier()
    likelihood = vae.likelihood(vae.prior().sample(COUNT, seed=[1, 0]))
    one, again = (likelihood.sample(seed=[1, step]).numpy() for step in (1, 2))
    another = np.roll(one, 1, axis=0)  # the picture of another code
    p = likelihood.mean().numpy()
    within, between = (p * (1 - p)).mean(axis=0).sum(), p.var(axis=0).sum()  # over 196 pixels
    same = judge(one).classes == judge(again).classes
    return {
        "pixels apart, same code": Estimate.of((one != again).sum(axis=(1, 2)))._asdict(),
        "pixels apart, other code": Estimate.of((one != another).sum(axis=(1, 2)))._asdict(),
        "same class, same code, %": Estimate.of(100 * same)._asdict(),
        "variance given the code, %": 100 * float(within / (within + between)),
        "num_images": COUNT,
        "seed": 1,
    }


def exercise_4(digits):
    """Shows the 8 of 100 samples that the classifier is surest of."""
    vae = vae_tf.load_pretrained("writeup")
    sure = surest(vae.sample(100, seed=0))
    best = np.sort(sure)[-8:]
    return {
        "chosen": len(best),
        "threshold": 0.9,
        "least of the chosen": float(best.min()),
        "mean of all": Estimate.of(sure)._asdict(),
        "read as one digit, %": Estimate.of(100 * (sure > 0.9))._asdict(),
        "num_images": len(sure),
        "seed": 0,
    }
