"""What evaluation.py compares with: the bare matrix product, and Torchreid's two rankings and its re-ranking.

Torchreid falls back on its Python ranking without an error where its Cython extension is missing, and the package on
PyPI lacks both the extension and its source. So it is looked for here, put where Torchreid imports it from, and never
assumed.
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
REBUILT = "pyppbox-torchreid"  # Torchreid 1.4 repackaged under its MIT licence, with the extension built
BLOCK_ROWS, BLOCK_BYTES = 1024, 400_000_000
NAME = "torchreid.reid.metrics.rank_cylib.rank_cy"
Array = NDArray[Any]


class Ranked(NamedTuple):
    """What Torchreid's ranking finds, under the names of ours."""

    cmc: Array
    mAP: float


def floor(of: str, query: Array, gallery: Array, stride: int) -> tuple[dict[str, Callable[[], Any]], float]:
    """What no evaluation can do without.

    Args:
        of: "query x gallery" or "all x all": a product, block by block into one buffer; "pass": reads the matrix once.
        query: (Q, D).
        gallery: (G, D).
        stride: only every so many blocks, where all would take too long.

    Returns:
        One job for each library, and the share of the rows that they compute.
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
        into, right = torch.from_numpy(buffer), torch.from_numpy(gallery).T
        for block in blocks:
            torch.mm(torch.from_numpy(block), right, out=into[: len(block)])

    def with_numpy(blocks: Sequence[Array]) -> None:
        for block in blocks:
            np.matmul(block, gallery.T, out=buffer[: len(block)])

    with_torch(blocks[:1])  # starts the threads, and the buffer's pages are there from now on
    with_numpy(blocks[:1])
    share = sum(len(block) for block in blocks) / len(query)
    return {"torch": lambda: with_torch(blocks), "numpy": lambda: with_numpy(blocks)}, share


def cython_evaluator(given: Path | None, folder: Path) -> tuple[Path | None, str]:
    """Finds or builds Torchreid's extension.

    Args:
        given: `rank_cy.pyx` of a checkout of Torchreid, or the extension, or None to look for one.
        folder: where to build.

    Returns:
        The extension's file, or None without one, and where it comes from.

    Raises:
        SystemExit: the given file cannot be used.
    """
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    if given is not None:
        if not given.is_file():
            raise SystemExit(f"--rank-cy {given} is no file.")
        return (build(given, folder), "built from rank_cy.pyx") if given.suffix == ".pyx" else (given, "built before")
    for package in ("torchreid", REBUILT):
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.name == f"rank_cy{suffix}":
                return Path(str(file.locate())), f"built, in {package} {importlib.metadata.version(package)}"
    return None, f"not found, and left out: give --rank-cy, or pip install --no-deps {REBUILT}"


def build(source: Path, folder: Path) -> Path:
    """Compiles the extension as Torchreid's setup does: with NumPy's headers, and no option of its own.

    Raises:
        SystemExit: Cython or a C compiler is missing, or refuses it.
    """
    copy = shutil.copy(source, folder / "rank_cy.pyx")
    flags = f"{os.environ.get('CFLAGS', '')} -I{np.get_include()}"
    command = [sys.executable, "-m", "Cython.Build.Cythonize", "--inplace", "--quiet", str(copy)]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"CFLAGS": flags}, text=True, capture_output=True, check=False
    )
    built = sorted(folder.glob(f"rank_cy*{sysconfig.get_config_var('EXT_SUFFIX')}"))
    if done.returncode or not built:
        raise SystemExit(f"{source.name} does not build (it takes cython, setuptools and a compiler):\n{done.stderr}")
    return built[0]


def evaluate_rank(
    rank_cy: Path | None, distance: Array, q_pids: Array, g_pids: Array, q_camids: Array, g_camids: Array
) -> Ranked:
    """Torchreid's CMC and mAP of a matrix, in Cython with the extension and in Python without.

    Raises:
        RuntimeError: Torchreid does not take the extension and would fall back on Python.
    """
    if rank_cy is not None and NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(NAME, rank_cy)
        if spec is None or spec.loader is None:
            raise RuntimeError(f"{rank_cy.name} is no extension module")
        sys.modules[NAME] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of its Python ranking, which is what is asked for
        from torchreid.reid.metrics import rank
    if rank_cy is not None and not rank.IS_CYTHON_AVAI:
        raise RuntimeError("Torchreid was imported before its Cython extension was there and would use Python")
    return Ranked(*rank.evaluate_rank(distance, q_pids, g_pids, q_camids, g_camids, use_cython=rank_cy is not None))


def re_ranking(query: Array, gallery: Array) -> Any:
    """Torchreid's k-reciprocal distances from embeddings, by the steps of its engine.

    Its re-ranking squares what it gets. The engine hands it squared distances; it gets their roots here.
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
