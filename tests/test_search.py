"""Searches: what a trial is worth, who may join, what survives, and the command for it all."""

import collections
import dataclasses
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

import vae_tf
from vae_tf import VAE, Recipe

optuna = pytest.importorskip("optuna", reason="searches need the extra `sweeps`")

from optuna.distributions import CategoricalDistribution, FloatDistribution  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

from vae_tf.analysis import search  # noqa: E402
from vae_tf.analysis.search import Search, open_study, ranking, work  # noqa: E402

ROOT = Path(__file__).parent.parent
SPACE = {
    "latent_dim": CategoricalDistribution([2, 3]),
    "hidden_units": CategoricalDistribution([7, 9]),
    "learning_rate": FloatDistribution(1e-3, 1e-1, log=True),
    "beta": FloatDistribution(0.5, 2.0, log=True),
}
SETTING = {"latent_dim": 3, "hidden_units": 7, "learning_rate": 5e-3, "beta": 2.0}


@pytest.fixture(scope="module")
def data(digits):
    return vae_tf.from_arrays(digits.train.images, name="patterns")


@pytest.fixture
def tiny(data):
    return Search(data, Recipe(updates=20, evaluate_every=10), SPACE, num_samples=5, seed=3)


def pretended(setting, directory=None):
    """Bounds of four images, without a training: best at a rate of 0.01 and a β of 1."""
    distance = math.log(setting["learning_rate"] / 0.01) ** 2 + math.log(setting["beta"]) ** 2
    return np.array([-30.0, -31.0, -35.0, -40.0]) - distance / setting["latent_dim"]


@pytest.fixture
def quick(data):
    """A search whose trials take no time."""

    class Quick(Search):
        bounds = staticmethod(pretended)

    return Quick(data, space=SPACE)


@pytest.fixture
def study(quick, tmp_path):
    return open_study(tmp_path / "journal", quick)


def turns(count):
    """What lets a worker look so many times."""
    return iter([True] * count + [False]).__next__


def states(study):
    return collections.Counter(trial.state.name for trial in study.get_trials())


# What a trial is.


def test_a_trial_is_worth_the_bound_of_what_is_trained_as_it_says(tiny, tmp_path):
    recipe = Recipe(updates=20, evaluate_every=10, learning_rate=5e-3, beta=2.0)
    vae, _ = vae_tf.train(tiny.data, recipe, VAE(3, 7, seed=3), verbose=0)
    expected = vae_tf.evaluate(vae, tiny.data.validation.images, 5).marginal_log_likelihood
    assert vae.beta == 2.0
    blind = dataclasses.replace(tiny.data, test=None)  # would raise if anybody looked
    again = dataclasses.replace(tiny, data=blind)
    np.testing.assert_array_equal(again.bounds(SETTING, tmp_path / "run"), expected)
    assert (tmp_path / "run" / "model.keras").exists()
    assert (again.bounds(SETTING | {"beta": 0.5}) != expected).any()


@pytest.mark.slow
def test_a_worker_trains_in_a_folder_for_each_setting_and_keeps_bounds(tiny, tmp_path):
    one_size = {name: CategoricalDistribution([SETTING[name]]) for name in list(SPACE)[:2]}
    tiny = dataclasses.replace(tiny, space=SPACE | one_size)  # so that it compiles once
    study = open_study(tmp_path / "journal", tiny)
    work(study, tiny, 2, tmp_path / "runs")
    assert states(study) == {"COMPLETE": 2}
    for trial in study.get_trials():
        assert trial.params.keys() == SPACE.keys()
        model = tmp_path / "runs" / tiny.folder(trial.params) / "model.keras"
        vae, kept = vae_tf.load_model(model), trial.user_attrs["bounds"]
        own = vae_tf.evaluate(vae, tiny.data.validation.images, 5).marginal_log_likelihood
        np.testing.assert_allclose(kept, own, atol=6e-5)
        assert trial.value == pytest.approx(np.mean(kept), abs=6e-5)
    assert len(list((tmp_path / "runs").iterdir())) == 2
    other = dataclasses.replace(tiny, seed=4)
    assert other.folder(SETTING) != tiny.folder(SETTING) != tiny.folder(SETTING | {"beta": 1.0})


def test_one_worker_finds_the_same_trials_each_time(quick, study, tmp_path):
    again = open_study(f"sqlite:///{tmp_path / 'other.db'}", quick)
    for each in (study, again):
        work(each, quick, 14)  # ten at random, then as TPE proposes
    found = [trial.params for trial in study.get_trials()]
    assert found == [trial.params for trial in again.get_trials()]
    assert len({tuple(params.values()) for params in found}) == 14
    other = open_study(tmp_path / "other", quick)  # where other settings are the best
    for params in found[:12]:
        facts = {"params": params, "distributions": SPACE, "value": -params["beta"]}
        other.add_trial(optuna.create_trial(**facts))
    assert other.ask(SPACE).params != found[12]


