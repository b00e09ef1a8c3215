"""Figures that are grids of images: ink on paper, 0 is white and 1 is black.

Images are [height, width] of any size, values in [0, 1]. In shapes, N counts images, M models and
L latents.
"""

import numpy as np

from .style import GREY, check_count, checked, figure_of, latent_name


@figure_of(fit=True, images="N h w", labels="N texts")
def digits(figure, images, columns=20, labels=None):
    """A grid of images, row by row.

    Args:
        images: [N, height, width], values in [0, 1].
        columns: images in a row.
        labels: [N], each written below its image, or None.
    """
    axes = figure.subplots()
    ys, xs = _mosaic(axes, _grid(images, columns), gap=(2 if labels is None else 9, 2))
    for i, label in enumerate(labels or ()):
        below = images.shape[1] / 2 + 3.5 * _unit(images)
        _write(axes, label, xs[i % len(xs)], ys[i // len(xs)] + below)


@figure_of(fit=True)
def rows(figure, images, names, columns=20, group=1):
    """Named rows of images, one below another, such as images and what became of each.

    Args:
        images: for each row [N, height, width], values in [0, 1].
        names: of the rows.
        columns: images in a row; more than that go on below, again in all rows.
        group: images that stand close together.
    """
    (names,) = checked(f"{len(images)} texts", names=names)
    check_count("number of rows", len(images))
    check_count("group", group)
    images = checked("N h w", **{f"images[{i}]": row for i, row in enumerate(images)})
    blocks = np.stack([_grid(row, columns) for row in images], axis=1)  # [blocks, rows, C, h, w]
    axes = figure.subplots()
    ys, _ = _mosaic(axes, np.concatenate(blocks), group=(len(names), group))
    axes.set_yticks(ys, names * len(blocks))


def binarization(originals, images, note=""):
    """Grey images, the means of their blocks, and the binary images made of those, at one size.

    Args:
        originals: [N, height, width], values in [0, 1], such as 28x28.
        images: [N, height / k, width / k], values 0 or 1, such as 14x14.
    """
    originals, images = checked(
        {"originals": "N height width", "images": "N h w"}, originals=originals, images=images
    )
    (tall, wide), (low, narrow) = originals.shape[1:], images.shape[1:]
    times = tall // low
    if (tall, wide) != (times * low, times * narrow):
        raise ValueError(
            "originals must be a whole number of times as high and as wide as images; "
            f"received {tall}x{wide} and {low}x{narrow}."
        )
    means = originals.reshape(-1, low, times, narrow, times).mean(axis=(2, 4))
    smaller = [each.repeat(times, axis=1).repeat(times, axis=2) for each in (means, images)]
    names = (
        f"{tall}×{wide}, grey",
        f"{low}×{narrow}, means of {times}×{times}",
        f"{low}×{narrow}, binary",
    )
    return rows((originals, *smaller), names, 10, note=note)


def reconstructions(originals, means, draws, labels=None, per_class=4, note=""):
    """Originals above their reconstructions: the mean of p(x|z), and a draw from it.

    Args:
        originals, means, draws: [N, height, width], values in [0, 1].
        labels: [N]. Given, the first `per_class` images of each class are shown, class by class
            (fewer where a class has fewer, and then equally few of each). Without, all N are.
        per_class: an int >= 1.
    """
    images = checked("N h w", originals=originals, means=means, draws=draws)
    check_count("per_class", per_class)
    group = 1
    if labels is not None:
        (labels,) = checked(f"{len(images[0])}", labels=labels)
        each = [np.flatnonzero(labels == label)[:per_class] for label in np.unique(labels)]
        group = min(map(len, each))
        images = np.stack(images)[:, np.concatenate([where[:group] for where in each])]
    names = ("original", "mean of p(x|z)", "draw from p(x|z)")
    return rows(images, names, max(20 // group, 1) * group, group, note=note)


@figure_of(fit=True, means="N h w", draws="N h w")
def samples(figure, means, draws):
    """Generated images, all as given: at the left means of p(x|z), at the right draws from them.

    Args:
        means, draws: [N, height, width], values in [0, 1]; of the same z.
    """
    left, right = figure.subplots(1, 2)
    _square(left, means)
    _square(right, draws)
    left.set_title("means of p(x|z)")
    right.set_title("draws from p(x|z)")
    _keep_apart(figure)


@figure_of(fit=True)
def sample_grids(figure, panels, names, row_names):
    """Square grids of images, all as given: a column for each model.

    Args:
        panels: R rows of M grids, [N, height, width] each, values in [0, 1]; None in place of a
            grid leaves its place empty.
        names: of the M models.
        row_names: of the R rows of grids, such as means and draws.
    """
    (row_names,) = checked(f"{len(panels)} texts", row_names=row_names)
    for row in panels:
        (names,) = checked(f"{len(row)} texts", names=names)
    every = figure.subplots(len(row_names), len(names), squeeze=False)
    for axes, images in zip(every.flat, [each for row in panels for each in row], strict=True):
        if images is None:
            _bare(axes)
        else:
            _square(axes, *checked("N h w", panels=images))
    for axes, name in zip(every[0], names, strict=True):
        axes.set_title(name)
    for axes, name in zip(every[:, 0], row_names, strict=True):
        axes.set_ylabel(name, fontsize=9, color=GREY)
    _keep_apart(figure)


@figure_of(fit=True, images="L steps h w", values="steps", kl="L")
def traversals(figure, images, values, kl):
    """Images decoded while one latent moves and the others stay: a row for each, by its KL.

    Args:
        images: [L, steps, height, width], values in [0, 1].
        values: [steps], what the moving latent was set to.
        kl: [L], nats per image of each latent; the highest stands on top.
    """
    order = np.argsort(-kl, kind="stable")
    axes = figure.subplots()
    ys, xs = _mosaic(axes, images[order])
    axes.set_yticks(ys, [f"{latent_name(j)}  {kl[j]:.2f} nats" for j in order])
    axes.set_xticks(xs, [f"{value:.1f}".replace("-", "−") for value in values])
    axes.set_xlabel("value of the latent (standard deviations of the prior)")


@figure_of(fit=True, width=5, images="rows columns h w")
def manifold(figure, images):
    """Images decoded over a grid of two latents, without gaps.

    Args:
        images: [rows, columns, height, width], values in [0, 1]; the first row stands on top.
    """
    axes = figure.subplots()
    _mosaic(axes, images, gap=(0, 0))
    axes.set(xlabel="$z_1$, quantiles of the prior →", ylabel="$z_2$, quantiles of the prior →")


@figure_of(
    fit=True,
    originals="N h w",
    reconstructions="M N h w",
    samples="M S h w",
    names="M texts",
)
def decoded(figure, originals, reconstructions, samples, names):
    """What several models make of the same images and of the same codes: a row for each model.

    Args:
        originals: [N, height, width], values in [0, 1]; in a row on top.
        reconstructions: [M, N, height, width].
        samples: [M, S, height, width].
        names: of the M models.
    """
    blank = np.zeros((1, *samples.shape[1:]))
    panels = {
        "images and their reconstructions": np.concatenate([originals[None], reconstructions]),
        "samples, from codes of the prior": np.concatenate([blank, samples]),
    }
    widths = [images.shape[1] for images in panels.values()]
    every = figure.subplots(1, 2, width_ratios=widths)
    figure.get_layout_engine().set(wspace=0.06)
    for axes, (title, images) in zip(every, panels.items(), strict=True):
        ys, _ = _mosaic(axes, images, gap=(3, 2))
        axes.set_title(title)
    every[0].set_yticks(ys, ["images", *names])


@figure_of(fit=True, images="M N h w", matches="M N h w", distances="M N", names="M texts")
def nearest_pairs(figure, images, matches, distances, names):
    """Images above their nearest training images, with the number of pixels that differ.

    Args:
        images, matches: [M, N, height, width], values in [0, 1].
        distances: [M, N], numbers of pixels.
        names: of the M sets of images.
    """
    pairs = np.stack([images, matches], axis=1)  # [M, 2, N, height, width]
    axes = figure.subplots()
    ys, xs = _mosaic(axes, np.concatenate(pairs), gap=(5, 2), group=(2, 1))
    axes.set_yticks(ys, [text for name in names for text in (name, "nearest training image")])
    below = images.shape[2] / 2 + 5.5 * _unit(images)
    for (row, column), distance in np.ndenumerate(distances):
        _write(axes, f"{distance:g}", xs[column], ys[2 * row + 1] + below)


def _unit(images):
    """Returns the pixels that gaps are counted in: 1 at 14x14, more for larger images."""
    return max(round(max(images.shape[-2:]) / 14), 1)


def _grid(images, columns):
    """Returns [rows, columns, height, width] of [N, height, width], the last row filled up."""
    check_count("columns", columns)
    columns = min(columns, len(images))
    blank = np.zeros((-len(images) % columns, *images.shape[1:]))
    return np.concatenate([images, blank]).reshape(-1, columns, *images.shape[1:])


def _keep_apart(figure):
    """Leaves more space between grids than there is between the images of one."""
    figure.set_layout_engine("compressed", w_pad=0.09, h_pad=0.06)


def _square(axes, images):
    """Draws images [N, h, w] as a grid with about as many rows as columns."""
    _mosaic(axes, _grid(images, int(np.ceil(np.sqrt(len(images))))))


def _mosaic(axes, images, gap=(2, 2), group=(1, 1)):
    """Draws images [rows, columns, h, w] as one; returns the centres of rows and of columns.

    Args:
        gap: units between rows and between columns.
        group: rows and columns that stand together: between such groups the gap is tripled.
    """
    if images.min() < 0 or images.max() > 1:
        found = f"[{images.min():g}, {images.max():g}]"
        raise ValueError(
            f"images must have values in [0, 1]; received values in {found}. Clip or scale them."
        )
    tall, wide = images.shape[2:]
    tops = _starts(len(images), tall, gap[0] * _unit(images), group[0])
    lefts = _starts(images.shape[1], wide, gap[1] * _unit(images), group[1])
    picture = np.zeros((tops[-1] + tall, lefts[-1] + wide))
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            picture[top : top + tall, left : left + wide] = images[row, column]
    axes.imshow(picture, vmin=0, vmax=1)
    _bare(axes)
    return tops + (tall - 1) / 2, lefts + (wide - 1) / 2


def _bare(axes):
    """Takes away ticks, grid and frame."""
    axes.set(xticks=[], yticks=[])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _starts(count, size, gap, group):
    """Returns where each of `count` images begins along one axis, in pixels."""
    places = np.arange(count)
    wider = places // group if group > 1 else 0  # gaps so far that are tripled
    return (size + gap) * places + 2 * gap * wider


def _write(axes, text, x, y):
    axes.text(x, y, text, ha="center", va="center", fontsize=8, color=GREY)
