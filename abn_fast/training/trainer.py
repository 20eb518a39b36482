import json
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset
from tqdm import tqdm

from abn_fast._errors import AbnFastError
from abn_fast.checkpoints import read_checkpoint, save_checkpoint
from abn_fast.data import EpochSampler, ImageDataset, RandAugment, SkipUnreadable, as_image_dataset
from abn_fast.explain.edit import check_editable
from abn_fast.modules import ImageNetwork
from abn_fast.training import distributed
from abn_fast.training._batches import make_mix, seed_step, sharded_batches
from abn_fast.training._feed import Feed
from abn_fast.training._interrupt import Interruption
from abn_fast.training._paper import beyond_the_paper
from abn_fast.training._state import Position, restore, training_tensors
from abn_fast.training.config import TrainingConfig
from abn_fast.training.curve import write_learning_curve
from abn_fast.training.device import set_float32_products
from abn_fast.training.evaluation import check_classes, evaluate, make_tally
from abn_fast.training.objective import Tally
from abn_fast.training.optimizer import make_optimizer
from abn_fast.training.run import RunFolder, write_text
from abn_fast.training.schedule import learning_rate
from abn_fast.training.step import TrainingStep

Log = Callable[[str], None]

CHECKED_EVERY = 10
"""Steps between two readings of what the device has, which on a GPU wait for it."""


class TrainingInterruptedError(AbnFastError):
    """A training that was asked to stop; its checkpoint is written."""


