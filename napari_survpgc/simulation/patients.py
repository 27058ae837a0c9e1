"""Patients with known truth: six clinical fields, gene expression, histology and a hazard that needs all three.

log hazard = clinic part + genomic part + image part, each of standard deviation ``PART_SD``; the latents behind the
parts are almost independent, so that no modality can stand in for another.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.types import ClinicalRecord, GeneSet

from .histology import Histology

PART_SD = 1.3
MEDIAN_MONTHS = 38.0
WEIBULL_SHAPE = 1.25

_GENES: Mapping[str, str] = {
    "proliferation": "AURKA AURKB BUB1 BUB1B CDC7 CDK1 CDK2 CDK4 CHEK1 HMMR MASTL MELK MKI67 NEK2 PBK PKMYT1 PLK1"
    " PLK4 STIL TOP1 TOP2A TTK VRK1 WEE1",
    "dna_repair": "ATM ATR BLM BRCA1 BRCA2 BRIP1 CHEK2 ERCC2 ERCC3 FANCA FANCC FANCD2 FANCE MLH1 MSH2 MSH6 NBN PALB2"
    " PMS2 RAD51B WRN XPA XPC",
    "t_cells": "CCL5 CD2 CD247 CD27 CD28 CD3D CD3E CD3G CD5 CD7 CD8A CD8B CTLA4 CXCL10 CXCL9 CXCR6 ICOS IFNG ITK LAG3"
    " LCK PDCD1 PRF1 ZAP70",
    "b_cells": "BLK BTK CD19 CD22 CD79A CD79B CR2 CXCL13 CXCR5 MS4A1 PAX5 POU2AF1 TNFRSF13C TNFRSF17",
    "macrophages": "CCR1 CD14 CD163 CD68 CD86 CSF1R FCGR2A FCGR3A ITGAM ITGAX LILRB2 MRC1 SIGLEC1 TLR2 TLR4",
    "emt_stroma": "ACTA2 BMP1 CD248 CDH11 CDH2 COL1A1 DDR2 FAP GREM1 INHBA LTBP1 LTBP2 MRC2 PDGFRA PDGFRB PLAU PRRX1"
    " TGFB1 TGFB3 TGFBR2 THY1 TNC VIM",
    "hypoxia": "ADM CA9 CXCL8 DDIT3 EDN1 LDHA MIF NAMPT PDK1 PDK3 PLAUR SLC2A1 STC1 STC2 TRIB3 VEGFA",
    "angiogenesis": "CD34 CDH5 ENG ESM1 FLT1 FLT4 KDR NRP1 PGF TEK TIE1 VEGFC",
    "metabolism": "ACSL3 ADIPOQ CAT COX6C FH IDH1 IDH2 IGF1 INSR LEPR PDK2 PDK4 PPARG PRKAA1 PRKAA2 SDHB SDHC SDHD",
    "growth_signaling": "AKT1 AKT2 AKT3 BRAF EGFR ERBB2 ERBB3 FGFR1 KRAS MAP2K1 MAPK1 MET MTOR PIK3CA PIK3R1 PTEN"
    " RPS6KB1 TSC1 TSC2",
}
_SOURCE = "simulated cohort of napari-survpgc; members chosen from general knowledge"

GENE_SETS = tuple(GeneSet(name, _SOURCE, tuple(genes.split())) for name, genes in _GENES.items())
GENES = tuple(sorted(gene for gene_set in GENE_SETS for gene in gene_set.genes))
PROGRAMMES = tuple(_GENES)
_HAZARD_OF_PROGRAMME = {
    "proliferation": 0.75,
    "hypoxia": 0.50,
    "t_cells": -0.45,
}
_STAGES: tuple[str, ...] = (
    "Stage I",
    "Stage IA",
    "Stage IB",
    "Stage II",
    "Stage IIA",
    "Stage IIB",
    "Stage III",
    "Stage IIIA",
)
_STAGES += ("Stage IIIB", "Stage IIIC", "Stage IV", "Stage IVA", "Stage IVB")
_SUBTYPES = (
    "Infiltrating duct carcinoma",
    "Lobular carcinoma",
    "Mucinous adenocarcinoma",
    "Adenocarcinoma with mixed subtypes",
)
_RACES = ("white", "black or african american", "asian", None)
SITES = ("05", "2Y", "A7", "BH", "DD", "E2")


@dataclass(frozen=True)
class SimulatedPatient:
    """One patient with everything that is known about it.

    Attributes
    ----------
    expression : (len(GENES),) z-scores.
    log_hazard : true log hazard ratio; ``parts`` holds its clinic, genomic and pathology terms.
    programmes : latent activity of each of PROGRAMMES.
    survival_months, event : 1 = death, 0 = censored.
    """

    case_id: str
    slide_id: str
    site: str
    record: ClinicalRecord
    expression: NDArray[np.float64]
    histology: Histology
    log_hazard: float
    parts: Mapping[str, float]
    programmes: Mapping[str, float]
    survival_months: float
    event: int


def patient_generator(seed: int, index: int, purpose: str) -> np.random.Generator:
    """Return the generator of one patient for one purpose: no patient depends on how many others there are."""
    return np.random.default_rng([seed, index, zlib.crc32(purpose.encode())])


def gene_baseline(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of log2(TPM+1) of GENES: plausible, made up, the same for every cohort."""
    rng = np.random.default_rng([seed, zlib.crc32(b"baseline")])
    return rng.uniform(2.0, 7.0, len(GENES)).round(3), rng.uniform(0.6, 1.5, len(GENES)).round(3)


