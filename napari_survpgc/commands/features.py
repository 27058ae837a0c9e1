"""``survpgc features``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from napari_survpgc.core.errors import OutputError, SurvPGCError
from napari_survpgc.core.names import file_name

from .options import ProgressBar, job_options, pixel_size, positive_int, slide_options

HELP = "slides -> tissue, patches and one feature row a patch (HDF5)"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slides", nargs="+", type=Path, metavar="SLIDE", help="slide files or DICOM folders")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="gets <slide>.h5 and <slide>.geojson"
    )
    slide_options(parser)
    parser.add_argument(
        "--encoder",
        default="efficientnet-lite0",
        metavar="ID",
        help="see 'survpgc weights'; also hf:<owner>/<name>, timm:<model> (default: %(default)s)",
    )
    parser.add_argument("--mpp", type=pixel_size, help="µm per px of a patch (default: as the encoder wants)")
    parser.add_argument(
        "--patch-px", type=positive_int, help="side of a patch (default: as the encoder wants)"
    )
    parser.add_argument(
        "--format",
        choices=("survpgc", "trident"),
        default="survpgc",
        help="trident: its folders and names, <out>/20x_256px_0px_overlap/features_<encoder>/ (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    from napari_survpgc.core.encoders.catalog import load_image_encoder
    from napari_survpgc.core.features.failed import check_finished
    from napari_survpgc.core.features.feature_file import write_features
    from napari_survpgc.core.features.featurize import FeatureRecipe, featurize
    from napari_survpgc.core.features.trident import trident_place, trident_slide_name
    from napari_survpgc.core.files import sweep
    from napari_survpgc.core.slide.slide import open_slide
    from napari_survpgc.core.tissue.geojson import write_geojson

    trident = options.format == "trident"
    ids = [file_name(trident_slide_name(path) if trident else path.stem) for path in options.slides]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise OutputError(
            f"Several slides would write {twice[0]}.h5", "Rename them, or use one --out for each"
        )
    sweep(options.out)
    progress = ProgressBar()
    encoder = load_image_encoder(options.encoder, options.device)
    patch_px, mpp = options.patch_px or encoder.patch_px, options.mpp or encoder.mpp
    failed = 0
    for path, name in zip(options.slides, ids, strict=True):
        start = time.monotonic()
        place = trident_place(options.out, path, encoder.id, patch_px=patch_px, mpp=mpp)
        out = place.features if trident else options.out / f"{name}.h5"
        write = place.write_features if trident else write_features
        recipe = FeatureRecipe(patch_px, mpp, options.tissue, write, tuple(options.tissue_class))
        try:
            with open_slide(path, mpp=options.mpp_override) as slide:
                result = featurize(slide, encoder, out, recipe, job_options(options), progress)
            if trident:
                place.write_patches(result.features)
            outlines = options.out / f"{name}.geojson"
            if not (options.tissue and outlines.is_file() and outlines.samefile(options.tissue)):
                write_geojson(result.tissue, outlines, result.info.mpp)
            check_finished(result.features, path.name)
        except OutputError:
            raise  # the next slide would meet the same full disk
        except SurvPGCError as error:
            progress.close()
            print(f"survpgc: {error}", file=sys.stderr)
            failed += 1
            continue
        finally:
            progress.close()
        seconds = time.monotonic() - start
        print(f"{path.name}: {len(result.features.grid)} patches in {seconds:.1f} s -> {out}")
        for warning in result.warnings:
            print(f"  note: {warning}")
    return 2 if failed else 0
