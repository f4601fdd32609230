"""Every named network as one row of data: name, parameters, multiply-adds, side of the input they
are counted at, and what is different from the first of its kind, or from the row that is named
first. A new network is a new line.

Parameters and multiply-adds are those of torchvision 0.29.1 and timm 1.0.31, with their own number
of classes; parameters of networks for CIFAR those of the papers where they print them (He et al.
2015, table 6; 2016, table 4; Zagoruyko 2016; Xie 2017; Huang 2017), else they follow from the text;
their multiply-adds, and those of Transformers, are counted here. Tests compare all.
"""

from __future__ import annotations

from dataclasses import dataclass

from resnets.models.setting import DenseNetSetting, ResNetSetting, Setting, TransformerSetting
from resnets.settings import change, parse_changes

# ImageNet, 1000 classes; resnet50 is all defaults
RESNETS = """
resnet18                 11689512   1814073344 224  block=basic depths=2-2-2-2
resnet26                 15995176   2342256640 224  depths=2-2-2-2
resnet34                 21797672   3663761408 224  block=basic
resnet50                 25557032   4089184256 224
resnet101                44549160   7801405440 224  depths=3-4-23-3
resnet152                60192808  11513626624 224  depths=3-8-36-3
resnet200                64673832  15007481856 224  depths=3-24-36-3
resnet50d                25576264   4328824832 224  stem=deep shortcut=average
resnet50t                25573728   4297213952 224  resnet50d stem=tiered
resnet18d                11708744   2053713920 224  resnet18 stem=deep shortcut=average
resnet26d                16014408   2581897216 224  resnet50d depths=2-2-2-2
resnet26t                16011872   3330359296 256  resnet50t depths=2-2-2-2
resnet34d                21816904   3903401984 224  resnet18d depths=3-4-6-3
resnet10t                 5435488    698688000 176  resnet18 depths=1-1-1-1 stem=tiered shortcut=average
resnet14t                10081632   1067618816 176  resnet10t block=bottleneck
resnet50_gn              25557032   4089184256 224  norm=group
resnet50c                25576264   4328824832 224  stem=deep
resnet50s                25680808   5444337664 224  stem=deep stem_width=128
resnet101c               44568392   8041046016 224  resnet101 stem=deep
resnet101d               44568392  10501963776 256  resnet101 stem=deep shortcut=average
resnet101s               44672936   9156558848 224  resnet50s depths=3-4-23-3
resnet152c               60212040  11753267200 224  resnet152 stem=deep
resnet152d               60212040  15350579200 256  resnet152 stem=deep shortcut=average
resnet152s               60316584  12868780032 224  resnet50s depths=3-8-36-3
resnet200d               64693064  19913981952 256  resnet200 stem=deep shortcut=average
wide_resnet50_2          68883240  11398021120 224  group_width=128
wide_resnet101_2        126886696  22753050624 224  resnet101 group_width=128
resnext50_32x4d          25028904   4230479872 224  groups=32 group_width=4
resnext50d_32x4d         25048136   4470120448 224  resnet50d groups=32 group_width=4
resnext101_32x4d         44177704   7969996800 224  resnext50_32x4d depths=3-4-23-3
resnext101_32x8d         88791336  16414015488 224  resnext101_32x4d group_width=8
resnext101_32x16d       194026792  36163289088 224  resnext101_32x4d group_width=16
resnext101_32x32d       468530472  87106781184 224  resnext101_32x4d group_width=32
resnext101_64x4d         83455272  15460270080 224  resnext101_32x4d groups=64
resnetaa34d              21816904   4423626752 224  resnet34d antialias=average
resnetaa50               25557032   5129633792 224  antialias=average
resnetaa50d              25576264   5369274368 224  resnet50d antialias=average
resnetaa101d             44568392   9081495552 224  resnetaa50d depths=3-4-23-3
resnetblur18             11689512   2337684992 224  resnet18 antialias=blur
resnetblur50             25557032   5133020672 224  antialias=blur
resnetblur50d            25576264   5372661248 224  resnet50d antialias=blur
resnetblur101d           44568392   9084882432 224  resnet101d antialias=blur
resnetrs50               35691912   2278629376 160  resnet50d stem_pool=conv attention=se-4
resnetrs101              63618696   6012157952 192  resnetrs50 depths=3-4-23-3
resnetrs152              86621576  15527886848 256  resnetrs50 depths=3-8-36-3
resnetrs200              93209992  20093386752 256  resnetrs50 depths=3-24-36-3
resnetrs270             129861448  26950189056 256  resnetrs50 depths=4-29-53-4
resnetrs350             163956168  43493793792 288  resnetrs50 depths=4-36-72-4
resnetrs420             191891656  63942344704 320  resnetrs50 depths=4-44-87-4
senet154                115088984  20688363520 224  resnet152s shortcut=wide groups=64 group_width=4 reduce_first=2 attention=se
seresnet18               11779624   1814161408 224  resnet18 attention=se
seresnet34               21960416   3663920128 224  resnet34 attention=se
seresnet50               28088024   4091699200 224  attention=se
seresnet50t              28104720   4299728896 224  resnet50t attention=se
seresnet101              49326872   7806148608 224  resnet101 attention=se
seresnet152              66821848  11520204800 224  resnet152 attention=se
seresnet152d             66841080  15357157376 256  resnet152d attention=se
seresnet200d             71855096  19921084416 256  resnet200d attention=se
seresnet269d            113672760  26485366784 256  seresnet152d depths=3-30-48-8
seresnetaa50d            28107256   5371789312 224  resnetaa50d attention=se
seresnext26d_32x4d       16809512   2711740416 224  resnext50d_32x4d depths=2-2-2-2 attention=se
seresnext26t_32x4d       16806976   2680129536 224  seresnext26d_32x4d stem=tiered
seresnext50_32x4d        27559896   4232994816 224  resnext50_32x4d attention=se
seresnext101_32x4d       48955416   7974739968 224  resnext101_32x4d attention=se
seresnext101_32x8d       93569048  16418758656 224  resnext101_32x8d attention=se
seresnext101_64x4d       88232984  15465013248 224  seresnext101_32x4d groups=64
seresnext101d_32x8d      93588280  16658399232 224  seresnext101_32x8d stem=deep shortcut=average
seresnextaa101d_32x8d    93588280  28392882176 288  seresnext101d_32x8d antialias=average
seresnextaa201d_32x8d   149394904 100711505920 384  seresnextaa101d_32x8d depths=3-24-36-4 stem_width=128
ecaresnet26t             16011916   3330405888 256  resnet26t attention=eca
ecaresnet50d             25576350   4328912640 224  resnet50d attention=eca
ecaresnet50t             25573814   5612148480 256  resnet50t attention=eca
ecaresnet101d            44568563   8041220864 224  resnet101d attention=eca
ecaresnet200d            64693400  19914274560 256  resnet200d attention=eca
ecaresnet269d           102093077  41364716288 320  seresnet269d attention=eca
ecaresnetlight           30162046   4089287424 224  depths=1-1-11-3 shortcut=average attention=eca
ecaresnext26t_32x4d      15406220   2678783488 224  seresnext26t_32x4d attention=eca
ecaresnext50t_32x4d      25045686   4438597376 224  ecaresnext26t_32x4d depths=3-4-6-3
skresnet18               11958056   1814337536 224  resnet18 spatial=sk-8-16
skresnet34               22282376   3664237568 224  resnet34 spatial=sk-8-16
skresnet50               25803160   4089422336 224  spatial=sk-16-8
skresnet50d              25822392   4329062912 224  resnet50d spatial=sk-16-8
skresnext50_32x4d        27479784   4462710784 224  resnext50_32x4d spatial=sk-16-32-full
res2net50_14w_8s         25059816   4178898944 224  group_width=112 spatial=res2-8
res2net50_26w_4s         25699120   4255166464 224  group_width=104 spatial=res2-4
res2net50_26w_6s         37051448   6295523328 224  group_width=156 spatial=res2-6
res2net50_26w_8s         48403776   8335880192 224  group_width=208 spatial=res2-8
res2net50_48w_2s         25287304   4159832064 224  group_width=96 spatial=res2-2
res2net50d               25718352   4494807040 224  resnet50d group_width=104 spatial=res2-4
res2net101_26w_4s        45206688   8066974464 224  res2net50_26w_4s depths=3-4-23-3
res2net101d              45225920   8306615040 224  res2net50d depths=3-4-23-3
res2next50               24671464   4172677120 224  groups=8 group_width=16 spatial=res2-4
resnest14d               10611688   2749405184 224  resnet14t stem=deep spatial=split-2
resnest26d               17069448   3623391232 224  resnet26d spatial=split-2
resnest50d               27483240   5371160576 224  resnet50d spatial=split-2
resnest50d_1s4x24d       25677000   4399827456 224  resnet50d groups=4 group_width=24 spatial=split-1-before
resnest50d_4s2x40d       30417592   4369060736 224  resnet50d groups=2 group_width=40 spatial=split-4-before
resnest101e              48275016  13321472000 256  resnet101d stem_width=128 spatial=split-2
resnest200e              70201544  35519694848 320  resnest101e depths=3-24-36-3
resnest269e             110929480  77348702208 416  resnest101e depths=3-30-48-8
resnetv2_18              11687720   1814073344 224  resnet18 order=pre
resnetv2_34              21795880   3663761408 224  resnet34 order=pre
resnetv2_50              25549352   4089184256 224  order=pre
resnetv2_101             44541480   7801405440 224  resnet101 order=pre
resnetv2_152             60185128  11513626624 224  resnet152 order=pre
resnetv2_18d             11706952   2053713920 224  resnet18d order=pre
resnetv2_34d             21815112   3903401984 224  resnet34d order=pre
resnetv2_50d             25568584   4328824832 224  resnet50d order=pre
resnetv2_50d_gn          25568584   4328824832 224  resnetv2_50d norm=group
resnetv2_50t             25566048   4297213952 224  resnet50t order=pre
resnetv2_50x1_bit        25549352   4089184256 224  resnet50_gn order=pre stem_pool=zero conv=standardised
resnetv2_50x3_bit       217319080 144310714368 448  resnetv2_50x1_bit widths=192-384-768-1536
resnetv2_101d            44560712   8041046016 224  resnet101d order=pre
resnetv2_101x1_bit       44541480  31199477760 448  resnetv2_50x1_bit depths=3-4-23-3
resnetv2_101x3_bit      387934888 277950676992 448  resnetv2_50x3_bit depths=3-4-23-3
resnetv2_152d            60204360  11753267200 224  resnet152d order=pre
resnetv2_152x2_bit      236335208  45814382592 224  resnetv2_50x1_bit depths=3-8-36-3 widths=128-256-512-1024
resnetv2_152x4_bit      936533224 839254016000 480  resnetv2_152x2_bit widths=256-512-1024-2048
"""

