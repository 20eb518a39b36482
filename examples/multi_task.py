"""Answer several yes-or-no questions about a picture, each with a map of its own.

python examples/multi_task.py
"""

import argparse
from pathlib import Path

import shapes
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

import abn_fast
from abn_fast.data import Preprocessing, as_image_dataset
from abn_fast.explain import overlay, rescale, upsample
from abn_fast.training import OptimizerConfig, TrainingConfig, choose_device, evaluate, train


class Questions(Dataset[tuple[Image.Image, Tensor]]):
    """Pictures and the answers to each question, 1 for yes and 0 for no."""

    classes = shapes.QUESTIONS
    preprocessing = Preprocessing((48, 48), mean=(0.3,) * 3, std=(0.25,) * 3)

    def __init__(self, numbers: range) -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Image.Image, Tensor]:
        picture, answers = shapes.draw(self.numbers[index])
        return picture, torch.tensor(answers, dtype=torch.float32)


def main() -> None:
    """Read the command line, train, evaluate, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="multi_task_abn_cifar_resnet20")
    parser.add_argument("--images", type=int, default=512, help="of training")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/multi_task"))
    arguments = parser.parse_args()

    train_set = Questions(range(arguments.images))
    test_set = Questions(range(arguments.images, arguments.images + arguments.images // 4))
    model = abn_fast.create_model(arguments.model, num_classes=len(Questions.classes)).to(choose_device(None))
    config = TrainingConfig(arguments.epochs, batch_size=32, optimizer=OptimizerConfig(lr=0.05))
    train(model, train_set, test_set, config, arguments.out)
    print({name: round(value, 2) for name, value in evaluate(model, as_image_dataset(test_set)).items()})

    picture, _ = test_set[0]
    image = Questions.preprocessing(picture)[None]
    with torch.inference_mode():
        output = model.cpu().eval()(image)
    maps = rescale(upsample(output.attention[0], (48, 48)))  # [T, 48, 48]
    seen = Questions.preprocessing.denormalize(image).expand(len(maps), -1, -1, -1)
    answers = output.logits[0].argmax(1)
    for question, answer, tinted in zip(Questions.classes, answers, overlay(seen, maps), strict=True):
        file = arguments.out / f"{question}.png"
        Image.fromarray((tinted.permute(1, 2, 0) * 255).byte().numpy()).save(file)
        print(f"{question}? {'yes' if answer else 'no'}, {file}")


if __name__ == "__main__":
    main()