def test_later_trials_are_better_than_random_ones(quick, study):
    work(study, quick, 40)
    values = [trial.value for trial in study.get_trials()]
    assert np.median(values[20:]) > np.median(values[:10]) + 0.2


# Who may join.


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"recipe": Recipe(updates=21)}, "recipe's updates is 5947 there and 21 here"),
        ({"num_samples": 9}, "num_samples is 500 there and 9 here"),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        (
            {"space": SPACE | {"beta": FloatDistribution(1, 2, log=True)}},
            "space of beta is .*0.5.* there and .*1.0.* here",
        ),
        ({"data": "one pixel"}, "SHA-256 of validation images is '[0-9a-f]{64}' there and '"),
    ],
    ids=["recipe", "draws", "seed", "space", "data"],
)
def test_another_search_is_refused_by_name(quick, study, tmp_path, change, named):
    work(study, quick, 1)
    if "data" in change:
        images = quick.data.validation.images.copy()
        images[0, 0, 0] ^= 1
        split = dataclasses.replace(quick.data.validation, images=images)
        change = {"data": dataclasses.replace(quick.data, validation=split)}
    other = dataclasses.replace(quick, **change)
    with pytest.raises(ValueError, match=f"another search by the name 'vae_tf': {named}"):
        open_study(tmp_path / "journal", other)
    found = open_study(tmp_path / "journal", quick)  # as it was
    assert [trial.params for trial in found.get_trials()] == [study.trials[0].params]
    assert not open_study(tmp_path / "journal", other, "another name").get_trials()


def test_a_study_of_somebody_elses_is_refused(quick, tmp_path):
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal"))
    storage = optuna.storages.JournalStorage(backend)
    theirs = optuna.create_study(storage=storage, study_name="vae_tf", direction="maximize")
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), 1)
    with pytest.raises(ValueError, match="data is None there and 'patterns' here"):
        open_study(tmp_path / "journal", quick)


def test_without_optuna_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    spec = importlib.util.spec_from_file_location("vae_tf.analysis.anew", search.__file__)
    with pytest.raises(ImportError, match=r'pip install "vae_tf\[sweeps\]"'):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_nothing_else_needs_optuna():
    for path in (ROOT / "vae_tf").rglob("*.py"):
        if path.name != "search.py":
            assert "optuna" not in path.read_text(), path


# What survives.


@pytest.mark.slow
def test_training_that_diverges_is_noted_and_the_search_goes_on(tiny, tmp_path):
    rate = FloatDistribution(1e-3, 1e3, log=True)
    wild = dataclasses.replace(tiny, space=SPACE | {"learning_rate": rate})
    study = open_study(tmp_path / "journal", wild)
    study.enqueue_trial(SETTING | {"learning_rate": 1e3})
    study.enqueue_trial(SETTING)
    work(study, wild, 2, tmp_path / "runs")
    assert states(study) == {"PRUNED": 1, "COMPLETE": 1}
    (good,), (bad,) = ranking(study)
    assert (good["trial"], bad["trial"], bad["setting"]["learning_rate"]) == (1, 0, 1e3)
    assert "Choose a smaller learning rate" in bad["reason"]


