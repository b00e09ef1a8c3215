"""Figures: arrays in, `Figure` out, every one in one style.

Notebooks show a figure by its name alone; `save` writes it as PNG for slides and as PDF for print.
Every function takes `note`, a few words on where the data come from, set small and grey below.
Arrays of wrong shapes raise a ValueError that names what arrived.
"""

from .curves import (
    aggregate,
    bound_against_samples,
    confusion,
    context,
    elbo_terms,
    first_updates,
    frechet,
    gaps,
    kl_per_dimension,
    log_likelihood_comparison,
    maps,
    nearest_distances,
    one_code,
    one_latent,
    precision_recall,
    rate_distortion,
    recognition,
    reliability,
    scatter,
    shares,
    sizes,
    weights,
)
from .digits import (
    binarization,
    decoded,
    digits,
    manifold,
    nearest_pairs,
    reconstructions,
    rows,
    sample_grids,
    samples,
    traversals,
)
from .style import Figure, save

__all__ = [
    "Figure", "aggregate", "binarization", "bound_against_samples", "confusion", "context",
    "decoded", "digits", "elbo_terms", "first_updates", "frechet", "gaps", "kl_per_dimension",
    "log_likelihood_comparison", "manifold", "maps", "nearest_distances", "nearest_pairs",
    "one_code", "one_latent", "precision_recall", "rate_distortion", "recognition",
    "reconstructions", "reliability", "rows", "sample_grids", "samples", "save", "scatter",
    "shares", "sizes", "traversals", "weights",
]  # fmt: skip