# Kinetics-400, clips of 16 images
CLIPS = """
r3d_18                   33371472  40696553472 112  time=full
mc3_18                   11695440  43342635008 112  time=full-spatial-spatial-spatial
r2plus1d_18              31505325  40519080960 112  time=2plus1
"""

# CIFAR-10: as section 4.2 of He et al. 2015, unless it says otherwise
CIFAR = """
resnet20                   269722     40551040  32  depths=3-3-3
resnet32                   464154     68862592  32  depths=5-5-5
resnet44                   658586     97174144  32  depths=7-7-7
resnet56                   853018    125485696  32  depths=9-9-9
resnet110                 1727962    252887680  32  depths=18-18-18
resnet1202               19421274   2829238912  32  depths=200-200-200
preresnet110              1730522    253149824  32  resnet110 order=pre shortcut=projection
preresnet164              1703258    247646720  32  preresnet110 block=bottleneck
preresnet1001            10327706   1490995712  32  preresnet164 depths=111-111-111
seresnet20                 274847     40815200  32  resnet20 shortcut=projection attention=se-16-1
seresnet56                 862889    125753888  32  seresnet20 depths=9-9-9
seresnet110               1744952    253161920  32  seresnet20 depths=18-18-18
seresnet164               1906258    247840256  32  seresnet110 block=bottleneck
wrn16_4                   2748890    392612352  32  preresnet110 depths=2-2-2 widths=64-128-256 stem_width=16
wrn16_8                  10961370   1548145664  32  wrn16_4 widths=128-256-512
wrn40_2                   2243546    327599360  32  wrn16_4 depths=6-6-6 widths=32-64-128
wrn40_4                   8949210   1298582016  32  wrn16_4 depths=6-6-6
wrn16_10                 17116634   2412173568  32  wrn16_4 widths=160-320-640
wrn28_10                 36479194   5243328768  32  wrn16_10 depths=4-4-4
wrn40_8                  35748314   5172024320  32  wrn16_8 depths=6-6-6
wrn40_10                 55841754   8074483968  32  wrn16_10 depths=6-6-6
resnext29_8x64d          34426698   5387266048  32  resnet20 block=bottleneck widths=64-128-256 shortcut=projection groups=8
resnext29_16x64d         68155210  10688866304  32  resnext29_8x64d groups=16
"""

