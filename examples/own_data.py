"""Train an attention branch network on a folder of your images, and see where it looks.

python examples/own_data.py FOLDER      with FOLDER/train/CLASS/*.jpg and FOLDER/test/CLASS/*.jpg
python examples/own_data.py             makes a folder of discs and squares
"""

import argparse
from pathlib import Path

import shapes

import abn_fast
from abn_fast.data import ImageFolder, Preprocessing, SkipUnreadable
from abn_fast.explain import explain_images
from abn_fast.training import OptimizerConfig, TrainingConfig, choose_device, evaluate, train


def main() -> None:
    """Read the command line, train, evaluate, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--model", default="abn_cifar_resnet20", help="abn_resnet50 for photographs")
    parser.add_argument("--image-size", type=int, default=48, help="224 for photographs")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("runs/own_data"))
    arguments = parser.parse_args()

    folder = arguments.folder or shapes.write_folder(arguments.out / "shapes")
    side = arguments.image_size
    preprocessing = Preprocessing((side, side), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    train_set = ImageFolder("train", folder, preprocessing=preprocessing, augment=True)
    test_set = ImageFolder("test", folder, preprocessing=preprocessing)
    model = abn_fast.create_model(arguments.model, num_classes=len(train_set.classes)).to(choose_device(None))

    config = TrainingConfig(arguments.epochs, arguments.batch_size, OptimizerConfig(lr=0.05))
    train(model, SkipUnreadable(train_set), test_set, config, arguments.out)

    print({name: round(value, 2) for name, value in evaluate(model, test_set).items()})
    for shown in explain_images(model, test_set.paths[:4], preprocessing, test_set.classes, arguments.out / "pictures"):
        print(f"{shown.path.name}: {shown.label} {shown.confidence:.1%}, {shown.files[-1]}")


if __name__ == "__main__":
    main()
