"""Evaluation from saved predictions: against scikit-survival, against core.metrics, and by hand."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sksurv.metrics import concordance_index_ipcw, cumulative_dynamic_auc
from sksurv.metrics import integrated_brier_score as sksurv_brier
from sksurv.util import Surv

from napari_survpgc.cli import run as run_cli
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.metrics import auc_at, c_index, c_index_ipcw
from napari_survpgc.training.evaluation import evaluation as ev
from napari_survpgc.training.evaluation.added_value import adjusted_hazard_ratio, net_benefit
from napari_survpgc.training.evaluation.bootstrap import (
    auc_pairs,
    bootstrap_p,
    c_index_pairs,
    corrected_t_test,
    draw_counts,
    interval,
    uno_pairs,
)
from napari_survpgc.training.evaluation.calibration import calibration
from napari_survpgc.training.evaluation.comparison import compare
from napari_survpgc.training.evaluation.stratification import compare_halves, halves
from napari_survpgc.training.runs.recalibration import (
    held_out_survival,
    learn_recalibration,
    nested_recalibration,
)
from napari_survpgc.training.runs.run_folder import Run, read_run
from napari_survpgc.training.tables.table_writer import OPTIMISTIC

EDGES = (0.0, 12.0, 30.0, 55.0, 150.0)


def write_run(
    folder: Path, *, model: str = "mlp_clinic", noise: float = 1.0, seed: int = 0, protocol: str = "honest",
    n: int = 120, hazards: bool = True, scale: float = 40.0,
) -> Path:  # fmt: skip
    """Write a run of two folds whose risk is the true log hazard plus noise; patients depend on n and scale only."""
    rng = np.random.default_rng(7)
    x = rng.normal(0, 1, n)
    death, censoring = rng.exponential(scale, n) * np.exp(-x), rng.uniform(5, 3 * scale, n)
    months, event = np.minimum(death, censoring).round(2), (death <= censoring).astype(int)
    risk = x + noise * np.random.default_rng(seed).normal(0, 1, n)
    half = np.arange(n) % 2
    for number in (0, 1):
        place = folder / "folds" / str(number)
        place.mkdir(parents=True)
        table = pd.DataFrame(
            {"case_id": [f"P{i:03d}" for i in range(n)], "split": np.where(half == number, "test", "train"), "risk": risk}
        )  # fmt: skip
        if hazards:
            for k in range(4):
                table[f"hazard_{k}"] = 1 / (1 + np.exp(1.2 - risk - 0.2 * k))
        table["survival_months"], table["event"] = months, event
        table.to_csv(place / "predictions.csv", index=False)
        (place / "fold.json").write_text(json.dumps({"edges": EDGES, "epoch": 0, "test_c_index": 0.5}))
    facts = {"model": model, "protocol": protocol, "cohort": "lihc", "folds": [0, 1], "left_out": {}}
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(write_run(tmp_path_factory.mktemp("runs") / "a"))


def _outcome(table: pd.DataFrame) -> np.ndarray:
    return Surv.from_arrays(table["event"] == 1, table["survival_months"])


def test_every_fold_agrees_with_scikit_survival(run: Run) -> None:
    evaluation = ev.evaluate(run, resamples=20)
    for fold, scores in zip(run.folds, evaluation.folds, strict=True):
        train, test = _outcome(fold.train), _outcome(fold.test)
        assert scores.tau == 60
        assert scores.uno == pytest.approx(concordance_index_ipcw(train, test, fold.test["risk"], tau=60)[0])
        death = 1 - fold.survival_at(ev.HORIZONS)
        auc, mean = cumulative_dynamic_auc(train, test, death, ev.HORIZONS)
        assert scores.auc == pytest.approx(auc)
        assert scores.iauc == pytest.approx(mean)
        grid = np.linspace(0, 60, 61)[1:-1]
        theirs = sksurv_brier(train, test, fold.survival_at(grid), grid)
        assert scores.brier == pytest.approx(theirs, abs=0.01)  # theirs leaves out the ends of the grid
        assert scores.c_index == c_index(fold.test["survival_months"], fold.test["event"], fold.test["risk"])
        dead = (fold.test["survival_months"] <= 36) & (fold.test["event"] == 1)
        assert (scores.cases[1], scores.controls[1]) == (
            dead.sum(),
            (fold.test["survival_months"] > 36).sum(),
        )
    mean = np.mean([f.c_index for f in evaluation.folds])
    assert evaluation.scores["c_index"].mean == pytest.approx(mean)
    assert evaluation.scores["c_index"].sd == pytest.approx(np.std([f.c_index for f in evaluation.folds]))


def test_only_the_training_fold_weighs_the_test_patients(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    before = ev.evaluate(read_run(folder), resamples=5).folds[0]
    path = folder / "folds" / "0" / "predictions.csv"
    table = pd.read_csv(path)
    train = table["split"] == "train"
    table.loc[train & (table["event"] == 0), "survival_months"] *= 0.5
    table.to_csv(path, index=False)
    after = ev.evaluate(read_run(folder), resamples=5).folds[0]
    assert after.c_index == before.c_index
    assert after.uno != before.uno


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_scores_as_its_patients_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    months, event = rng.integers(1, 30, n).astype(float), rng.integers(0, 2, n)
    risk = rng.normal(0, 1, n).round(1)  # with ties
    other = (rng.integers(1, 60, 50).astype(float), rng.integers(0, 2, 50))
    other[0][0], other[1][0] = 70, 0
    counts = draw_counts(n, 6, rng)
    assert (counts.sum(1) == n).all()
    for weights in (np.ones((1, n)), counts):
        plain = c_index_pairs(months, event, risk).resampled(weights)
        uno = uno_pairs(months, event, risk, *other, tau=20).resampled(weights)
        auc = auc_pairs(months, event, risk, 12, *other).resampled(weights)
        for row, c, u, a in zip(weights, plain, uno, auc, strict=True):
            drawn = np.repeat(np.arange(n), row.astype(int))
            again = (months[drawn], event[drawn], risk[drawn])
            # A patient drawn twice is no pair, though a death and a censoring at the same time of two patients are one.
            assert c == pytest.approx(c_index(*again), abs=1e-12)
            assert u == pytest.approx(c_index_ipcw(*again, *other, tau=20, weights="before"), abs=1e-12)
            assert a == pytest.approx(auc_at(*again, [12], *other, weights="before")[0], abs=1e-12)


def test_what_cannot_be_computed_is_nan_and_not_zero(tmp_path: Path) -> None:
    short = ev.evaluate(read_run(write_run(tmp_path / "short", scale=8)), resamples=10)
    assert short.scores["auc_60"].n_folds == 0
    assert np.isnan(short.scores["auc_60"].mean)
    assert np.isnan(short.scores["iauc"].mean)
    assert all(f.controls[2] == 0 for f in short.folds)
    assert short.folds[0].tau < 60
    assert np.isfinite(short.scores["uno"].mean)
    plain = ev.evaluate(read_run(write_run(tmp_path / "plain", hazards=False)), resamples=10)
    assert np.isnan(plain.scores["brier"].mean)
    assert np.isfinite(plain.scores["auc_12"].mean)
    with pytest.raises(CohortError, match="no hazards"):
        calibration(plain.run, 12)


def test_intervals_hold_the_mean_and_repeat(run: Run) -> None:
    first, second = (ev.evaluate(run, resamples=200, seed=3) for _ in range(2))
    assert all(first.scores[n] == second.scores[n] for n in ("c_index", "uno", "auc_12", "iauc"))
    for name in ("c_index", "uno", "auc_12", "iauc"):
        value = first.scores[name]
        assert value.interval.lower < value.mean < value.interval.upper
    assert first.pooled_interval.lower < first.pooled < first.pooled_interval.upper
    assert (
        ev.evaluate(run, resamples=200, seed=4).scores["c_index"].interval != first.scores["c_index"].interval
    )
    assert np.isnan(interval(np.array([0.5] * 8 + [np.nan] * 2)).lower)


def test_a_better_system_is_told_from_a_worse_one(tmp_path: Path) -> None:
    good = read_run(write_run(tmp_path / "good", noise=0.3))
    bad = read_run(write_run(tmp_path / "bad", noise=50, model="snn_clinic"))
    found = compare(good, bad)
    assert found.n_patients == 120
    assert found.difference > 0.15
    assert found.interval.lower > 0
    assert found.p_bootstrap < 0.01
    assert all(p < 0.05 for p in found.fold_p)
    back = compare(bad, good)
    assert back.difference == pytest.approx(-found.difference)
    assert back.p_bootstrap == pytest.approx(found.p_bootstrap)
    same = compare(good, good)
    assert (same.difference, same.p_bootstrap, same.p_folds) == (0, 1, 1)


def test_two_equally_good_systems_are_seldom_significant(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / str(s), noise=1.5, seed=s)) for s in range(12)]
    p = [compare(a, b, resamples=300).p_bootstrap for a, b in zip(runs[::2], runs[1::2], strict=True)]
    assert sum(value < 0.05 for value in p) <= 2


def test_runs_of_other_patients_are_not_compared(tmp_path: Path) -> None:
    one, other = read_run(write_run(tmp_path / "a")), read_run(write_run(tmp_path / "b", scale=20))
    with pytest.raises(CohortError, match="same survival times"):
        compare(one, other)


def test_p_values_by_hand() -> None:
    assert bootstrap_p(np.array([0.1] * 98 + [-0.1])) == pytest.approx(2 * 2 / 100)
    assert bootstrap_p(np.zeros(99)) == 1
    values = np.array([0.02, 0.04, 0.03, 0.05, 0.01])
    t = values.mean() / np.sqrt(values.var(ddof=1) * (1 / 5 + 1 / 4))
    from scipy import stats

    assert corrected_t_test(values, 0.25) == pytest.approx(2 * stats.t.sf(t, 4))
    assert np.isnan(corrected_t_test([0.1], 0.25))


def test_survival_is_read_on_the_bins_of_the_fold(run: Run) -> None:
    fold = run.folds[0]
    hazards = fold.test[[f"hazard_{k}" for k in range(4)]].to_numpy()
    at = fold.survival_at([0, 6, 12, 30, 150, 400])
    np.testing.assert_allclose(at[:, 0], 1)
    np.testing.assert_allclose(at[:, 2], 1 - hazards[:, 0])
    np.testing.assert_allclose(at[:, 1], 1 - hazards[:, 0] / 2)
    np.testing.assert_allclose(at[:, 3], (1 - hazards[:, 0]) * (1 - hazards[:, 1]))
    np.testing.assert_allclose(at[:, 4:], np.prod(1 - hazards, 1)[:, None].repeat(2, 1))
    assert (np.diff(at, axis=1) <= 0).all()


def test_calibration_groups_hold_everyone_once(run: Run) -> None:
    groups = calibration(run, 24)
    assert sum(g.n for g in groups) == 120
    assert sum(g.deaths for g in groups) == run.pooled["event"].sum()
    predicted = [g.predicted for g in groups]
    assert predicted == sorted(predicted)
    assert groups[0].observed < groups[-1].observed
    assert all(g.lower <= g.observed <= g.upper for g in groups)
    late = calibration(run, 1000)
    assert all(np.isnan(g.observed) for g in late)


def test_halves_are_cut_at_the_median_of_the_training_fold(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    path = folder / "folds" / "0" / "predictions.csv"
    table = pd.read_csv(path)
    table.loc[table["split"] == "test", "risk"] += 1.0
    table.to_csv(path, index=False)
    run = read_run(folder)
    found = halves(run)
    for fold in run.folds:
        part = found[found["fold"] == fold.number]
        assert ((part["group"] == "high") == (part["risk"] > fold.train["risk"].median())).all()
    assert (found[found["fold"] == 0]["group"] == "high").mean() > 0.6  # not at their own median


def test_the_halves_are_tested_by_fold_with_their_hazard_ratio(run: Run) -> None:
    table, found = compare_halves(run)
    assert found.test.method == "log-rank by fold, corrected for cross-validation"
    assert found.test.inflation == pytest.approx(1 + 2 / np.pi, rel=0.05)
    assert (
        found.hazard_ratio.estimate.low < found.hazard_ratio.estimate.value < found.hazard_ratio.estimate.high
    )
    frame = found.frame()
    medians = frame[frame["measure"] == "median_months"].set_index("group")["value"]
    assert medians["low"] > medians["high"]
    assert found.rmst.estimate.value < 0
    assert (table["group"] == "high").sum() == found.test.sizes["high"]


def test_fold_models_on_other_scales_do_not_spoil_the_pooled_c_index(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", noise=0.3)
    before = ev.evaluate(read_run(folder), resamples=5).pooled
    path = folder / "folds" / "1" / "predictions.csv"
    table = pd.read_csv(path)
    table["risk"] = 1000 + 5 * table["risk"]
    table.to_csv(path, index=False)
    assert ev.evaluate(read_run(folder), resamples=5).pooled == before


def _break(folder: Path, what: str) -> None:
    predictions = folder / "folds" / "1" / "predictions.csv"
    if what == "unfinished":
        (folder / "run.json").unlink()
    elif what == "facts":
        (folder / "run.json").write_text("[1]")
    elif what == "json":
        (folder / "folds" / "1" / "fold.json").write_text("{")
    elif what == "edges":
        (folder / "folds" / "1" / "fold.json").write_text('{"edges": [3, 2]}')
    elif what == "column":
        pd.read_csv(predictions).drop(columns="risk").to_csv(predictions, index=False)
    elif what == "text":
        predictions.write_text(predictions.read_text().replace("train,", "train,x", 1))
    else:
        table = pd.read_csv(predictions)
        pd.concat([table, table.head(1)]).to_csv(predictions, index=False)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("unfinished", "not a finished run"), ("facts", "does not hold the facts"), ("json", "not valid JSON"),
        ("edges", "no rising edges"), ("column", "lacks the column risk"), ("text", "not numbers in risk"),
        ("twice", "lists a patient twice"),
    ],
)  # fmt: skip
def test_a_damaged_run_is_told_in_one_sentence(tmp_path: Path, what: str, message: str) -> None:
    folder = write_run(tmp_path / "run")
    _break(folder, what)
    with pytest.raises(CohortError, match=message) as error:
        read_run(folder)
    assert "\n" not in str(error.value)


def test_errors_come_out_of_a_worker_process_as_they_were() -> None:
    error = pickle.loads(pickle.dumps(CohortError("It is wrong", "Mend it")))
    assert (type(error), error.problem, error.next_step, str(error)) == (
        CohortError, "It is wrong", "Mend it", "It is wrong. Mend it.",
    )  # fmt: skip


# --- survpgc evaluate ---------------------------------------------------------------------------------------


def test_runs_are_evaluated_and_compared_from_their_predictions_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_run(tmp_path / "good", noise=0.3)
    poor = write_run(
        tmp_path / "poor", noise=3.0, seed=1, protocol="published", model="cox_clinic", hazards=False
    )
    line = ["evaluate", str(good), str(poor), "--out", str(tmp_path / "out"), "--resamples", "200"]
    assert run_cli([*line, "--horizons", "12,36", "--tau", "48"]) == 0
    shown = capsys.readouterr().out
    assert "tau = 48 months" in shown
    assert "published (optimistic)" in shown
    assert OPTIMISTIC in shown
    table = pd.read_csv(tmp_path / "out" / "evaluation.csv").set_index(["run", "measure"])
    expected = ev.evaluate(read_run(good), horizons=(12, 36), tau=48, resamples=200)
    for name, score in expected.scores.items():
        assert table.loc[("good", name), "mean"] == pytest.approx(score.mean)
        if name != "brier":
            assert table.loc[("good", name), "lower"] == pytest.approx(score.interval.lower)
    assert np.isfinite(table.loc[("good", "brier_of_kaplan_meier"), "mean"])
    assert np.isnan(table.loc[("poor", "brier"), "mean"])  # no hazards: not available, and not 0
    assert table.loc[("good", "log_rank_p_of_halves"), "mean"] < 0.001
    pairs = pd.read_csv(tmp_path / "out" / "evaluation_comparisons.csv").iloc[0]
    c = compare(read_run(good), read_run(poor), resamples=200)
    assert (pairs["a"], pairs["b"], pairs["n_patients"]) == ("good", "poor", 120)
    assert (pairs["difference"], pairs["p_bootstrap"]) == pytest.approx((c.difference, c.p_bootstrap))
    assert pairs["difference"] > 0.1
    folds = pd.read_csv(tmp_path / "out" / "evaluation_folds.csv")
    assert list(folds["run"]) == ["good", "good", "poor", "poor"]
    assert (tmp_path / "out" / "evaluation_calibration.svg").is_file()
    assert OPTIMISTIC in (tmp_path / "out" / "evaluation.md").read_text()


def test_what_cannot_be_evaluated_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, other = write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run", n=100)
    for folders, message in (
        ([first, first], "The same run is given twice"),
        ([first, other], "do not have the same survival times"),
        ([tmp_path / "none"], "is not a finished run"),
    ):
        assert run_cli(["evaluate", *map(str, folders)]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert run_cli(["evaluate", str(first), "--horizons", "0,12"]) == 2
    assert "months above 0" in capsys.readouterr().err


# --- beyond the record, calibration, scores.csv --------------------------------------------------------------


def test_every_measure_goes_into_one_long_table(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", noise=0.3)
    record = write_run(tmp_path / "record", noise=2.0, seed=1, model="cox_clinic")
    people = pd.DataFrame(
        {"case_id": [f"P{i:03d}" for i in range(120)], "sex": ["male", "female"] * 60, "stage": ["Stage IIB", "Stage II", ""] * 40,
         "modalities": ["clinic"] * 110 + ["clinic+genomic"] * 10}
    )  # fmt: skip
    people.to_csv(good / "patients.csv", index=False)
    line = ["evaluate", str(good), str(record), "--out", str(tmp_path / "out"), "--resamples", "100"]
    assert run_cli(line) == 0
    table = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert list(table.columns) == ["system", "measure", "months", "value", "low", "high", "n", "n_events"]
    mine = table[table["system"] == "good"].set_index("measure")
    expected = ev.evaluate(read_run(good), resamples=100)
    assert mine.loc["c_index", "value"] == pytest.approx(expected.scores["c_index"].mean)
    assert list(mine.loc["auc", "months"]) == [12, 36, 60]
    for name in (
        "observed_to_expected",
        "calibration_slope",
        "calibration_intercept",
        "one_calibration_p",
        "brier_at",
    ):
        assert list(mine.loc[name, "months"]) == [12, 36, 60]
    assert mine.loc["adjusted_hazard_ratio_per_sd", "low"] > 1
    assert mine.loc["likelihood_ratio_p", "value"] < 0.01
    assert mine.loc["c_index_minus_record", "value"] > 0.05
    assert mine.loc["c_index[sex=male]", "n"] == 60
    assert mine.loc["c_index[stage=Stage II]", "n"] == 80  # II and IIB are one
    assert mine.loc["c_index[stage=unknown]", "n"] == 40
    assert np.isnan(
        mine.loc["c_index[modalities=clinic+genomic]", "value"]
    )  # ten patients are counted, not scored
    assert {"evaluation_subgroups.csv", "evaluation_decision.csv", "evaluation_decision.svg"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }


def test_net_benefit_is_that_of_counting_where_nobody_is_censored() -> None:
    months, event = np.array([5.0, 10, 40, 50]), np.ones(4)
    death = np.array([0.9, 0.4, 0.6, 0.1])
    found = net_benefit(months, event, death, 36, [0.5])
    assert found[0] == pytest.approx((1 - 1 * 0.5 / 0.5) / 4)  # one is treated rightly, one for nothing
    assert net_benefit(months, event, np.ones(4), 36, [0.2])[0] == pytest.approx(0.5 - 0.5 * 0.25)


def test_a_risk_that_says_nothing_beyond_the_record_adds_nothing(tmp_path: Path) -> None:
    record = read_run(write_run(tmp_path / "record", noise=1.5, model="cox_clinic"))
    noise = read_run(write_run(tmp_path / "noise", noise=100.0, seed=5))
    found = adjusted_hazard_ratio(noise, record)
    assert found.hazard_ratio.low < 1 < found.hazard_ratio.high
    assert found.p > 0.05
    assert adjusted_hazard_ratio(read_run(write_run(tmp_path / "good", noise=0.2)), record).p < 1e-3


def test_recalibration_is_learned_from_the_other_folds(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", n=300))
    table = held_out_survival(run)
    assert table is not None
    after = nested_recalibration(table)
    changed = table.copy()
    first = changed["fold"] == 0
    changed.loc[first, "event"] = 1 - changed.loc[first, "event"]
    again = nested_recalibration(changed)
    pd.testing.assert_frame_equal(
        after[first], again[first]
    )  # what was observed of a fold does not change its own
    assert not np.allclose(after[~first], again[~first])
    learned = learn_recalibration(run)
    assert learned is not None
    assert learned.brier_after[1] is not None
    assert learned.brier_before[1] is not None
    assert learned.brier_after[1] < learned.brier_before[1]  # the hazards of this run are made up
