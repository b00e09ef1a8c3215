"""From measured seconds to results-growth.json: medians, ratios, and where JAX is faster."""

from peers import BOUNDS, BOUNDS_OF, LIMIT
from report import ratios, rounded, unsteady, with_ratios

RATIO = "ours_times_as_fast"


def summarize(updates, bounds):
    """Returns the parts of results-growth.json that are measured."""
    updates = [with_ratios(setting) for setting in updates]
    bounds = [_bound(setting) for setting in bounds]
    measured = [
        *((name_of(each), each["contenders"], "microseconds_per_update") for each in updates),
        *((name_of_bound(each), each["contenders"], "seconds") for each in bounds),
    ]
    beside_jax = {
        what: contenders[jax][RATIO]
        for what, contenders, _ in measured
        for jax in ("jax_scan", BOUNDS_OF["jax_scan"])
        if jax in contenders
    }
    return {
        "unsteady": [
            f"{label}, {what}"
            for what, contenders, key in measured
            for label in unsteady(contenders, key)
        ],
        "times_as_fast_as_jax": beside_jax,
        "slower_than_jax": [what for what, ratio in beside_jax.items() if ratio["median"] < 1],
        "updates": updates,
        "bounds": bounds,
    }


def name_of(size):
    """Returns a size of an update, in words."""
    side = size["side"]
    return f"width {size['hidden_units']:,}, {side}×{side} pixels, batch {size['batch_size']:,}"


def name_of_bound(network):
    """Returns what bounds are computed of, in words."""
    widths = "-".join(map(str, (network["side"] ** 2, *network["hidden_units"])))
    counts = f"{network['images']:,} images × {network['num_samples']:,} samples"
    return f"evaluate, {widths}-{network['latent_dim']}, {counts}"


def as_text(results):
    """Returns lines that say what came out, and where JAX is faster."""
    names = "ours", "jax_scan", LIMIT
    lines = ["µs per update; × as fast as JAX; × the products' time; peak memory of ours, MB"]
    for each in results["updates"]:
        lines.append(_row(name_of(each), each, "microseconds_per_update", *names))
    names = [BOUNDS_OF[name] for name in names]
    lines += ["", "seconds of a bound; the same"]
    for each in results["bounds"]:
        lines.append(_row(name_of_bound(each), each, "seconds", *names))
        scaled = each["contenders"][names[0]]["seconds_for_all"]["median"]
        of = f"{each['all_images']:,} × {each['all_samples']:,}"
        lines.append(f"    {of}, if in proportion: {scaled:,.0f} s")
    lines.append("")
    for what in results["slower_than_jax"]:
        ratio = results["times_as_fast_as_jax"][what]
        lines.append(
            f"SLOWER than JAX: {what}: {ratio['median']:.2f} × as fast "
            f"({ratio['min']:.2f} to {ratio['max']:.2f})"
        )
    if not results["slower_than_jax"] and results["times_as_fast_as_jax"]:
        lines.append("At least as fast as JAX at every size.")
    if results["unsteady"]:
        lines += ["", f"Unsteady, so publish nothing: {'; '.join(results['unsteady'])}."]
    return lines


def _bound(setting):
    """Returns a setting of bounds with what each contender took, in place of raw seconds."""
    seconds, memory = setting.pop("seconds"), setting.pop("memory")
    share = setting["images"] * setting["num_samples"]
    scale, ours = setting["all_images"] * setting["all_samples"] / share, BOUNDS_OF["ours"]
    contenders = {
        name: {
            "label": BOUNDS[name],
            "seconds": rounded(times, 3),
            "seconds_for_all": rounded([scale * each for each in times], 1),
            "peak_memory_mb": round(memory[name] / 1e6),
            RATIO: ratios(times, seconds[ours]),
        }
        for name, times in seconds.items()
    }
    how = "measured" if scale == 1 else f"measured on a share, {scale:g} times the seconds"
    return {**setting, "seconds_for_all_are": how, "contenders": contenders}


def _row(what, setting, key, ours, jax, limit):
    contenders = setting["contenders"]
    cells = [f"{contenders[ours][key]['median']:>10,.1f}"]
    cells.append(f"{contenders[jax][RATIO]['median']:>6.2f}" if jax in contenders else "     -")
    products = contenders[limit][RATIO]["median"] if limit in contenders else None
    cells.append(f"{1 / products:>6.2f}" if products else "     -")
    return "  ".join([f"  {what:58}", *cells, f"{contenders[ours]['peak_memory_mb']:>6,}"])
