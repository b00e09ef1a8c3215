"""From measured seconds to results.json: medians, ratios, targets."""

from peers import CONTENDERS, LIMIT, ONE_THREAD, TARGETS, VAE_TF
from races import spread

UNSTEADY = 1.5  # slowest round to fastest; on a quiet machine it stays below 1.2


def summarize(speeds, runs, target, imports, own):
    """Returns the parts of results.json that are measured."""
    speed = [with_ratios(setting) for setting in speeds]
    costs = _costs(imports, own)
    return {
        "unsteady": [
            f"{label}, batch {setting['batch_size']}"
            for setting in speed
            for label in unsteady(setting["contenders"], "microseconds_per_update")
        ],
        "targets": [
            *_ratio_targets(speed[0]["contenders"], {}),
            *_ratio_targets(speed[0]["contenders"], ONE_THREAD),
            *_cost_targets(costs),
        ],
        "speed": speed,
        "quality": _quality(runs, target),
        "costs": costs,
    }


def with_ratios(setting):
    """Returns a setting with what each contender took, beside vae_tf, in place of raw seconds."""
    seconds, memory = setting.pop("seconds"), setting.pop("memory")
    contenders = {}
    for name, times in seconds.items():
        contenders[name] = {
            "label": CONTENDERS[name],
            "microseconds_per_update": rounded([1e6 * t for t in times], 1),
            "updates_per_second": rounded([1 / t for t in times], 1),
            "peak_memory_mb": round(memory[name] / 1e6),
        }
        for ours in VAE_TF:
            if ours in seconds:
                contenders[name][f"{ours}_times_as_fast"] = ratios(times, seconds[ours])
    return {**setting, "contenders": contenders}


def ratios(times, ours):
    """Returns how many times as fast ours is, and the spread of that."""
    # Round by round, so that what slows the whole machine slows both sides of a ratio.
    return rounded([a / b for a, b in zip(times, ours, strict=True)], 3)


def unsteady(contenders, key):
    """Returns who varied so much from round to round that the numbers mean nothing: labels."""
    return [
        one["label"] for one in contenders.values() if one[key]["max"] > UNSTEADY * one[key]["min"]
    ]


def _quality(runs, target):
    contenders = {}
    for name, results in runs.items():
        columns = {key: [run[key] for run in results] for key in results[0]}
        contenders[name] = {
            "label": CONTENDERS[name],
            "reached": all(columns["reached"]),
            "seconds": rounded(columns["seconds"], 2),
            "seconds_to_ready": rounded(columns["seconds_to_ready"], 2),
            "seconds_training": rounded(columns["seconds_training"], 2),
            "updates": rounded(columns["updates"], 0),
        }
    return {
        "target_elbo": target,
        "runs": len(next(iter(runs.values()))),
        "contenders": contenders,
    }


def _costs(imports, own):
    result = {
        f"seconds_import_{name.replace(' ', '_')}": rounded(times, 3)
        for name, times in imports.items()
    }
    for key in own[0]:
        result[key] = rounded([one[key] for one in own], 0 if key.endswith("_mb") else 4)
    return result


def _ratio_targets(contenders, one_thread):
    """Returns the targets of ratios; `one_thread` names who stands in for whom."""
    ours, results = one_thread.get("ours", "ours"), []
    for name, target in TARGETS.items():
        name = one_thread.get(name, name)
        if name not in contenders or ours not in contenders:
            continue
        ratio = contenders[name][f"{ours}_times_as_fast"]["median"]
        them = CONTENDERS[name]
        what = f"{CONTENDERS[ours]}: updates a second, in units of: {them}"
        results.append(_target(what, f"≥ {target:g}", ratio, ratio >= target))
        if name == LIMIT:  # said the other way round: time, in units of the limit's
            what = f"{CONTENDERS[ours]}: time of an update, in units of: {them}"
            results[-1] = _target(what, f"≤ {1 / target:g}", 1 / ratio, ratio >= target)
    return results


def _cost_targets(costs):
    limits = {
        "first_block_seconds": ("compilation, s", 2.0),
        "samples_10000_later_seconds": ("10,000 samples after compilation, s", 1.0),
        "seconds_import_vae_tf_beyond_its_frameworks": ("import beyond its frameworks, s", 0.2),
    }
    measured = {key: costs[key]["median"] for key in limits}
    return [
        _target(what, f"≤ {limit:g}", measured[key], measured[key] <= limit)
        for key, (what, limit) in limits.items()
    ]


def _target(what, target, measured, met):
    return {"what": what, "target": target, "measured": round(measured, 3), "met": met}


def rounded(values, digits):
    """Returns median, minimum and maximum, rounded."""
    return {key: round(value, digits or None) for key, value in spread(values).items()}
