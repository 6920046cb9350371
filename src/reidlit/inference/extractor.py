"""From images to embeddings."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from reidlit.inference.backends import PRECISIONS, Backend, OnnxBackend, TorchBackend
from reidlit.inference.device import find_device
from reidlit.inference.image_inputs import Array, Given, as_list, as_pixels, as_size, parse_image_size
from reidlit.inference.loading import DEFAULT_SIZE, TrainedModel, load_trained
from reidlit.models.model import ReIDModel
from reidlit.models.tracklet_embedding import embed_tracklets

BACKENDS = ("torch", "compile", "onnx")


class FeatureExtractor:
    """Embeds images of persons with a trained model.

    An image gives the same embedding whatever form it comes in and whatever batch it is in, and that of `reidlit test`.

    Args:
        model_name: the architecture, an option of conf/model; a checkpoint of `reidlit train` needs none.
        model_path: a checkpoint, or a weight file of Torchreid, fast-reid or reidlit.
        model: one that is in memory, instead of the two.
        trained: or what `load_trained` has read.
        image_size: height and width in pixels to which images are resized; by default those of the checkpoint, or
            256 x 128.
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
        batch_size: images at a time.
        num_workers: threads that read and resize while the model works; 0 for none.
        backend: `torch`, `compile` (torch.compile, slow to start) or `onnx` (ONNX Runtime, on the CPU).
        precision: `fp32`, `bf16` or `fp16`.
        flip: whether to average the embeddings of an image and of its mirror image.
        normalize: whether to scale embeddings to length one.
        bgr: whether arrays have their channels as OpenCV has them.
        progress: whether to show a bar.

    Attributes:
        image_size: height and width in pixels.
        embedding_size: D.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if an argument is out of range, or the file does not hold the model.
    """

    def __init__(
        self,
        model_name: str | None = None,
        model_path: str | Path | None = None,
        model: ReIDModel | None = None,
        trained: TrainedModel | None = None,
        image_size: Sequence[int] | None = None,
        device: str = "auto",
        batch_size: int = 64,
        num_workers: int = 2,
        backend: Literal["torch", "compile", "onnx"] = "torch",
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
        flip: bool = False,
        normalize: bool = False,
        bgr: bool = False,
        progress: bool = False,
    ) -> None:
        sources = [source for source in (model_path, model, trained) if source is not None]
        if len(sources) != 1:
            raise ValueError(
                "give model_path, a checkpoint or weights with their model_name, or model; a model without trained weights "
                "has no use here."
            )
        for name, value, allowed in (("backend", backend, BACKENDS), ("precision", precision, tuple(PRECISIONS))):
            if value not in allowed:
                raise ValueError(f"{name}={value!r} must be one of {', '.join(allowed)}.")
        for name, number, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if number < least:
                raise ValueError(f"{name}={number} must be {least} or more.")
        self.trained = _load(sources[0], model_name, parse_image_size(image_size))
        self.image_size = self.trained.image_size
        self.embedding_size = self.trained.model.embedding_size
        self.batch_size, self.num_workers = batch_size, num_workers
        self.flip, self.normalize, self.bgr, self.progress = flip, normalize, bgr, progress
        self.backend = self._backend(backend, precision, find_device(device))

    def __call__(self, images: Given | Sequence[Given], camids: ArrayLike | Tensor | None = None) -> Tensor:
        """Embed images.

        Args:
            images: one or many: paths, (H, W, 3) uint8 arrays, PIL images, (3, H, W) tensors of uint8 or of 0 to 1; of any
                sizes and also mixed; or a batch (B, 3, H, W), (B, H, W, 3).
            camids: (N,) the camera of each, for a model that uses cameras.

        Returns:
            (N, D) float32, on the CPU.

        Raises:
            FileNotFoundError: if a path does not exist.
            ValueError: if an image cannot be read, or cameras are needed and missing.
        """
        parts = [part for _, part in self.stream(as_list(images), camids)]
        return torch.cat(parts) if parts else torch.empty(0, self.embedding_size)

    def stream(
        self, images: Sequence[Given], camids: ArrayLike | Tensor | None = None
    ) -> Iterator[tuple[range, Tensor]]:
        """Embed images batch by batch, so that what is done can be kept.

        Yields:
            the positions of a batch's images, and their (B, D) embeddings.
        """
        cameras = self._cameras(len(images), camids)
        with tqdm(total=len(images), desc="embedding", unit="image", disable=not self.progress) as bar:
            for positions, batch in self._batches(images):
                embedding = self._embed(batch, None if cameras is None else cameras[positions.start : positions.stop])
                bar.update(len(positions))
                yield positions, embedding

    def tracklet(self, images: Sequence[Given], camid: int | None = None, seq_len: int = 15) -> Tensor:
        """Embed a person's images from one camera in temporal order, as `reidlit test` embeds a tracklet of all frames.

        Args:
            images: one or more, each in any form that an image may have.
            camid: their camera, for a model that uses cameras.
            seq_len: frames that the model's pooling over time sees at once; the embeddings of such clips are averaged.

        Returns:
            (D,) float32, on the CPU.

        Raises:
            ValueError: if there is no image, the backend takes single images only, or the embedding is not finite.
        """
        if not len(images):
            raise ValueError("images is empty: a tracklet needs one frame or more.")
        if not self.backend.takes_clips:
            raise ValueError("backend='onnx' takes single images; embed tracklets with backend='torch'.")
        frames = torch.cat([batch for _, batch in self._batches(images)])
        count = math.ceil(len(frames) / seq_len)
        padding = frames[-1:].expand(count * seq_len - len(frames), -1, -1, -1)
        clips = torch.cat([frames, padding]).view(count, seq_len, *frames.shape[1:])
        frame_mask = (torch.arange(count * seq_len) < len(frames)).view(count, seq_len)
        camera = self._of_camera(camid, 1)

        def embed(image: Tensor, camids: Tensor, frame_mask: Tensor) -> Tensor:
            return self.backend(image, camids if self.uses_cameras else None, frame_mask)

        tracklet = torch.zeros(count, dtype=torch.long)
        cameras = torch.zeros(1, dtype=torch.long) if camera is None else camera
        sides = [clips, clips.flip(-1)] if self.flip else [clips]
        embeddings = [embed_tracklets(embed, side, frame_mask, tracklet, cameras) for side in sides]
        return self._finished(torch.stack(embeddings).mean(0))[0]

    def crops(self, frame: Given, boxes: ArrayLike | Tensor, camid: int | None = None) -> Tensor:
        """Embed the persons that a detector found in a frame.

        Args:
            frame: the whole image, in any form that an image may have.
            boxes: (N, 4) left, top, right, bottom in pixels; what lies outside the frame is cut off.
            camid: the camera of the frame, for a model that uses cameras.

        Returns:
            (N, D) float32, on the CPU, in the order of the boxes.

        Raises:
            ValueError: if the boxes are not (N, 4), or one has no pixel in the frame.
        """
        pixels = as_pixels(frame, self.bgr)
        corners = np.asarray(boxes, dtype=np.float64)
        if corners.size == 0:
            return torch.empty(0, self.embedding_size)
        if corners.ndim != 2 or corners.shape[1] != 4 or not np.isfinite(corners).all():
            raise ValueError(f"boxes must be (N, 4) finite numbers, got the shape {corners.shape}.")
        height, width = pixels.shape[:2]
        left, top = np.floor(corners[:, :2]).clip(0, [width, height]).astype(int).T
        right, bottom = np.ceil(corners[:, 2:]).clip(0, [width, height]).astype(int).T
        if len(empty := np.flatnonzero((left >= right) | (top >= bottom))):
            raise ValueError(
                f"boxes[{empty[0]}]={corners[empty[0]].tolist()} has no pixel in the frame of {width} x {height}; leave it out."
            )
        cut = [pixels[t:b, x:r] for x, t, r, b in zip(left, top, right, bottom, strict=True)]
        parts = [self._embed(batch, self._of_camera(camid, len(on))) for on, batch in self._batches(cut, bgr=False)]
        return torch.cat(parts)

    @property
    def uses_cameras(self) -> bool:
        """Whether the camera of each image must be given."""
        return self.trained.model.uses_cameras

    @cached_property
    def fingerprint(self) -> str:
        """Names what decides an embedding: weights, size, flip and length. Others cannot be compared with these."""
        digest = hashlib.blake2b(repr((self.image_size, self.flip, self.normalize)).encode(), digest_size=8)
        for name, tensor in sorted(self.trained.model.state_dict().items()):
            if not name.startswith("classifier.") and not name.endswith("num_batches_tracked"):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _backend(self, backend: str, precision: str, device: torch.device) -> Backend:
        if backend != "onnx":
            return TorchBackend(self.trained.model, self.image_size, device, precision, backend == "compile")
        if precision != "fp32" or device.type != "cpu":
            raise ValueError(f"backend='onnx' runs on the CPU in fp32, not on {device} in {precision}.")
        return OnnxBackend(self.trained.model, self.image_size)

    def _embed(self, batch: Tensor, camid: Tensor | None) -> Tensor:
        embedding = self.backend(batch, camid)
        if self.flip:
            embedding = (embedding + self.backend(batch.flip(-1), camid)) / 2
        return self._finished(embedding)

    def _finished(self, embedding: Tensor) -> Tensor:
        """(B, D) embeddings as they are returned."""
        if not embedding.isfinite().all():
            raise ValueError(
                "The model gives embeddings that are NaN or infinite: its weights are broken, or too large for this precision; "
                "try precision='fp32' or another checkpoint."
            )
        return functional.normalize(embedding) if self.normalize else embedding

    def _batches(self, images: Sequence[Given], bgr: bool | None = None) -> Iterator[tuple[range, Tensor]]:
        """Stacked batches, of which the next one is made while one is worked on."""
        bgr = self.bgr if bgr is None else bgr
        starts = range(0, len(images), self.batch_size)
        spans = [range(start, min(start + self.batch_size, len(images))) for start in starts]

        def read(position: int) -> Array:
            return as_size(images[position], self.image_size, bgr)

        if not self.num_workers:
            for span in spans:
                yield span, _stacked([read(position) for position in span])
            return
        with ThreadPoolExecutor(self.num_workers) as pool:
            ahead: list[list[Future[Array]]] = []
            try:
                for number, span in enumerate(spans):
                    while len(ahead) < 2 and number + len(ahead) < len(spans):
                        ahead.append([pool.submit(read, position) for position in spans[number + len(ahead)]])
                    yield span, _stacked([future.result() for future in ahead.pop(0)])
            finally:
                for future in (future for batch in ahead for future in batch):
                    future.cancel()

    def _cameras(self, count: int, camids: ArrayLike | Tensor | None) -> Tensor | None:
        if not self.uses_cameras:
            return None
        if camids is None:
            raise ValueError("camids is None: this model must be told which camera took each image.")
        cameras = torch.as_tensor(camids)
        if cameras.shape != (count,):
            raise ValueError(f"camids has the shape {tuple(cameras.shape)}, but there are {count} images.")
        return cameras.long()

    def _of_camera(self, camid: int | None, count: int) -> Tensor | None:
        return self._cameras(count, None if camid is None else torch.full((count,), camid))


def _stacked(images: list[Array]) -> Tensor:
    """(B, 3, H, W) uint8 with channels last in memory."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def _load(
    source: str | Path | ReIDModel | TrainedModel, model_name: str | None, image_size: tuple[int, int] | None
) -> TrainedModel:
    """Return the trained model of a file or in memory."""
    if isinstance(source, str | Path):
        return load_trained(source, model_name, image_size)
    if isinstance(source, TrainedModel):
        return source
    return TrainedModel(source, image_size or DEFAULT_SIZE, {})
