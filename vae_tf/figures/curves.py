"""Figures with axes: curves, bars, dots and maps.

Everything measured is in nats per image unless its axis says otherwise. Bars and bands of error are
two standard errors either way. In shapes, N counts images or updates, M models, L latents.
"""

import matplotlib.patheffects
import matplotlib.ticker
import numpy as np

from .style import BLACK, GREY, PALE, PALETTE, check_count, checked, figure_of, latent_name

NATS = "nats per image"
LOG_LIKELIHOOD, KL = r"$\mathrm{E}_q[\log\,p(x|z)]$", r"$\mathrm{KL}[q(z|x)\,\Vert\,p(z)]$"
LOG_P = f"log p(x) ({NATS})"
MARKERS = "os^vDP*X<>"


@figure_of(height=4.2, updates="N", log_likelihood="N", kl="N")
def elbo_terms(figure, updates, log_likelihood, kl, window=100):
    """Both terms of the ELBO, and the ELBO, against weight updates.

    Args:
        updates, log_likelihood, kl: [N]; the terms in nats per image, of each update's batch.
        window: updates in the centred running mean that is drawn over the faint single values,
            an int >= 1; in a short run no more than a tenth of it.
    """
    check_count("window", window)
    window = min(window, max(len(updates) // 10, 1))
    above = {LOG_LIKELIHOOD: (log_likelihood, PALETTE[0]), "ELBO": (log_likelihood - kl, BLACK)}
    tall, _ = _over_updates(figure, updates, above, {KL: (kl, PALETTE[1])}, window)
    tall.set_ylabel(NATS)


@figure_of(height=3.4, loss="N", kl="N")
def first_updates(figure, loss, kl, levels):
    """The loss and the KL in it against weight updates, over levels to hold the loss against.

    Args:
        loss, kl: [N], nats per image, of each update's batch, from the first update on.
        levels: names of simple models, and the loss of each: a dict of nats per image.
    """
    axes, updates = figure.subplots(), np.arange(1, len(loss) + 1)
    for name, level in levels.items():
        axes.axhline(level, color=PALE, linewidth=1, linestyle="--", zorder=1)
        above = {"xytext": (-4, 3), "textcoords": "offset points", "ha": "right"}
        text = f"{name}: {level:.1f}".replace("-", "−")
        axes.annotate(text, (updates[-1], level), **above, fontsize=8, color=GREY)
    curves = {"loss": (loss, BLACK), "the KL in it": (kl, PALETTE[1])}
    for values, color in curves.values():
        axes.plot(updates, values, color=color, linewidth=1.2)
    seen = np.concatenate([loss, kl, [*levels.values(), 0]])  # of densities, losses may be below 0
    axes.set(xscale="log", xlim=(1, len(loss)), ylabel=NATS)
    axes.set_ylim(1.12 * seen.min(), 1.12 * seen.max())
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel("weight updates (logarithmic axis)")
    ends = [values[-max(len(values) // 20, 1) :].mean() for values, _ in curves.values()]
    _label_ends(axes, updates[-1], ends, curves, [color for _, color in curves.values()])


@figure_of(images="N h w", values="V", prior="V", truth="N V", posteriors="N V", gaps="N")
def one_latent(figure, images, values, prior, truth, posteriors, gaps):
    """Where the only latent of a model may be, for a few images: p(z), p(z|x) and q(z|x).

    Args:
        images: [N, height, width], values in [0, 1]; each stands in a corner of its panel.
        values: [V], of the latent.
        prior: [V], its density there.
        truth, posteriors: densities of the true posterior p(z|x) and of q(z|x): [N, V].
        gaps: [N], log p(x) − ELBO = KL[q(z|x) || p(z|x)], nats.
    """
    figure.set_figheight(0.7 + 1.75 * -(-len(images) // 2))
    every = figure.subplots(-(-len(images) // 2), min(2, len(images)), sharex=True, squeeze=False)
    every = every.ravel()
    for axes, image, p, q, gap in zip(every, images, truth, posteriors, gaps, strict=False):
        axes.plot(values, prior, color=GREY, linestyle="--", linewidth=1.2, label="prior p(z)")
        axes.plot(values, p, color=BLACK, linewidth=1.2, label="true posterior p(z|x)")
        axes.plot(values, q, color=PALETTE[0], label="encoder's q(z|x)")
        axes.fill_between(values, q, color=PALETTE[0], alpha=0.15, linewidth=0)
        axes.set(yticks=[], ylim=(0, 1.1 * max(p.max(), q.max())), xlim=(values[0], values[-1]))
        axes.set_title(f"gap {gap:.2f} nats", color=BLACK)
        axes.grid(visible=False)
        is_left = p[values < 0].sum() > p[values >= 0].sum()  # the image stands at the other side
        corner = axes.inset_axes([0.69 if is_left else 0.01, 0.5, 0.3, 0.48])
        corner.imshow(image, vmin=0, vmax=1)
        corner.set(xticks=[], yticks=[], anchor="NE" if is_left else "NW")
        corner.grid(visible=False)
        corner.spines[:].set_visible(False)
    for axes in every[len(images) :]:
        axes.set_visible(False)
    for axes in every[max(len(images) - 2, 0) : len(images)]:
        axes.set_xlabel("value of the latent z", fontsize=9)
        axes.tick_params(labelbottom=True)
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)


@figure_of(height=4.2, updates="N", training="N", validation="N")
def log_likelihood_comparison(figure, updates, training, validation, error=None):
    """E_q[log p(x|z)] on training and on validation images, and the difference, against updates.

    Args:
        updates, training, validation: [N]; nats per image, on sets of equal size.
        error: standard error of the difference, in nats, for a band around it, or None.
    """
    above = {"training": (training, PALETTE[0]), "validation": (validation, PALETTE[1])}
    difference = training - validation
    below = {"training −\nvalidation": (difference, BLACK)}
    tall, low = _over_updates(figure, updates, above, below)
    tall.set_ylabel(f"{LOG_LIKELIHOOD} ({NATS})")
    low.plot(updates[[0, -1]], [0, 0], color=GREY, linewidth=1, zorder=1)
    if error is not None:
        band = difference - 2 * error, difference + 2 * error
        low.fill_between(updates, *band, color=BLACK, alpha=0.12, linewidth=0)
        low.set_ylim(min(band[0].min(), 0) - 0.1 * error, max(band[1].max(), 0) + 0.1 * error)


@figure_of(height=3.2, log_weights="K")
def weights(figure, log_weights):
    """The importance weights of one image's draws: the ELBO, and the bound from all of them.

    The share of draws in each bin stands beside these draws' share of the sum of all weights.

    Args:
        log_weights: [K], log p(x, z) / q(z|x) of each draw z, in nats.
    """
    largest = log_weights.max()
    weight = np.exp(log_weights - largest)
    elbo, bound = log_weights.mean(), largest + np.log(weight.mean())
    lowest = np.quantile(log_weights, 0.005)
    if not lowest < largest:
        raise ValueError(f"log_weights must differ; received {log_weights}.")
    bins = np.linspace(lowest, largest, 40)
    axes = figure.subplots()
    for values, color, name in (
        (np.ones_like(weight), PALETTE[0], "of draws"),
        (weight, PALETTE[1], "of the sum of weights"),
    ):
        share = 100 * values / values.sum()
        style = {"histtype": "stepfilled", "color": color, "alpha": 0.55}
        axes.hist(log_weights, bins, weights=share, label=name, **style)
    top = axes.get_ylim()[1]
    axes.set_ylim(0, 1.15 * top)
    for x, name, side in (
        (elbo, "mean of log w:\nthe ELBO", "right"),
        (bound, "log of mean w:\nthe bound", "left"),
    ):
        axes.axvline(x, color=BLACK, linewidth=1.2)
        away = {"xytext": (4 if side == "left" else -4, -2), "textcoords": "offset points"}
        axes.annotate(
            f"{name}\n{x:.2f}".replace("-", "−"),
            (x, 1.15 * top),
            va="top",
            ha=side,
            fontsize=8,
            **away,
        )
    axes.legend(loc="upper left")
    axes.set(xlabel="log w of a draw z (nats), w = p(x, z) / q(z|x)", ylabel="share (%)")


@figure_of(height=2.8, kl="L")
def kl_per_dimension(figure, kl):
    """Bars of the KL of each latent, the highest first.

    Args:
        kl: [L], nats per image.
    """
    order, places = np.argsort(-kl, kind="stable"), np.arange(len(kl))
    axes = figure.subplots()
    axes.bar(places, kl[order], color=PALETTE[1])
    every = -(-len(kl) // 32)  # names of more latents would overlap
    axes.set_xticks(places[::every], [latent_name(j) for j in order[::every]])
    axes.grid(visible=False, axis="x")
    axes.set(xlabel="latent", ylabel=f"KL ({NATS})")


@figure_of(height=2.9, image="h w", decoded="h w", loc="L", scale="L", kl="L")
def one_code(figure, image, loc, scale, kl, decoded):
    """One image, the posterior of each latent before the prior's bands, and what is decoded.

    Args:
        image: [height, width], values in [0, 1].
        loc, scale: of its posterior N(loc, scale²): [L] each.
        kl: [L], nats of each latent for this image; the highest stands on top.
        decoded: [height, width], values in [0, 1].
    """
    order, places = np.argsort(-kl, kind="stable"), np.arange(len(kl))
    figure.set_figheight(max(figure.get_figheight(), 0.9 + 0.17 * len(kl)))
    left, axes, right = figure.subplots(1, 3, width_ratios=(1, 2.3, 1))
    for panel, picture, name in ((left, image, "image x"), (right, decoded, "decoded")):
        panel.imshow(picture, vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[])
        panel.grid(visible=False)
        panel.spines[:].set(visible=True, color=PALE)
        panel.set_title(name)
    for reach, shade in ((2, "#F0F0F0"), (1, "#DDDDDD")):
        axes.axvspan(-reach, reach, color=shade, linewidth=0, zorder=0)
    for times, width in ((2, 1.4), (1, 4.5)):
        bars = {"xerr": times * scale[order], "elinewidth": width, "linestyle": ""}
        axes.errorbar(loc[order], places, color=PALETTE[0], **bars)
    axes.plot(loc[order], places, "o", color="white", markeredgecolor=PALETTE[0], markersize=5)
    end = max(3.0, np.abs(loc).max() + 2 * scale.max())
    for place, j in zip(places, order, strict=True):
        _beside(axes, f"{kl[j]:.2f} nats", (end, place), GREY, fontsize=8)
    axes.set(xlim=(-end, end), ylim=(len(kl) - 0.5, -0.5))
    axes.set_yticks(places, [latent_name(j) for j in order])
    axes.grid(visible=False)
    axes.set_title("code z: q(z|x), one row for each latent")
    axes.set_xlabel("value of the latent; grey: one and two\nstandard deviations of the prior")


@figure_of(approximation="N", amortization="N", names="N texts")
def gaps(figure, approximation, amortization, names=None):
    """The two parts of log p(x) − ELBO as stacked bars, the smallest sum first.

    Args:
        approximation: [N], nats per image, lost even by the best diagonal Gaussian of each image.
        amortization: [N], nats per image, lost beside that by the encoder.
        names: of the N bars, or None for single images without names.
    """
    order = np.argsort(approximation + amortization, kind="stable")
    low, high = approximation[order], amortization[order]
    axes, places = figure.subplots(), np.arange(len(low))
    width = 1 if names is None else 0.6
    axes.bar(places, low, width, color=PALETTE[0], label="approximation (diagonal Gaussian)")
    axes.bar(places, high, width, low, color=PALETTE[4], label="amortization (encoder)")
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(f"log p(x) − ELBO ({NATS})")
    if names is None:
        axes.margins(x=0.01)
        axes.set(xlabel=f"{len(low):,} images, by their gap", xticks=[])
    else:
        axes.set_xticks(places, [names[i] for i in order])
    axes.legend(loc="upper left", reverse=True)


@figure_of(num_samples="K", bounds="M K", errors="M K", names="M texts")
def bound_against_samples(figure, num_samples, bounds, errors, names):
    """The importance-weighted bound against K, for several models.

    Args:
        num_samples: [K], numbers of draws, >= 1.
        bounds, errors: [M, K], nats per image.
        names: of the M models.
    """
    axes, colors = figure.subplots(), [_color(i) for i in range(len(names))]
    _banded_lines(axes, num_samples, bounds, errors, colors)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set(xlabel="draws K per image", ylabel=f"bound on log p(x)\n({NATS})")
    _label_ends(axes, num_samples[-1], bounds[:, -1], names, colors)


@figure_of(values="M", errors="M", names="M texts", groups="M texts")
def context(figure, names, values, errors, groups, lowest=-np.inf, label=LOG_P, decimals=2):
    """Models by their log-likelihood: dots with the value beside each, the best on top.

    Args:
        names: of the M models.
        values, errors: [M], nats per image.
        groups: M names; models of one group share a colour, which the legend tells.
        lowest: nats per image; dots below it are arrows at this edge.
        label: of the values' axis, if they are something else.
        decimals: of the values written.
    """
    colors = {group: _color(i) for i, group in enumerate(dict.fromkeys(groups))}
    order = np.argsort(values, kind="stable")
    figure.set_figheight(1.2 + 0.27 * len(names))
    axes = figure.subplots()
    for y, i in enumerate(order):
        inside = values[i] >= lowest
        x, reach = (values[i], 2 * errors[i]) if inside else (lowest, 0.0)
        axes.errorbar(x, y, xerr=reach, fmt="o" if inside else "<", color=colors[groups[i]])
        # Exact values have no error: 0, or what rounding makes of it, is not written.
        numbers = [values[i], errors[i]] if errors[i] > 1e-9 else [values[i]]
        text = " ± ".join(f"{number:.{decimals}f}" for number in numbers)
        _beside(axes, text.replace("-", "−"), (x + reach, y), GREY, fontsize=8)
    for group, color in colors.items():
        axes.plot([], [], "o", color=color, label=group)
    figure.legend(loc="outside upper right", ncols=len(colors))
    axes.set_yticks(np.arange(len(names)), [names[i] for i in order])
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)


@figure_of(height=4.2, rate="M", distortion="M", names="M texts")
def rate_distortion(figure, rate, distortion, names):
    """Distortion against rate, over diagonals of constant ELBO.

    Args:
        rate, distortion: [M], KL[q(z|x) || p(z)] and −E_q[log p(x|z)], nats per image.
        names: of the M points, such as values of beta; a line joins them in this order.
    """
    axes = figure.subplots()
    axes.plot(rate, distortion, color=PALETTE[0], marker="o", zorder=3)
    for name, *point in zip(names, rate, distortion, strict=True):
        _beside(axes, name, point, BLACK, above=6)
    axes.grid(visible=False)
    axes.margins(0.12)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    left -= 0.1 * (right - left)  # where the diagonals' labels stand
    axes.axis((left, right, bottom, top))
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= right])
    for total in matplotlib.ticker.MaxNLocator(8).tick_values(left + bottom, left + top)[1:-1]:
        axes.axline((left, total - left), slope=-1, color=PALE, linewidth=0.7)
        text = f"ELBO {0 - total:g}".replace("-", "−")
        _beside(axes, text, (left, total - left), GREY, fontsize=8)
    axes.set(xlabel=f"rate: {KL} ({NATS})", ylabel=f"distortion: −{LOG_LIKELIHOOD} ({NATS})")


@figure_of(height=5.2, points="N 2", labels="N")
def scatter(figure, points, labels=None, axis_names=("first", "second")):
    """Two-dimensional codes, each drawn as the numeral of its class, in the colour of its class.

    Args:
        points: [N, 2].
        labels: [N], ints >= 0, or None for dots; colours come again after ten classes.
        axis_names: of the two axes.
    """
    axes = figure.subplots()
    for label, color, members in _classes(labels):
        marker = "o" if label is None else f"${label}$"
        axes.scatter(*points[members].T, 20, color, marker=marker, linewidths=0.2)
    axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
    axes.set_aspect("equal", adjustable="datalim")


@figure_of(height=3.7, points="M N 2", labels="N", names="M texts")
def maps(figure, points, labels, names):
    """Maps of the same images side by side: dots by class, a numeral amid each class.

    Args:
        points: [M, N, 2].
        labels: [N], ints >= 0, or None for dots of one colour.
        names: of the M maps.
    """
    outline = [matplotlib.patheffects.withStroke(linewidth=2.5, foreground="white")]
    bold = {"ha": "center", "va": "center", "fontsize": 13, "fontweight": "bold"}
    every = figure.subplots(1, len(points), squeeze=False)[0]
    for axes, each, name in zip(every, points, names, strict=True):
        for label, color, members in _classes(labels):
            x, y = each[members].T
            axes.scatter(x, y, 6, color, linewidths=0, alpha=0.7)
            if label is not None:
                place = np.median(x), np.median(y)
                axes.text(*place, f"{label}", color=color, path_effects=outline, **bold)
        axes.set(xticks=[], yticks=[])
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_title(name)


@figure_of(values="V", densities="L V", prior="V", kl="L")
def aggregate(figure, values, densities, prior, kl):
    """The density of each latent over all images, beside the prior's; furthest from it first.

    Args:
        values: [V], of a latent.
        densities: [L, V].
        prior: [V].
        kl: [L], nats, how far from the prior each is.
    """
    columns = min(4, len(kl))
    rows = -(-len(kl) // columns)
    figure.set_figheight(0.7 + 1.45 * rows)
    every = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, j in zip(every, np.argsort(-kl, kind="stable"), strict=False):
        axes.plot(values, prior, color=GREY, linestyle="--", linewidth=1.2)
        axes.plot(values, densities[j], color=PALETTE[0])
        axes.fill_between(values, densities[j], color=PALETTE[0], alpha=0.15, linewidth=0)
        axes.set(yticks=[], ylim=(0, 1.1 * max(prior.max(), densities.max())))
        axes.set_title(f"{latent_name(j)}  {kl[j]:.3f} nats", color=BLACK)
        axes.xaxis.set_major_locator(matplotlib.ticker.MultipleLocator(2))
    for axes in every[len(kl) :]:
        axes.set_visible(False)
    for axes in every[max(len(kl) - columns, 0) : len(kl)]:
        axes.set_xlabel("value of the latent", fontsize=9)
    lines = every[0].lines
    figure.legend(lines[::-1], ("all images", "prior"), loc="outside upper right", ncols=2)


@figure_of(values="V", shares="M V", errors="M V", names="M texts")
def shares(figure, values, shares, errors, names, label):
    """Shares in per cent against a number above 0, such as β, for several kinds of images.

    Args:
        values: [V], rising; the axis is logarithmic.
        shares, errors: [M, V], in per cent.
        names: of the M kinds; a name may have several lines.
        label: of the values' axis.
    """
    axes, colors = figure.subplots(), [_color(i) for i in range(len(names))]
    axes.set(xscale="log", xlabel=label, ylabel="share of images (%)")
    for i, (share, error) in enumerate(zip(shares, errors, strict=True)):
        color, marker = colors[i], MARKERS[i % len(MARKERS)]
        axes.plot(values, share, color=color, marker=marker, label=names[i])
        band = np.maximum(share - 2 * error, 0), share + 2 * error
        axes.fill_between(values, *band, color=color, alpha=0.2, linewidth=0)
    axes.set_ylim(0, None)
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    figure.legend(loc="outside upper center", ncols=1)


@figure_of(height=4.6)
def sizes(figure, counts, elbo, bound, gap, labels, chosen, num_samples):
    """What a model's size costs: bounds less those of the writeup's, above the gap between both.

    Args:
        counts: sizes, for each of P panels [S].
        elbo, bound: for each panel [S, 2], the difference from the chosen size, in nats per image,
            and its standard error.
        gap: for each panel [S, 2], bound − ELBO and its standard error.
        labels: of the P panels.
        chosen: the writeup's size in each panel, which the others are compared with.
        num_samples: K of the bound.
    """
    (labels,) = checked(f"{len(counts)} texts", labels=labels)
    shapes = {"counts": "S", "elbo": "S 2", "bound": "S 2", "gap": "S 2"}
    layout = {"sharex": "col", "sharey": "row", "height_ratios": (1.7, 1), "squeeze": False}
    grid = figure.subplots(2, len(labels), **layout)
    for i, (above, below) in enumerate(grid.T):
        panel = {"counts": counts[i], "elbo": elbo[i], "bound": bound[i], "gap": gap[i]}
        size, *curves = checked(shapes, **panel)
        above.axhline(0, color=PALE, linewidth=1)
        for axes, curve, color, marker, name in (
            (above, curves[0], PALETTE[0], "o", "ELBO"),
            (above, curves[1], PALETTE[1], "s", f"bound, K = {num_samples:,}"),
            (below, curves[2], BLACK, "o", "gap"),
        ):
            values, error = curve.T
            axes.errorbar(size, values, 2 * error, color=color, marker=marker, label=name)
        for axes in (above, below):
            axes.axvline(chosen[i], color=GREY, linewidth=1.2, linestyle=":", zorder=1)
        below.set_xscale("log", base=2)
        below.set_xticks(size, [f"{value:g}" for value in size])
        below.set_xlabel(labels[i])
        below.set_ylim(0, None)
    grid[0, 0].legend(loc="lower right")
    grid[0, 0].set_ylabel(f"difference from the\nwriteup's size ({NATS})")
    grid[1, 0].set_ylabel(f"bound − ELBO\n({NATS})")


@figure_of(confident="M", errors="M", shares="M C", names="M texts")
def recognition(figure, names, confident, errors, shares, threshold):
    """Share of images that a classifier recognises confidently, and shares of the classes.

    Args:
        names: of the M sets of images; the first, real ones, stands on top, in black.
        confident, errors: [M], in per cent.
        shares: [M, classes], in per cent.
        threshold: above which the probability of a class is confident.
    """
    figure.set_figheight(1.3 + 0.3 * len(names))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.25))
    each = zip(confident, errors, _colors_after_black(names), strict=True)
    for y, (value, error, color) in enumerate(each):
        left.errorbar(value, y, xerr=2 * error, fmt="o", color=color)
        over = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center"}
        text = f"{value:.1f} ± {error:.1f}"
        left.annotate(text, (value, y), fontsize=8, color=GREY, **over)
    left.set_yticks(np.arange(len(names)), names)
    left.grid(visible=False, axis="y")
    left.margins(0.25, 0)
    left.set_xlabel(f"share of images with a digit\nof probability above {threshold:g} (%)")
    darkest = 2.2 * shares[0].mean()
    right.imshow(shares, vmin=0, vmax=darkest, cmap="Blues", aspect="auto")
    for (y, x), share in np.ndenumerate(shares):
        color = "white" if share > 0.65 * darkest else BLACK
        right.text(x, y, f"{share:.0f}", ha="center", va="center", fontsize=8, color=color)
    right.set_xticks(np.arange(shares.shape[1]))
    right.set_ylim(len(names) - 0.5, -0.5)
    right.grid(visible=False)
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
    right.set_xlabel("likeliest digit (%)")


@figure_of(height=3.7, shares="M C C", names="M texts")
def confusion(figure, shares, names):
    """What images of each class are read as; what is read wrongly is coloured.

    Args:
        shares: [M, classes, classes], in per cent: a row for each true class, in which columns say
            what its images are read as.
        names: of the M tables.
    """
    checked(f"M C {shares.shape[1]}", shares=shares)
    every = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    classes, right = np.arange(shares.shape[1]), np.eye(shares.shape[1], dtype=bool)
    darkest = shares[:, ~right].max(initial=1)
    for axes, table, name in zip(every, shares, names, strict=True):
        axes.imshow(np.where(right, 0, table), vmin=0, vmax=darkest, cmap="Blues")
        for (y, x), share in np.ndenumerate(table):
            dark = share > 0.65 * darkest and y != x
            color, weight = "white" if dark else BLACK, "bold" if y == x else "normal"
            if share >= 0.5:
                style = {"color": color, "weight": weight, "fontsize": 8}
                axes.text(x, y, f"{share:.0f}", ha="center", va="center", **style)
        axes.set(xticks=classes, yticks=classes, xlabel="read as (%)", title=name)
        axes.grid(visible=False)
        axes.tick_params(length=0)
    every[0].set_ylabel("class of the image")


@figure_of(height=4.2, counts="C", distances="M C", errors="M C", names="M texts")
def frechet(figure, counts, distances, errors, names):
    """Fréchet distances against the number of images on either side: the bias, and the floor.

    Args:
        counts: [C], images on either side.
        distances, errors: [M, C].
        names: of the M sets of images; the first, real ones, is the floor, in black.
    """
    axes, colors = figure.subplots(), _colors_after_black(names)
    axes.set(xscale="log", yscale="log")
    # Equal sets are 0 apart, which the axis does not have.
    lowest = max(distances.min(), 1e-6 * distances.max()) / 2 or 1e-6
    shown = np.maximum(distances, lowest)
    _banded_lines(axes, counts, shown, errors, colors, lowest=lowest)
    axes.xaxis.set_major_locator(matplotlib.ticker.FixedLocator(counts))
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(matplotlib.ticker.NullLocator())
        axis.set_major_formatter("{x:,g}")
    axes.set(xlabel="images N on either side", ylabel="Fréchet distance to real images")
    labels = [f"{name}: {end:.3g}" for name, end in zip(names, distances[:, -1], strict=True)]
    _label_ends(axes, counts[-1], shown[:, -1], labels, colors)


@figure_of(height=4.2, precision="M", recall="M", errors="M 2", names="M texts")
def precision_recall(figure, precision, recall, errors, names):
    """Recall against precision, a dot for each set of images.

    Args:
        precision, recall: [M], in [0, 1].
        errors: [M, 2], standard errors of both.
        names: of the M sets of images; the first, real ones, in black.
    """
    axes, colors = figure.subplots(), _colors_after_black(names)
    for i, (across, up) in enumerate(2 * errors):
        style = {"color": colors[i], "label": names[i], "markersize": 8, "elinewidth": 1.2}
        marker = MARKERS[i % len(MARKERS)]
        axes.errorbar(precision[i], recall[i], up, across, fmt=marker, **style)
    figure.legend(loc="outside right upper")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.set_xlabel("precision: share of its images within reach of real ones")
    axes.set_ylabel("recall: share of real images\nwithin reach of its own")


@figure_of(height=4.2)
def nearest_distances(figure, distances, names, pixels=196):
    """How far images are from the nearest training image: the share within each distance.

    Args:
        distances: for each of M sets [N], numbers of pixels that differ.
        names: of the M sets of images; the first, real ones, in black.
        pixels: of an image.
    """
    (names,) = checked(f"{len(distances)} texts", names=names)
    distances = [checked("N", distances=each)[0] for each in distances]
    steps = np.arange(max(each.max() for each in distances) + 2)
    axes = figure.subplots()
    for color, name, each in zip(_colors_after_black(names), names, distances, strict=True):
        share = 100 * np.searchsorted(np.sort(each), steps, side="right") / len(each)
        label = f"{name}: {share[0]:.1f} % at 0"
        axes.step(steps, share, where="post", color=color, label=label)
    axes.set(xlim=(0, steps[-1]), ylim=(0, 102), ylabel="images within that distance (%)")
    axes.set_xlabel(f"pixels of {pixels} that differ from the nearest training image")
    axes.legend(loc="lower right")


@figure_of(height=4.2)
def reliability(figure, confidence, accuracy, counts, names, least=10):
    """How often a classifier is right, against how sure it is: on the diagonal where it is honest.

    Args:
        confidence, accuracy, counts: for each of M classifiers [bins], such as `Reliability` has;
            bars are two binomial standard errors either way.
        names: of the M classifiers.
        least: images in a bin that is drawn above; all are drawn below.
    """
    (names,) = checked(f"{len(confidence)} texts", names=names)
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    above.axline((0, 0), slope=1, color=PALE, linewidth=1)
    for i, name in enumerate(names):
        x, y, n = checked("bins", confidence=confidence[i], accuracy=accuracy[i], counts=counts[i])
        style = {"color": _color(i), "marker": MARKERS[i % len(MARKERS)]}
        below.plot(x, n, **style)
        x, y, n = (values[n >= least] for values in (x, y, n))
        # Agresti and Coull: two right and two wrong more, or none wrong would seem certain.
        middle = (y * n + 2) / (n + 4)
        reach = 2 * np.sqrt(middle * (1 - middle) / (n + 4))
        bars = np.maximum([y - (middle - reach), middle + reach - y], 0)
        above.errorbar(x, y, bars, label=name, **style)
    above.set(ylim=(0, 1.03), ylabel="share that is right")
    above.legend(loc="lower right")
    lowest = min(np.min(each) for each in confidence)
    below.set(yscale="log", ylabel="images", xlim=(max(lowest - 0.05, 0), 1.02))
    below.yaxis.set_major_formatter("{x:,g}")
    below.set_xlabel("probability of the likeliest class")


def _color(place):
    return PALETTE[place % len(PALETTE)]


def _colors_after_black(names):
    """Returns a colour for each name: black for the first, real images, then the palette's."""
    others = [color for color in PALETTE if color != BLACK]
    return [BLACK, *(others[i % len(others)] for i in range(len(names) - 1))]


def _classes(labels):
    """Returns (label, colour, its members) for each class, or one without a label for all."""
    if labels is None:
        return [(None, PALETTE[0], slice(None))]
    if labels.min() < 0 or (labels != np.round(labels)).any():
        raise ValueError(f"labels must be ints >= 0; received {np.unique(labels)[:12]}.")
    return [(label, _color(label), labels == label) for label in np.unique(labels).astype(int)]


def _banded_lines(axes, x, ys, errors, colors, lowest=-np.inf):
    """Draws lines over bands of two standard errors, which end at `lowest`."""
    for color, y, error in zip(colors, ys, errors, strict=True):
        axes.plot(x, y, color=color, marker="o")
        band = np.maximum(y - 2 * error, lowest), y + 2 * error
        axes.fill_between(x, *band, color=color, alpha=0.2, linewidth=0)


def _over_updates(figure, updates, above, below, window=1):
    """Draws {name: (values [N], colour)} against updates, in a tall panel above a low one.

    The first 5 % of updates span so many nats that they would flatten all that follows: the tall
    panel is as high as what follows, and a line of text tells where its curves start.
    """
    late = updates >= np.quantile(updates, 0.05)
    tall, low = figure.subplots(2, sharex=True, height_ratios=(2.2, 1))
    for axes, curves in ((tall, above), (low, below)):
        series, colors = zip(*curves.values(), strict=True)
        weights = np.full(window, 1 / window)
        for values, color in zip(series, colors, strict=True):
            if window > 1:
                axes.plot(updates, values, color=color, alpha=0.2, linewidth=0.5)
            means = [np.convolve(array, weights, "valid") for array in (updates, values)]
            axes.plot(*means, color=color)
        shown = np.concatenate([values[late] if axes is tall else values for values in series])
        bottom, top = min(shown.min(), 0 if axes is low else np.inf), shown.max()
        margin = 0.05 * (top - bottom) or 1.0
        axes.set_ylim(bottom - margin * (bottom != 0), top + margin)
        starts = [f"{values[0]:.0f}" for values in series if values[0] < bottom - margin]
        if starts:
            text = f"starts below, at {' and '.join(dict.fromkeys(starts))}".replace("-", "−")
            corner = {"transform": axes.transAxes, "ha": "right", "fontsize": 8, "color": GREY}
            axes.text(0.99, 0.04, text, **corner)
        ends = [values[-window:].mean() for values in series]
        _label_ends(axes, updates[-1], ends, curves, colors)
    low.set(xlabel="weight updates", ylabel=NATS)
    low.xaxis.set_major_formatter("{x:,.0f}")
    return tall, low


def _label_ends(axes, x, ys, names, colors):
    """Writes names at the right of lines that end at x and ys, apart enough to be read."""
    order = np.argsort(ys)
    ys, names, colors = ([values[i] for i in order] for values in (ys, list(names), colors))
    scale = axes.yaxis.get_transform()  # of a logarithmic axis, say
    ys, limits = scale.transform(np.asarray(ys, float)), scale.transform(np.array(axes.get_ylim()))
    inches = axes.get_position().height * axes.figure.get_figheight()
    lines = np.array([1 + name.count("\n") for name in names])
    places = np.cumsum(lines) - lines / 2  # the middle of each, if they stood one upon another
    apart = 0.18 / inches * np.ptp(limits) * (places - places[0])
    placed = _risen(ys - apart) + apart
    for name, y, color in zip(names, scale.inverted().transform(placed), colors, strict=True):
        _beside(axes, name, (x, y), color)


def _risen(values):
    """Returns what never falls and is nearest to values, [N]: those that clash share their mean."""
    means, counts = [], []
    for value in values:
        means.append(value)
        counts.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            last, number = means.pop(), counts.pop()
            counts[-1] += number
            means[-1] += (last - means[-1]) * number / counts[-1]
    return np.repeat(means, counts)


def _beside(axes, text, point, color, fontsize=9, above=0):
    """Writes text at the right of a point, `above` points of a page higher."""
    away = {"xytext": (6, above), "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(text, point, va="center", color=color, fontsize=fontsize, **away)