def test_an_error_ends_the_work_and_its_trial_and_counts_for_nothing(quick, study, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(type(quick), "bounds", lambda *_: {}["a mistake"])
        with pytest.raises(KeyError, match="a mistake"):
            work(study, quick, 2)
    assert states(study) == {"FAIL": 1}
    work(study, quick, 2, go_on=turns(9))
    assert states(study) == {"FAIL": 1, "COMPLETE": 2}


def test_a_trial_whose_worker_is_silent_is_run_again_with_its_setting(quick, study):
    work(study, quick, 1)
    lost = study.ask(SPACE)  # by a worker that is then killed
    lost.set_user_attr("alive", time.time() - 10)
    work(study, quick, 3, grace=60, go_on=turns(1))
    assert states(study) == {"COMPLETE": 2, "RUNNING": 1}  # for it may be alive
    work(study, quick, 3, grace=9, go_on=turns(9))
    assert states(study) == {"COMPLETE": 3, "FAIL": 1}
    assert study.trials[-1].params == lost.params
    work(study, quick, 3, grace=9)
    assert len(study.trials) == 4  # finished ones are not run again


def test_a_worker_at_work_is_not_silent(quick, study, monkeypatch):
    def slow(setting, directory):
        before = study.trials[0].user_attrs["alive"]
        time.sleep(0.3)
        assert study.trials[0].user_attrs["alive"] > before + 0.1
        return pretended(setting)

    monkeypatch.setattr(type(quick), "bounds", staticmethod(slow))
    work(study, quick, 1, grace=0.6)
    assert states(study) == {"COMPLETE": 1}


def test_workers_that_ask_at_once_do_not_run_more_than_was_asked_for(quick, study, monkeypatch):
    ask, others = study.ask, []

    def slower_than_another(space):
        others.append(ask(space))
        monkeypatch.undo()
        return ask(space)

    monkeypatch.setattr(study, "ask", slower_than_another)
    work(study, quick, 1, go_on=turns(1))
    work(study, quick, 1, go_on=turns(1))
    assert states(study) == {"RUNNING": 1, "FAIL": 1}  # nor is another asked for meanwhile
    study.tell(others[0], -30.0)
    work(study, quick, 1, go_on=turns(1))
    assert states(study) == {"COMPLETE": 1, "FAIL": 1}


def test_what_was_given_to_another_meanwhile_is_not_told_twice(quick, study, monkeypatch):
    def stalled(setting, directory):
        if len(study.trials) == 1:  # another worker gives it up, and takes it over
            search._revive(study, -1.0)
        return pretended(setting)

    monkeypatch.setattr(type(quick), "bounds", staticmethod(stalled))
    work(study, quick, 1)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert study.trials[0].params == study.trials[1].params
    assert "bounds" not in study.trials[0].user_attrs


def test_a_folder_in_which_somebody_trains_is_waited_for(quick, study, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "POLL", 0.01)
    calls = []

    def busy(setting, directory):
        calls.append(directory)
        if len(calls) < 3:
            raise BlockingIOError("another process is training in this directory")
        return pretended(setting)

    monkeypatch.setattr(type(quick), "bounds", staticmethod(busy))
    work(study, quick, 1, tmp_path / "runs")
    assert states(study) == {"COMPLETE": 1}
    assert calls == [tmp_path / "runs" / quick.folder(study.trials[0].params)] * 3


# What comes out.


@pytest.fixture(scope="module")
def sweep():
    sys.path.insert(0, str(ROOT / "scripts"))
    import sweep

    return sweep


@pytest.fixture
def finished(quick, study):
    """A study of seven trials, one of which diverged."""
    work(study, quick, 6)
    trial = study.ask(SPACE)
    trial.set_user_attr("reason", "too fast")
    study.tell(trial, state=TrialState.PRUNED)
    return study


def test_the_best_stands_first_and_differences_are_paired(finished):
    ranked, diverged = ranking(finished)
    every = {trial.number: pretended(trial.params) for trial in finished.trials}
    means = [every[row["trial"]].mean() for row in ranked]
    assert len(ranked) == 6
    assert means == sorted(means, reverse=True)
    best = every[ranked[0]["trial"]]
    for row in ranked:
        bounds = every[row["trial"]]
        assert row["bound"].mean == pytest.approx(bounds.mean(), abs=1e-4)
        assert row["bound"].standard_error == pytest.approx(bounds.std(ddof=1) / 2, abs=1e-4)
        assert row["behind"].mean == pytest.approx(best.mean() - bounds.mean(), abs=2e-4)
        assert row["behind"].standard_error < 1e-3 < row["bound"].standard_error
        assert row["setting"] == finished.trials[row["trial"]].params
    assert [(row["trial"], row["reason"]) for row in diverged] == [(6, "too fast")]


def test_the_table_has_a_line_for_each_bound(sweep, finished, monkeypatch):
    ranked, diverged = ranking(finished)
    head, *lines, last = sweep.table(ranked, diverged).splitlines()
    assert head.split() == [*SPACE, "bound", "behind", "the", "best", "seconds", "trial"]
    assert [int(line.split()[-1]) for line in lines] == [row["trial"] for row in ranked]
    assert all(str(row["bound"]) in line for row, line in zip(ranked, lines, strict=True))
    assert last == "0 more, and 1 that diverged: results.json"
    monkeypatch.setattr(sweep, "SHOWN", 2)
    assert sweep.table(ranked, diverged).splitlines()[3:] == [
        "4 more, and 1 that diverged: results.json"
    ]


def test_the_picture_shows_every_trial_in_every_panel(sweep, finished):
    ranked, diverged = ranking(finished)
    ranked[-1] |= {"bound": vae_tf.evaluation.Estimate(-99.0, 1.0)}
    figure = sweep.picture(ranked, diverged, note="patterns")
    panels = figure.axes
    assert [axes.get_xlabel() for axes in panels] == list(sweep.AXES.values())
    assert "nats per digit" in panels[0].get_ylabel()
    for axes, name in zip(panels, SPACE, strict=True):
        kinds = {box.get_label(): box.lines[0].get_xydata() for box in axes.containers}
        assert sum(map(len, kinds.values())) == 7
        (x, y), value = kinds["the best"][0], ranked[0]["setting"][name]
        assert (x, y) == pytest.approx((value, ranked[0]["bound"].mean))
        assert kinds["diverged"][0][0] == pytest.approx(diverged[0]["setting"][name], rel=0.12)
        edge = min(y for _, y in np.concatenate([*kinds.values()]))
        assert kinds["diverged"][0][1] == kinds["further below"][-1][1] == edge > -60
        low, high = axes.get_xlim()
        assert all(low < x < high for points in kinds.values() for x, _ in points)


def test_progress_tells_each_trial_once(sweep, finished, capsys):
    shown = set()
    sweep.tell(finished, 9, shown)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        [f"{i + 1}/9", "trial", str(i)] for i in range(7)
    ]
    assert "diverged: too fast" in lines[6]
    sweep.tell(finished, 9, shown)
    assert not capsys.readouterr().out


