"""Turn a timm network into an attention branch network, train it a little, and keep it.

python examples/timm_backbone.py --backbone regnety_002 --pretrained      (downloads timm's weights)
"""

import argparse
from pathlib import Path

import timm
import torch

import abn_fast
from abn_fast.data import create_dataset
from abn_fast.training import OptimizerConfig, TrainingConfig, choose_device, train


def main() -> None:
    """Read the command line, build, train, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="regnety_002", help="of timm")
    parser.add_argument("--pretrained", action="store_true", help="start from timm's weights")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=2048, help="of training")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/timm_backbone"))
    arguments = parser.parse_args()

    data = {"image_size": arguments.image_size}
    train_set = create_dataset("digits-in-the-wild", "train", augment=True, size=arguments.images, **data)
    test_set = create_dataset("digits-in-the-wild", "test", size=arguments.images // 4, **data)

    classes = len(train_set.classes)
    backbone = timm.create_model(arguments.backbone, pretrained=arguments.pretrained, num_classes=classes)
    model = abn_fast.from_backbone(backbone)
    image = torch.stack([test_set[0][0]])
    with torch.no_grad():
        size = model.eval()(image).attention.shape
        nowhere = model(image, attention=torch.zeros(size)).logits
    print(f"map {size[2]}x{size[3]}; with a map of zeros it is still timm's network:", end=" ")
    print(torch.allclose(nowhere, backbone.eval()(image), rtol=1e-3, atol=1e-4))

    config = TrainingConfig(arguments.epochs, batch_size=32, optimizer=OptimizerConfig("adamw", lr=1e-3))
    train(model.to(choose_device(None)), train_set, test_set, config, arguments.out)

    again = abn_fast.load_checkpoint(arguments.out / "last.safetensors")
    print("the checkpoint holds the same network:", torch.equal(again(image).logits, model.cpu().eval()(image).logits))


if __name__ == "__main__":
    main()
