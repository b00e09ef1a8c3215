"""Figures: arrays in, `Figure` out, every one in the style of `vae_tf.mplstyle`.

Nothing global changes: the style holds while a figure is made and while it is drawn. Notebooks show
a figure by its name alone; `save` writes it as PNG for slides and as PDF for print.

Every function takes `note`, a few words on where the data come from, set small and grey below.
Digits are ink on paper: 0 is white, 1 is black. Arrays of wrong shapes raise a ValueError that
names what arrived. In shapes, N counts images or updates, M models, L latents.
"""

import base64
import contextlib
import io
from pathlib import Path

import matplotlib.figure
import matplotlib.patheffects
import matplotlib.style
import matplotlib.ticker
import numpy as np

from ..engine import atomic

STYLE = matplotlib.rc_params_from_file(
    Path(__file__).with_name("vae_tf.mplstyle"), use_default_template=False
)
PALETTE = STYLE["axes.prop_cycle"].by_key()["color"]
BLACK, GREY, PALE = "#000000", "#666666", "#BBBBBB"
NATS = "nats per image"
LOG_LIKELIHOOD, KL = r"$\mathrm{E}_q[\log\,p(x|z)]$", r"$\mathrm{KL}[q(z|x)\,\Vert\,p(z)]$"


class Figure(matplotlib.figure.Figure):
    """A figure that is drawn in its style wherever, and that notebooks show with no magic line."""

    def __repr__(self):
        return "<Figure>"  # no size: stored notebooks must not depend on fonts

    def savefig(self, *args, **kwargs):
        """As `matplotlib.figure.Figure.savefig`, in this module's style."""
        with _styled():
            super().savefig(*args, **kwargs)

    def draw(self, renderer):
        """As `matplotlib.figure.Figure.draw`, in this module's style."""
        with _styled():
            super().draw(renderer)

    def get_tightbbox(self, *args, **kwargs):
        """As `matplotlib.figure.Figure.get_tightbbox`, in this module's style."""
        with _styled():
            return super().get_tightbbox(*args, **kwargs)

    def _repr_mimebundle_(self, **_):
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", metadata={"Software": None})
        png = buffer.getvalue()
        # Two of its pixels on one of the page's: sharp on dense screens. PNG's header holds both.
        # Where `%matplotlib inline` makes the picture instead, it is as large, and this size holds.
        width, height = np.frombuffer(png[16:24], ">u4").tolist()
        size = {"width": width // 2, "height": height // 2}
        return {"image/png": base64.b64encode(png).decode()}, {"image/png": size}


def save(figure, path):
    """Writes `path`.png and `path`.pdf, each whole or not at all; equal figures give equal bytes.

    Args:
        figure: what a function of this module returned.
        path: without an ending; its folder is made if there is none.

    Returns:
        The two paths.
    """
    path = Path(path)
    if not isinstance(figure, matplotlib.figure.Figure):
        raise TypeError(f"figure must be a matplotlib Figure; received {type(figure).__name__}.")
    if path.suffix.lower() in (".png", ".pdf", ".svg", ".jpg"):
        raise ValueError(f"path must have no ending: PNG and PDF are written; received {path}.")
    contents = {}  # both are drawn before either is written
    for ending, undated in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
        buffer = io.BytesIO()
        with _styled():
            figure.savefig(buffer, format=ending, metadata=undated)
        contents[path.with_name(f"{path.name}.{ending}")] = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, content in contents.items():
        with atomic.replacing(target) as temporary:
            temporary.write_bytes(content)
    return tuple(contents)


def elbo_terms(updates, log_likelihood, kl, window=100, note=""):
    """Both terms of the ELBO, and the ELBO, against weight updates.

    Args:
        updates, log_likelihood, kl: [N]; the terms in nats per image, of each update's batch.
        window: updates in the centred running mean that is drawn over the faint single values,
            an int >= 1; in a short run no more than a tenth of it.
    """
    updates, log_likelihood, kl = _checked(
        "N", updates=updates, log_likelihood=log_likelihood, kl=kl
    )
    _check_count("window", window)
    window = min(window, max(len(updates) // 10, 1))
    with _figure(note, height=4.2) as figure:
        curves = {
            LOG_LIKELIHOOD: (log_likelihood, PALETTE[0]),
            "ELBO": (log_likelihood - kl, BLACK),
        }
        above, _ = _over_updates(figure, updates, curves, {KL: (kl, PALETTE[1])}, window)
        above.set_ylabel(NATS)
    return figure


def log_likelihood_comparison(updates, training, validation, note=""):
    """E_q[log p(x|z)] on training and on validation digits, and the difference, against updates.

    Args:
        updates, training, validation: [N]; nats per image, on sets of equal size.
    """
    updates, training, validation = _checked(
        "N", updates=updates, training=training, validation=validation
    )
    with _figure(note, height=4.2) as figure:
        curves = {"training": (training, PALETTE[0]), "validation": (validation, PALETTE[1])}
        difference = {"training −\nvalidation": (training - validation, BLACK)}
        above, _ = _over_updates(figure, updates, curves, difference)
        above.set_ylabel(f"{LOG_LIKELIHOOD} ({NATS})")
    return figure


def digits(images, columns=20, labels=None, note=""):
    """A grid of digits, row by row.

    Args:
        images: [N, height, width], values in [0, 1].
        columns: digits in a row.
        labels: [N], each written below its digit, or None.
    """
    (images,) = _checked("N h w", images=images)
    if labels is not None:
        _check_names(labels, images)
    with _figure(note, fit=True) as figure:
        axes = figure.subplots()
        ys, xs = _mosaic(axes, _grid(images, columns), gap=(2 if labels is None else 9, 2))
        for i, label in enumerate(labels if labels is not None else ()):
            y = ys[i // len(xs)] + images.shape[1] / 2 + 3.5
            axes.text(xs[i % len(xs)], y, label, ha="center", va="center", fontsize=8, color=GREY)
    return figure


def rows(images, names, columns=20, group=1, note=""):
    """Named rows of digits, one below another, such as digits and what became of each.

    Args:
        images: for each row [N, height, width], values in [0, 1].
        names: of the rows.
        columns: digits in a row; more than that go on below, again in all rows.
        group: digits that stand close together.
    """
    _check_names(names, images)
    _check_count("number of rows", len(images))
    _check_count("group", group)
    images = _checked("N h w", **dict(zip(names, images, strict=True)))
    blocks = np.stack([_grid(row, columns) for row in images], axis=1)  # [blocks, rows, C, h, w]
    with _figure(note, fit=True) as figure:
        axes = figure.subplots()
        ys, _ = _mosaic(axes, np.concatenate(blocks), group=(len(names), group))
        axes.set_yticks(ys, list(names) * len(blocks))
    return figure


def binarization(originals, images, note=""):
    """Grey 28x28 digits above the binary 14x14 digits made of them.

    Args:
        originals: [N, 28, 28], values 0 to 255.
        images: [N, 14, 14], values 0 or 1.
    """
    originals, images = _checked(("N 28 28", "N 14 14"), originals=originals, images=images)
    enlarged = images.repeat(2, axis=1).repeat(2, axis=2)
    return rows((originals / 255, enlarged), ("28×28, grey", "14×14, binary"), 10, note=note)


def reconstructions(originals, means, draws, labels=None, per_class=4, note=""):
    """Originals above their reconstructions: the mean of p(x|z), and a draw from it.

    Args:
        originals, means, draws: [N, height, width], values in [0, 1].
        labels: [N]. Given, the first `per_class` digits of each class are shown, class by class
            (fewer where a class has fewer, and then equally few of each). Without, all N are.
        per_class: an int >= 1.
    """
    images = _checked("N h w", originals=originals, means=means, draws=draws)
    _check_count("per_class", per_class)
    group = 1
    if labels is not None:
        _, labels = _checked(("N h w", "N"), originals=originals, labels=labels)
        each = [np.flatnonzero(labels == label)[:per_class] for label in np.unique(labels)]
        group = min(map(len, each))
        images = np.stack(images)[:, np.concatenate([where[:group] for where in each])]
    names = ("original", "mean of p(x|z)", "draw from p(x|z)")
    return rows(images, names, max(20 // group, 1) * group, group, note)


def samples(means, draws, note=""):
    """Generated digits, all as given: at the left means of p(x|z), at the right draws from them.

    Args:
        means, draws: [N, height, width], values in [0, 1]; of the same z.
    """
    means, draws = _checked("N h w", means=means, draws=draws)
    panels = {"means of p(x|z)": means, "draws from p(x|z)": draws}
    with _figure(note, fit=True) as figure:
        for axes, (name, images) in zip(figure.subplots(1, 2), panels.items(), strict=True):
            _mosaic(axes, _grid(images, int(np.ceil(np.sqrt(len(images))))))
            axes.set_title(name, fontsize=9, color=GREY)
    return figure


def traversals(images, values, kl, note=""):
    """Digits decoded while one latent moves and the others stay: a row for each, by its KL.

    Args:
        images: [L, steps, height, width], values in [0, 1].
        values: [steps], what the moving latent was set to.
        kl: [L], nats per image of each latent; the highest stands on top.
    """
    images, values, kl = _checked(
        ("L steps h w", "steps", "L"), images=images, values=values, kl=kl
    )
    order = np.argsort(-kl, kind="stable")
    with _figure(note, fit=True) as figure:
        axes = figure.subplots()
        ys, xs = _mosaic(axes, images[order])
        axes.set_yticks(ys, [f"$z_{{{j + 1}}}$  {kl[j]:.2f} nats" for j in order])
        axes.set_xticks(xs, [f"{value:.1f}".replace("-", "−") for value in values])
        axes.set_xlabel("value of the latent (standard deviations of the prior)")
    return figure


def manifold(images, note=""):
    """Digits decoded over a grid of two latents, without gaps.

    Args:
        images: [rows, columns, height, width], values in [0, 1]; the first row stands on top.
    """
    (images,) = _checked("rows columns h w", images=images)
    with _figure(note, fit=True, width=5) as figure:
        axes = figure.subplots()
        _mosaic(axes, images, gap=(0, 0))
        axes.set(xlabel="$z_1$, quantiles of the prior →", ylabel="$z_2$, quantiles of the prior →")
    return figure


def kl_per_dimension(kl, note=""):
    """Bars of the KL of each latent, the highest first.

    Args:
        kl: [L], nats per image.
    """
    (kl,) = _checked("L", kl=kl)
    order = np.argsort(-kl, kind="stable")
    with _figure(note, height=2.8) as figure:
        axes = figure.subplots()
        axes.bar(np.arange(len(kl)), kl[order], color=PALETTE[1])
        axes.set_xticks(np.arange(len(kl)), [f"$z_{{{j + 1}}}$" for j in order])
        axes.grid(visible=False, axis="x")
        axes.set(xlabel="latent", ylabel=f"KL ({NATS})")
    return figure


def gaps(approximation, amortization, names=None, note=""):
    """The two parts of log p(x) − ELBO as stacked bars, the smallest sum first.

    Args:
        approximation: [N], nats per image, lost even by the best diagonal Gaussian of each digit.
        amortization: [N], nats per image, lost beside that by the encoder.
        names: of the N bars, or None for single digits without names.
    """
    low, high = _checked("N", approximation=approximation, amortization=amortization)
    places, order = np.arange(len(low)), np.argsort(low + high, kind="stable")
    with _figure(note) as figure:
        axes, width = figure.subplots(), 1 if names is None else 0.6
        for bottom, values, color, label in (
            (0, low, PALETTE[0], "approximation (diagonal Gaussian)"),
            (low[order], high, PALETTE[4], "amortization (encoder)"),
        ):
            axes.bar(places, values[order], width, bottom, color=color, label=label)
        axes.grid(visible=False, axis="x")
        axes.set(xlabel=f"{len(low):,} digits, by their gap" if names is None else "", xticks=[])
        axes.set_ylabel(f"log p(x) − ELBO ({NATS})")
        if names is not None:
            _check_names(names, low)
            axes.set_xticks(places, [names[i] for i in order])
        axes.legend(loc="upper left", reverse=True)
    return figure


def bound_against_samples(num_samples, bounds, errors, names, note=""):
    """The importance-weighted bound against its number of samples K, for several models.

    Args:
        num_samples: [K], numbers of samples, >= 1.
        bounds, errors: [M, K], nats per image; the bands are two standard errors either way.
        names: of the M models.
    """
    num_samples, bounds, errors = _checked(
        ("K", "M K", "M K"), num_samples=num_samples, bounds=bounds, errors=errors
    )
    _check_names(names, bounds)
    colors = [PALETTE[i % len(PALETTE)] for i in range(len(names))]
    with _figure(note) as figure:
        axes = figure.subplots()
        for color, bound, error in zip(colors, bounds, errors, strict=True):
            axes.plot(num_samples, bound, color=color, marker="o")
            band = (bound - 2 * error, bound + 2 * error)
            axes.fill_between(num_samples, *band, color=color, alpha=0.2, linewidth=0)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.set(xlabel="samples K per image", ylabel=f"bound on log p(x)\n({NATS})")
        _label_ends(axes, num_samples[-1], bounds[:, -1], names, colors)
    return figure


def context(
    names, values, errors, groups, lowest=-np.inf, label=f"log p(x) ({NATS})", decimals=2, note=""
):
    """Models by their log-likelihood: dots with the value beside each, the best on top.

    Args:
        names: of the M models.
        values, errors: [M], nats per image; bars are two standard errors either way.
        groups: M names; models of one group share a colour, which the legend tells.
        lowest: nats per image; dots below it are arrows at this edge.
        label: of the values' axis, if they are something else.
        decimals: of the values written.
    """
    values, errors = _checked("M", values=values, errors=errors)
    _check_names(names, values)
    _check_names(groups, values)
    colors = dict(zip(dict.fromkeys(groups), PALETTE, strict=False))
    with _figure(note, height=1.2 + 0.27 * len(names)) as figure:
        axes, order = figure.subplots(), np.argsort(values, kind="stable")
        for y, i in enumerate(order):
            inside = values[i] >= lowest
            x, reach = (values[i], 2 * errors[i]) if inside else (lowest, 0.0)
            axes.errorbar(x, y, xerr=reach, fmt="o" if inside else "<", color=colors[groups[i]])
            shown = [f"{number:.{decimals}f}" for number in (values[i], errors[i]) if number]
            text = " ± ".join(shown)
            _beside(axes, text.replace("-", "−"), (x + reach, y), GREY, fontsize=8)
        for group, color in colors.items():
            axes.plot([], [], "o", color=color, label=group)
        figure.legend(loc="outside upper right", ncols=len(colors))
        axes.set_yticks(np.arange(len(names)), [names[i] for i in order])
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(label)
    return figure


def rate_distortion(rate, distortion, names, note=""):
    """Distortion against rate, over diagonals of constant ELBO.

    Args:
        rate, distortion: [M], KL[q(z|x) || p(z)] and −E_q[log p(x|z)], nats per image.
        names: of the M points, such as values of beta; a line joins them in this order.
    """
    rate, distortion = _checked("M", rate=rate, distortion=distortion)
    _check_names(names, rate)
    with _figure(note, height=4.2) as figure:
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
            _beside(axes, f"ELBO −{total:g}", (left, total - left), GREY, fontsize=8)
        axes.set(xlabel=f"rate: {KL} ({NATS})", ylabel=f"distortion: −{LOG_LIKELIHOOD} ({NATS})")
    return figure


def scatter(points, labels, axis_names=("first", "second"), note=""):
    """Two-dimensional codes, each drawn as the numeral of its class, in the colour of its class.

    Args:
        points: [N, 2].
        labels: [N], 0 to 9.
        axis_names: of the two axes.
    """
    points, labels = _checked(("N 2", "N"), points=points, labels=labels)
    _check_classes(labels)
    with _figure(note, height=5.2) as figure:
        axes = figure.subplots()
        for label in np.unique(labels).astype(int):
            x, y = points[labels == label].T
            axes.scatter(x, y, 20, PALETTE[label], marker=f"${label}$", linewidths=0.2)
        axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
        axes.set_aspect("equal", adjustable="datalim")
    return figure


def maps(points, labels, names, note=""):
    """Maps of the same digits side by side: dots by class, a numeral amid each class.

    Args:
        points: [M, N, 2].
        labels: [N], 0 to 9.
        names: of the M maps.
    """
    points, labels = _checked(("M N 2", "N"), points=points, labels=labels)
    _check_names(names, points)
    _check_classes(labels)
    outline = [matplotlib.patheffects.withStroke(linewidth=2.5, foreground="white")]
    with _figure(note, height=3.7) as figure:
        every = figure.subplots(1, len(points), squeeze=False)[0]
        for axes, each, name in zip(every, points, names, strict=True):
            for label in np.unique(labels).astype(int):
                x, y = each[labels == label].T
                axes.scatter(x, y, 6, PALETTE[label], linewidths=0, alpha=0.7)
                place = np.median(x), np.median(y)
                text = {"ha": "center", "va": "center", "fontsize": 13, "fontweight": "bold"}
                axes.text(*place, f"{label}", color=PALETTE[label], path_effects=outline, **text)
            axes.set(xticks=[], yticks=[])
            axes.set_aspect("equal", adjustable="datalim")
            axes.set_title(name, fontsize=9, color=GREY)
    return figure


def aggregate(values, densities, prior, kl, note=""):
    """The density of each latent over all digits, beside the prior's; the furthest from it first.

    Args:
        values: [V], of a latent.
        densities: [L, V].
        prior: [V].
        kl: [L], nats, how far from the prior each is.
    """
    values, densities, prior, kl = _checked(
        ("V", "L V", "V", "L"), values=values, densities=densities, prior=prior, kl=kl
    )
    order, columns = np.argsort(-kl, kind="stable"), min(4, len(kl))
    rows = -(-len(kl) // columns)
    with _figure(note, height=0.7 + 1.45 * rows) as figure:
        every = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes in every[len(kl) :]:
            axes.set_visible(False)
        for axes, j in zip(every, order, strict=False):
            axes.plot(values, prior, color=GREY, linestyle="--", linewidth=1.2)
            axes.plot(values, densities[j], color=PALETTE[0])
            axes.fill_between(values, densities[j], color=PALETTE[0], alpha=0.15, linewidth=0)
            axes.set(yticks=[], ylim=(0, 1.1 * max(prior.max(), densities.max())))
            axes.set_title(f"$z_{{{j + 1}}}$  {kl[j]:.3f} nats", fontsize=9)
            axes.xaxis.set_major_locator(matplotlib.ticker.MultipleLocator(2))
        lines = every[0].lines
        figure.legend(lines[::-1], ("all digits", "prior"), loc="outside upper right", ncols=2)
        for axes in every[max(len(kl) - columns, 0) : len(kl)]:
            axes.set_xlabel("value of the latent", fontsize=9)
    return figure


def decoded(originals, reconstructions, samples, names, note=""):
    """What several models make of the same digits and of the same codes: a row for each model.

    Args:
        originals: [N, height, width], values in [0, 1]; in a row on top.
        reconstructions: [M, N, height, width].
        samples: [M, S, height, width].
        names: of the M models.
    """
    originals, reconstructions, samples = _checked(
        ("N h w", "M N h w", "M S h w"),
        originals=originals,
        reconstructions=reconstructions,
        samples=samples,
    )
    _check_names(names, samples)
    blank = np.zeros((1, *samples.shape[1:]))
    panels = {
        "digits and their reconstructions": np.concatenate([originals[None], reconstructions]),
        "samples, from codes of the prior": np.concatenate([blank, samples]),
    }
    with _figure(note, fit=True) as figure:
        widths = [images.shape[1] for images in panels.values()]
        every = figure.subplots(1, 2, width_ratios=widths)
        figure.get_layout_engine().set(wspace=0.06)
        for axes, (name, images) in zip(every, panels.items(), strict=True):
            ys, _ = _mosaic(axes, images, gap=(3, 2))
            axes.set_title(name, fontsize=9, color=GREY)
        every[0].set_yticks(ys, ["digits", *names])
    return figure


def sizes(counts, elbo, bound, gap, labels, chosen, num_samples, note=""):
    """What a model's size costs: bounds less those of the writeup's, above the gap between both.

    Args:
        counts: sizes, for each of P panels [S].
        elbo, bound: for each panel [S, 2], the difference from the chosen size, in nats per image,
            and its standard error; bars are two of them either way.
        gap: for each panel [S, 2], bound − ELBO and its standard error.
        labels: of the P panels.
        chosen: the writeup's size in each panel, which the others are compared with.
        num_samples: K of the bound.
    """
    _check_names(labels, counts)
    with _figure(note, height=4.6) as figure:
        grid = figure.subplots(
            2, len(labels), sharex="col", sharey="row", squeeze=False, height_ratios=(1.7, 1)
        )
        for i, (above, below) in enumerate(grid.T):
            panel = {"counts": counts[i], "elbo": elbo[i], "bound": bound[i], "gap": gap[i]}
            size, *curves = _checked(("S", "S 2", "S 2", "S 2"), **panel)
            above.axhline(0, color=PALE, linewidth=1)
            drawn = (
                (above, PALETTE[0], "o", "ELBO"),
                (above, PALETTE[1], "s", f"bound, K = {num_samples:,}"),
                (below, BLACK, "o", "gap"),
            )
            for (values, error), (axes, color, marker, name) in zip(
                (curve.T for curve in curves), drawn, strict=True
            ):
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
    return figure


def sample_grids(panels, names, row_names, note=""):
    """Square grids of digits, all as given: a column for each model.

    Args:
        panels: [R, M, N, height, width], values in [0, 1].
        names: of the M models.
        row_names: of the R rows of grids, such as means and draws.
    """
    (panels,) = _checked("R M N h w", panels=panels)
    _check_names(row_names, panels)
    _check_names(names, panels[0])
    height = len(row_names) * 6.1 / len(names) + 0.3 + 0.2 * bool(note)
    with _figure(note, height=height) as figure:
        every = figure.subplots(len(row_names), len(names), squeeze=False)
        for line, row in zip(every, panels, strict=True):
            for axes, images in zip(line, row, strict=True):
                _mosaic(axes, _grid(images, int(np.ceil(np.sqrt(len(images))))))
        for axes, name in zip(every[0], names, strict=True):
            axes.set_title(name, fontsize=9, color=GREY)
        for axes, name in zip(every[:, 0], row_names, strict=True):
            axes.set_ylabel(name, fontsize=9, color=GREY)
    return figure


def recognition(names, confident, errors, shares, threshold, note=""):
    """Share of digits that a classifier recognises confidently, and shares of the ten classes.

    Args:
        names: of the M sets of digits; the first, real ones, stands on top, in black.
        confident, errors: [M], in per cent; bars are two standard errors either way.
        shares: [M, classes], in per cent.
        threshold: above which a digit's probability is confident.
    """
    confident, errors, shares = _checked(
        ("M", "M", "M C"), confident=confident, errors=errors, shares=shares
    )
    _check_names(names, confident)
    places = np.arange(len(names))
    with _figure(note, height=1.3 + 0.3 * len(names)) as figure:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.25))
        for y, (value, error, color) in enumerate(
            zip(confident, errors, _colors(names), strict=True)
        ):
            left.errorbar(value, y, xerr=2 * error, fmt="o", color=color)
            away = {"xytext": (0, 5), "textcoords": "offset points"}
            text = f"{value:.1f} ± {error:.1f}"
            left.annotate(text, (value, y), ha="center", fontsize=8, color=GREY, **away)
        left.set_yticks(places, names)
        left.grid(visible=False, axis="y")
        left.margins(0.25, 0)
        left.set_xlabel(f"probability above {threshold:g} (%)")
        scale = {"vmin": 0, "vmax": 2.2 * shares[0].mean(), "cmap": "Blues", "aspect": "auto"}
        right.imshow(shares, **scale)
        for (y, x), share in np.ndenumerate(shares):
            color = "white" if share > 0.65 * scale["vmax"] else BLACK
            right.text(x, y, f"{share:.0f}", ha="center", va="center", fontsize=8, color=color)
        right.set_xticks(np.arange(shares.shape[1]))
        right.set_ylim(len(names) - 0.5, -0.5)
        right.grid(visible=False)
        right.tick_params(length=0)
        right.spines[:].set_visible(False)
        right.set_xlabel("likeliest digit (%)")
    return figure


def frechet(counts, distances, errors, names, note=""):
    """Fréchet distances against the number of digits on either side: the bias, and the floor.

    Args:
        counts: [C], digits on either side.
        distances, errors: [M, C]; the bands are two standard errors either way.
        names: of the M sets of digits; the first, real ones, is the floor, in black.
    """
    counts, distances, errors = _checked(
        ("C", "M C", "M C"), counts=counts, distances=distances, errors=errors
    )
    _check_names(names, distances)
    with _figure(note, height=4.2) as figure:
        axes, colors = figure.subplots(), _colors(names)
        lowest = distances.min() / 2
        axes.set(xscale="log", yscale="log")
        for color, values, error in zip(colors, distances, errors, strict=True):
            axes.plot(counts, values, color=color, marker="o")
            band = np.maximum(values - 2 * error, lowest), values + 2 * error
            axes.fill_between(counts, *band, color=color, alpha=0.2, linewidth=0)
        axes.xaxis.set_major_locator(matplotlib.ticker.FixedLocator(counts))
        axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(matplotlib.ticker.NullLocator())
            axis.set_major_formatter("{x:,g}")
        axes.set(xlabel="digits N on either side", ylabel="Fréchet distance to real digits")
        labels = [
            f"{name}: {value:.3g}" for name, value in zip(names, distances[:, -1], strict=True)
        ]
        _label_ends(axes, counts[-1], distances[:, -1], labels, colors)
    return figure


def precision_recall(precision, recall, errors, names, note=""):
    """Recall against precision, a dot for each set of digits.

    Args:
        precision, recall: [M], in [0, 1]; M at most 10.
        errors: [M, 2], standard errors of both; bars are two of them either way.
        names: of the M sets of digits; the first, real ones, in black.
    """
    precision, recall, errors = _checked(
        ("M", "M", "M 2"), precision=precision, recall=recall, errors=errors
    )
    _check_names(names, precision)
    with _figure(note, height=4.2) as figure:
        axes = figure.subplots()
        for marker, color, name, x, y, (across, up) in zip(
            "os^vDP*X<>", _colors(names), names, precision, recall, errors, strict=False
        ):
            axes.errorbar(x, y, 2 * up, 2 * across, fmt=marker, color=color, label=name)
        figure.legend(loc="outside right upper")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.set_xlabel("precision: share of its digits within reach of real ones")
        axes.set_ylabel("recall: share of real digits\nwithin reach of its own")
    return figure


def nearest_distances(distances, names, pixels=196, note=""):
    """How far digits are from the nearest training digit: the share within each distance.

    Args:
        distances: for each of M sets [N], numbers of pixels that differ.
        names: of the M sets of digits; the first, real ones, in black.
        pixels: of a digit.
    """
    _check_names(names, distances)
    distances = [_checked("N", distances=each)[0] for each in distances]
    steps = np.arange(max(each.max() for each in distances) + 2)
    with _figure(note, height=4.2) as figure:
        axes = figure.subplots()
        for color, name, each in zip(_colors(names), names, distances, strict=True):
            share = 100 * np.searchsorted(np.sort(each), steps, side="right") / len(each)
            axes.step(
                steps, share, where="post", color=color, label=f"{name}: {share[0]:.1f} % at 0"
            )
        axes.set(xlim=(0, steps[-1]), ylim=(0, 102), ylabel="digits within that distance (%)")
        axes.set_xlabel(f"pixels of {pixels} that differ from the nearest training digit")
        axes.legend(loc="lower right")
    return figure


def nearest_pairs(images, matches, distances, names, note=""):
    """Digits above their nearest training digits, with the number of pixels that differ.

    Args:
        images, matches: [M, N, height, width], values in [0, 1].
        distances: [M, N], numbers of pixels.
        names: of the M sets of digits.
    """
    images, matches, distances = _checked(
        ("M N h w", "M N h w", "M N"), images=images, matches=matches, distances=distances
    )
    _check_names(names, images)
    stacked = np.stack([images, matches], axis=1).reshape(-1, *images.shape[1:])
    with _figure(note, fit=True) as figure:
        axes, height = figure.subplots(), images.shape[2]
        ys, xs = _mosaic(axes, stacked, gap=(5, 2), group=(2, 1))
        axes.set_yticks(ys, [text for name in names for text in (name, "nearest training digit")])
        for y, row in zip(ys[1::2], distances, strict=True):
            for x, value in zip(xs, row, strict=True):
                text = {"ha": "center", "va": "center", "fontsize": 8, "color": GREY}
                axes.text(x, y + height / 2 + 5.5, f"{value:g}", **text)
    return figure


def reliability(confidence, accuracy, counts, names, least=10, note=""):
    """How often a classifier is right, against how sure it is: on the diagonal where it is honest.

    Args:
        confidence, accuracy, counts: for each of M classifiers [bins], such as `Reliability` has;
            bars are two binomial standard errors either way.
        names: of the M classifiers.
        least: digits in a bin that is drawn above; all are drawn below.
    """
    _check_names(names, confidence)
    with _figure(note, height=4.2) as figure:
        above, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        above.axline((0, 0), slope=1, color=PALE, linewidth=1)
        for i, (name, *curve) in enumerate(zip(names, confidence, accuracy, counts, strict=True)):
            x, y, n = _checked(
                "bins", **dict(zip(("confidence", "accuracy", "counts"), curve, strict=True))
            )
            below.plot(x, n, color=PALETTE[i], marker="os^v"[i % 4])
            x, y, n = (values[n >= least] for values in (x, y, n))
            # Agresti and Coull: two right and two wrong more, or none wrong would seem certain.
            middle = (y * n + 2) / (n + 4)
            reach = 2 * np.sqrt(middle * (1 - middle) / (n + 4))
            bars = np.maximum([y - (middle - reach), middle + reach - y], 0)
            style = {"color": PALETTE[i], "marker": "os^v"[i % 4]}
            above.errorbar(x, y, bars, label=name, **style)
        above.set(ylim=(0, 1.03), ylabel="share that is right")
        above.legend(loc="lower right")
        lowest = min(np.min(each) for each in confidence)
        below.set(yscale="log", ylabel="digits", xlim=(max(lowest - 0.05, 0), 1.02))
        below.yaxis.set_major_formatter("{x:,g}")
        below.set_xlabel("probability of the likeliest class")
    return figure


def _styled():
    return matplotlib.style.context(STYLE, after_reset=True)


@contextlib.contextmanager
def _figure(note, height=3.6, width=6.5, fit=False):
    """Gives a `Figure` to draw in, in our style; `fit` then cuts its height to what is drawn."""
    with _styled():
        figure = Figure((width, 3 * width if fit else height), layout="constrained")
        yield figure
        if fit:
            figure.draw_without_rendering()
            used = figure.get_tightbbox().height + (0.3 if note else 0.1)
            figure.set_figheight(np.ceil(100 * used) / 100)
        if note:  # a label of the figure, not a text, so that the layout makes room for it
            figure.supxlabel(note, x=0.995, ha="right", fontsize=8, color=GREY)
        for _ in range(2):  # laid out anew at each drawing, it would creep: settled here instead
            figure.draw_without_rendering()
        figure.set_layout_engine("none")


def _checked(dimensions, **arrays):
    """Returns the arrays; `dimensions` is a text such as "N h w", for all or for each.

    One letter or word is one length wherever it stands; a number is that length.
    """
    each = [dimensions] * len(arrays) if isinstance(dimensions, str) else dimensions
    lengths, checked = {}, []
    for (name, array), wanted in zip(arrays.items(), each, strict=True):
        array, wanted = np.asarray(array), wanted.split()
        expected = [int(d) if d.isdigit() else lengths.get(d, d) for d in wanted]
        fits = array.ndim == len(wanted) and all(
            isinstance(length, str) or length == found
            for length, found in zip(expected, array.shape, strict=True)
        )
        if not fits or not array.size:
            expected = ", ".join(map(str, expected))
            raise ValueError(f"{name} must be [{expected}]; received {list(array.shape)}.")
        if array.dtype.kind not in "buif" or not np.isfinite(array).all():
            raise ValueError(f"{name} must hold finite numbers; received {array.dtype} {array}.")
        lengths.update(zip(wanted, array.shape, strict=True))
        checked.append(array)
    return checked


def _check_count(name, value):
    if not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be an int >= 1; received {value!r}.")


def _check_classes(labels):
    if not np.isin(labels, range(10)).all():
        raise ValueError(f"labels must be 0 to 9; received {np.unique(labels)}.")


def _check_names(names, array):
    if not np.iterable(names):
        raise TypeError(f"{len(array)} names are needed; received {names!r}.")
    if len(names) != len(array):
        raise ValueError(f"{len(array)} names are needed; received {len(names)}: {list(names)}.")


def _colors(names):
    """Returns a colour for each name: black for the first, real digits, then the palette's."""
    rest = [color for color in PALETTE if color != BLACK]
    return [BLACK, *(rest[i % len(rest)] for i in range(len(names) - 1))]


def _grid(images, columns):
    """Returns [rows, columns, height, width] of [N, height, width], the last row filled up."""
    _check_count("columns", columns)
    columns = min(columns, len(images))
    blank = np.zeros((-len(images) % columns, *images.shape[1:]))
    return np.concatenate([images, blank]).reshape(-1, columns, *images.shape[1:])


def _mosaic(axes, images, gap=(2, 2), group=(1, 1)):
    """Draws images [rows, columns, h, w] as one; returns the centres of rows and of columns.

    Args:
        gap: pixels between rows and between columns.
        group: rows and columns that stand together: between such groups the gap is tripled.
    """
    if images.min() < 0 or images.max() > 1:
        found = f"[{images.min():g}, {images.max():g}]"
        raise ValueError(f"images must have values in [0, 1]; received values in {found}.")
    tops, lefts = (
        (size + space) * np.arange(n) + 2 * space * (np.arange(n) // together) * (together > 1)
        for n, size, space, together in zip(
            images.shape[:2], images.shape[2:], gap, group, strict=True
        )
    )
    tall, wide = images.shape[2:]
    whole = np.zeros((tops[-1] + tall, lefts[-1] + wide))
    for top, line in zip(tops, images, strict=True):
        for left, image in zip(lefts, line, strict=True):
            whole[top : top + tall, left : left + wide] = image
    axes.imshow(whole, vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return tops + (tall - 1) / 2, lefts + (wide - 1) / 2


def _over_updates(figure, updates, above, below, window=1):
    """Draws {name: (values [N], colour)} against updates, in a tall panel above a low one.

    The first 5 % of updates span so many nats that they would flatten all that follows: the tall
    panel is as high as what follows, and a line of text tells where its curves start.
    """
    late = updates >= np.quantile(updates, 0.05)
    panels = figure.subplots(2, sharex=True, height_ratios=(2.2, 1))
    for axes, curves in zip(panels, (above, below), strict=True):
        series, colors = zip(*curves.values(), strict=True)
        for values, color in zip(series, colors, strict=True):
            if window > 1:
                axes.plot(updates, values, color=color, alpha=0.2, linewidth=0.5)
            weights = np.full(window, 1 / window)
            means = [np.convolve(array, weights, "valid") for array in (updates, values)]
            axes.plot(*means, color=color)
        shown = np.concatenate([values[late] if axes is panels[0] else values for values in series])
        low, high = min(shown.min(), 0 if axes is panels[1] else np.inf), shown.max()
        margin = 0.05 * (high - low) or 1.0
        axes.set_ylim(low - margin * (low != 0), high + margin)
        starts = {f"{values[0]:.0f}": None for values in series if values[0] < low - margin}
        if starts:
            text = f"starts below, at {' and '.join(starts)}".replace("-", "−")
            corner = {"transform": axes.transAxes, "ha": "right", "fontsize": 8, "color": GREY}
            axes.text(0.99, 0.04, text, **corner)
        _label_ends(
            axes, updates[-1], [values[-window:].mean() for values in series], curves, colors
        )
    panels[1].set(xlabel="weight updates", ylabel=NATS)
    panels[1].xaxis.set_major_formatter("{x:,.0f}")
    return panels


def _label_ends(axes, x, ys, names, colors):
    """Writes names at the right of lines that end at x and ys, apart enough to be read."""
    order = np.argsort(ys)
    ys, names, colors = ([values[i] for i in order] for values in (ys, list(names), colors))
    scale = axes.yaxis.get_transform()  # of a logarithmic axis, say
    ys, limits = scale.transform(np.asarray(ys, float)), scale.transform(np.array(axes.get_ylim()))
    inches = axes.get_position().height * axes.figure.get_figheight()
    apart = 0.18 / inches * np.ptp(limits) * np.arange(len(ys))  # a line of text each
    placed = np.maximum.accumulate(ys - apart) + apart  # each pushes those above it up
    placed -= np.mean(placed - ys)
    for name, y, color in zip(names, scale.inverted().transform(placed), colors, strict=True):
        _beside(axes, name, (x, y), color)


def _beside(axes, text, point, color, fontsize=9, above=0):
    away = {"xytext": (6, above), "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(text, point, va="center", color=color, fontsize=fontsize, **away)
