"""The networks of tools/parity.py: a table of architectures, built with random weights whose gradients say something.

`NETS` maps a name (`library.architecture`) to a `Net`. A few networks of our own exercise operators and structures that
the libraries' classifiers lack. Sizes and depths are cut down where the architecture allows it: parity is a question of
operators and structure, not of size.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (as everybody calls it)

CLASSES = 16
SIZE = 96
BATCH = 6  # images a BatchNorm is calibrated on


@dataclass(frozen=True)
class Net:
    """An architecture of a library: its constructor's name, arguments, and the shape (C, H, W) of its image."""

    library: str
    arch: str
    options: dict[str, Any]
    shape: tuple[int, int, int] = (3, SIZE, SIZE)
    opset: int | None = None  # the least that both exporters need; None: their defaults


# -- the table ------------------------------------------------------------------------------------

TIMM = (
    "resnet18d", "resnet26t", "resnet50_gn", "ecaresnet26t", "seresnet18", "resnetblur18", "resnext50_32x4d",
    "resnetv2_18", "resnetv2_50d_evos", "resnetv2_50d_frn", "resnest14d", "skresnet18", "legacy_seresnet18",
    "res2next50", "eca_resnext26ts", "gcresnext26ts", "densenet121", "densenetblur121d", "dla46x_c", "dpn48b",
    "vgg11_bn", "selecsls42b", "tresnet_m", "hrnet_w18_small", "ese_vovnet19b_slim_dw", "darknet17", "cspresnet50",
    "cs3darknet_focus_s", "cspnext_tiny", "xception41", "legacy_xception", "inception_v3", "inception_next_atto",
    "regnetx_002", "regnety_002", "regnetz_005", "gernet_s", "repvgg_a0", "mobileone_s0", "nf_regnet_b0",
    "nf_resnet26", "eca_nfnet_l0", "efficientnet_b0", "efficientnet_b0_gn", "efficientnet_lite0",
    "efficientnet_cc_b0_4e", "tf_efficientnetv2_b0", "mixnet_s", "fbnetc_100", "mnasnet_small", "spnasnet_100",
    "tinynet_e", "mobilenetv1_100", "mobilenetv2_050", "mobilenetv3_small_050", "mobilenetv4_conv_small_035",
    "mobilenetv4_hybrid_medium", "fbnetv3_b", "lcnet_050", "lcnetv2_small", "hardcorenas_a", "rexnet_100",
    "ghostnet_050", "ghostnetv2_100", "ghostnetv3_050", "repghostnet_050", "hgnetv2_b0", "rdnet_tiny", "starnet_s050",
    "fasternet_t0", "mambaout_femto", "convnext_atto", "convnext_atto_rms", "convnextv2_atto", "poolformerv2_s12",
    "caformer_s18", "fastvit_t8", "repvit_m0_9", "shvit_s1", "swiftformer_xs", "efficientvit_b0", "cpubone_nano",
    "lowformer_b0", "edgenext_xx_small", "mobilevit_xxs", "mobilevitv2_050", "pvt_v2_b0", "efficientvim_m1",
    "iformer_t", "csatv2", "focalnet_tiny_srf", "tiny_vit_5m_224",
)  # fmt: skip

