import base64
import functools
import io
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
import pytest
import scipy.special
from matplotlib.colors import same_color

from vae_tf import figures
from vae_tf.figures import curves, style

RNG = np.random.default_rng(0)
UPDATES = np.arange(1, 401)
LOG_LIKELIHOOD = -25 - 110 * np.exp(-UPDATES / 5) + RNG.normal(size=400)
KL = 9 + RNG.normal(size=400) / 10
IMAGES = RNG.integers(0, 2, (23, 14, 14)).astype(np.uint8)
MEANS = RNG.random((23, 14, 14)).astype(np.float32)
DRAWS = 1 - IMAGES
LABELS = np.arange(23) % 10
CODES = RNG.normal(size=(23, 2))
ERRORS = np.array([0.1, 0.2, 0.0])
SETS = ("real digits", "a model", "another")
SHARES = 10 + np.arange(30).reshape(3, 10)

# One call of each function that makes a figure, as (function, arguments).
CALLS = {
    "elbo_terms": (UPDATES, LOG_LIKELIHOOD, KL),
    "first_updates": (KL - LOG_LIKELIHOOD, KL, {"coins": 135.9, "independent pixels": 49.4}),
    "one_latent": (IMAGES[:3], UPDATES[:9], MEANS[0, 0, :9], MEANS[1, :3, :9], MEANS[2, :3, :9],
                   [0.1, 0.25, 2]),
    "log_likelihood_comparison": (UPDATES, LOG_LIKELIHOOD, LOG_LIKELIHOOD - 0.5),
    "digits": (IMAGES,),
    "rows": ((IMAGES, DRAWS), ("these", "those")),
    "binarization": (RNG.random((5, 28, 28)), IMAGES[:5]),
    "reconstructions": (IMAGES, MEANS, DRAWS),
    "samples": (MEANS, DRAWS),
    "traversals": (MEANS[:6].reshape(2, 3, 14, 14), [-1.5, 0, 1.5], [0.5, 2.25]),
    "manifold": (MEANS[:6].reshape(2, 3, 14, 14),),
    "kl_per_dimension": ([0.5, 2.0, 1.0],),
    "gaps": ([1.0, 0.25, 0.5], [0.5, 0.25, 2.0]),
    "one_code": (IMAGES[0], [0.5, -2.0, 0.0], [0.25, 0.125, 1.0], [0.75, 3.5, 0.0], MEANS[0]),
    "shares": ([0.1, 1, 10], [[80, 60, 10], [5, 30, 0.5]], [[1, 2, 1]] * 2, ("one", "two"), "β"),
    "bound_against_samples": ([1, 10, 100], [[-36, -35, -34.5], [-34, -33, -32.5]],
                              [[0.1, 0.2, 0.3]] * 2, ("low", "high")),
    "context": (("a", "b", "c"), [-35.5, -31.25, -135.9], ERRORS, ("ELBO", "exact", "exact")),
    "rate_distortion": ([25, 9, 1.0], [16, 25, 46.0], ("β = 0.1", "1", "10")),
    "scatter": (CODES, LABELS),
    "maps": ([CODES, 3 * CODES], LABELS, ("one", "other")),
    "aggregate": ([-1, 0, 1.0], [[0.2, 0.5, 0.2], [0.3, 0.4, 0.3]], [0.2, 0.4, 0.2], [0.1, 0.25]),
    "decoded": (IMAGES[:3], MEANS[:6].reshape(2, 3, 14, 14), MEANS[:8].reshape(2, 4, 14, 14), "ab"),
    "sizes": (([2, 8], [64, 128]), [[[-3, 0.5], [0, 0]]] * 2, [[[-2, 0.25], [0, 0]]] * 2,
              [[[1, 0.1], [2, 0.2]]] * 2, ("latents", "hidden units"), (8, 128), 100),
    "sample_grids": ([[MEANS[:4], MEANS[4:8]], [None, DRAWS[:4]]], ("one", "two"),
                     ("means", "draws")),
    "confusion": ([SHARES[:, :3], np.diag([100, 90, 80])], ("one", "two")),
    "recognition": (SETS, [97.5, 60, 40.25], ERRORS, SHARES, 0.9),
    "frechet": ([100, 200], [[2, 1], [30, 29], [5, 4.0]], [[0.5, 0.25]] * 3, SETS),
    "precision_recall": ([0.9, 0.5, 0.6], [0.9, 0.25, 0.75], [[0.01, 0.02]] * 3, SETS),
    "nearest_distances": (([0, 1, 1, 3], [0, 0, 2], [5, 5]), SETS),
    "nearest_pairs": (IMAGES[:6].reshape(3, 2, 14, 14), DRAWS[:6].reshape(3, 2, 14, 14),
                      [[0, 1], [2, 3], [4, 5]], SETS),
    "reliability": (([0.5, 0.95], [0.4, 0.9]), ([0.6, 1.0], [0, 0.5]), ([10, 96], [4, 40]),
                    ("as is", "mended")),
    "weights": (-35 + 2 * RNG.normal(size=500),),
}  # fmt: skip


@functools.cache
def make(name, **kwargs):
    return getattr(figures, name)(*CALLS[name], **kwargs)


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def cells(axes, rows, columns, gap=(2, 2), group=(1, 1)):
    """Cuts the drawn image up again, by the positions that the docstrings promise."""
    whole = np.asarray(axes.images[0].get_array())

    def starts(count, space, together):
        found, at = [], 0
        for i in range(count):
            if i:
                at += 14 + space * (3 if together > 1 and i % together == 0 else 1)
            found.append(at)
        return found

    tops, lefts = starts(rows, gap[0], group[0]), starts(columns, gap[1], group[1])
    assert whole.shape == (tops[-1] + 14, lefts[-1] + 14)
    return [[whole[y : y + 14, x : x + 14] for x in lefts] for y in tops]