def begin(folder, updates, trials, *arguments):
    """Starts the command, in a process group of its own."""
    command = [sys.executable, ROOT / "scripts" / "sweep.py", "--output", folder, *arguments]
    command += ["--trials", trials, "--updates", updates, "--draws", 5]
    command += ["--latent-dim", 2, "--hidden-units", 16]  # so that it compiles once
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*map(str, command)], start_new_session=True, **streams)


@pytest.mark.slow
def test_processes_that_name_an_address_share_the_work(tmp_path):
    """As machines of a cluster do: started at once, with folders of their own."""
    address, folders = f"sqlite:///{tmp_path / 'shared.db'}", [tmp_path / "a", tmp_path / "b"]
    common = ("--workers", 1, "--storage", address)
    machines = [begin(folder, 20, 6, *common) for folder in folders]
    told = [machine.communicate()[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], told
    study = optuna.load_study(study_name="vae_tf", storage=address)
    assert states(study)["COMPLETE"] == 6
    assert set(states(study)) <= {"COMPLETE", "FAIL"}
    trained = [len(list((folder / "runs").iterdir())) for folder in folders]
    assert sum(trained) == 6
    assert min(trained) >= 1
    tables = [text[text.index("latent_dim    hidden_units") :].splitlines()[:7] for text in told]
    assert tables[0] == tables[1]
    written = [json.loads((folder / "results.json").read_text())["sweep"] for folder in folders]
    assert written[0] == written[1]
    means = sorted((trial.value for trial in study.trials if trial.value), reverse=True)
    assert [row["bound"]["mean"] for row in written[0]["trials"]] == pytest.approx(means, rel=1e-5)
    assert written[0]["search"]["num_samples"] == 5
    for folder in folders:
        assert plt.imread(folder / "sweep.png").size > 10**5
        assert (folder / "sweep.pdf").read_bytes().rstrip().endswith(b"%%EOF")


@pytest.mark.faults
def test_a_sweep_that_is_killed_goes_on(tmp_path, record_property):
    trials, folder, before = 8, tmp_path / "sweep", {}

    def start():
        return begin(folder, 4_000, trials, "--workers", 2, "--grace", 3)

    def study():
        backend = optuna.storages.journal.JournalFileBackend(str(folder / "sweep.journal"))
        storage = optuna.storages.JournalStorage(backend)
        return optuna.load_study(study_name="vae_tf", storage=storage)

    for stop, finished in ((signal.SIGKILL, 2), (signal.SIGINT, 4)):
        process = start()
        next(line for line in process.stdout if line.startswith(f"{finished}/{trials} "))
        time.sleep(0.5)  # into the next trials
        os.killpg(process.pid, stop)
        text = process.communicate(timeout=30)[0]  # workers write there too: none is left
        count = states(study())
        assert count["RUNNING"] >= 1
        assert finished <= count["COMPLETE"] < trials
        before |= {trial.number: trial for trial in study().trials if trial.value}
    assert "trials are finished; the same command goes on" in text
    process = start()
    text = process.communicate()[0]
    assert process.returncode == 0, text
    after, count = study().trials, states(study())
    assert count["COMPLETE"] == trials
    assert set(count) == {"COMPLETE", "FAIL"}  # none is left running
    assert all(after[i].datetime_complete == before[i].datetime_complete for i in before)
    settings = [str(trial.params) for trial in after if trial.value]
    assert len(set(settings)) == trials  # none was run twice
    killed = [trial for trial in after if trial.state == TrialState.FAIL]
    assert {str(trial.params) for trial in killed} <= set(settings)  # none was lost
    assert len(list((folder / "runs").iterdir())) == trials
    rows = json.loads((folder / "results.json").read_text())["sweep"]["trials"]
    assert len(rows) == trials
    record_property("count", f"a sweep killed twice: {len(killed)} trials run again, none lost")
