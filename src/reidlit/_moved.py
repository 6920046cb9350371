"""Aliases of modules and classes that have moved, importable for one release with a deprecation warning.

Configurations and programs written for 0.1 contain dotted names such as `reidlit.engine.ranked_lists.RankedLists`.
`current_name` maps such a name to the current one, and an import hook makes the old modules importable.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Old module -> new module; old class -> new class if its module was split or the class was renamed.
MOVED = {
    "reidlit.data.attributes": "reidlit.data.attribute_data",
    "reidlit.data.csv_lines": "reidlit.data.csv_reader",
    "reidlit.data.datasets.own_data": "reidlit.data.datasets.custom",
    "reidlit.data.datasets.own_data.OwnData": "reidlit.data.datasets.custom.CustomData",
    "reidlit.data.datasets.tracklets.OwnTracklets": "reidlit.data.datasets.tracklets.CustomTracklets",
    "reidlit.data.datasets.walker_cameras": "reidlit.data.synthetic.cameras",
    "reidlit.data.datasets.walker_drawing": "reidlit.data.synthetic.figures",
    "reidlit.data.datasets.walker_gait": "reidlit.data.synthetic.walking",
    "reidlit.data.datasets.walker_occluders": "reidlit.data.synthetic.occluders",
    "reidlit.data.datasets.walker_tracklets": "reidlit.data.synthetic.motion",
    "reidlit.data.datasets.walkers": "reidlit.data.synthetic.pedestrians",
    "reidlit.data.datasets.walkers.Walkers": "reidlit.data.synthetic.pedestrians.Pedestrians",
    "reidlit.data.domain_samplers": "reidlit.data.samplers.domain",
    "reidlit.data.drawn_splits": "reidlit.data.random_splits",
    "reidlit.data.enlarge": "reidlit.data.pillow_resize",
    "reidlit.data.examine": "reidlit.data.doctor",
    "reidlit.data.files": "reidlit.files",
    "reidlit.data.identity_samplers": "reidlit.data.samplers.identity",
    "reidlit.data.listing": "reidlit.data.image_files",
    "reidlit.data.pipeline": "reidlit.data.transforms.pipeline",
    "reidlit.engine.averaging": "reidlit.engine.callbacks.averaging",
    "reidlit.engine.checkpoint": "reidlit.engine.callbacks.checkpoint",
    "reidlit.engine.found_architecture": "reidlit.engine.callbacks.architecture_export",
    "reidlit.engine.freeze": "reidlit.engine.callbacks.freeze",
    "reidlit.engine.gather": "reidlit.engine.distributed",
    "reidlit.engine.memory": "reidlit.engine.malloc",
    "reidlit.engine.module": "reidlit.engine.reid",
    "reidlit.engine.network": "reidlit.engine.base",
    "reidlit.engine.pace": "reidlit.engine.callbacks.throughput",
    "reidlit.engine.pace.ImageRate": "reidlit.engine.callbacks.throughput.Throughput",
    "reidlit.engine.progress": "reidlit.engine.callbacks.progress",
    "reidlit.engine.ranked_lists": "reidlit.engine.callbacks.ranked_lists",
    "reidlit.engine.resolution": "reidlit.engine.callbacks.resolution",
    "reidlit.engine.seeding": "reidlit.engine.callbacks.step_seed",
    "reidlit.engine.settings": "reidlit.engine.loggers.run_name",
    "reidlit.engine.show_in_tensorboard": "reidlit.engine.loggers.tensorboard",
    "reidlit.engine.show_in_wandb": "reidlit.engine.loggers.wandb_charts",
    "reidlit.engine.stopping": "reidlit.engine.callbacks.checkpoint",
    "reidlit.engine.tracked_results": "reidlit.engine.callbacks.test_charts",
    "reidlit.engine.wandb_run": "reidlit.engine.loggers.wandb",
    "reidlit.engine.watch": "reidlit.engine.callbacks.collapse_monitor",
    "reidlit.engine.watch.LossWatch": "reidlit.engine.callbacks.nan_guard.NaNGuard",
    "reidlit.engine.watch.SpreadWatch": "reidlit.engine.callbacks.collapse_monitor.CollapseMonitor",
    "reidlit.inference.export_check.FileBackend": "reidlit.inference.backends.FileBackend",
    "reidlit.inference.export_check": "reidlit.export.parity",
    "reidlit.inference.export_formats.Run": "reidlit.export.formats.EmbedImages",
    "reidlit.inference.export_formats.embedder": "reidlit.export.onnx.embedder",
    "reidlit.inference.export_formats": "reidlit.export.formats",
    "reidlit.inference.faiss_index": "reidlit.inference.search.faiss_index",
    "reidlit.inference.fold": "reidlit.export.batch_norm_folding",
    "reidlit.inference.folder_gallery": "reidlit.inference.search.folder_gallery",
    "reidlit.inference.gallery.Found": "reidlit.inference.search.entries.SearchResult",
    "reidlit.inference.gallery.Known": "reidlit.inference.search.entries.EntryInfo",
    "reidlit.inference.gallery": "reidlit.inference.search.gallery",
    "reidlit.inference.gallery_rows": "reidlit.inference.search.store",
    "reidlit.inference.gallery_search": "reidlit.inference.search.ranking",
    "reidlit.inference.given_images": "reidlit.inference.image_inputs",
    "reidlit.inference.model_file.Trained": "reidlit.inference.loading.TrainedModel",
    "reidlit.inference.model_file": "reidlit.inference.loading",
    "reidlit.inference.onnx": "reidlit.export.onnx",
    "reidlit.inference.profile.describe_device": "reidlit.inference.device.describe_device",
    "reidlit.inference.profile.find_device": "reidlit.inference.device.find_device",
    "reidlit.inference.profile": "reidlit.inference.profiling",
    "reidlit.inference.quantize": "reidlit.export.quantize",
    "reidlit.inference.torchreid_names": "reidlit.compat.torchreid.weight_names",
    "reidlit.inference.verification": "reidlit.inference.calibration",
    "reidlit.metrics.aggregate": "reidlit.runs.statistics",
    "reidlit.metrics.aggregate.Spread": "reidlit.runs.statistics.RunStatistics",
    "reidlit.metrics.aggregate.spread": "reidlit.runs.statistics.run_statistics",
    "reidlit.metrics.arrays": "reidlit.metrics._ranking.types",
    "reidlit.metrics.attributes": "reidlit.metrics.attribute_metric",
    "reidlit.metrics.attributes.OfEachAttribute": "reidlit.metrics.attribute_metric.PerAttributeScores",
    "reidlit.metrics.bins": "reidlit.metrics._ranking.histogram",
    "reidlit.metrics.block_kernels": "reidlit.metrics._ranking.match_kernels",
    "reidlit.metrics.blocks": "reidlit.metrics._ranking.tiles",
    "reidlit.metrics.bootstrap": "reidlit.metrics.intervals",
    "reidlit.metrics.centralisation": "reidlit.metrics.rerank.centralisation",
    "reidlit.metrics.device_block": "reidlit.metrics._ranking.device_tiles",
    "reidlit.metrics.distance.GivenDistances": "reidlit.metrics.distance.MatrixDistances",
    "reidlit.metrics.distance.parts": "reidlit.metrics.distance.iter_tiles",
    "reidlit.metrics.expansion": "reidlit.metrics.rerank.expansion",
    "reidlit.metrics.gnn": "reidlit.metrics.rerank.gnn",
    "reidlit.metrics.jit": "reidlit.metrics._ranking.numba_cache",
    "reidlit.metrics.k_reciprocal": "reidlit.metrics.rerank.k_reciprocal",
    "reidlit.metrics.list_kernels": "reidlit.metrics._ranking.list_kernels",
    "reidlit.metrics.metric.Collected": "reidlit.metrics.metric.EmbeddingSet",
    "reidlit.metrics.nearest_of_all": "reidlit.metrics.nearest",
    "reidlit.metrics.pairs": "reidlit.metrics.verification",
    "reidlit.metrics.pooling": "reidlit.metrics.protocols",
    "reidlit.metrics.pooling.Pooled": "reidlit.metrics.protocols.MeanEmbeddings",
    "reidlit.metrics.pooling.pool": "reidlit.metrics.protocols.pool_identities",
    "reidlit.metrics.product": "reidlit.metrics._ranking.matmul",
    "reidlit.metrics.protocol": "reidlit.metrics.protocols",
    "reidlit.metrics.protocol.Relevance": "reidlit.metrics._ranking.relevance.Relevance",
    "reidlit.metrics.rank_scores": "reidlit.metrics._ranking.rank_scores",
    "reidlit.metrics.reciprocal_kernels": "reidlit.metrics._ranking.reciprocal_kernels",
    "reidlit.metrics.row_kernels": "reidlit.metrics._ranking.row_kernels",
    "reidlit.metrics.scores.Verified": "reidlit.metrics.verification.VerificationScores",
    "reidlit.metrics.single_shot": "reidlit.metrics.protocols",
    "reidlit.metrics.single_shot.SingleShot": "reidlit.metrics.protocols.SingleShotRanks",
    "reidlit.metrics.table": "reidlit.tables",
    "reidlit.metrics.verification.Histogram": "reidlit.metrics.verification.PairHistogram",
    "reidlit.metrics.verification.Verification": "reidlit.metrics.verification.ROCCurve",
    "reidlit.metrics.workers": "reidlit.metrics._ranking.threads",
    "reidlit.models.backbones.surgery": "reidlit.models.backbones._layer_edits",
    "reidlit.models.tracklets": "reidlit.models.tracklet_embedding",
    "reidlit.tasks.aggregate": "reidlit.commands.aggregate",
    "reidlit.tasks.dashboard": "reidlit.commands.dashboard",
    "reidlit.tasks.doctor": "reidlit.commands.doctor",
    "reidlit.tasks.export": "reidlit.commands.export",
    "reidlit.tasks.extract": "reidlit.commands.extract",
    "reidlit.tasks.grammar": "reidlit.overrides",
    "reidlit.tasks.migrate": "reidlit.commands.migrate",
    "reidlit.tasks.predict": "reidlit.commands.predict",
    "reidlit.tasks.prepare": "reidlit.commands.prepare",
    "reidlit.tasks.profile": "reidlit.commands.profile",
    "reidlit.tasks.report": "reidlit.commands.report",
    "reidlit.tasks.search": "reidlit.commands.search",
    "reidlit.tasks.sweep_summary": "reidlit.commands._sweep_summary",
    "reidlit.tasks.test": "reidlit.commands.test",
    "reidlit.tasks.train": "reidlit.commands.train",
    "reidlit.tasks.verify": "reidlit.commands.verify",
    "reidlit.tasks.visualize": "reidlit.commands.visualize",
    "reidlit.visualize.report": "reidlit.visualize.report_page",
}


def current_name(name: str) -> str:
    """Return the current dotted name of a class or function, given its name in an earlier release."""
    if name in MOVED:
        return MOVED[name]
    module, _, attribute = name.rpartition(".")
    return f"{MOVED[module]}.{attribute}" if module in MOVED else name


class _MovedModule(ModuleType):
    """Old module that looks up its attributes in their current modules."""

    def __getattr__(self, attribute: str) -> Any:
        name = f"{self.__name__}.{attribute}"
        new = current_name(name)
        if attribute.startswith("__") or new == name:
            raise AttributeError(f"module {self.__name__!r} has no attribute {attribute!r}")
        module, _, target = new.rpartition(".")
        value = getattr(import_module(module), target)
        warnings.warn(f"{name} has moved to {new}; the old name will be removed in 0.3.", FutureWarning, stacklevel=2)
        return value


class _MovedFinder(MetaPathFinder, Loader):
    """Import finder and loader for old modules that are listed in `MOVED`."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - required by the import protocol
        target: ModuleType | None = None,  # noqa: ARG002 - required by the import protocol
    ) -> ModuleSpec | None:
        """Return a module spec for an old module or a package that contained one."""
        if not fullname.startswith("reidlit.") or not any(
            old == fullname or old.startswith(f"{fullname}.") for old in MOVED
        ):
            return None
        return ModuleSpec(fullname, self, is_package=any(old.startswith(f"{fullname}.") for old in MOVED))

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Create the old module."""
        return _MovedModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: attributes are looked up on demand."""


def install() -> None:
    """Make old modules importable; current modules take precedence."""
    sys.meta_path.append(_MovedFinder())
