"""Tables and figures of the paper from a tiny cohort: written whole, repeatable, honest about what is missing."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_survpgc import training
from napari_survpgc.cli import run as run_cli
from napari_survpgc.core.clinical.sentences import load_templates
from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.errors import BundleError, CancelledError, CohortError
from napari_survpgc.training.crossval import train
from napari_survpgc.training.data.wordings import draw_wordings
from napari_survpgc.training.experiments import (
    EXPERIMENTS,
    baselines,
    cosine,
    fig4,
    fig5,
    supp1,
    supp2,
    table5,
)
from napari_survpgc.training.experiments.table3 import path_shares
from napari_survpgc.training.reproduce import read_plan_settings, reproduce
from napari_survpgc.training.runs.bundling import make_bundle
from napari_survpgc.training.runs.held_out import HeldOutPredictor
from napari_survpgc.training.runs.run_folder import read_run
from napari_survpgc.training.settings import Settings, load_settings
from napari_survpgc.training.systems import build_system
from napari_survpgc.training.tables.paper import _values, paper_cohort, paper_value
from napari_survpgc.training.tables.plan import INTEGRATION, MULTIMODAL, UNIMODAL
from napari_survpgc.training.tables.run_store import RunStore, Unavailable
from napari_survpgc.training.tables.table_writer import OPTIMISTIC
from tests.builders import write_tiff

from .test_train import make_cohort

SYSTEMS = ("mlp_clinic", "mlp_genomic", "survpc", "survpgc_gene_sets")
SETTINGS = """
n_folds = 2
epochs = 1
[systems.survpgc_gene_sets.model_config]
dim = 16
[systems.survpc.model_config]
dim = 16
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort named after TCGA-LIHC, settings, and runs that the tests share."""
    folder = tmp_path_factory.mktemp("reproduce")
    make_cohort(folder / "lihc", n=48)
    (folder / "settings.toml").write_text(SETTINGS)
    return folder


def test_the_demonstrations_table_trains_the_bundle_as_it_was_trained() -> None:
    folder = Path(training.__file__).parent
    common, by_system = read_plan_settings(folder / "demo_table.toml")
    for name, values in by_system.items():
        build_system(
            load_settings(None, model=name, **common, **values)
        )  # refuses an option it does not have
    bundle = load_settings(folder / "demo_bundle.toml", model="survpgc_gene_sets")
    assert load_settings(None, model=bundle.model, **common, **by_system[bundle.model]) == bundle


@pytest.fixture(autouse=True)
def small_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosine, "BETAS", (0.0, 0.5))
    monkeypatch.setattr(baselines, "N_SEEDS", 2)
    for module in (table5, fig5):
        monkeypatch.setattr(module, "N_TEMPLATES", (1, 20))


def _make(place: Path, name: str, out: Path, cohort: str = "lihc", **more: object) -> dict[str, bytes]:
    options: dict[str, object] = {"systems": SYSTEMS, "runs": place / "runs", **more}
    _, files = reproduce(
        name, read_cohort(place / cohort), out, settings_file=place / "settings.toml", **options
    )  # type: ignore[arg-type]
    return {p.name: p.read_bytes() for p in files}


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_table_and_figure_of_the_paper_is_there() -> None:
    assert set(EXPERIMENTS) >= {
        "table1", "table2", "table3", "table4", "table5", "fig3", "fig4", "fig5", "cosine",
        "baselines", "supp1", "supp2",
    }  # fmt: skip


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_writes_whole_files_that_repeat_and_say_what_they_are(
    place: Path, tmp_path: Path, name: str
) -> None:
    files = _make(place, name, tmp_path / "first")
    assert {f"{name}.{kind}" for kind in ("csv", "md", "html", "png", "svg", "pdf")} <= set(files)
    assert {p.name for p in (tmp_path / "first").iterdir() if p.is_file()} == set(files)
    page, text = files[f"{name}.html"].decode(), files[f"{name}.md"].decode()
    for shown in (page, text, files[f"{name}.svg"].decode()):
        assert "Research use only" in shown or "svg" in shown[:200]
        assert "optimistic: epoch" not in shown
    assert OPTIMISTIC not in page + text
    assert "<script" not in page
    assert "http" not in page.replace("https://", "").replace('xmlns="http', "").replace("http-equiv", "")
    for file, content in files.items():
        if file.endswith(".csv"):
            rows = list(csv.reader(content.decode().splitlines()))
            assert rows
            assert len({len(row) for row in rows}) == 1
    kept = _bytes(place / "runs") if (place / "runs").is_dir() else {}
    assert _make(place, name, tmp_path / "second") == files
    assert (_bytes(place / "runs") if kept else {}) == kept


def test_baselines_average_over_seeds_and_shuffle_the_outcomes(place: Path, tmp_path: Path) -> None:
    files = _make(place, "baselines", tmp_path, systems=("cox_clinic",))
    table = pd.read_csv(tmp_path / "baselines.csv").set_index("row")
    assert list(table.index) == [r.key for r in baselines.RECIPES]
    assert table.loc["cox_six", "seeds"] == 1
    row = table.loc["shuffled_cox"]
    assert row["seeds"] == 2
    folds = pd.read_csv(tmp_path / "baselines_folds.csv").query("row == 'shuffled_cox'")
    by_seed = folds.groupby("run")["c_index"].mean()
    assert len(by_seed) == 2
    assert row["c_index"] == pytest.approx(by_seed.mean())
    assert (row["c_index_lowest_seed"], row["c_index_highest_seed"]) == pytest.approx(
        (by_seed.min(), by_seed.max())
    )
    assert table.loc["mlp_clinic", "reason"] == "It is not among the systems asked for."
    assert "Elastic-net Cox on expression | not available" in files["baselines.md"].decode()
    run = read_run(place / "runs" / by_seed.index[0])
    original = read_cohort(place / "lihc").patients.loc[run.pooled.index]
    assert run.record.labels_shuffled
    assert (run.pooled["survival_months"] != original["survival_months"]).mean() > 0.8
    with pytest.raises(BundleError, match="exchanged outcomes"):
        make_bundle(run.path, tmp_path / "bundle")


def test_systems_that_cannot_run_are_listed_with_the_reason(place: Path, tmp_path: Path) -> None:
    shutil.copytree(
        place / "lihc", tmp_path / "bare", ignore=shutil.ignore_patterns("features", "expression*")
    )
    (tmp_path / "settings.toml").write_text(SETTINGS)
    everyone = tuple(s.model for s in (*UNIMODAL, *MULTIMODAL))
    files = _make(tmp_path, "table1", tmp_path / "out", "bare", systems=None, runs=None)
    table = pd.read_csv(tmp_path / "out" / "table1.csv").query("measure == 'c_index'").set_index("system")
    assert tuple(table.index) == everyone
    assert np.isfinite(table.loc["mlp_clinic", "mean"])
    for model in everyone:
        assert np.isfinite(table.loc[model, "mean"]) == pd.isna(table.loc[model, "reason"])
    assert "No patient of the cohort bare has pathology" in table.loc["mlp_pathology", "reason"]
    assert "has no expression" in table.loc["mlp_genomic", "reason"]
    assert "MLP (Pathology): not available. No patient" in files["table1.md"].decode()


def test_the_published_protocol_is_marked_wherever_a_number_stands(place: Path, tmp_path: Path) -> None:
    for name in ("table1", "fig3"):
        files = _make(place, name, tmp_path, systems=("mlp_genomic",), protocol="published", epochs=11)
        assert OPTIMISTIC in files[f"{name}.md"].decode()
        assert OPTIMISTIC.replace("'", "&#39;") in files[f"{name}.html"].decode()
        frame = pd.read_csv(tmp_path / f"{name}.csv")
        assert set(frame["protocol"]) == {"published (optimistic)"}
        head = next(line for line in files[f"{name}.md"].decode().splitlines() if line.startswith("| "))
        assert "(optimistic)" in head


def test_the_papers_values_stand_beside_ours_for_its_cohorts_only(place: Path, tmp_path: Path) -> None:
    text = _make(place, "table1", tmp_path / "a")["table1.md"].decode()
    row = next(line for line in text.splitlines() if "| MLP (Clinic) |" in line)
    assert "0.599 ± 0.052" in row
    make_cohort(tmp_path / "other", n=24)
    (tmp_path / "settings.toml").write_text(SETTINGS)
    text = _make(tmp_path, "table1", tmp_path / "b", "other", systems=("mlp_genomic",))["table1.md"].decode()
    assert "0.599" not in text
    assert "The paper has no cohort named other" in text


def test_the_papers_values_are_those_of_its_rows() -> None:
    rows = {s.model for s in (*UNIMODAL, *MULTIMODAL, *INTEGRATION)} | {"1", "5", "20"}
    values = _values()
    assert set(values["row"]) <= rows
    assert values["mean"].between(0, 1).all()
    assert values["sd"].between(0, 0.25).all()
    assert not values.duplicated(["table", "cohort", "row", "measure"]).any()
    assert str(paper_value("table1", "tcga_brca", "survpgc", "c_index")) == "0.701 ± 0.057"
    assert str(paper_value("table5", "TCGA-COADREAD", "20", "c_index")) == "0.575 ± 0.072"
    assert paper_value("table1", "simulated-cohort", "survpgc", "c_index") is None
    assert [paper_cohort(n) for n in ("lihc", "TCGA-BRCA", "coad", "thread")] == [
        "LIHC",
        "BRCA",
        "COADREAD",
        None,
    ]


def test_an_interrupted_table_goes_on_where_it_stopped(place: Path, tmp_path: Path) -> None:
    calls = []

    def stop(stage: str, done: int, total: int) -> None:
        calls.append(stage)
        if stage == "mlp_genomic: fold 1":
            raise CancelledError

    with pytest.raises(CancelledError):
        _make(place, "table1", tmp_path / "out", runs=tmp_path / "runs", progress=stop)
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "runs").glob("survpgc*"))
    first = _bytes(tmp_path / "runs")
    files = _make(place, "table1", tmp_path / "out", runs=tmp_path / "runs")
    now = _bytes(tmp_path / "runs")
    assert all(now[name] == content for name, content in first.items() if "checkpoint" not in name)
    assert files == _make(place, "table1", tmp_path / "whole")


def test_runs_that_train_made_are_used_again_but_not_those_of_others(place: Path, tmp_path: Path) -> None:
    cohort = read_cohort(place / "lihc")
    settings = Settings(model="mlp_genomic", epochs=1, n_folds=2)
    train(cohort, settings, tmp_path / "runs" / "mine")
    found = RunStore(cohort, tmp_path / "runs").get(settings)
    assert not isinstance(found, Unavailable)
    assert found.path == tmp_path / "runs" / "mine"
    other = RunStore(cohort, tmp_path / "runs").get(Settings(model="mlp_genomic", epochs=2, n_folds=2))
    assert not isinstance(other, Unavailable)
    assert other.path.name.startswith("mlp_genomic-")
    facts = json.loads((tmp_path / "runs" / "mine" / "run.json").read_text())
    (tmp_path / "runs" / "mine" / "run.json").write_text(json.dumps({**facts, "cohort": "someone else's"}))
    again = RunStore(cohort, tmp_path / "runs").get(settings)
    assert not isinstance(again, Unavailable)
    assert again.path.name.startswith("mlp_genomic-")
    assert RunStore(cohort, tmp_path).name(settings) != RunStore(cohort, tmp_path).name(other_seed := Settings(model="mlp_genomic", epochs=1, n_folds=2, seed=1))  # fmt: skip
    assert other_seed.seed == 1


def test_shares_of_the_paths_add_up(place: Path, tmp_path: Path) -> None:
    _make(place, "table3", tmp_path)
    patients = pd.read_csv(tmp_path / "table3_patients.csv")
    assert len(patients) == 48
    np.testing.assert_allclose(patients["genomic_share"] + patients["clinic_share"], 1)
    summary = pd.read_csv(tmp_path / "table3.csv").query("system == 'survpgc_gene_sets'").set_index("path")
    by_fold = patients.groupby("fold")["genomic_share"].mean()
    assert summary.loc["genomic", "mean"] == pytest.approx(by_fold.mean())
    assert summary.loc["genomic", "sd"] == pytest.approx(by_fold.std(ddof=0))


def test_held_out_patients_are_seen_by_the_model_that_tested_them(place: Path, tmp_path: Path) -> None:
    import torch

    from napari_survpgc.core.survival import hazards, risk, survival

    cohort = read_cohort(place / "lihc")
    settings = Settings(model="survpgc_gene_sets", model_config={"dim": 16}, epochs=1, n_folds=2)
    train(cohort, settings, tmp_path / "run")
    run = read_run(tmp_path / "run")
    with HeldOutPredictor(run, cohort) as predictor:
        for case in ("P03", "P40"):
            seen = predictor.predict(case)
            row = run.pooled.loc[case]
            assert seen.fold == row["fold"]
            assert seen.prediction.risk == pytest.approx(row["risk"], abs=1e-5)
            shares = path_shares(seen)
            state = seen.prediction.state.folds[0]
            embedding = seen.model.embed(state.clinic, state.genomic)
            zero = risk(survival(hazards(seen.model.head(torch.zeros_like(embedding)).double())))
            total = float(shares["genomic_sum"]) + float(shares["clinic_sum"])  # type: ignore[arg-type]
            assert total == pytest.approx(seen.prediction.risk - float(zero[0]), abs=1e-4)
        with pytest.raises(CohortError, match="No fold of run tested NOBODY"):
            predictor.predict("NOBODY")
        table = pd.read_csv(cohort.path / "expression.csv.gz")
        assert len(table) == 48
    table = pd.read_csv(run.path / "folds" / "0" / "predictions.csv")
    table["risk"] += 0.1
    table.to_csv(run.path / "folds" / "0" / "predictions.csv", index=False)
    with (
        HeldOutPredictor(read_run(run.path), cohort) as predictor,
        pytest.raises(CohortError, match="changed since"),
    ):
        predictor.predict(str(run.folds[0].test.index[0]))


def test_figure_4_shows_slides_where_there_are_any(place: Path, tmp_path: Path) -> None:
    _make(place, "fig4", tmp_path / "bare")
    bare = pd.read_csv(tmp_path / "bare" / "fig4.csv", dtype={"note": str})
    assert list(bare["group"]) == ["high risk"] * 2 + ["low risk"] * 2
    assert bare["note"].str.contains("There is no slide").all()
    assert bare["event"][:2].eq(1).all()
    assert bare["survival_months"][:2].max() < bare["survival_months"][2:].min()
    image = np.full((6144, 6144, 3), 235, np.uint8)
    image[::7] = (200, 120, 170)
    (tmp_path / "slides").mkdir()
    write_tiff(tmp_path / "slides" / f"{bare['slide_id'][0]}.tiff", image)
    files = _make(place, "fig4", tmp_path / "with", slides=tmp_path / "slides")
    shown = pd.read_csv(tmp_path / "with" / "fig4.csv", dtype={"note": str})
    assert shown["note"].isna().tolist() == [True, False, False, False]
    assert files["fig4.png"] != (tmp_path / "bare" / "fig4.png").read_bytes()
    patches = pd.read_csv(tmp_path / "with" / "fig4_patches.csv")
    assert (
        patches.groupby(["case_id", "map"]).size().eq(12).all()
    )  # there are twelve patches, fewer than fifty
    best = patches.query("rank == 1")
    assert best["score"].to_numpy() == pytest.approx(
        patches.groupby(["case_id", "map"], sort=False)["score"].max()
    )


def test_a_slide_is_found_by_its_id_whatever_its_kind(tmp_path: Path) -> None:
    assert fig4.find_slide(tmp_path / "none", "A") is None
    (tmp_path / "A.svs").write_bytes(b"")
    (tmp_path / "A.geojson").write_bytes(b"")
    (tmp_path / "B.mrxs").write_bytes(b"")
    (tmp_path / "B").mkdir()
    (tmp_path / "D").mkdir()
    assert [fig4.find_slide(tmp_path, i) for i in ("A", "A.svs", "B", "C")] == [
        tmp_path / "A.svs", tmp_path / "A.svs", tmp_path / "B.mrxs", None,
    ]  # fmt: skip
    assert fig4.find_slide(tmp_path, "D") == tmp_path / "D"
    (tmp_path / "A.tiff").write_bytes(b"")
    with pytest.raises(CohortError, match="several slides named A"):
        fig4.find_slide(tmp_path, "A")


def test_wordings_are_drawn_once_for_a_patient_and_field() -> None:
    templates = load_templates("synonyms")
    drawn = np.array([draw_wordings(f"P{i}", templates, 5, seed=0) for i in range(300)])
    assert drawn.shape == (300, 6)
    assert (np.sort(np.unique(drawn)) == np.arange(5)).all()
    assert all(len(np.unique(drawn[:, field])) == 5 for field in range(6))
    assert not (drawn == drawn[:, :1]).all()
    assert draw_wordings("P3", templates, 5, seed=0) == tuple(drawn[3])
    assert draw_wordings("P3", templates, 5, seed=1) != draw_wordings("P3", templates, 5, seed=0)
    assert draw_wordings("P3", load_templates("default"), 1, seed=9) == (0,) * 6
    with pytest.raises(CohortError, match="have 20 wordings a field, not 21"):
        draw_wordings("P3", templates, 21, seed=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("learning = 3", "unknown setting learning"), ("[systems.survpgc]\nbetta = 1", "unknown setting betta"),
        ("systems = 3", "systems that are no tables"), ("alpha =", "not valid TOML"),
        ("model = 'x'", "unknown setting model"),
    ],
)  # fmt: skip
def test_wrong_settings_are_told_before_training(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "s.toml").write_text(content)
    with pytest.raises(CohortError, match=message):
        read_plan_settings(tmp_path / "s.toml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table9", "lihc"], "no table or figure named table9"),
        (["table1", "nowhere"], "not a cohort folder"),
        (["table1", "lihc", "--systems", "mlp_clinic,magic"], "no system named magic"),
        (["table1", "lihc", "--settings", "none.toml"], "none.toml cannot be read"),
    ],
)
def test_mistakes_on_the_command_line_end_in_one_line(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    what, cohort, *more = arguments
    code = run_cli(["reproduce", what, str(place / cohort), "--out", str(tmp_path / "out"), *more])
    shown = capsys.readouterr().err
    assert code == 2
    assert message in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command_line_prints_the_table_and_ends_with_130_when_stopped(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["reproduce", "table1", str(place / "lihc"), "--out", str(tmp_path), "--systems", "mlp_genomic"]
    line += ["--settings", str(place / "settings.toml"), "--runs", str(place / "runs")]
    assert run_cli(line) == 0
    shown = capsys.readouterr().out
    assert "MLP (Genomic)" in shown
    assert "Research use only" in shown
    assert str(tmp_path / "table1.html") in shown

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_survpgc.training.tables.run_store.train", stop)
    assert run_cli([*line, "--seed", "5"]) == 130


def test_the_selection_of_patients_adds_up(place: Path) -> None:
    cohort = read_cohort(place / "lihc")
    steps, notes = supp1.selection(cohort)
    assert steps[0].kept == len(cohort.patients)
    for before, after in itertools.pairwise(steps):
        assert before.kept == after.kept + after.left_out
    assert any("Unknown fields" in note for note in notes)


def test_censoring_by_time_counts_everyone_once() -> None:
    frame = supp2.censoring_by_time([3, 12, 12, 30], [1, 1, 0, 0]).set_index("months")
    assert list(frame.index) == [0, 6, 12, 24, 36]
    assert frame.loc[12, ["died", "censored", "followed"]].tolist() == [2, 1, 1]
    assert (frame[["died", "censored", "followed"]].sum(axis=1) == 4).all()
    assert np.isnan(frame.loc[0, "censored_of_ended"])
