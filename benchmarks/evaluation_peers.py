"""Candidates that evaluation.py compares with: the bare matrix product, and Torchreid's rankings and re-ranking.

Torchreid silently uses its Python ranking if its Cython extension is missing, and the package on PyPI contains neither the
extension nor its source. This module therefore searches for the extension and installs it where Torchreid imports it from.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

PACKAGES = ("torchreid", "cython", "pyppbox-torchreid")
REBUILT = "pyppbox-torchreid"  # Torchreid 1.4 repackaged under its MIT license with the compiled extension
BLOCK_ROWS, BLOCK_BYTES = 1024, 400_000_000
NAME = "torchreid.reid.metrics.rank_cylib.rank_cy"
Array = NDArray[Any]


class Ranked(NamedTuple):
    """Result of Torchreid's ranking with the field names of reidlit."""

    cmc: Array
    mAP: float


def floor(of: str, query: Array, gallery: Array, stride: int) -> tuple[dict[str, Callable[[], Any]], float]:
    """Return the computation that every evaluation needs.

    Args:
        of: "query x gallery" or "all x all" for a product, block by block into one buffer, or "pass" for reading the matrix once.
        query: (Q, D) embeddings of the queries.
        gallery: (G, D) embeddings of the gallery.
        stride: Distance of the computed blocks, above 1 if all blocks would take too long.

    Returns:
        One job per library, and the fraction of the rows that they compute.
    """
    if of == "pass":
        matrix = query @ gallery.T
        return {"torch": torch.from_numpy(matrix).amax, "numpy": matrix.max}, 1.0
    if of == "all x all":
        query = gallery = np.concatenate([query, gallery])
    rows = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * len(gallery)), len(query)))
    blocks = [query[start : start + rows] for start in range(0, len(query), rows * stride)]
    buffer = np.empty((rows, len(gallery)), np.float32)

    def with_torch(blocks: Sequence[Array]) -> None:
        out, right = torch.from_numpy(buffer), torch.from_numpy(gallery).T
        for block in blocks:
            torch.mm(torch.from_numpy(block), right, out=out[: len(block)])

    def with_numpy(blocks: Sequence[Array]) -> None:
        for block in blocks:
            np.matmul(block, gallery.T, out=buffer[: len(block)])

    with_torch(blocks[:1])  # starts the threads and allocates the pages of the buffer
    with_numpy(blocks[:1])
    fraction = sum(len(block) for block in blocks) / len(query)
    return {"torch": lambda: with_torch(blocks), "numpy": lambda: with_numpy(blocks)}, fraction


def cython_evaluator(file: Path | None, folder: Path) -> tuple[Path | None, str]:
    """Find or build Torchreid's extension.

    Args:
        file: `rank_cy.pyx` of a checkout of Torchreid, or the compiled extension. `None` searches the installed packages.
        folder: Folder in which to build.

    Returns:
        The path of the extension, None if there is none, and a description of its origin.

    Raises:
        SystemExit: If `file` cannot be used.
    """
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    if file is not None:
        if not file.is_file():
            raise SystemExit(f"--rank-cy={file} does not exist.")
        return (build(file, folder), "built from rank_cy.pyx") if file.suffix == ".pyx" else (file, "built before")
    for package in ("torchreid", REBUILT):
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for installed in files:
            if installed.name == f"rank_cy{suffix}":
                return Path(str(installed.locate())), f"built, in {package} {importlib.metadata.version(package)}"
    return None, f"not found and skipped: set --rank-cy, or pip install --no-deps {REBUILT}"


def build(source: Path, folder: Path) -> Path:
    """Compile the extension as Torchreid's setup does, with NumPy's headers and without further options.

    Raises:
        SystemExit: If Cython or a C compiler is missing, or the build fails.
    """
    copy = shutil.copy(source, folder / "rank_cy.pyx")
    flags = f"{os.environ.get('CFLAGS', '')} -I{np.get_include()}"
    command = [sys.executable, "-m", "Cython.Build.Cythonize", "--inplace", "--quiet", str(copy)]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"CFLAGS": flags}, text=True, capture_output=True, check=False
    )
    built = sorted(folder.glob(f"rank_cy*{sysconfig.get_config_var('EXT_SUFFIX')}"))
    if done.returncode or not built:
        raise SystemExit(
            f"{source.name} cannot be built (requires cython, setuptools and a C compiler):\n{done.stderr}"
        )
    return built[0]


def evaluate_rank(
    rank_cy: Path | None, distance: Array, q_pids: Array, g_pids: Array, q_camids: Array, g_camids: Array
) -> Ranked:
    """Return Torchreid's CMC and mAP of a distance matrix, computed in Cython with the extension, otherwise in Python.

    Raises:
        RuntimeError: If Torchreid does not load the extension and would use Python.
    """
    if rank_cy is not None and NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(NAME, rank_cy)
        if spec is None or spec.loader is None:
            raise RuntimeError(f"{rank_cy.name} is not an extension module")
        sys.modules[NAME] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about its Python ranking, which is intended here
        from torchreid.reid.metrics import rank
    if rank_cy is not None and not rank.IS_CYTHON_AVAI:
        raise RuntimeError("Torchreid was imported before its Cython extension was available, and would use Python")
    return Ranked(*rank.evaluate_rank(distance, q_pids, g_pids, q_camids, g_camids, use_cython=rank_cy is not None))


def re_ranking(query: Array, gallery: Array) -> Any:
    """Return Torchreid's k-reciprocal distances of embeddings, computed as in its engine.

    Its re-ranking squares the distances, and the engine passes squared distances. Here it receives their square roots.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchreid.reid.metrics import compute_distance_matrix
        from torchreid.reid.utils.rerank import re_ranking as theirs

    def distance(left: Array, right: Array) -> Array:
        squared = compute_distance_matrix(torch.from_numpy(left), torch.from_numpy(right), "euclidean")
        root: Array = squared.clamp_(min=0).sqrt_().numpy()
        return root

    return theirs(distance(query, gallery), distance(query, query), distance(gallery, gallery), 20, 6, 0.3)
