import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from abn_fast._errors import AbnFastError
from abn_fast.checkpoints import read_checkpoint, save_checkpoint
from abn_fast.data import EpochSampler, ImageDataset
from abn_fast.modules import ImageNetwork
from abn_fast.training._interrupt import Interruption
from abn_fast.training._state import Position, restore, training_tensors
from abn_fast.training.config import TrainingConfig
from abn_fast.training.curve import write_learning_curve
from abn_fast.training.device import autocast
from abn_fast.training.evaluation import check_classes, evaluate, has_attention, image_loader
from abn_fast.training.objective import Tally, loss_of
from abn_fast.training.optimizer import make_optimizer
from abn_fast.training.run import RunFolder, write_text
from abn_fast.training.schedule import learning_rate

Log = Callable[[str], None]

CHECKED_EVERY = 10
"""Steps between two readings of the loss, which on a GPU wait for it."""


class TrainingInterruptedError(AbnFastError):
    """A training that was asked to stop; its checkpoint is written."""


def train(
    model: ImageNetwork,
    train_set: ImageDataset,
    test_set: ImageDataset,
    config: TrainingConfig,
    folder: str | Path,
    *,
    resume: bool = False,
    workers: int = 0,
    progress: bool = False,
    log: Log = print,
) -> dict[str, Any]:
    """Train a model, on the device and in the memory format that it has; returns what summary.json holds.

    After each epoch the folder holds last.safetensors (model and all that `resume` needs), metrics.csv and curve.png.
    On a CPU, with the same number of threads, a run that was interrupted and resumed ends with the weights of an
    unbroken one, bit by bit.

    Args:
        model: a network with a `config`; a resumed run puts the checkpoint's weights into it.
        train_set: with `set_epoch`, so that its augmentation depends on seed, epoch and index alone.
        test_set: evaluated after each epoch; nothing is chosen by it.
        config: how to train.
        folder: of the run.
        resume: go on from the folder's last.safetensors.
        workers: processes that load images.
        progress: show a bar on a terminal.
        log: takes one line an epoch.

    Raises:
        AbnFastError: classes do not match, the loss is not finite, or a file cannot be read or written.
        TrainingInterruptedError: Ctrl-C or SIGTERM; the checkpoint is written first.
    """
    check_classes(model, train_set)
    check_classes(model, test_set)
    trainer = _Trainer(model, train_set, test_set, config, RunFolder(Path(folder)), workers, progress, log)
    if resume:
        trainer.restore()
    return trainer.run()


class _Trainer:
    def __init__(
        self,
        model: ImageNetwork,
        train_set: ImageDataset,
        test_set: ImageDataset,
        config: TrainingConfig,
        folder: RunFolder,
        workers: int,
        progress: bool,
        log: Log,
    ) -> None:
        self.model, self.train_set, self.test_set = model, train_set, test_set
        self.config, self.folder, self.workers, self.progress, self.log = config, folder, workers, progress, log
        self.device = next(model.parameters()).device
        self.optimizer = make_optimizer(model, config)
        self.position = Position()
        self.resumed_after = 0.0
        torch.manual_seed(config.seed)

    def restore(self) -> None:
        checkpoint = read_checkpoint(self.folder.checkpoint)
        if checkpoint.model.config != self.model.config:
            raise AbnFastError(f"{self.folder.checkpoint} holds {checkpoint.model.config}, not {self.model.config}")
        self.model.load_state_dict(checkpoint.model.state_dict())
        self.position = restore(checkpoint, self.optimizer)
        self.resumed_after = self.position.seconds

    def run(self) -> dict[str, Any]:
        started = time.perf_counter()
        images = self.config.epochs * len(self.train_set)
        done = self.position.epoch * len(self.train_set) + self.position.images
        with (
            Interruption() as interruption,
            tqdm(total=images, initial=done, unit="img", disable=None if self.progress else True) as bar,
        ):
            while self.position.epoch < self.config.epochs:
                self.train_epoch(bar, interruption)
                self.position.seconds = self.resumed_after + time.perf_counter() - started
                if interruption.requested:
                    self.save()
                    raise TrainingInterruptedError(
                        f"interrupted in epoch {self.position.epoch + 1}; go on with --resume {self.folder.path}"
                    )
                self.finish_epoch(bar)
        return self.summarise()

    def train_epoch(self, bar: "tqdm[Any]", interruption: Interruption) -> None:
        """Train to the end of the current epoch, or to the step at which an interruption arrives."""
        config, position = self.config, self.position
        sampler = EpochSampler(len(self.train_set), config.seed, position.epoch, position.images)
        self.train_set.set_epoch(position.epoch)
        loader = image_loader(self.train_set, config.batch_size, self.workers, sampler)
        steps_per_epoch = -(-len(self.train_set) // config.batch_size)
        tally = Tally(self.device, position.sums)
        bar.set_description(f"epoch {position.epoch + 1}/{config.epochs}")
        self.model.train()
        for images, target in loader:
            step = position.epoch * steps_per_epoch + position.images // config.batch_size
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(config, step, steps_per_epoch)
            images = images.to(self.device, memory_format=torch.channels_last, non_blocking=True)
            target = target.to(self.device, non_blocking=True)
            with autocast(self.device, config.precision):
                output = self.model(images)
            loss = loss_of(output, target, config)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            tally.add(loss.detach(), output, target)
            position.images += len(target)
            bar.update(len(target))
            if step % CHECKED_EVERY == 0:
                self.check_finite(tally, bar)
            if interruption.requested:
                break
        position.sums = tally.sums()
        self.check_finite(tally, bar)

    def check_finite(self, tally: Tally, bar: "tqdm[Any]") -> None:
        means = tally.means(has_attention(self.model))
        if not all(abs(value) < float("inf") for value in means.values()):
            raise AbnFastError(
                f"the loss became {means['loss']} in epoch {self.position.epoch + 1}: lower the learning rate "
                f"({self.config.learning_rate}) or add warm-up; the last checkpoint is unchanged"
            )
        bar.set_postfix({name: f"{value:.3g}" for name, value in means.items()}, refresh=False)

    def finish_epoch(self, bar: "tqdm[Any]") -> None:
        position = self.position
        training = Tally(self.device, position.sums).means(has_attention(self.model))
        test = evaluate(self.model, self.test_set, precision=self.config.precision, workers=self.workers)
        row = {"epoch": position.epoch + 1} | training | {f"test_{name}": value for name, value in test.items()}
        position.history.append(row)
        position.epoch, position.images, position.sums = position.epoch + 1, 0, None
        self.save()
        self.folder.write_history(position.history)
        write_learning_curve(self.folder.curve, position.history)
        shown = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in row.items())
        with bar.external_write_mode():
            self.log(shown)

    def save(self) -> None:
        position = self.position
        last = position.history[-1] if position.history else {}
        save_checkpoint(
            self.model,
            self.folder.checkpoint,
            preprocessing=self.test_set.preprocessing,
            classes=self.test_set.classes,
            metrics=last,
            training=vars(position),
            training_tensors=training_tensors(self.optimizer),
        )

    def summarise(self) -> dict[str, Any]:
        position = self.position
        config = self.model.config
        summary = {
            "model": None if config is None else config.name,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "seconds": round(position.seconds, 1),
            **position.history[-1],
        }
        write_text(self.folder.summary, json.dumps(summary, indent=2) + "\n")
        return summary
