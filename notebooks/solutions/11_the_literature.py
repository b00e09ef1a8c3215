"""Solutions of the exercises of notebook 11."""

import numpy as np

import vae_tf
from vae_tf.analysis import bounds
from vae_tf.evaluation import Estimate


def exercise_1(digits):
    """Draws the pixels of the same 1,000 test digits five times, and bounds each set."""
    levels = vae_tf.load_mnist(size=28, binarization="none").test.images[:1_000]
    vae = vae_tf.load_pretrained("literature")
    means = []
    for seed in range(5):
        images = vae_tf.data.draw_once(levels, seed=100 + seed)
        means.append(vae_tf.evaluate(vae, images, num_samples=100).marginal_log_likelihood.mean())
    return {
        "bounds": means,
        "standard deviation": float(np.std(means, ddof=1)),
        "expected of 10,000 digits": float(np.std(means, ddof=1) / np.sqrt(10_000 / len(levels))),
        "num_images": len(levels),
        "num_samples": 100,
    }


def exercise_2(digits):
    """Bounds the same test digits cut at a threshold, by the model that never saw such."""
    vae = vae_tf.load_pretrained("literature")
    cut = vae_tf.load_mnist(size=28, binarization="threshold").test.images[:1_000]
    drawn = vae_tf.load_mnist(size=28, binarization="dynamic").test.images[:1_000]
    sets = {"threshold": cut, "dynamic": drawn}
    found = {
        name: vae_tf.evaluate(vae, images, num_samples=200).marginal_log_likelihood
        for name, images in sets.items()
    }
    values = {name: Estimate.of(each)._asdict() for name, each in found.items()}
    values["difference"] = Estimate.of(found["threshold"] - found["dynamic"])._asdict()
    return values | {"num_images": len(cut), "num_samples": 200}


def exercise_3(digits):
    """Bounds 200 test digits with 1 to 5,000 draws, by the model of either objective."""
    images = vae_tf.load_mnist(size=28, binarization="dynamic").test.images[:200]
    counts = [1, 5, 50, 500, 5_000]
    values = {"num_images": len(images), "num_samples": counts}
    for name in ("literature", "literature_iwae"):
        curve = bounds.bound_curve(vae_tf.load_pretrained(name), images, counts)  # [K, N]
        rises = zip(counts[1:], np.diff(curve, axis=0), strict=True)
        values[name] = {
            f"rise to K = {count}": Estimate.of(rise)._asdict() for count, rise in rises
        }
    return values