def test_every_public_function_that_draws_is_called_here():
    assert set(figures.__all__) - {"Figure", "save"} == set(CALLS)
    assert all(getattr(figures, name).__doc__ for name in figures.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_a_figure_comes_back_with_its_note_and_nothing_global_changes(name):
    """Nor is any text below eight points, or anything wider than a page."""
    with matplotlib.rc_context({"font.size": 17.0}):
        before = dict(matplotlib.rcParams)
        figure = make(name, note="5,000-digit sample of MNIST")
        figure.savefig(io.BytesIO(), format="png", dpi=20)
        assert dict(matplotlib.rcParams) == before
        box = figure.get_tightbbox()
    assert isinstance(figure, matplotlib.figure.Figure)
    note = figure.findobj(lambda artist: getattr(artist, "_text", "") == figure.get_supxlabel())
    assert figure.get_supxlabel() == "5,000-digit sample of MNIST"
    assert all(same_color(text.get_color(), style.GREY) for text in note)
    assert {text.get_fontsize() for text in note} == {8}
    assert min(box.x0, box.y0) >= 0
    assert box.x1 <= figure.get_figwidth() <= 6.5
    assert box.y1 <= figure.get_figheight()
    plain = make(name)  # with Matplotlib's own font size
    assert plain.get_supxlabel() == ""
    assert min(text.get_fontsize() for text in plain.findobj(matplotlib.text.Text)) >= 8


def test_the_user_s_style_does_not_reach_a_figure():
    plain = shown(make("gaps"))
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 30}):
        assert shown(figures.gaps(*CALLS["gaps"])) == plain


@pytest.mark.parametrize(
    "name", ["elbo_terms", "first_updates", "log_likelihood_comparison", "kl_per_dimension", "gaps",
             "context", "bound_against_samples", "rate_distortion"]
)  # fmt: skip
def test_axes_name_their_unit(name):
    for axes in make(name).axes:
        assert "nats per image" in axes.get_xlabel() + axes.get_ylabel()


@pytest.mark.parametrize("name", ["elbo_terms", "log_likelihood_comparison"])
def test_curves_are_against_weight_updates(name):
    assert make(name).axes[-1].get_xlabel() == "weight updates"


def test_elbo_terms_draws_each_value_and_the_centred_running_mean():
    figure = figures.elbo_terms(UPDATES, LOG_LIKELIHOOD, KL, window=21)
    above, below = figure.axes
    expected = [LOG_LIKELIHOOD, LOG_LIKELIHOOD - KL, KL]
    lines = [*above.lines, *below.lines]
    assert len(lines) == 6
    for values, single, mean in zip(expected, lines[::2], lines[1::2], strict=True):
        np.testing.assert_array_equal(single.get_xydata(), np.c_[UPDATES, values])
        np.testing.assert_array_equal(mean.get_xdata().round(9), UPDATES[10:-10])
        by_hand = [values[i - 10 : i + 11].mean() for i in range(10, 390)]
        np.testing.assert_allclose(mean.get_ydata(), by_hand, rtol=1e-9)
        assert single.get_alpha() < 0.5
        assert mean.get_alpha() is None
    assert {curves.LOG_LIKELIHOOD, "ELBO", curves.KL} <= set(texts(figure))


def test_the_first_updates_flatten_nothing_and_are_told():
    above, below = make("elbo_terms").axes
    late = LOG_LIKELIHOOD[20:]
    low, high = above.get_ylim()
    assert low > LOG_LIKELIHOOD[0] + 50
    assert low < (late - KL[20:]).min()
    assert high > late.max()
    assert below.get_ylim()[0] == 0
    start, elbo = LOG_LIKELIHOOD[0], LOG_LIKELIHOOD[0] - KL[0]
    assert f"starts below, at −{-start:.0f} and −{-elbo:.0f}" in texts(above)
    assert not [text for text in texts(below) if "starts" in text]


def test_first_updates_stand_on_a_logarithmic_axis_over_named_levels():
    loss, kl, levels = CALLS["first_updates"]
    (axes,) = make("first_updates").axes
    assert axes.get_xscale() == "log"
    assert axes.get_ylim()[0] == 0
    *flat, upper, lower = axes.lines
    assert [line.get_ydata()[0] for line in flat] == list(levels.values())
    np.testing.assert_array_equal(upper.get_xydata(), np.c_[UPDATES, loss])
    np.testing.assert_array_equal(lower.get_xydata(), np.c_[UPDATES, kl])
    assert {"coins: 135.9", "independent pixels: 49.4", "loss", "the KL in it"} <= set(texts(axes))


def test_one_latent_has_a_panel_for_each_image_with_its_gap():
    images, values, prior, truth, posteriors, _ = CALLS["one_latent"]
    panels = [axes for axes in make("one_latent").axes if axes.get_visible()]
    assert len(panels) == 3
    for n, axes in enumerate(panels):
        for line, density in zip(axes.lines, (prior, truth[n], posteriors[n]), strict=True):
            np.testing.assert_array_equal(line.get_xydata(), np.c_[values, density])
        (corner,) = axes.child_axes
        np.testing.assert_array_equal(corner.images[0].get_array(), images[n])
    titles = [axes.get_title() for axes in panels]
    assert titles == ["gap 0.10 nats", "gap 0.25 nats", "gap 2.00 nats"]


def test_a_short_run_keeps_a_short_window():
    single, mean, *_ = figures.elbo_terms(UPDATES[:30], LOG_LIKELIHOOD[:30], KL[:30]).axes[0].lines
    assert len(single.get_xdata()) == 30
    assert len(mean.get_xdata()) == 28


def test_comparison_draws_both_sets_and_their_difference():
    figure = make("log_likelihood_comparison")
    (training, validation), (difference, _) = (axes.lines for axes in figure.axes)
    np.testing.assert_array_equal(training.get_xydata(), np.c_[UPDATES, LOG_LIKELIHOOD])
    np.testing.assert_array_equal(validation.get_ydata(), LOG_LIKELIHOOD - 0.5)
    np.testing.assert_allclose(difference.get_ydata(), 0.5)
    for line, name in ((training, "training"), (validation, "validation")):
        (label,) = [text for text in figure.axes[0].texts if text.get_text() == name]
        assert label.get_color() == line.get_color()
    top, bottom = (t.xy[1] for t in sorted(figure.axes[0].texts[-2:], key=lambda t: -t.xy[1]))
    assert top > bottom


