import pytest
import torch
from torch import nn

from abn_fast import AbnFastError
from abn_fast.models._from_backbone import from_backbone

timm = pytest.importorskip("timm")

ARCHITECTURES = [
    *("resnet10t", "resnet18", "resnet18d", "resnext50_32x4d", "wide_resnet50_2"),
    *("seresnext26d_32x4d", "legacy_seresnet18", "ecaresnet26t", "skresnet18", "resnest14d", "res2net50_48w_2s"),
    *("resnetv2_18", "nf_resnet26", "nf_regnet_b0", "regnetx_002", "regnety_002"),
    *("repvgg_a0", "resnet33ts", "convnext_atto", "convnextv2_atto", "edgenext_xx_small"),
    *("inception_next_atto", "efficientnet_b0", "mobilenetv2_050"),
    *("mobilenetv3_small_050", "mobilenetv4_conv_small", "mnasnet_small"),
    *("hardcorenas_a", "fbnetc_100", "tinynet_e", "lcnet_035", "ghostnet_050", "rexnet_100", "densenet121", "vgg11"),
    *("vgg11_bn", "dla34", "cspresnet50", "darknet53", "cs3darknet_s", "ese_vovnet19b_slim", "hgnetv2_b0"),
    *("selecsls42b", "fasternet_t0", "dpn68"),
]
MORE_ARCHITECTURES = [
    *("efficientnet_lite0", "starnet_s1", "gernet_s", "semnasnet_050", "eca_nfnet_l0", "tf_efficientnetv2_b0"),
    *("resnet50", "seresnet50", "res2net50_14w_8s", "resnet50_clip", "regnetz_b16", "spnasnet_100"),
    *("resnet26t", "resnet34", "resnet101d", "resnetaa50", "resnetblur50", "resnetrs50", "resnext101_32x8d"),
    *("wide_resnet101_2", "seresnet152d", "seresnextaa101d_32x8d", "ecaresnet101d", "ecaresnetlight"),
    *("legacy_senet154", "skresnext50_32x4d", "resnest50d_4s2x40d", "res2next50", "resnetv2_50d_gn"),
    *("resnetv2_50x1_bit", "nf_ecaresnet50", "nf_seresnet50", "dm_nfnet_f0", "nfnet_f0", "regnetv_040"),
    *("regnetx_032", "regnety_032", "regnetz_040", "repvgg_b0", "mobileone_s0", "gcresnet33ts", "seresnet33ts"),
    *("eca_resnext26ts", "lambda_resnet26t", "convnext_tiny", "convnext_nano_ols", "convnext_atto_rms"),
    *("convnextv2_tiny", "edgenext_small", "efficientnet_b3", "efficientnet_es", "efficientnetv2_rw_t"),
    *("tf_efficientnet_b0", "tf_efficientnet_lite0", "mixnet_s", "tf_mixnet_s", "mobilenetv1_100", "mobilenetv2_100"),
    *("mobilenetv3_large_100", "mobilenetv3_rw", "mobilenetv4_conv_medium", "mnasnet_100", "mobilenet_edgetpu_100"),
    *("hardcorenas_f", "fbnetv3_b", "tinynet_a", "lcnet_100", "ghostnetv2_100", "repghostnet_050", "rexnetr_200"),
    *("densenet169", "densenetblur121d", "vgg16", "vgg16_bn", "vgg19", "dla46_c", "dla60x", "dla60_res2net"),
    *("cspresnext50", "cspdarknet53", "cs3darknet_focus_s", "cs3sedarknet_l", "cs3edgenet_x", "darknetaa53"),
    *("ese_vovnet39b", "vovnet39a", "hgnet_tiny", "hgnetv2_b4", "selecsls60", "tresnet_m", "tresnet_v2_l"),
    *("repvit_m0_9", "dpn92", "efficientvit_b0", "rdnet_tiny", "fasternet_s"),
]
CUT_BEHIND = {
    "vgg11_bn": "features.21",
    "densenet121": "features.transition3",
    "resnet18": "layer3",
    "efficientnet_b0": "blocks.4",
    "convnext_atto": "stages.3.downsample.0",
}
ONE_RESOLUTION = "densenet"
"""The paper cuts DenseNet behind the transition: both copies of the last dense block keep the resolution."""

REFUSED = {
    "hrnet_w18_small": "is not one map",
    "inception_v3": "does not run with stride 1",
    "inception_v4": "does not run with stride 1",
    "legacy_xception": "other tensors go round",
    "xception41": "other tensors go round",
    "nasnetalarge": "other tensors go round",
    "coatnet_nano_rw_224": "does not take images of 288x320",
    "maxvit_rmlp_pico_rw_256": "does not take images of 224x224",
    "swin_tiny_patch4_window7_224": "does not take images of 288x320",
    "hiera_tiny_224": "does not take images of 288x320",
    "vit_tiny_patch16_224": "does not take images of 288x320",
    "mixer_s16_224": "does not take images of 288x320",
    "botnet26t_256": "does not take images of 224x224",
    "convmixer_768_32": "one resolution",
}
MORE_REFUSED = {
    "inception_resnet_v2": "does not run with stride 1",
    "pnasnet5large": "other tensors go round",
}


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = timm.create_model(name, num_classes=7)
    return model.eval()


@torch.no_grad()
def check(name: str) -> None:
    network = from_backbone(on_meta(name))
    *_, last_call = [node for node in network.extractor.graph.nodes if node.op == "call_module"]  # type: ignore[union-attr]
    assert last_call.target == CUT_BEHIND.get(name, last_call.target)
    shapes: dict[nn.Module, torch.Size] = {}
    parts = (network.extractor, network.attention_branch.stage, network.perception_branch.stage)
    for part in parts:
        part.register_forward_hook(lambda module, inputs, output: shapes.update({module: output.shape}))
    for height, width in ((192, 192), (160, 256)):
        output = network(torch.empty(2, 3, height, width, device="meta"))
        features, stage_output, last = (shapes[part] for part in parts)
        assert output.logits.shape == output.attention_logits.shape == (2, 7)
        assert output.attention.shape == (2, 1, *features[-2:])
        assert stage_output == (2, last[1], *features[-2:])
        if name.startswith(ONE_RESOLUTION):
            assert features[-2:] == last[-2:]
        else:
            assert features[-2] > last[-2]
            assert features[-1] > last[-1]
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}


def check_refusal(name: str, reason: str) -> None:
    with pytest.raises(AbnFastError, match=f"cannot become an attention branch network: .*{reason}"):
        from_backbone(on_meta(name))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_becomes_an_attention_branch_network(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_ARCHITECTURES)
def test_more_architectures_become_attention_branch_networks(name: str) -> None:
    check(name)


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_an_architecture_that_cannot_be_cut_is_refused_with_the_reason(name: str, reason: str) -> None:
    check_refusal(name, reason)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "reason"), MORE_REFUSED.items())
def test_more_architectures_are_refused_with_the_reason(name: str, reason: str) -> None:
    check_refusal(name, reason)