TIMM_OPTIONS: dict[str, dict[str, Any]] = {
    "bat_resnext26ts": dict(size=256),
    "botnet26t_256": dict(img_size=SIZE),
    "halonet26t": dict(size=256, img_size=256),
    "lambda_resnet26t": dict(size=128, img_size=128),
    "convmixer_768_32": dict(size=98),
    "vit_tiny_patch16_224": dict(img_size=SIZE, depth=3),
    "vit_small_patch14_reg4_dinov2": dict(size=112, img_size=112, depth=2),
    "vit_base_patch16_clip_quickgelu_224": dict(img_size=SIZE, depth=2),
    "vit_base_patch16_siglip_224": dict(img_size=SIZE, depth=2),
    "vit_small_patch16_dinov3": dict(img_size=SIZE, depth=2),
    "vit_small_patch16_rope_mixed_224": dict(img_size=SIZE, depth=2),
    "vit_relpos_medium_patch16_cls_224": dict(img_size=SIZE, depth=2),
    "vit_tiny_r_s16_p8_224": dict(img_size=SIZE, depth=2),
    "deit_tiny_distilled_patch16_224": dict(img_size=SIZE, depth=3),
    "deit3_small_patch16_224": dict(img_size=SIZE, depth=2),
    "beitv2_base_patch16_224": dict(img_size=SIZE, depth=2),
    "eva02_tiny_patch14_224": dict(size=112, img_size=112, depth=2),
    "cait_xxs24_224": dict(img_size=SIZE, depth=2),
    "xcit_nano_12_p16_224": dict(img_size=SIZE, depth=2),
    "crossvit_tiny_240": dict(size=240, depth=[[1, 2, 0], [1, 1, 0], [1, 1, 0]]),
    "pit_ti_distilled_224": dict(img_size=SIZE),
    "tnt_s_patch16_224": dict(img_size=SIZE, depth=2),
    "volo_d1_224": dict(img_size=SIZE, opset=18),
    "convit_tiny": dict(img_size=SIZE, depth=12),
    "coat_lite_tiny": dict(img_size=SIZE),
    "coat_mini": dict(img_size=SIZE),
    "levit_128s": dict(img_size=SIZE),
    "levit_conv_128s": dict(img_size=SIZE),
    "swin_tiny_patch4_window7_224": dict(img_size=SIZE, window_size=3, depths=(2, 2, 2, 2), embed_dim=48),
    "swin_s3_tiny_224": dict(img_size=128, size=128, window_size=(4, 4, 4, 4), depths=(2, 2, 2, 2), embed_dim=48),
    "swinv2_tiny_window8_256": dict(img_size=128, size=128, window_size=4, depths=(2, 2, 2, 2), embed_dim=48),
    "swinv2_cr_tiny_ns_224": dict(img_size=SIZE, window_size=3, depths=(2, 2, 2, 2), embed_dim=48),
    "twins_svt_small": dict(img_size=128, size=128, depths=(1, 1, 2, 1)),
    "twins_pcpvt_small": dict(img_size=SIZE, depths=(1, 1, 2, 1)),
    "davit_tiny": dict(depths=(1, 1, 2, 1), embed_dims=(32, 64, 96, 128), num_heads=(2, 4, 6, 8)),
    "hiera_small_abswin_256": dict(size=128, img_size=128),
    "sam2_hiera_tiny": dict(size=256),
    "samvit_base_patch16_224": dict(img_size=SIZE, depth=2),
    "mvitv2_tiny": dict(img_size=SIZE),
    "mvitv2_small_cls": dict(img_size=SIZE),
    "nest_tiny": dict(size=224),
    "nextvit_small": {},
    "gcvit_xxtiny": dict(size=224, img_size=224),
    "maxvit_rmlp_pico_rw_256": dict(img_size=SIZE),
    "coatnet_nano_cc_224": dict(img_size=SIZE),
    "visformer_tiny": dict(img_size=SIZE),
    "efficientformer_l1": dict(size=224),
    "efficientformerv2_s0": dict(size=128, img_size=128),
    "efficientvit_m0": dict(img_size=SIZE),
    "vitamin_small_224": dict(img_size=SIZE),
    "sequencer2d_s": dict(layers=(1, 1, 2, 1)),
    "mixer_s32_224": dict(img_size=SIZE),
    "gmixer_12_224": dict(img_size=SIZE),
    "resmlp_12_224": dict(img_size=SIZE),
    "gmlp_ti16_224": dict(img_size=SIZE),
}