DENSENETS = """
densenet121               7978856   2834161664 224
densenet161              28681000   7727907072 224  growth=48 depths=6-12-36-24
densenet169              14149480   3359843328 224  depths=6-12-32-32
densenet201              20013928   4291365888 224  depths=6-12-48-32
densenet264d             72736216  13470266880 224  growth=48 depths=6-12-64-48 stem=deep
densenetblur121d          7998088   3075608576 224  stem=deep antialias=blur
"""

CIFAR_DENSENETS = """
densenet_bc_100_12         769162    287929692  32  depths=16-16-16
densenet_bc_250_24       15324406   5418785724  32  growth=24 depths=41-41-41
densenet_bc_190_40       25624430   9301945740  32  growth=40 depths=31-31-31
"""

TRANSFORMERS = """
vit_tiny_patch16_224      5717416   1253683200 224  width=192 heads=3
vit_small_patch16_224    22050664   4598882304 224
vit_base_patch16_224     86567656  17563828224 224  width=768 heads=12
"""


@dataclass(frozen=True)
class Row:
    """A named network.

    Args:
        setting: How it is built.
        parameters: As published.
        macs: Multiply-adds for one image (or clip) of `size`.
        size: Side of the input.
        classes: Of the data it was made for.
    """

    setting: Setting
    parameters: int
    macs: int
    size: int
    classes: int


def read_rows() -> dict[str, Row]:
    """All rows by name, in their order."""
    cifar = ResNetSetting("basic", widths=(16, 32, 64), stem="cifar", shortcut="zero_pad")
    kinds: tuple[tuple[str, Setting, int], ...] = (
        (RESNETS, ResNetSetting(), 1000),
        (CLIPS, ResNetSetting("basic", (2, 2, 2, 2), stem_pool="none"), 400),
        (CIFAR, cifar, 10),
        (DENSENETS, DenseNetSetting(), 1000),
        (CIFAR_DENSENETS, DenseNetSetting(12, stem="cifar"), 10),
        (TRANSFORMERS, TransformerSetting(), 1000),
    )
    rows: dict[str, Row] = {}
    for table, base, classes in kinds:
        for line in table.strip().splitlines():
            name, parameters, macs, size, *changes = line.split()
            start = base if not changes or "=" in changes[0] else rows[changes.pop(0)].setting
            setting = change(start, parse_changes(" ".join([name, *changes]))[1])
            rows[name] = Row(setting, int(parameters), int(macs), int(size), classes)
    return rows


ROWS = read_rows()
