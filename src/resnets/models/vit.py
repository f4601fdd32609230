"""A residual Transformer for images: the shortcut of 2015 lives on in it, and here it can be
moved or taken away.

Dosovitskiy et al., An Image is Worth 16x16 Words, 2021 (arXiv:2010.11929); parameters are named as
in timm. The shapes are those of ViT-S/16 for one 224 x 224 image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.models.parts import check_input, make_head
from resnets.models.setting import TransformerSetting


class Attention(nn.Module):
    """Every token looks at all tokens, in `heads` ways at once (Vaswani et al. 2017,
    arXiv:1706.03762)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        count, tokens, width = x.shape
        query, key, value = (
            self.qkv(x)
            .view(count, tokens, 3, self.heads, width // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        # (N, heads, tokens, width / heads)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(count, tokens, width))


class Mlp(nn.Module):
    """Two layers on each token by itself, four times as wide between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention, then the MLP.

    Args:
        width: Channels of a token.
        heads: Of the attention.
        order: `pre`: the norm stands in the branch, the sum is clean (as in pre-activation
            networks). `post`: the norm follows the sum, as in the first Transformer. `none`: no
            shortcut at all, with the norms of `pre`.
    """

    branch_end = "mlp.fc2"

    def __init__(self, width: int, heads: int, order: str = "pre") -> None:
        super().__init__()
        self.order = order
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)
        self.drop_path = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for norm, branch in ((self.norm1, self.attn), (self.norm2, self.mlp)):
            if self.order == "pre":
                x = x + self.drop_path(branch(norm(x)))
            elif self.order == "post":
                x = norm(x + self.drop_path(branch(x)))
            else:
                x = branch(norm(x))
        return x


class VisionTransformer(nn.Module):
    """A Transformer on the patches of an image.

    Args:
        setting: Its width, depth, heads and patches, and where its shortcuts are.
        num_classes: Outputs; 0 gives the features instead.
        in_channels: Channels of the images.
    """

    def __init__(
        self, setting: TransformerSetting, num_classes: int = 1000, in_channels: int = 3
    ) -> None:
        super().__init__()
        setting.check()
        width, size, patch, order = setting.width, setting.size, setting.patch, setting.order
        self.side, self.patch, self.smallest, self.num_features = size // patch, patch, patch, width
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(in_channels, width, patch, patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, self.side**2 + 1, width))
        self.blocks = nn.ModuleList(
            Block(width, setting.heads, order) for _ in range(setting.depth)
        )
        self.norm = nn.Identity() if order == "post" else nn.LayerNorm(width, eps=1e-6)
        self.head = make_head(width, num_classes)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 and name != "cls_token":
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward_tokens(self, x: Tensor) -> list[Tensor]:
        """The tokens after each block, the last normalised: (N, C, H, W) -> (N, 1 + H / 16 * W /
        16, 384) each."""
        check_input(self, x)
        maps = self.patch_embed["proj"](x)  # (N, 384, 14, 14)
        tokens = torch.cat(
            [self.cls_token.expand(x.shape[0], -1, -1), maps.flatten(2).transpose(1, 2)], 1
        )
        tokens = tokens + self.places(maps.shape[2], maps.shape[3])
        after = []
        for block in self.blocks:
            tokens = block(tokens)
            after.append(tokens)
        after[-1] = self.norm(tokens)
        return after

    def places(self, height: int, width: int) -> Tensor:
        """The learned places for a grid of patches: (1, 1 + height * width, C)."""
        if (height, width) == (self.side, self.side):
            return self.pos_embed
        first, grid = (
            self.pos_embed[:, :1],
            self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (self.side, self.side)),
        )
        grid = F.interpolate(
            grid, (height, width), mode="bicubic", align_corners=False, antialias=True
        )
        return torch.cat([first, grid.flatten(2).transpose(1, 2)], 1)

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """The tokens of the patches after each block, laid out as maps: (N, C, H / 16, W / 16)
        each."""
        shape = (x.shape[-2] // self.patch, x.shape[-1] // self.patch)
        return [
            tokens[:, 1:].transpose(1, 2).unflatten(2, shape) for tokens in self.forward_tokens(x)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Images, normalised (N, C, H, W), to logits (N, num_classes)."""
        return self.head(self.forward_tokens(x)[-1][:, 0])

    def get_classifier(self) -> nn.Module:
        """The linear layer on the class token."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """A new, random classifier for other classes; 0 for none."""
        self.head = make_head(self.num_features, num_classes)