TORCHVISION: dict[str, dict[str, Any]] = {
    "alexnet": dict(size=224),
    "squeezenet1_0": {},
    "googlenet": dict(aux_logits=False, init_weights=True),
    "resnet18": {},
    "mobilenet_v2": {},
    "mobilenet_v3_small": {},
    "mnasnet0_5": {},
    "shufflenet_v2_x0_5": {},
    "efficientnet_v2_s": {},
    "regnet_y_400mf": {},
    "convnext_tiny": {},
    "VisionTransformer": dict(
        image_size=SIZE, patch_size=16, num_layers=2, num_heads=3, hidden_dim=96, mlp_dim=192
    ),
    "SwinTransformer": dict(
        patch_size=[4, 4], embed_dim=32, depths=[2, 2, 2], num_heads=[2, 4, 8], window_size=[3, 3]
    ),
    "MaxVit": dict(
        input_size=(SIZE, SIZE), stem_channels=16, block_channels=[16, 32, 64, 96], block_layers=[1, 1, 1, 1],
        head_dim=16, stochastic_depth_prob=0.0, partition_size=3,
    ),
    "fcn_resnet50": dict(weights_backbone=None),
    "deeplabv3_mobilenet_v3_large": dict(weights_backbone=None),
    "lraspp_mobilenet_v3_large": dict(weights_backbone=None),
}  # fmt: skip

VIT: dict[str, Any] = dict(
    image_size=SIZE, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128
)
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "ViTForImageClassification": VIT,
    "DeiTForImageClassification": VIT,
    "BeitForImageClassification": VIT,
    "Data2VecVisionForImageClassification": VIT,
    "SiglipForImageClassification": dict(vision_config=VIT | dict(patch_size=16)),
    "CLIPVisionModelWithProjection": VIT | dict(patch_size=16, projection_dim=CLASSES),
    "Dinov2WithRegistersForImageClassification": VIT | dict(size=112, image_size=112, num_register_tokens=4),
    "SwinForImageClassification": dict(image_size=SIZE, embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=3),
    "Swinv2ForImageClassification": dict(image_size=SIZE, embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=3),
    "ConvNextV2ForImageClassification": dict(hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1]),
    "ResNetForImageClassification": dict(embedding_size=16, hidden_sizes=[32, 64], depths=[2, 2]),
    "RegNetForImageClassification": dict(embedding_size=16, hidden_sizes=[32, 64], depths=[1, 2], groups_width=16),
    "BitForImageClassification": dict(embedding_size=32, hidden_sizes=[32, 64], depths=[1, 1], num_groups=8),
    "MobileNetV1ForImageClassification": dict(depth_multiplier=0.25),
    "MobileNetV2ForImageClassification": dict(depth_multiplier=0.35),
    "MobileViTForImageClassification": dict(hidden_sizes=[48, 64, 80], neck_hidden_sizes=[16, 16, 24, 48, 64, 80, 96]),
    "PoolFormerForImageClassification": dict(hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1]),
    "PvtV2ForImageClassification": dict(
        hidden_sizes=[16, 32, 64, 96], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 4, 8], image_size=SIZE
    ),
    "CvtForImageClassification": dict(embed_dim=[16, 32, 64], num_heads=[1, 2, 4], depth=[1, 2, 3]),
    "FocalNetForImageClassification": dict(image_size=SIZE, embed_dim=32, depths=[1, 1, 1, 1]),
    "SegformerForSemanticSegmentation": dict(
        hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], decoder_hidden_size=32
    ),
}


# -- networks of our own --------------------------------------------------------------------------


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *x: Tensor) -> Tensor:  # noqa: D102
        return self.function(*x)


class Fork(nn.Module):
    """Branches on one input, and a function of what they give."""

    def __init__(self, join: Callable[..., Tensor], *branches: nn.Module) -> None:
        super().__init__()
        self.join, self.branches = join, nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.join(*(branch(x) for branch in self.branches))


class Recurrent(nn.Module):
    """Columns of a feature map as a sequence through a recurrent cell."""

    def __init__(self, cell: str, width: int, **options: Any) -> None:
        super().__init__()
        self.cell = getattr(nn, cell)(width, width // 2, batch_first=True, bidirectional=True, **options)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.cell(x.mean(2).transpose(1, 2))[0].transpose(1, 2)[:, :, None]


def conv(a: int, b: int, stride: int = 1) -> nn.Sequential:
    """Convolution, normalization, rectifier."""
    return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())


