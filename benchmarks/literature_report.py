"""From bounds of digits to results-literature.json: means, differences, and what explains them.

Two differences are taken over the same digits, each with its own error:

    peer − ours             each by its own code. Trainings from other seeds end with other weights,
                            so the error is the spread over seeds.
    own code − `evaluate`   of the same weights. The two draw other codes z, so the error is the
                            spread of this difference over digits.

A difference counts as explained unless its p-value, times the number of differences taken, is below
0.05: one of twenty such tables has an unexplained one by chance.
"""

import numpy as np
from peers import LITERATURE_PEERS
from report import rounded
from scipy import stats

from vae_tf.evaluation import Estimate

LEVEL = 0.95  # of the intervals, each by itself


def summarize(trainings, ours):
    """Returns the parts of results-literature.json that are measured.

    Args:
        trainings: dicts, as `literature_peers.train` returns them, with the name of the `peer`.
        ours: the name of the peer that the others are compared with.
    """
    groups = {}
    for training in trainings:
        groups.setdefault((training["objective"], training["peer"]), []).append(training)
    rows = []
    for (objective, peer), group in sorted(groups.items(), key=lambda item: item[0][0]):
        row = _row(group)
        if peer != ours:
            row["peer_minus_ours"] = _between_peers(group, groups[objective, ours])
            row["own_code_minus_evaluate"] = _between_codes(group)
        rows.append(row)
    return {"interval_level": LEVEL, "bounds": rows, "unexplained": _unexplained(rows)}


def of_training(training):
    """Returns one line about a training."""
    own, by_ours = (Estimate.of(training[name]) for name in ("bounds", "by_ours"))
    return (
        f"{training['objective']}, {LITERATURE_PEERS[training['peer']]}, seed {training['seed']}: "
        f"{own}; by vae_tf.evaluate {by_ours}; trained in {training['seconds']:.0f} s"
    )


def as_text(results):
    """Returns lines that say what came out, and what neither seeds nor draws explain."""
    lines = [
        f"bounds of {results['bounded_digits']:,} digits from {results['num_samples']:,} draws, "
        f"after {results['schedule']['updates']:,} updates; nats, mean of seeds ± standard error",
        f"  {'':22}{'bound':>11}{'':6}  {'peer − ours, interval':>26}  {'own code − evaluate':>19}",
    ]
    for row in results["bounds"]:
        name = f"{row['objective']}, k = {row['draws']}, {row['peer']}"
        lines.append(f"  {name:22}{row['mean']:>8.2f} ± {row['standard_error_over_seeds']:<6.2f}")
        if "peer_minus_ours" in row:
            between, codes = row["peer_minus_ours"], row["own_code_minus_evaluate"]
            low, high = between["interval"]
            lines[-1] += f"  {between['mean']:>+8.2f} ({low:>+6.2f} to {high:>+6.2f})"
            lines[-1] += f"  {codes['mean']:>+10.3f} ± {codes['standard_error']:.3f}"
    lines += ["", *(f"NOT EXPLAINED: {what}" for what in results["unexplained"])]
    if any("peer_minus_ours" in row for row in results["bounds"]) and not results["unexplained"]:
        lines.append("All differences are such as seeds and draws explain.")
    return lines


def _row(group):
    """Returns what trainings of one peer, from several seeds, came to."""
    means = Estimate.of([training["bounds"].mean() for training in group])  # over seeds
    return {
        "objective": group[0]["objective"],
        "draws": group[0]["draws"],
        "peer": LITERATURE_PEERS[group[0]["peer"]],
        "seeds": [training["seed"] for training in group],
        "bound_of_each_seed": [_rounded(Estimate.of(each["bounds"])) for each in group],
        "mean": round(means.mean, 4),
        "standard_error_over_seeds": round(means.standard_error, 4),
        "processor_seconds_of_training": rounded([each["seconds"] for each in group], 1),
    }


def _between_peers(theirs, ours):
    """Returns the difference of two programs' bounds, each by its own code."""
    theirs, ours = (np.stack([each["bounds"] for each in group]) for group in (theirs, ours))
    # One spread for both, since both follow one recipe: Student's t-test.
    found = stats.ttest_ind(theirs.mean(axis=1), ours.mean(axis=1))  # of [seeds], over digits
    low, high = found.confidence_interval(LEVEL)
    over_digits = Estimate.of(theirs.mean(axis=0) - ours.mean(axis=0))  # of [digits], over seeds
    return {
        "mean": round(over_digits.mean, 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "standard_error_over_digits": round(over_digits.standard_error, 4),
        "p_value": round(float(found.pvalue), 4),
    }


def _between_codes(group):
    """Returns how far a program's own bounds lie above `evaluate`'s, of the same weights."""
    differences = [training["bounds"] - training["by_ours"] for training in group]
    found = Estimate.of(np.mean(differences, axis=0))  # of [digits], over seeds
    p_value = 2 * stats.norm.sf(abs(found.mean), scale=found.standard_error)
    return _rounded(found) | {"p_value": round(float(p_value), 4)}


def _unexplained(rows):
    """Returns the differences that neither seeds nor draws explain, by name."""
    differences = {
        f"{row['objective']}, {row['peer']}: {name.replace('_', ' ')}": row[name]
        for row in rows
        for name in ("peer_minus_ours", "own_code_minus_evaluate")
        if name in row
    }
    limit = (1 - LEVEL) / max(1, len(differences))  # Bonferroni's
    return [name for name, found in differences.items() if not found["p_value"] >= limit]


def _rounded(estimate):
    return {name: round(value, 4) for name, value in estimate._asdict().items()}