def _gene_loadings() -> NDArray[np.float64]:
    """Return (n_genes, n_programmes): each gene follows its programme, and a little of one other."""
    rng = np.random.default_rng(zlib.crc32(b"loadings"))
    loadings = np.zeros((len(GENES), len(PROGRAMMES)))
    for column, name in enumerate(PROGRAMMES):
        for gene in _GENES[name].split():
            row = GENES.index(gene)
            loadings[row, column] = rng.uniform(0.75, 0.95)
            other = int(rng.integers(len(PROGRAMMES)))
            if other != column:
                loadings[row, other] = rng.normal(0, 0.08)
    return loadings


_LOADINGS = _gene_loadings()


def simulate_patient(seed: int, index: int) -> SimulatedPatient:
    """Return patient ``index`` of the cohort ``seed``."""
    rng = patient_generator(seed, index, "patient")
    clinic = rng.standard_normal()  # burden of disease behind stage
    age = float(np.clip(round(62 + 12 * rng.standard_normal()), 24, 90))
    programmes = dict(zip(PROGRAMMES, rng.standard_normal(len(PROGRAMMES)), strict=True))
    # The weak links that biology has: hypoxia with necrosis, T cells with lymphocytes, proliferation with grade.
    grade = 0.20 * programmes["proliferation"] + 0.98 * rng.standard_normal()
    lymph = 0.25 * programmes["t_cells"] + 0.97 * rng.standard_normal()
    necro = 0.20 * programmes["hypoxia"] + 0.98 * rng.standard_normal()

    clinic_part = PART_SD * (0.90 * clinic + 0.43 * (age - 62) / 12)
    genomic = sum(weight * programmes[name] for name, weight in _HAZARD_OF_PROGRAMME.items())
    genomic_part = PART_SD * genomic / np.sqrt(sum(w * w for w in _HAZARD_OF_PROGRAMME.values()))
    image_part = PART_SD * (0.76 * grade - 0.50 * lymph + 0.41 * necro)
    parts = {"clinic": clinic_part, "genomic": float(genomic_part), "pathology": image_part}
    log_hazard = float(sum(parts.values()))

    scale = MEDIAN_MONTHS / np.log(2) ** (1 / WEIBULL_SHAPE)
    death = scale * (rng.exponential() * np.exp(-log_hazard)) ** (1 / WEIBULL_SHAPE)
    censoring = min(float(rng.uniform(10, 170)), 144.0)
    months = round(float(np.clip(min(death, censoring), 0.03, None)), 2)

    # Stage cuts the burden into 13 ordered classes; frequent middle stages, rare late ones.
    quantiles = np.array([-1.5, -1.1, -0.75, -0.45, -0.15, 0.15, 0.4, 0.65, 0.95, 1.25, 1.55, 1.95])
    stage = _STAGES[int(np.searchsorted(quantiles, clinic))]
    record = ClinicalRecord(
        age=age,
        sex="female" if rng.random() < 0.55 else "male",
        stage=None if rng.random() < 0.03 else stage,
        staging_edition=(None, "5th", "6th", "7th", "8th")[rng.choice(5, p=[0.04, 0.1, 0.36, 0.4, 0.1])],
        subtype=_SUBTYPES[rng.choice(4, p=[0.62, 0.18, 0.08, 0.12])],
        race=_RACES[rng.choice(4, p=[0.66, 0.14, 0.12, 0.08])],
    )
    latent = _LOADINGS @ np.array([programmes[name] for name in PROGRAMMES])
    noise = np.sqrt(np.clip(1 - (_LOADINGS**2).sum(1), 0.05, None))
    expression = (latent + noise * rng.standard_normal(len(GENES))).round(4)
    artefact = rng.random()
    histology = Histology(
        grade=float(1 / (1 + np.exp(-1.5 * grade))),
        lymphocytes=float(0.42 / (1 + np.exp(-1.5 * lymph + 0.6))),
        necrosis=float(np.clip(0.42 / (1 + np.exp(-1.6 * necro + 0.9)) - 0.02, 0, None)),
        pen=("blue", "green", "red", "black")[rng.integers(4)] if artefact < 0.06 else None,
        fold=bool(artefact > 0.95),
    )
    return SimulatedPatient(
        case_id=f"SIM-{index:04d}",
        slide_id=f"SIM-{index:04d}-01",
        site=SITES[int(rng.integers(len(SITES)))],
        record=record,
        expression=expression,
        histology=histology,
        log_hazard=log_hazard,
        parts=parts,
        programmes=programmes,
        survival_months=months,
        event=int(death <= censoring),
    )
