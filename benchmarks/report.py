"""From measured seconds to results.json: medians, ratios, targets."""

from peers import CONTENDERS, LIMIT, ONE_THREAD, TARGETS, VAE_TF
from races import spread

UNSTEADY = 1.5  # slowest round to fastest; on a quiet machine it stays below 1.2


def summarize(speeds, runs, target, imports, own):
    """Returns the parts of results.json that are measured."""
    speed = [_speed(setting) for setting in speeds]
    costs = _costs(imports, own)
    return {
        "unsteady": _unsteady(speed),
        "targets": [
            *_ratio_targets(speed[0]["contenders"], {}),
            *_ratio_targets(speed[0]["contenders"], ONE_THREAD),
            *_cost_targets(costs),
        ],
        "speed": speed,
        "quality": _quality(runs, target),
        "costs": costs,
    }


def _speed(setting):
    seconds, memory = setting.pop("seconds"), setting.pop("memory")
    contenders = {}
    for name, times in seconds.items():
        contenders[name] = {
            "label": CONTENDERS[name],
            "microseconds_per_update": _rounded([1e6 * t for t in times], 1),
            "updates_per_second": _rounded([1 / t for t in times], 1),
            "peak_memory_mb": round(memory[name] / 1e6),
        }
        for ours in VAE_TF:
            if ours in seconds:
                # Round by round, so that what slows the whole machine slows both sides of a ratio.
                ratios = [a / b for a, b in zip(times, seconds[ours], strict=True)]
                contenders[name][f"{ours}_times_as_fast"] = _rounded(ratios, 3)
    return {**setting, "contenders": contenders}


def _unsteady(speed):
    """Returns what varied so much from round to round that its numbers mean nothing."""
    return [
        f"{one['label']}, batch {setting['batch_size']}"
        for setting in speed
        for one in setting["contenders"].values()
        if one["microseconds_per_update"]["max"] > UNSTEADY * one["microseconds_per_update"]["min"]
    ]


def _quality(runs, target):
    contenders = {}
    for name, results in runs.items():
        columns = {key: [run[key] for run in results] for key in results[0]}
        contenders[name] = {
            "label": CONTENDERS[name],
            "reached": all(columns["reached"]),
            "seconds": _rounded(columns["seconds"], 2),
            "seconds_to_ready": _rounded(columns["seconds_to_ready"], 2),
            "seconds_training": _rounded(columns["seconds_training"], 2),
            "updates": _rounded(columns["updates"], 0),
        }
    return {
        "target_elbo": target,
        "runs": len(next(iter(runs.values()))),
        "contenders": contenders,
    }


def _costs(imports, own):
    result = {
        f"seconds_import_{name.replace(' ', '_')}": _rounded(times, 3)
        for name, times in imports.items()
    }
    for key in own[0]:
        result[key] = _rounded([one[key] for one in own], 0 if key.endswith("_mb") else 4)
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


def _rounded(values, digits):
    return {key: round(value, digits or None) for key, value in spread(values).items()}