def test_comparison_draws_a_band_of_two_standard_errors_around_the_difference():
    arguments = CALLS["log_likelihood_comparison"]
    _, below = figures.log_likelihood_comparison(*arguments, error=0.4).axes
    (band,) = below.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((-0.3, 1.3))
    low, high = below.get_ylim()
    assert low < -0.3
    assert high > 1.3
    zero = below.lines[-1]
    assert list(zero.get_ydata()) == [0, 0]


def test_labels_of_lines_that_end_together_stand_apart_in_order():
    bounds = np.full((3, 2), -30.0) + np.array([[0.02], [0.0], [0.01]])
    names = ("top", "bottom", "middle")
    figure = figures.bound_against_samples([1, 10], bounds, np.full((3, 2), 1.0), names)
    figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in figure.axes[0].texts}
    assert boxes["bottom"].y1 < boxes["middle"].y0
    assert boxes["middle"].y1 < boxes["top"].y0


def test_digits_stand_row_by_row_with_their_labels_below():
    figure = figures.digits(IMAGES, columns=10, labels=LABELS)
    found = np.concatenate(cells(figure.axes[0], 3, 10, gap=(9, 2)))
    np.testing.assert_array_equal(found[:23], IMAGES)
    assert not np.any(found[23:])
    written = figure.axes[0].texts
    assert [int(text.get_text()) for text in written] == LABELS.tolist()
    for i, text in enumerate(written):
        x, y = text.get_position()
        assert x == 16 * (i % 10) + 6.5
        assert 14 <= y - 23 * (i // 10) <= 23


def test_digits_are_ink_on_paper_without_ticks():
    axes = make("digits").axes[0]
    image = axes.images[0]
    np.testing.assert_array_equal(image.to_rgba([0.0, 1.0])[:, :3], [[1, 1, 1], [0, 0, 0]])
    assert len(axes.get_xticks()) == len(axes.get_yticks()) == 0


def test_rows_carry_their_names_and_go_on_below():
    axes = figures.rows((IMAGES, DRAWS), ("these", "those"), columns=12, group=4).axes[0]
    found = cells(axes, 4, 12, group=(2, 4))
    np.testing.assert_array_equal(found[0] + found[2][:11], IMAGES)
    np.testing.assert_array_equal(found[1] + found[3][:11], DRAWS)
    assert tick_labels(axes.yaxis) == ["these", "those"] * 2
    np.testing.assert_array_equal(axes.get_yticks(), [6.5, 22.5, 42.5, 58.5])


def test_binarization_shows_all_three_at_one_size():
    grey, binary = CALLS["binarization"]
    whole = np.asarray(make("binarization").axes[0].images[0].get_array())
    assert whole.shape == (3 * 32 - 4, 5 * 32 - 4)  # gaps grow with the images
    for i in range(5):
        original, mean, image = (whole[y : y + 28, 32 * i : 32 * i + 28] for y in (0, 32, 64))
        np.testing.assert_allclose(original, grey[i])
        for y, x in ((0, 0), (1, 1)):
            np.testing.assert_array_equal(image[y::2, x::2], binary[i])
            blocks = [grey[i][a::2, b::2] for a in (0, 1) for b in (0, 1)]
            np.testing.assert_allclose(mean[y::2, x::2], np.mean(blocks, axis=0))
    names = ["28×28, grey", "14×14, means of 2×2", "14×14, binary"]
    assert tick_labels(make("binarization").axes[0].yaxis) == names


def test_reconstructions_group_the_first_of_each_class():
    figure = figures.reconstructions(IMAGES, MEANS, DRAWS, LABELS, per_class=5)
    found = cells(figure.axes[0], 3, 20, group=(3, 2))  # two of each: there are no more of 3 to 9
    order = [i for label in range(10) for i in (label, label + 10)]
    for drawn, images in zip(found, (IMAGES, MEANS, DRAWS), strict=True):
        np.testing.assert_array_equal(drawn, images[order])
    assert tick_labels(figure.axes[0].yaxis) == ["original", "mean of p(x|z)", "draw from p(x|z)"]


def test_reconstructions_without_labels_show_all():
    found = cells(make("reconstructions").axes[0], 6, 20, group=(3, 1))
    for row, images in enumerate((IMAGES, MEANS, DRAWS)):
        np.testing.assert_array_equal(found[row] + found[row + 3][:3], images)


def test_samples_show_means_at_the_left_and_draws_of_the_same_codes_at_the_right():
    left, right = make("samples").axes
    np.testing.assert_array_equal(np.concatenate(cells(left, 5, 5))[:23], MEANS)
    np.testing.assert_array_equal(np.concatenate(cells(right, 5, 5))[:23], DRAWS)
    assert "means" in left.get_title()
    assert "draws" in right.get_title()


def test_traversals_are_ordered_by_kl():
    images, *_ = CALLS["traversals"]
    axes = make("traversals").axes[0]
    np.testing.assert_array_equal(cells(axes, 2, 3), images[::-1])
    assert tick_labels(axes.yaxis) == ["$z_{2}$  2.25 nats", "$z_{1}$  0.50 nats"]
    assert tick_labels(axes.xaxis) == ["−1.5", "0.0", "1.5"]
    assert np.all(np.diff(axes.get_yticks()) > 0)
    assert axes.yaxis_inverted()  # so the first row stands on top


def test_manifold_has_no_gaps():
    (images,) = CALLS["manifold"]
    np.testing.assert_array_equal(cells(make("manifold").axes[0], 2, 3, gap=(0, 0)), images)


def test_kl_per_dimension_is_ordered():
    axes = make("kl_per_dimension").axes[0]
    assert [bar.get_height() for bar in axes.patches] == [2.0, 1.0, 0.5]
    assert tick_labels(axes.xaxis) == ["$z_{2}$", "$z_{3}$", "$z_{1}$"]


@pytest.mark.parametrize("names", [None, ("a", "b", "c")])
def test_gaps_are_stacked_in_the_order_of_their_sum(names):
    axes = make("gaps", names=names).axes[0]
    low, high = axes.containers
    assert [bar.get_height() for bar in low] == [0.25, 1.0, 0.5]
    assert [bar.get_y() for bar in high] == [0.25, 1.0, 0.5]
    assert [bar.get_height() for bar in high] == [0.25, 0.5, 2.0]
    assert tick_labels(axes.xaxis) == ([] if names is None else ["b", "a", "c"])
    assert axes.get_xlabel() == ("3 images, by their gap" if names is None else "")
    assert "approximation" in low.get_label()
    assert "amortization" in high.get_label()


def test_bound_against_samples_has_bands_of_two_standard_errors():
    samples, bounds, errors, _ = CALLS["bound_against_samples"]
    axes = make("bound_against_samples").axes[0]
    assert axes.get_xscale() == "log"
    for line, band, bound, error in zip(axes.lines, axes.collections, bounds, errors, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.c_[samples, bound])
        (path,) = band.get_paths()
        for k, value, deviation in zip(samples, bound, error, strict=True):
            heights = path.vertices[path.vertices[:, 0] == k, 1]
            assert heights.min() == pytest.approx(value - 2 * deviation)
            assert heights.max() == pytest.approx(value + 2 * deviation)


def test_labels_of_several_lines_stand_apart():
    names = ("one\nof two", "other\nof two", "third")
    bounds = np.full((3, 2), -30.0) + np.array([[0.0], [0.01], [0.02]])
    figure = figures.bound_against_samples([1, 10], bounds, np.full((3, 2), 1.0), names)
    figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in figure.axes[0].texts}
    first, second, third = (boxes[name] for name in names)
    assert first.y1 < second.y0
    assert second.y1 < third.y0