def classifier(*stages: nn.Module, width: int = 16) -> nn.Module:
    """A convolution of stride 2, the stages at `width` channels, the mean over positions, a linear layer."""
    return nn.Sequential(conv(3, width, 2), *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.LazyLinear(CLASSES))


def mixed(*layers: nn.Module) -> list[nn.Module]:
    """Each layer behind a 1x1 convolution and a normalization, so that its input has both signs."""
    return [nn.Sequential(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), layer) for layer in layers]


def warped(x: Tensor, moves: Tensor) -> Tensor:
    """The map sampled where a second map, in tenths of its size, says."""
    still = torch.eye(2, 3, dtype=x.dtype).expand(x.shape[0], 2, 3)
    grid = F.affine_grid(still, [x.shape[0], 1, *x.shape[2:]], align_corners=False)
    return F.grid_sample(x, grid + 0.1 * torch.tanh(moves[:, :2]).permute(0, 2, 3, 1), align_corners=False)


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """The map turned and stretched as six numbers for every image say."""
    theta = torch.eye(2, 3, dtype=x.dtype) + 0.2 * torch.tanh(angles.mean((2, 3))[:, :6]).reshape(-1, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=True)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)


def arithmetic(x: Tensor) -> Tensor:
    """Plain tensor operations, each of which a gradient passes."""
    other = x.roll(1, 1)
    x = torch.maximum(x, 0.3 * other) + torch.minimum(x, other) - x.clamp(-0.7, 0.9)
    x = x.exp().clamp(max=9).log1p() + x.abs().add(0.1).pow(1.3) + (x * x + 1).rsqrt() + x.sin() * x.cos() + x.erf()
    x = x + 0.1 * x.cumsum(2) + x.flip(3) - x.amax((2, 3), keepdim=True) + x.std(1, keepdim=True)
    x = x * x.topk(3, 1).values.sum(1, keepdim=True) / (1 + x.logsumexp(1, keepdim=True).abs())
    x = torch.einsum("nchw,ncij->nhwij", x, x.softmax(1)[:, :, ::6, ::8]).flatten(3).permute(0, 3, 1, 2)
    return torch.cat([x[:, 1:], x[:, :1].expand(-1, 2, -1, -1)], 1)[:, :16]


def likeness(x: Tensor) -> Tensor:
    """Generalized-mean and second-order pooling, each of unit length."""
    gem = x.clamp(min=1e-3).pow(3).mean((2, 3)).pow(1 / 3)
    flat = x.flatten(2)
    pairs = (flat @ flat.transpose(1, 2) / flat.shape[2]).flatten(1)
    return torch.cat([F.normalize(gem), F.normalize(pairs.sign() * pairs.abs().add(1e-3).sqrt())], 1)[..., None, None]


def unpooled(x: Tensor) -> Tensor:
    """Maxima put back where they were found."""
    return F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)


def unet() -> nn.Module:
    """Down, up again, the way joined by what was there before."""
    inner = Fork(
        lambda *x: torch.cat(x, 1), nn.Identity(),
        nn.Sequential(nn.MaxPool2d(2), conv(32, 64), nn.ConvTranspose2d(64, 32, 2, 2)),
    )  # fmt: skip
    outer = Fork(
        lambda *x: torch.cat(x, 1), nn.Identity(),
        nn.Sequential(nn.MaxPool2d(2), conv(16, 32), inner, nn.ConvTranspose2d(64, 16, 3, 2, 1, output_padding=1)),
    )  # fmt: skip
    return nn.Sequential(conv(3, 16), outer, nn.Conv2d(32, CLASSES, 1))


