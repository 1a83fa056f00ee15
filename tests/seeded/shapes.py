"""Names and shapes of tensors: layers as PyTorch names them, and parts as timm does."""

Shapes = dict[str, tuple[int, ...]]


def add(found: Shapes, name: str, *shape: int) -> None:
    """A layer's weight, and its bias."""
    found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]


def add_timm_block(found: Shapes, name: str, width: int) -> None:
    """A block of timm's ViTs, its MLP four times as wide."""
    add(found, f"{name}.norm1", width)
    add(found, f"{name}.attn.qkv", 3 * width, width)
    add(found, f"{name}.attn.proj", width, width)
    add(found, f"{name}.norm2", width)
    add(found, f"{name}.mlp.fc1", 4 * width, width)
    add(found, f"{name}.mlp.fc2", width, 4 * width)


def add_timm_pooling(found: Shapes, name: str, width: int) -> None:
    """timm's AttentionPoolLatent, its MLP four times as wide."""
    found[f"{name}.latent"] = (1, 1, width)
    add(found, f"{name}.q", width, width)
    add(found, f"{name}.kv", 2 * width, width)
    add(found, f"{name}.proj", width, width)
    add(found, f"{name}.norm", width)
    add(found, f"{name}.mlp.fc1", 4 * width, width)
    add(found, f"{name}.mlp.fc2", width, 4 * width)