def test_a_label_far_from_others_stands_where_its_line_ends():
    bounds = [[-30, -30], [-30, -30.01], [-20, -20]]
    figure = figures.bound_against_samples([1, 10], bounds, np.ones((3, 2)), ("a", "b", "far"))
    (far,) = [text for text in figure.axes[0].texts if text.get_text() == "far"]
    assert far.xy == (10, pytest.approx(-20))


def test_weights_show_draws_what_they_weigh_and_both_bounds():
    (log_weights,) = CALLS["weights"]
    axes = make("weights").axes[0]
    bound = scipy.special.logsumexp(log_weights) - np.log(500)
    assert [line.get_xdata()[0] for line in axes.lines] == pytest.approx(
        [log_weights.mean(), bound]
    )
    draws, sums = (patch.get_xy() for patch in axes.patches)  # outlines of the two histograms
    assert draws[:, 1].max() < sums[:, 1].max()
    assert sums[np.argmax(sums[:, 1]), 0] > draws[np.argmax(draws[:, 1]), 0]
    assert f"{bound:.2f}".replace("-", "−") in axes.texts[1].get_text()


def test_context_sorts_models_and_writes_their_values():
    figure = make("context", lowest=-50)
    axes = figure.axes[0]
    assert tick_labels(axes.yaxis) == ["c", "a", "b"]
    shown = [text.get_text() for text in axes.texts]
    assert shown == ["−135.90", "−35.50 ± 0.10", "−31.25 ± 0.20"]
    dots = [container.lines[0] for container in axes.containers]
    assert [float(dot.get_xdata()[0]) for dot in dots] == [-50, -35.5, -31.25]
    assert [dot.get_marker() for dot in dots] == ["<", "o", "o"]
    assert dots[0].get_color() == dots[2].get_color() != dots[1].get_color()
    ends = [container.lines[2][0].get_segments()[0][:, 0] for container in axes.containers]
    np.testing.assert_allclose(ends[1:], [[-35.7, -35.3], [-31.65, -30.85]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ELBO", "exact"]


def test_context_takes_other_values():
    axes = make("context", label="accuracy (%)", decimals=1).axes[0]
    assert axes.get_xlabel() == "accuracy (%)"
    assert axes.texts[1].get_text() == "−35.5 ± 0.1"


def test_losses_of_densities_may_be_below_zero():
    updates = np.arange(1, 101)
    loss, kl = 20 / updates**0.5 - 400, 20 - 15 / updates**0.5
    for levels in ({}, {"Gaussian": -300.0}):
        (axes,) = figures.first_updates(loss, kl, levels).axes
        low, high = axes.get_ylim()
        assert low < loss.min() < kl.max() < high
        assert not [text.get_text() for text in axes.texts if "-" in text.get_text()]
    axes = figures.rate_distortion([2, 5], [-300, -340], ("a", "b")).axes[0]
    assert [text for text in texts(axes) if text.startswith("ELBO 3")]
    axes = figures.context(("a",), [0.0], [0.1], ("g",)).axes[0]
    assert "0.00 ± 0.10" in texts(axes)
    axes = figures.context(("exact",), [-135.86], [1e-15], ("g",)).axes[0]
    assert "−135.86" in texts(axes)


def test_equal_sets_are_no_distance_apart_and_drawn_at_the_edge():
    figure = figures.frechet(
        [10, 20], [[2.0, 1.0], [0.0, 0.0]], [[0.1, 0.1], [0.0, 0.0]], ("a", "b")
    )
    assert "b: 0" in texts(figure.axes[0])
    box, page = figure.get_tightbbox(), figure.bbox_inches
    assert page.y0 - 0.1 < box.y0 < box.y1 < page.y1 + 0.1  # nothing lies far below the axis


def test_names_may_be_equal_and_many_latents_are_told_apart():
    axes = figures.rows((IMAGES, DRAWS, MEANS), ("a", "a", "shapes"), columns=23).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "a", "shapes"]
    axes = figures.kl_per_dimension(np.arange(64.0)).axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert len(labels) == 32
    assert labels[:2] == ["$z_{64}$", "$z_{62}$"]


def test_rate_distortion_has_diagonals_where_the_elbo_is_constant():
    axes = make("rate_distortion").axes[0]
    curve, *diagonals = axes.lines
    np.testing.assert_array_equal(curve.get_xydata(), np.c_[[25, 9, 1], [16, 25, 46]])
    labels = [text for text in axes.texts if text.get_text().startswith("ELBO")]
    assert len(diagonals) == len(labels) >= 3
    for line, label in zip(diagonals, labels, strict=True):
        assert line.get_slope() == -1
        assert sum(line.get_xy1()) == pytest.approx(float(label.get_text()[len("ELBO −") :]))
        assert axes.get_ylim()[0] <= label.xy[1] <= axes.get_ylim()[1]
    points = {t.get_text(): t.xy for t in axes.texts if t not in labels}
    assert points == {"β = 0.1": (25, 16), "1": (9, 25), "10": (1, 46)}


def test_scatter_draws_each_class_as_its_numeral():
    axes = make("scatter", axis_names=("across", "up")).axes[0]
    assert len(axes.collections) == 10
    for label, drawn in enumerate(axes.collections):
        np.testing.assert_array_equal(drawn.get_offsets(), CODES[label == LABELS])
        assert same_color(drawn.get_facecolor()[0], style.PALETTE[label])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("across", "up")
    assert len({tuple(matplotlib.colors.to_rgb(color)) for color in style.PALETTE}) == 10


def test_maps_show_all_points_in_their_class_s_colour():
    every = make("maps").axes
    assert [axes.get_title() for axes in every] == ["one", "other"]
    for axes, points in zip(every, (CODES, 3 * CODES), strict=True):
        for label, (drawn, text) in enumerate(zip(axes.collections, axes.texts, strict=True)):
            expected = points[label == LABELS]
            np.testing.assert_array_equal(drawn.get_offsets(), expected)
            assert text.get_text() == str(label)
            np.testing.assert_allclose(text.get_position(), np.median(expected, axis=0))
            assert same_color(text.get_color(), drawn.get_facecolor()[0][:3])


@pytest.mark.parametrize("name", ["scatter", "maps"])
def test_data_may_have_no_classes_or_more_than_ten(name):
    points = CODES if name == "scatter" else CODES[None]
    rest = () if name == "scatter" else (("codes",),)
    (axes,) = getattr(figures, name)(points, None, *rest).axes
    (drawn,) = axes.collections
    np.testing.assert_array_equal(drawn.get_offsets(), CODES)
    assert not axes.texts
    (axes,) = getattr(figures, name)(points, np.arange(23), *rest).axes
    colors = [drawn.get_facecolor()[0] for drawn in axes.collections]
    assert len(colors) == 23
    assert same_color(colors[3], colors[13])
    assert not same_color(colors[3], colors[4])


@pytest.mark.parametrize("shape", [(28, 28), (10, 21), (5, 3)])
def test_grids_take_images_of_any_size(shape):
    height, width = shape
    unit = {28: 2, 10: 2, 5: 1}[height]  # gaps are of 2 units, and 9 where labels stand
    images = RNG.random((6, *shape))
    labels = [f"shirt {i}" for i in range(6)]
    (axes,) = figures.digits(images, columns=3, labels=labels).axes
    picture = np.asarray(axes.images[0].get_array())
    down, across = height + 9 * unit, width + 2 * unit
    assert picture.shape == (down + height, 2 * across + width)
    for i, (image, text) in enumerate(zip(images, axes.texts, strict=True)):
        top, left = down * (i // 3), across * (i % 3)
        np.testing.assert_array_equal(picture[top : top + height, left : left + width], image)
        assert text.get_text() == labels[i]
        assert top + height <= text.get_position()[1] <= top + down
    figure = figures.nearest_pairs(images[None], images[None, ::-1], [range(6)], ("shirts",))
    (_, match), texts = figure.axes[0].get_yticks(), figure.axes[0].texts
    assert all(text.get_position()[1] > match + height / 2 for text in texts)


def test_aggregate_draws_the_furthest_from_the_prior_first():
    every = make("aggregate").axes
    assert [axes.get_title() for axes in every] == ["$z_{2}$  0.250 nats", "$z_{1}$  0.100 nats"]
    for axes, density in zip(every, ([0.3, 0.4, 0.3], [0.2, 0.5, 0.2]), strict=True):
        prior, curve = axes.lines
        np.testing.assert_array_equal(prior.get_ydata(), [0.2, 0.4, 0.2])
        np.testing.assert_array_equal(curve.get_ydata(), density)
        assert axes.get_ylim()[1] > 0.5


def test_one_code_has_each_latent_s_range_before_the_prior_s():
    left, axes, right = make("one_code").axes
    np.testing.assert_array_equal(left.images[0].get_array(), IMAGES[0])
    np.testing.assert_array_equal(right.images[0].get_array(), MEANS[0])
    assert tick_labels(axes.yaxis) == ["$z_{2}$", "$z_{1}$", "$z_{3}$"]  # the costliest first
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # and on top
    assert [text.get_text() for text in axes.texts] == ["3.50 nats", "0.75 nats", "0.00 nats"]
    both = [container.lines[2][0].get_segments() for container in axes.containers]
    for segments, times in zip(both, (2, 1), strict=True):
        ends = [segment[:, 0] for segment in segments]
        expected = [[-2 - 0.125 * times, -2 + 0.125 * times], [0.5 - 0.25 * times,
                    0.5 + 0.25 * times], [-times, times]]  # fmt: skip
        np.testing.assert_allclose(ends, expected)
    bands = [patch.get_xy()[0] for patch in axes.patches]
    widths = [patch.get_width() for patch in axes.patches]
    assert list(zip(bands, widths, strict=True)) == [(-2, 4), (-1, 2)]


def test_shares_have_bands_of_two_standard_errors_and_a_tick_for_each_value():
    figure = make("shares")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert tick_labels(axes.xaxis) == ["0.1", "1", "10"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]
    band = axes.collections[1].get_paths()[0].vertices[:, 1]
    assert band.max() == 34
    assert band.min() == 0  # a share cannot be below


def test_decoded_stands_below_its_digits_in_rows_of_models():
    left, right = make("decoded").axes
    assert tick_labels(left.yaxis) == ["images", "a", "b"]
    found = np.array(cells(left, 3, 3, gap=(3, 2)))
    np.testing.assert_array_equal(found[0], IMAGES[:3])
    np.testing.assert_array_equal(found[1:], MEANS[:6].reshape(2, 3, 14, 14))
    samples = np.array(cells(right, 3, 4, gap=(3, 2)))
    assert not samples[0].any()
    np.testing.assert_array_equal(samples[1:], MEANS[:8].reshape(2, 4, 14, 14))


def test_sizes_draw_differences_above_gaps_with_bars_of_two_standard_errors():
    figure = make("sizes")
    above, below = figure.axes[0], figure.axes[2]
    bars = [(c.lines[0].get_ydata(), c.lines[2][0].get_segments()) for c in above.containers]
    np.testing.assert_array_equal([values for values, _ in bars], [[-3, 0], [-2, 0]])
    np.testing.assert_allclose(bars[0][1][0][:, 1], [-4, -2])
    np.testing.assert_allclose(below.containers[0].lines[2][0].get_segments()[1][:, 1], [1.6, 2.4])
    assert below.get_ylim()[0] == 0
    assert tick_labels(below.xaxis) == ["2", "8"]
    legend = [text.get_text() for text in above.get_legend().get_texts()]
    assert legend == ["ELBO", "bound, K = 100"]


def test_sample_grids_stand_in_rows_and_columns():
    panels, names, row_names = CALLS["sample_grids"]
    figure = make("sample_grids", note="note")
    for axes, images in zip(figure.axes, [*panels[0], *panels[1]], strict=True):
        if images is None:
            assert not axes.images
        else:
            np.testing.assert_array_equal(np.concatenate(cells(axes, 2, 2)), images)
        assert not tick_labels(axes.xaxis)
    assert [axes.get_title() for axes in figure.axes] == [*names, "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == [row_names[0], "", row_names[1], ""]


def test_recognition_shows_confident_shares_and_those_of_classes():
    left, right = make("recognition").axes
    assert tick_labels(left.yaxis) == list(SETS)
    assert right.get_ylim() == left.get_ylim() == (2.5, -0.5)  # so the first stands on top
    for y, (dot, share, error) in enumerate(
        zip(left.containers, [97.5, 60, 40.25], ERRORS, strict=True)
    ):
        assert dot.lines[0].get_xydata().tolist() == [[share, y]]
        ends = dot.lines[2][0].get_segments()[0][:, 0]
        np.testing.assert_allclose(ends, [share - 2 * error, share + 2 * error])
    assert [t.get_text() for t in left.texts] == ["97.5 ± 0.1", "60.0 ± 0.2", "40.2 ± 0.0"]
    assert "above 0.9 (%)" in left.get_xlabel()
    np.testing.assert_array_equal(right.images[0].get_array(), SHARES)
    assert [t.get_text() for t in right.texts] == [str(share) for share in SHARES.flat]


def test_confusion_writes_shares_and_colours_what_is_wrong():
    shares, names = CALLS["confusion"]
    for axes, table, name in zip(make("confusion").axes, shares, names, strict=True):
        colored = axes.images[0].get_array()
        assert not np.diag(colored).any()
        np.testing.assert_array_equal(colored + np.diag(np.diag(table)), table)
        assert axes.images[0].get_clim() == (0, 31)
        written = {text.get_position(): text.get_text() for text in axes.texts}
        assert written == {(x, y): f"{v}" for (y, x), v in np.ndenumerate(table) if v}
        assert tick_labels(axes.xaxis) == ["0", "1", "2"]
        assert (axes.get_title(), axes.get_xlabel()) == (name, "read as (%)")


def test_frechet_shows_bias_and_floor():
    counts, distances, errors, _ = CALLS["frechet"]
    axes = make("frechet").axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert tick_labels(axes.xaxis) == ["100", "200"]
    for line, band, values, error in zip(
        axes.lines, axes.collections, distances, errors, strict=True
    ):
        np.testing.assert_array_equal(line.get_xydata(), np.c_[counts, values])
        heights = band.get_paths()[0].vertices
        heights = heights[heights[:, 0] == 200, 1]
        assert heights.min() == pytest.approx(values[1] - 2 * error[1])
        assert heights.max() == pytest.approx(values[1] + 2 * error[1])
    assert same_color(axes.lines[0].get_color(), style.BLACK)
    assert sorted(text.get_text() for text in axes.texts) == [
        "a model: 29",
        "another: 4",
        "real digits: 1",
    ]


def test_labels_beside_a_logarithmic_axis_stand_where_their_lines_end():
    axes = make("frechet").axes[0]
    for text in axes.texts:
        assert text.xy[1] == pytest.approx(float(text.get_text().split(": ")[1]), rel=0.05)


def test_precision_recall_has_a_dot_and_two_bars_for_each_set():
    precision, recall, *_ = CALLS["precision_recall"]
    figure = make("precision_recall")
    axes = figure.axes[0]
    for dot, x, y in zip(axes.containers, precision, recall, strict=True):
        assert dot.lines[0].get_xydata().tolist() == [[x, y]]
        across, up = (bars.get_segments()[0] for bars in dot.lines[2])
        np.testing.assert_allclose(across, [[x - 0.02, y], [x + 0.02, y]])
        np.testing.assert_allclose(up, [[x, y - 0.04], [x, y + 0.04]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(SETS)
    assert len({dot.lines[0].get_marker() for dot in axes.containers}) == len(SETS)


def test_nearest_distances_are_shares_within_each_distance():
    axes = make("nearest_distances").axes[0]
    expected = [
        [25, 75, 75, 100, 100, 100, 100],
        [200 / 3, 200 / 3, 100, 100, 100, 100, 100],
        [0, 0, 0, 0, 0, 100, 100],
    ]
    for line, shares in zip(axes.lines, expected, strict=True):
        np.testing.assert_allclose(line.get_ydata(), shares)
        np.testing.assert_array_equal(line.get_xdata(), range(7))
        assert line.get_drawstyle() == "steps-post"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["real digits: 25.0 % at 0", "a model: 66.7 % at 0", "another: 0.0 % at 0"]


def test_nearest_pairs_stand_one_above_the_other_with_their_distance():
    images, matches, distances, _ = CALLS["nearest_pairs"]
    axes = make("nearest_pairs").axes[0]
    found = cells(axes, 6, 2, gap=(5, 2), group=(2, 1))
    np.testing.assert_array_equal(found[::2], images)
    np.testing.assert_array_equal(found[1::2], matches)
    assert [float(text.get_text()) for text in axes.texts] == np.ravel(distances).tolist()
    for text, match in zip(axes.texts, np.repeat(axes.get_yticks()[1::2], 2), strict=True):
        assert match + 7 < text.get_position()[1] < match + 14
    assert tick_labels(axes.yaxis)[::2] == list(SETS)


def test_reliability_shows_how_often_the_classifier_is_right():
    above, below = make("reliability").axes
    diagonal = above.lines[0]
    assert (diagonal.get_xy1(), diagonal.get_slope()) == ((0, 0), 1)
    confidence, accuracy, counts, names = CALLS["reliability"]
    drawn = zip(above.containers, below.lines, confidence, accuracy, counts, strict=True)
    for curve, line, x, y, n in drawn:
        enough = np.array(n) >= 10
        np.testing.assert_array_equal(curve.lines[0].get_xydata(), np.c_[x, y][enough])
        np.testing.assert_array_equal(line.get_xydata(), np.c_[x, n])
    ends = above.containers[0].lines[2][0].get_segments()[1][:, 1]  # 96 of 96 are right
    np.testing.assert_allclose(ends, 0.98 + 2 * np.sqrt(0.98 * 0.02 / 100) * np.array([-1, 1]))
    assert [text.get_text() for text in above.get_legend().get_texts()] == list(names)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("elbo_terms", (UPDATES, LOG_LIKELIHOOD, KL[1:]), r"kl must be \[400\]; received \[399\]"),
        ("elbo_terms", (UPDATES, LOG_LIKELIHOOD, KL, 0), "window must be an int >= 1; received 0"),
        ("elbo_terms", ([], [], []), r"updates must be \[N\]; received \[0\]"),
        ("elbo_terms", ([1, 2], [1, np.nan], [1, 2]), "log_likelihood must hold finite numbers"),
        ("elbo_terms", ([1, 2], ["a", "b"], [1, 2]), "log_likelihood must hold finite numbers"),
        ("log_likelihood_comparison", ([1], [1], [[1]]), r"validation must be \[1\]; received"),
        ("weights", (np.ones(3),), "log_weights must differ"),
        ("digits", (IMAGES[0],), r"images must be \[N, h, w\]; received \[14, 14\]"),
        ("digits", (IMAGES * 255,), r"values in \[0, 1\]; received values in \[0, 255\]"),
        ("digits", (IMAGES, 20, LABELS[1:]), "23 names are needed; received 22"),
        ("rows", ((IMAGES, DRAWS), ("one",)), "2 names are needed; received 1"),
        ("rows", ((IMAGES, DRAWS[:3]), ("a", "b")), r"images\[1\] must be \[23, .*received \[3,"),
        ("binarization", (IMAGES, IMAGES[:3]), r"images must be \[23, h, w\]; received \[3,"),
        ("binarization", (np.ones((23, 28, 21)), IMAGES), "as wide as images; received 28x21 and"),
        ("reconstructions", (IMAGES, MEANS[:, :13], DRAWS), r"means must be \[23, 14, 14\]"),
        ("reconstructions", (IMAGES, MEANS, DRAWS, LABELS[:3]), r"labels must be \[23\]"),
        ("reconstructions", (IMAGES, MEANS, DRAWS, LABELS, 0), "per_class must be an int >= 1"),
        ("samples", (MEANS, DRAWS[:3]), r"draws must be \[23, 14, 14\]; received \[3, 14, 14\]"),
        ("traversals", (MEANS[None], [1.0], [1.0]), r"values must be \[23\]; received \[1\]"),
        ("manifold", (MEANS,), r"images must be \[rows, columns, h, w\]; received \[23, 14, 14\]"),
        ("kl_per_dimension", ([[1.0]],), r"kl must be \[L\]; received \[1, 1\]"),
        ("gaps", ([1.0], [1.0, 2.0]), r"amortization must be \[1\]; received \[2\]"),
        ("gaps", ([1.0], [1.0], ("a", "b")), "1 names are needed; received 2"),
        ("bound_against_samples", ([1], [[1, 2]], [[1, 2]], "a"), r"bounds must be \[M, 1\]"),
        ("bound_against_samples", ([1], [[1]], [[1]], ("a", "b")), "1 names are needed"),
        ("context", (("a", "b"), [1.0], [1.0], ("g",)), "1 names are needed; received 2"),
        ("context", (("a",), [1.0], [1.0], ("g", "h")), "1 names are needed; received 2"),
        ("rate_distortion", ([1], [1, 2], "a"), r"distortion must be \[1\]; received \[2\]"),
        ("rate_distortion", ([1], [1], "ab"), "1 names are needed; received 2"),
        ("scatter", (MEANS[:, 0, :3], LABELS), r"points must be \[N, 2\]; received \[23, 3\]"),
        ("scatter", (CODES, LABELS - 1), "labels must be ints >= 0; received"),
        ("maps", (CODES[None], LABELS, "ab"), "1 names are needed; received 2"),
        ("maps", (CODES[None], LABELS / 2, "a"), "labels must be ints >= 0; received"),
        ("aggregate", ([1], [[1]], [1, 2], [1]), r"prior must be \[1\]; received \[2\]"),
        ("decoded", (IMAGES, MEANS, MEANS, "a"), r"reconstructions must be \[M, 23, 14, 14\]"),
        ("sizes", ([[1]], [[[1, 1]]], [[[1, 1]]], [[1]], "a", [1], 1), r"gap must be \[1, 2\]"),
        ("sizes", ([[1]], [[[1, 1]]], [[[1, 1]]], [[1]], "ab", [1], 1), "1 names are needed"),
        ("sample_grids", (MEANS[None], "a", "b"), "23 names are needed; received 1"),
        ("sample_grids", (MEANS[None, :1], "a", "b"), r"panels must be \[N, h, w\]; received \[14"),
        ("sample_grids", (MEANS[None, None], "a", "bc"), "1 names are needed; received 2"),
        ("confusion", ([[[1, 2]]], "a"), r"shares must be \[M, C, 1\]; received \[1, 1, 2\]"),
        ("recognition", ("ab", [1, 2], [1, 2], [[1]], 0.9), r"shares must be \[2, C\]; received"),
        ("frechet", ([1, 2], [[1, 2]], [[1]], "a"), r"errors must be \[1, 2\]; received \[1, 1\]"),
        ("precision_recall", ([1], [1], [1], "a"), r"errors must be \[1, 2\]; received \[1\]"),
        ("nearest_distances", (([1], []), "ab"), r"distances must be \[N\]; received \[0\]"),
        ("nearest_pairs", (IMAGES[None], DRAWS[None], [[1]], "a"), r"distances must be \[1, 23\]"),
        ("reliability", (([1],), ([1],), ([1],), "ab"), "1 names are needed; received 2"),
        ("reliability", (([1],), ([1, 2],), ([1],), "a"), r"accuracy must be \[1\]; received"),
    ],
)  # fmt: skip
def test_errors_name_what_arrived(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(figures, name)(*arguments)


def shown(figure):
    bundle, metadata = figure._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) == set(metadata) == {"image/png"}
    return base64.b64decode(bundle["image/png"]), metadata["image/png"]


def test_notebooks_show_half_the_pixels_of_a_png():
    data, size = shown(make("samples"))
    height, width = matplotlib.image.imread(io.BytesIO(data)).shape[:2]
    assert size == {"width": width // 2, "height": height // 2}
    assert 600 <= size["width"] <= 660


def test_notebooks_show_the_same_with_inline_plots_and_without():
    display = pytest.importorskip("IPython.core.formatters").DisplayFormatter()
    figure = make("elbo_terms")
    first, metadata = display.format(figure)
    assert base64.b64decode(first["image/png"]) == shown(figure)[0]
    assert first["text/plain"] == "<Figure>"  # no size, which would depend on fonts
    # What the line `%matplotlib inline` sets up:
    print_figure = pytest.importorskip("IPython.core.pylabtools").print_figure
    inline = functools.partial(print_figure, fmt="png", base64=True)
    display.formatters["image/png"].for_type(matplotlib.figure.Figure, inline)
    with matplotlib.rc_context({"savefig.pad_inches": 0.04}):
        second, again = display.format(figure)
    assert metadata == again
    one, other = (
        matplotlib.image.imread(io.BytesIO(base64.b64decode(bundle["image/png"])))
        for bundle in (first, second)
    )
    np.testing.assert_array_equal(one, other)


def test_save_writes_both_files_and_the_same_bytes_again(tmp_path):
    figure = make("elbo_terms")
    shown(figure)
    first = figures.save(figure, tmp_path / "new" / "1_elbo.terms")
    assert [path.name for path in first] == ["1_elbo.terms.png", "1_elbo.terms.pdf"]
    again = figures.save(figures.elbo_terms(*CALLS["elbo_terms"]), str(tmp_path / "again"))
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert first[0].read_bytes().startswith(b"\x89PNG")
    pdf = first[1].read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    assert b"/CIDFontType2" in pdf or b"/TrueType" in pdf  # type 42
    assert b"/Type3" not in pdf
    assert len(list(tmp_path.rglob("*.*"))) == 4


def test_bytes_are_the_same_in_another_process(tmp_path):
    code = (
        "import sys, types, hashlib\n"
        "sys.modules['vae_tf'] = package = types.ModuleType('vae_tf')\n"  # without TensorFlow
        "package.__path__ = [sys.argv[1]]\n"
        "from vae_tf import figures\n"
        "assert not {'matplotlib.pyplot', 'tensorflow'} & set(sys.modules)\n"
        "figure = figures.gaps([1.0, 0.25], [0.5, 0.25], note='note')\n"
        "print([hashlib.sha256(p.read_bytes()).hexdigest()"
        " for p in figures.save(figure, sys.argv[2])])\n"
    )
    command = [sys.executable, "-c", code, Path(figures.__file__).parent, tmp_path / "figure"]
    outputs = {
        subprocess.run(
            command,
            env=os.environ | {"PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1
    assert len(outputs.pop()) > 128


@pytest.mark.parametrize("broken", ["replace", "write", "draw"])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch, broken):
    target = tmp_path / "figure.png"
    target.write_bytes(b"before")
    figure = figures.kl_per_dimension([1.0])

    def fail(*_, **__):
        raise OSError("no space left")

    def write_half(path, data):
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
        fail()

    if broken == "replace":
        monkeypatch.setattr("os.replace", fail)
    elif broken == "write":
        monkeypatch.setattr(Path, "write_bytes", write_half)
    else:
        monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="no space left"):
        figures.save(figure, tmp_path / "figure")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["figure.png"]
    assert target.read_bytes() == b"before"


def test_save_takes_a_figure_of_anybody_s(tmp_path):
    figure = matplotlib.figure.Figure()
    figure.subplots().plot([1, 2])
    assert all(path.stat().st_size for path in figures.save(figure, tmp_path / "theirs"))