def detector() -> nn.Module:
    """Two levels of one pyramid, anchors' scores through a sigmoid: (N, anchors, classes)."""
    rows: Callable[[Tensor], Tensor] = lambda x: x.permute(0, 2, 3, 1).unflatten(3, (3, CLASSES)).flatten(1, 3)  # noqa: E731
    level = nn.Sequential(nn.Conv2d(16, 3 * CLASSES, 3, 1, 1), Call(rows))
    coarse = nn.Sequential(conv(16, 16, 2), nn.SiLU())
    finer = Fork(torch.add, nn.Conv2d(16, 16, 1), nn.Sequential(coarse, nn.Upsample(scale_factor=2.0)))
    both = Fork(lambda *x: torch.cat(x, 1).sigmoid(), nn.Sequential(coarse, level), nn.Sequential(finer, level))
    return nn.Sequential(conv(3, 16, 2), both)


OWN: dict[str, Callable[[], nn.Module]] = {
    "activations": lambda: classifier(*mixed(
        nn.ELU(), nn.SELU(), nn.CELU(0.7), nn.PReLU(16), nn.LeakyReLU(0.1), nn.Softplus(), nn.Softsign(), nn.Mish(),
        nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Hardswish(), nn.Hardsigmoid(), nn.Hardtanh(), nn.ReLU6(), nn.Tanh(),
        nn.LogSigmoid(), nn.Softshrink(0.1), nn.Tanhshrink(),
    )),
    "norms": lambda: classifier(*mixed(
        nn.LocalResponseNorm(5, alpha=0.1), nn.InstanceNorm2d(16, affine=True), nn.GroupNorm(4, 16),
        Call(lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (16,)).permute(0, 3, 1, 2)),
    ), nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 16, 3)), nn.ReLU()),
    "rms": lambda: classifier(*mixed(Call(lambda x: F.rms_norm(x.permute(0, 2, 3, 1), (16,)).permute(0, 3, 1, 2)))),
    "pools": lambda: classifier(*mixed(
        nn.ReflectionPad2d(1), nn.ReplicationPad2d(1), nn.CircularPad2d(1), nn.ConstantPad2d((1, 0, 2, 1), 0.5),
        nn.ZeroPad2d(-1), nn.MaxPool2d(3, 1, 1, dilation=2), nn.AvgPool2d(3, 1, 1), nn.LPPool2d(2, 2),
    ), nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(3, 2, 1, count_include_pad=False, ceil_mode=True)),
    "resizes": lambda: classifier(*(nn.Sequential(nn.Upsample(scale_factor=1.5, **how), conv(16, 16, 2)) for how in (
        dict(mode="nearest"), dict(mode="bilinear"), dict(mode="bilinear", align_corners=True), dict(mode="bicubic"),
    )), nn.Conv2d(16, 64, 1), nn.PixelShuffle(2), nn.PixelUnshuffle(2)),
    "arithmetic": lambda: classifier(*mixed(Call(arithmetic)), conv(16, 16)),
    "likeness": lambda: classifier(conv(16, 16), Call(likeness)),
    "warped": lambda: classifier(Fork(warped, nn.Identity(), nn.Conv2d(16, 2, 3, 1, 1)), conv(16, 16)),
    "turned": lambda: classifier(Fork(turned, nn.Identity(), nn.Conv2d(16, 6, 3, 4)), conv(16, 16)),
    "unpooled": lambda: classifier(conv(16, 16), Call(unpooled), conv(16, 16)),
    "lstm": lambda: classifier(conv(16, 16), Recurrent("LSTM", 16, num_layers=2)),
    "gru": lambda: classifier(conv(16, 16), Recurrent("GRU", 16)),
    "rnn": lambda: classifier(conv(16, 16), Recurrent("RNN", 16)),
    "volume": lambda: classifier(
        Call(lambda x: torch.stack([x, x.roll(1, 2), x.roll(1, 3)], 2)), nn.Conv3d(16, 16, (2, 3, 3)), nn.ReLU(),
        nn.MaxPool3d((1, 2, 2)), nn.ConvTranspose3d(16, 8, 2), nn.AvgPool3d((3, 2, 2)), Call(lambda x: x.squeeze(2)),
    ),
    "windows": lambda: classifier(Call(lambda x: F.unfold(x, 3, padding=1, stride=2).unflatten(2, (24, 24))),
                                  nn.Conv2d(144, 16, 1), nn.ReLU()),
    "unet": unet,
    "detector": detector,
}  # fmt: skip

