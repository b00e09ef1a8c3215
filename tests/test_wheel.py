"""The wheel: it holds the whole package, and works where there is no checkout."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Run by a new Python, in a folder that holds nothing, with only the installed package to find.
USE = """
import sys
from pathlib import Path

import numpy as np

import vae_tf
from vae_tf.analysis import classifier

assert Path(vae_tf.__file__).is_relative_to(sys.argv[1]), vae_tf.__file__
rng = np.random.default_rng(0)
images = (rng.random((500, 14, 14)) < 0.2).astype(np.uint8)
data = vae_tf.from_arrays(images, np.arange(500) % 10, name="noise")
recipe = vae_tf.Recipe(updates=4, batch_size=32, learning_rate=1e-3, evaluate_every=2)
vae, history = vae_tf.train(data, recipe, verbose=0)
assert len(history.kl) == 4
for name in ("writeup", "full"):
    assert vae_tf.load_pretrained(name).sample(2).shape == (2, 14, 14)
for name in ("literature", "literature_iwae"):
    assert vae_tf.load_pretrained(name).sample(2).shape == (2, 28, 28)
assert classifier.load_classifier()(images).probabilities.shape == (500, 11)
vae_tf.figures.save(vae_tf.figures.digits(vae.sample(4).numpy(), columns=2), "samples")
vae_tf.export_explorer(vae, data, "page.html")
print(*sorted(path.name for path in Path().iterdir()))
"""


def pip(*arguments):
    """Runs pip without the network; returns what it printed."""
    command = [sys.executable, "-m", "pip", *arguments, "--no-deps", "--no-index", "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not result.returncode, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The path of a wheel, built from a copy of what git has, so that the checkout stays clean."""
    installed = {each.name.lower(): each.version for each in importlib.metadata.distributions()}
    if "pip" not in installed or int(installed["setuptools"].split(".")[0]) < 77:
        pytest.skip("building a wheel needs pip, and setuptools of version 77 or newer")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("wheel")
    for name in listed.stdout.decode().split("\0"):
        wanted = name.startswith("vae_tf/") or "/" not in name
        if name and wanted and (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    pip("wheel", str(folder / "source"), "--no-build-isolation", "--wheel-dir", str(folder))
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package(wheel):
    listed = subprocess.run(
        ["git", "ls-files", "-z", "vae_tf"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == files


@pytest.mark.slow
def test_the_installed_package_works_outside_the_checkout(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip("install", str(wheel), "--target", str(site))
    environment = {name: value for name, value in os.environ.items() if name != "VAE_TF_FIGURES"}
    result = subprocess.run(
        [sys.executable, "-c", USE, str(site)],
        cwd=elsewhere,
        env=environment | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not result.returncode, result.stderr
    assert result.stdout.split() == ["page.html", "samples.pdf", "samples.png"]