def train(
    model: ImageNetwork,
    train_set: Dataset[Any],
    test_set: Dataset[Any],
    config: TrainingConfig,
    folder: str | Path,
    *,
    validation_set: Dataset[Any] | None = None,
    resume: bool = False,
    workers: int = 0,
    progress: bool = False,
    log: Log = print,
    metrics: Callable[[dict[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Train a model, on the device and in the memory format that it has; returns what summary.json holds.

    The summary also names what in `config` no recipe of the paper has ("beyond_the_paper").

    After each epoch the folder holds last.safetensors (model and all that `resume` needs), best.safetensors (the model
    of the epoch with the highest accuracy on the validation set, if there is one), average.safetensors (the averaged
    model, with `ema_decay`), metrics.csv and curve.png. On a CPU, with the same number of threads and processes, a run
    that was interrupted or killed and resumed ends with the weights of an unbroken one, bit by bit.

    Under torchrun every process calls this with the same arguments; the first one writes the files.

    Args:
        model: a network with a `config`; a resumed run puts the checkpoint's weights into it.
        train_set: any data set that `as_image_dataset` takes; the augmentation of those of `abn_fast.data` depends on
            seed, epoch and index alone, without which no resumed run can be exact.
        test_set: evaluated after each epoch; nothing is chosen by it.
        config: how to train.
        folder: of the run.
        validation_set: evaluated after each epoch; the best one is chosen by it.
        resume: go on from the folder's last.safetensors.
        workers: processes that load images; those of `InMemoryImages` that a GPU has room for are kept and augmented
            there instead. summary.json says which, and the share of the time that steps wait for data.
        progress: show a bar on a terminal.
        log: takes one line an epoch.
        metrics: takes an epoch's metrics, for example to write them to TensorBoard.

    Raises:
        AbnFastError: classes do not match, the loss is not finite, or a file cannot be read or written.
        TrainingInterruptedError: Ctrl-C or SIGTERM; the checkpoint is written first.
    """
    train_set, test_set = as_image_dataset(train_set), as_image_dataset(test_set)
    validation_set = None if validation_set is None else as_image_dataset(validation_set)
    for dataset in (train_set, test_set, validation_set):
        if dataset is not None:
            check_classes(model, dataset)
    if len(train_set) < distributed.world_size():
        raise AbnFastError(f"{len(train_set)} images for {distributed.world_size()} processes: use fewer processes")
    if train_set.has_edited_maps:
        _check_edited_maps(model, config)
    if config.rand_augment.operations:
        if not train_set.augment:
            raise AbnFastError(
                "rand_augment.operations is above 0, but the training set was opened without augment=True"
            )
        train_set.rand_augment = RandAugment(config.rand_augment.operations, config.rand_augment.magnitude)
    trainer = _Trainer(model, train_set, test_set, validation_set, config, RunFolder(Path(folder)))
    trainer.workers, trainer.progress, trainer.log, trainer.metrics = workers, progress, log, metrics
    if resume:
        trainer.restore()
    return trainer.run()


def _check_edited_maps(model: ImageNetwork, config: TrainingConfig) -> None:
    """Refuse what would not move an edited map with its image, and networks without one map in [0, 1]."""
    check_editable(model)
    for name in ("mix.mixup", "mix.cutmix", "rand_augment.operations"):
        table, _, key = name.partition(".")
        if value := getattr(getattr(config, table), key):
            raise AbnFastError(f"{name}={value} changes images but not their edited maps: set it to 0")


class _Trainer:
    workers = 0
    progress = False
    log: Log
    metrics: Callable[[dict[str, float]], None] | None = None

    def __init__(
        self,
        model: ImageNetwork,
        train_set: ImageDataset,
        test_set: ImageDataset,
        validation_set: ImageDataset | None,
        config: TrainingConfig,
        folder: RunFolder,
    ) -> None:
        self.model, self.train_set, self.test_set, self.validation_set = model, train_set, test_set, validation_set
        self.config, self.folder = config, folder
        self.device = next(model.parameters()).device
        self.checked_every = 1 if self.device.type == "cpu" else CHECKED_EVERY
        if config.synchronise_batch_norm:
            if self.device.type != "cuda":
                raise AbnFastError("synchronise_batch_norm=True needs GPUs: torch's SyncBatchNorm takes no CPU tensors")
            nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.optimizer = make_optimizer(model, config)
        self.average = (
            None
            if config.ema_decay is None
            else AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
        )
        self.mix = make_mix(config.mix, model.num_classes)
        self.position = Position()
        self.resumed_after = 0.0
        self.recent: deque[tuple[int, list[int]]] = deque(maxlen=CHECKED_EVERY + 1)
        """Latest steps and the images of their batches, of all processes."""
        self.first_step_seconds = self.steady_seconds = 0.0
        self.steady_images = 0

    @property
    def evaluated(self) -> ImageNetwork:
        """The model that is scored: the averaged one, if there is one."""
        if self.average is None:
            return self.model
        return cast(ImageNetwork, self.average.module)

    def restore(self) -> None:
        checkpoint = read_checkpoint(self.folder.checkpoint)
        if checkpoint.model.config != self.model.config:
            raise AbnFastError(f"{self.folder.checkpoint} holds {checkpoint.model.config}, not {self.model.config}")
        self.model.load_state_dict(checkpoint.model.state_dict())
        try:
            self.position = restore(checkpoint, self.optimizer, self.average)
        except AbnFastError as error:
            raise AbnFastError(f"{self.folder.checkpoint}: {error}") from None
        self.resumed_after = self.position.seconds
        if self.position.history and distributed.rank() == 0:  # a run may have been killed before it wrote them
            self.write_history()

    def run(self) -> dict[str, Any]:
        if distributed.rank() == 0:
            self.folder.remove_unfinished()
        set_float32_products(self.config.precision)
        self.step = TrainingStep(self.model, self.optimizer, self.config, self.train_set.has_edited_maps)
        self.feed = Feed(self.train_set, self.device, self.workers)
        if self.position.scaler:
            self.step.scaler.load_state_dict(self.position.scaler)
        self.started = time.perf_counter()
        images = self.config.epochs * len(self.train_set)
        done = self.position.epoch * len(self.train_set) + self.position.images
        shown = self.progress and distributed.rank() == 0
        with (
            Interruption() as interruption,
            tqdm(total=images, initial=done, unit="img", disable=None if shown else True) as bar,
        ):
            while self.position.epoch < self.config.epochs:
                if self.train_epoch(bar, interruption):
                    self.save()
                    raise TrainingInterruptedError(
                        f"interrupted in epoch {self.position.epoch + 1}; go on with --resume {self.folder.path}"
                    )
                self.finish_epoch(bar)
        return self.summarise()

    def train_epoch(self, bar: "tqdm[Any]", interruption: Interruption) -> bool:
        """Train to the end of the current epoch, or to the step at which an interruption arrives: whether one did."""
        config, position, device = self.config, self.position, self.device
        rank, world_size = distributed.rank(), distributed.world_size()
        done = position.images
        order = list(EpochSampler(len(self.train_set), config.seed, position.epoch, done))
        batches = sharded_batches(order, config.batch_size, rank, world_size)
        self.train_set.set_epoch(position.epoch)
        steps_per_epoch = -(-len(self.train_set) // config.batch_size)
        tally = self.tally()
        bar.set_description(f"epoch {position.epoch + 1}/{config.epochs}")
        self.model.train()
        if config.freeze_batch_norm:
            _freeze_batch_norm(self.model)
        stopped = False
        ended = time.perf_counter()
        loaded = self.feed.batches([indices for _, indices in batches])
        for (total, indices), (images, target) in zip(batches, loaded, strict=True):
            step = position.epoch * steps_per_epoch + position.images // config.batch_size
            seed_step(config.seed, step, rank)
            if self.mix is not None:
                images, target = self.mix(images, target)
            lr = learning_rate(config, step, steps_per_epoch)
            loss, output = self.step(step, images, target, lr, share=len(indices) * world_size / total)
            if self.average is not None:
                self.average.update_parameters(self.model)
            tally.add(loss, output, target)
            self.recent.append((step, order[position.images - done : position.images - done + total]))
            position.images += total
            bar.update(total)
            if step % self.checked_every == 0:
                self.check_finite()
                stopped = distributed.any_process(interruption.requested, device)
            ended = self.measure(ended, total)
            if stopped:
                break
            if config.checkpoint_steps and (step + 1) % config.checkpoint_steps == 0:
                self.check_finite()
                position.sums = distributed.values_of_processes(tally.sums())
                self.save()
                ended = time.perf_counter()
        self.check_finite()
        position.sums = distributed.values_of_processes(tally.sums())
        position.seconds = self.resumed_after + time.perf_counter() - self.started
        return stopped or distributed.any_process(interruption.requested, device)

    def measure(self, since: float, images: int) -> float:
        """Count the time of a step that began then; returns when the next one begins."""
        now = time.perf_counter()
        if not self.first_step_seconds:
            self.first_step_seconds = now - since
            self.feed.waited = 0.0
        else:
            self.steady_seconds += now - since
            self.steady_images += images
        return now

    def check_finite(self) -> None:
        failed = int(self.step.failed_step)
        if failed < 0:
            return
        indices = dict(self.recent)[failed]
        write_text(self.folder.failed_batch, json.dumps({"step": failed, "indices": indices}) + "\n")
        raise AbnFastError(
            f"the loss or a gradient was not finite in epoch {self.position.epoch + 1}, step {failed}: lower the "
            f"learning rate ({self.config.optimizer.lr}) or add warm-up; the weights and the last checkpoint are those "
            f"before it, and {self.folder.failed_batch} holds the batch's indices"
        )

    def finish_epoch(self, bar: "tqdm[Any]") -> None:
        position = self.position
        distributed.copy_buffers_of_the_first(self.model)
        if self.average is not None:
            distributed.copy_buffers_of_the_first(self.average)
        training = self.tally().means()
        row: dict[str, float] = {"epoch": position.epoch + 1} | training
        for name, dataset in (("validation", self.validation_set), ("test", self.test_set)):
            if dataset is not None:
                row |= {f"{name}_{key}": value for key, value in self.evaluate(dataset).items()}
        position.history.append(row)
        position.epoch, position.images, position.sums = position.epoch + 1, 0, []
        is_best = self.validation_set is not None and _score(row) > _score(position.best)
        if is_best:
            position.best = row
        self.save(is_best)
        if distributed.rank() == 0:
            self.write_history()
            if self.metrics is not None:
                self.metrics(row)
            shown = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in row.items() if "." not in name)
            if isinstance(self.train_set, SkipUnreadable) and self.train_set.skipped:
                shown += f", {len(self.train_set.skipped)} unreadable images skipped"
            with bar.external_write_mode():
                self.log(shown)

    def write_history(self) -> None:
        self.folder.write_history(self.position.history)
        write_learning_curve(self.folder.curve, self.position.history)

    def tally(self) -> Tally:
        """The process's tally of the epoch so far; after a change of their number the first one has all."""
        sums, rank = self.position.sums, distributed.rank()
        if len(sums) != distributed.world_size():
            sums = [[sum(values) for values in zip(*sums, strict=True)]] if rank == 0 else []
        return make_tally(self.model, self.train_set, sums[rank] if rank < len(sums) else None)

    def evaluate(self, dataset: ImageDataset) -> dict[str, float]:
        return evaluate(self.evaluated, dataset, precision=self.config.precision, workers=self.workers)

    def save(self, is_best: bool = False) -> None:
        """Write the checkpoint; the first process does, and the others wait for it."""
        if distributed.rank() == 0:
            position = self.position
            position.scaler = self.step.scaler.state_dict()
            training = {"training": vars(position), "training_tensors": training_tensors(self.optimizer, self.average)}
            if is_best:
                self.write(self.evaluated, self.folder.best)
            if self.average is not None and not position.images:
                self.write(self.evaluated, self.folder.average)
            if self.config.keep_every and not position.images and position.epoch % self.config.keep_every == 0:
                self.write(self.evaluated, self.folder.kept(position.epoch))
            self.write(self.model, self.folder.checkpoint, **training)
        distributed.wait_for_all()

    def write(self, model: ImageNetwork, path: Path, **training: Any) -> None:
        history = self.position.history
        save_checkpoint(
            model,
            path,
            preprocessing=self.test_set.preprocessing,
            classes=self.test_set.classes,
            metrics=history[-1] if history else {},
            **training,
        )

    def summarise(self) -> dict[str, Any]:
        position = self.position
        if not self.first_step_seconds and self.folder.summary.exists():  # of a run that had finished before
            finished: dict[str, Any] = json.loads(self.folder.summary.read_text())
            return finished
        config = self.model.config
        speed = self.steady_images / self.steady_seconds if self.steady_seconds else 0.0
        summary = {
            "model": None if config is None else config.name,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "seconds": round(position.seconds, 1),
            "first_step_seconds": round(self.first_step_seconds, 3),
            "images_per_second": round(speed, 1),
            "data": self.feed.source,
            "waiting_for_data": round(self.feed.waited / self.steady_seconds, 4) if self.steady_seconds else 0.0,
            "skipped_images": len(self.train_set.skipped) if isinstance(self.train_set, SkipUnreadable) else 0,
            "beyond_the_paper": beyond_the_paper(self.config),
            **position.history[-1],
            **({} if position.best is None else {"best": position.best}),
        }
        if distributed.rank() == 0:
            write_text(self.folder.summary, json.dumps(summary, indent=2) + "\n")
        return summary


def _freeze_batch_norm(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, _NormBase):
            module.eval()


def _score(row: dict[str, float] | None) -> float:
    """What the best epoch has the highest of."""
    if row is None:
        return float("-inf")
    return row.get("validation_top1", row.get("validation_accuracy", float("-inf")))