# operators that the exporters' default opsets lack
OPSETS = {"warped": 20, "turned": 20, "unpooled": 18}


def declared() -> dict[str, Net]:
    """The table."""
    listed = [Net("own", arch, {}, opset=OPSETS.get(arch)) for arch in OWN]
    timm = TIMM_OPTIONS | {arch: {} for arch in TIMM}
    for library, table in (("torchvision", TORCHVISION), ("transformers", TRANSFORMERS), ("timm", timm)):
        for arch, given in table.items():
            options = dict(given)
            size, opset = options.pop("size", SIZE), options.pop("opset", None)
            listed.append(Net(library, arch, options, (3, size, size), opset))
    return {f"{net.library}.{net.arch}": net for net in listed}


NETS = declared()


# -- building -------------------------------------------------------------------------------------


@cache
def torchvision() -> Any:
    """The library. Its compiled operators may be built for another torch; only the schemas it looks up are needed."""
    schemas = torch.library.Library("torchvision", "FRAGMENT")
    try:
        import torchvision
    except RuntimeError:
        for name in ("nms", "qnms"):
            schemas.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    torchvision._onnxcam_schemas = schemas  # they go when the handle goes
    return torchvision


def library_net(net: Net) -> nn.Module:
    """The network as its library makes it."""
    if net.library == "timm":
        torchvision()
        import timm

        return timm.create_model(net.arch, num_classes=CLASSES, exportable=True, **net.options)
    if net.library == "torchvision":
        models = torchvision().models
        home = models.segmentation if hasattr(models.segmentation, net.arch) else models
        return getattr(home, net.arch)(num_classes=CLASSES, **net.options)
    if net.library == "transformers":
        torchvision()
        import transformers

        kind = getattr(transformers, net.arch)
        return kind(kind.config_class(num_labels=CLASSES, **net.options))
    return OWN[net.arch]()


class Scored(nn.Module):
    """A network that gives one score a class, (N, K): maps and sequences are averaged over their positions."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        found = self.net(x)
        while not isinstance(found, Tensor):
            keys = [key for key in ("logits", "out", "image_embeds") if key in getattr(found, "keys", tuple)()]
            found = found[keys[0] if keys else 0]
        return found.mean((2, 3)) if found.ndim == 4 else found.mean(1) if found.ndim == 3 else found


def build(name: str) -> Scored:
    """The network of that name with seeded weights, ready to be differentiated and exported."""
    net = NETS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    model = Scored(library_net(net)).eval()
    calibrate(model, net.shape)
    return model.requires_grad_(False)


def calibrate(model: nn.Module, shape: tuple[int, int, int]) -> None:
    """Draw constant weights anew, and give every BatchNorm the statistics of images.

    Scales that are zero cut whole branches off, biases that are zero hide mistakes in their gradients, and statistics
    that do not fit let activations grow or die from layer to layer.
    """
    with torch.no_grad():
        model(pictures(BATCH, shape, seed=1))  # lazy layers take their shape
        for weight in model.parameters():
            if weight.numel() and (weight == weight.flatten()[0]).all():
                weight += 0.1 * torch.randn_like(weight)
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over what it sees
            norm.train()
        model(pictures(BATCH, shape, seed=2))
    model.eval()


def pictures(count: int, shape: tuple[int, int, int], *, seed: int) -> Tensor:
    """Seeded images (count, C, H, W): coarse patches with a little noise, zero mean, unit scale."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, shape[0], 6, 6, generator=generator)
    patches = F.interpolate(coarse, size=shape[1:], mode="bilinear")
    return patches + 0.1 * torch.randn(count, *shape, generator=generator)
