"""What all figures share: the style sheet, `Figure`, `save`, and `figure_of`, which makes one.

Nothing global changes: the style of `vae_tf.mplstyle` holds while a figure is made and while it is
drawn, and no longer.
"""

import base64
import functools
import inspect
import io
from pathlib import Path

import matplotlib.figure
import matplotlib.style
import numpy as np

from ..engine import atomic

STYLE = matplotlib.rc_params_from_file(
    Path(__file__).with_name("vae_tf.mplstyle"), use_default_template=False
)
PALETTE = STYLE["axes.prop_cycle"].by_key()["color"]
BLACK, GREY, PALE = "#000000", "#666666", "#BBBBBB"


class Figure(matplotlib.figure.Figure):
    """A figure that is always drawn in our style, and that notebooks show with no magic line."""

    def __repr__(self):
        return "<Figure>"  # no size: stored notebooks must not depend on fonts

    def savefig(self, *args, **kwargs):
        """As `matplotlib.figure.Figure.savefig`, in our style."""
        with _styled():
            super().savefig(*args, **kwargs)

    def draw(self, renderer):
        """As `matplotlib.figure.Figure.draw`, in our style."""
        with _styled():
            super().draw(renderer)

    def get_tightbbox(self, *args, **kwargs):
        """As `matplotlib.figure.Figure.get_tightbbox`, in our style."""
        with _styled():
            return super().get_tightbbox(*args, **kwargs)

    def _repr_mimebundle_(self, **_):
        png = _rendered(self, "png")
        # Two pixels of the picture on one of the page: sharp on dense screens. The size is in the
        # header of every PNG. `%matplotlib inline` makes a picture as large, and this size holds.
        width, height = np.frombuffer(png[16:24], ">u4").tolist()
        size = {"width": width // 2, "height": height // 2}
        return {"image/png": base64.b64encode(png).decode()}, {"image/png": size}


def save(figure, path):
    """Writes `path`.png and `path`.pdf, each whole or not at all; equal figures give equal bytes.

    Args:
        figure: what a function of `vae_tf.figures` returned, or any figure of Matplotlib's.
        path: without an ending; its folder is made if there is none.

    Returns:
        The two paths.

    Raises:
        TypeError, ValueError: if `figure` is none, or `path` has an ending.
        OSError: if the files cannot be written; what was there is kept.
    """
    path = Path(path)
    if not isinstance(figure, matplotlib.figure.Figure):
        raise TypeError(f"figure must be a matplotlib Figure; received {type(figure).__name__}.")
    if path.suffix.lower() in (".png", ".pdf", ".svg", ".jpg"):
        raise ValueError(f"path must have no ending: PNG and PDF are written; received {path}.")
    contents = {  # both are drawn before either is written
        path.with_name(f"{path.name}.{ending}"): _rendered(figure, ending)
        for ending in ("png", "pdf")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, content in contents.items():
        with atomic.replacing(target) as temporary:
            temporary.write_bytes(content)
    return tuple(contents)


def figure_of(height=3.6, width=6.5, fit=False, **shapes):
    """Turns a function that draws into a given figure into one that makes the figure.

    `draw(figure, a, b)` becomes `draw(a, b, note="")`: it checks the arrays, makes an empty
    `Figure` in our style, has it drawn in, sets the note below it, and returns it.

    Args:
        height, width: in inches.
        fit: whether the height is then cut to what is drawn.
        **shapes: of the arguments that are arrays, such as `images="N h w"`; see `checked`. An
            argument that is None is left alone.
    """

    def decorate(draw):
        signature = inspect.signature(draw)

        @functools.wraps(draw)
        def make(*args, note="", **kwargs):
            with _styled():
                figure = Figure((width, 3 * width if fit else height), layout="constrained")
                given = signature.bind(figure, *args, **kwargs).arguments
                arrays = {name: given[name] for name in shapes if given.get(name) is not None}
                given |= zip(arrays, checked(shapes, **arrays), strict=True)
                draw(**given)
                _finish(figure, note, fit)
            return figure

        note = inspect.Parameter("note", inspect.Parameter.KEYWORD_ONLY, default="")
        parameters = [*list(signature.parameters.values())[1:], note]
        make.__signature__ = signature.replace(parameters=parameters)
        return make

    return decorate


def checked(shapes, **arrays):
    """Returns arguments as arrays, if they are of these shapes and hold finite numbers.

    Args:
        shapes: a text such as "N h w" for each array, by its name, or one for all. One letter or
            word is one length wherever it stands, and a number is that length. "N texts" are N
            texts, of which only the number is checked.
        **arrays: one or more.

    Raises:
        TypeError, ValueError: if they are not; it names what arrived.
    """
    lengths, found = {}, []
    for name, array in arrays.items():
        words = (shapes if isinstance(shapes, str) else shapes[name]).split()
        wanted = [int(word) if word.isdigit() else lengths.get(word, word) for word in words]
        if words[-1] == "texts":
            found.append(_checked_texts(array, wanted[0]))
            continue
        array = np.asarray(array)
        fits = array.ndim == len(wanted) and all(
            isinstance(length, str) or length == received
            for length, received in zip(wanted, array.shape, strict=True)
        )
        if not fits or not array.size:
            wanted = ", ".join(map(str, wanted))
            raise ValueError(f"{name} must be [{wanted}]; received {list(array.shape)}.")
        if array.dtype.kind not in "buif" or not np.isfinite(array).all():
            raise ValueError(f"{name} must hold finite numbers; received {array.dtype} {array}.")
        lengths.update(zip(words, array.shape, strict=True))
        found.append(array)
    return found


def check_count(name, value):
    """Raises a ValueError unless `value` is an int >= 1."""
    if not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be an int >= 1; received {value!r}.")


def latent_name(dimension):
    """Returns how dimension 0, 1, ... of z is written: z₁, z₂, ..."""
    return f"$z_{{{dimension + 1}}}$"


def _checked_texts(texts, count):
    if not np.iterable(texts):
        raise TypeError(f"{count} names are needed; received {texts!r}.")
    if len(texts) != count:
        raise ValueError(f"{count} names are needed; received {len(texts)}: {list(texts)}.")
    return list(texts)


def _styled():
    return matplotlib.style.context(STYLE, after_reset=True)


def _finish(figure, note, fit):
    if fit:
        figure.draw_without_rendering()
        used = figure.get_tightbbox().height + (0.3 if note else 0.1)
        figure.set_figheight(np.ceil(100 * used) / 100)
    if note:  # a label of the figure, not a text, so that the layout makes room for it
        figure.supxlabel(note, x=0.995, ha="right", fontsize=8, color=GREY)
    # The layout moves a little at each drawing. It is settled here, so that all drawings are equal.
    for _ in range(2):
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _rendered(figure, ending):
    """Returns the bytes of a file of this kind, without dates and versions."""
    metadata = {"CreationDate": None} if ending == "pdf" else {"Software": None}
    buffer = io.BytesIO()
    with _styled():
        figure.savefig(buffer, format=ending, metadata=metadata)
    return buffer.getvalue()
