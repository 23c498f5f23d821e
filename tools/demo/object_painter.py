"""Paint textured objects onto photographs, knowing exactly where they are.

Objects are shapes filled with a texture from one photograph, on a crop of
another one. A class is a pair of shape and texture, so one of the two is not enough
to know it. Mean colours are drawn from the same distribution for all classes, so
they do not depend on the class. Textures and backgrounds of validation images come
from other regions of the photographs than those of training images.
"""
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .photographs import PHOTOGRAPHS, load_photographs, split_regions

SHAPES = ('disc', 'triangle', 'star', 'cross')
TEXTURES = ('brick', 'gravel')
OBJECT_CLASSES = tuple(
    f'{texture}_{shape}' for shape in SHAPES for texture in TEXTURES)
BACKGROUNDS = tuple(name for name in PHOTOGRAPHS if name not in TEXTURES)

# Side of the patch of a photograph that fills an object, in its pixels.
TEXTURE_SIDE = (100, 180)
# Masks are drawn this many times finer than pixels.
SUPERSAMPLING = 4
# Part of an object that must stay visible behind others.
MIN_VISIBLE = 0.5
SPLITS = ('train', 'val')


class Instance(NamedTuple):
    """An object in an image: index into OBJECT_CLASSES and (H, W) mask."""
    label: int
    mask: np.ndarray


class Painter:
    """Draws images of one split from one seed.

    Image ``index`` depends on (seed, split, index) only. NumPy's
    ``RandomState`` is used because its numbers never change between versions.
    """

    def __init__(self, seed: int, split: str):
        self.photographs = load_photographs()
        self.regions = {
            name: split_regions(*image.size, PHOTOGRAPHS[name][1])[split]
            for name, image in self.photographs.items()
        }
        self.key = seed, SPLITS.index(split)

    def centred_object(self, index: int, label: int, size: int
                       ) -> Tuple[np.ndarray, Instance]:
        """A square image of one object, (size, size, 3) uint8."""
        random = np.random.RandomState([*self.key, 0, index])
        canvas = self.background(random, size, size)
        radius = random.uniform(0.26, 0.42) * size
        centre = size * (0.5 + random.uniform(-0.07, 0.07, 2))
        canvas, mask = self.paint_object(random, canvas, label, centre, radius)
        return _to_uint8(canvas), Instance(label, mask)

    def scene(self, index: int, size: int, max_objects: int,
              labels: Sequence[int] = range(len(OBJECT_CLASSES)),
              radii: Tuple[float, float] = (0.1, 0.24), inside: float = 0.6
              ) -> Tuple[np.ndarray, List[Instance]]:
        """An image (H, W, 3), ``size`` its longer side, of objects that may overlap.

        Args:
            index, size, max_objects (int): As of :func:`.make_scene_folder`.
            labels (Sequence[int]): Indices into OBJECT_CLASSES.
            radii (tuple[float, float]): Smallest and largest radius of an object,
                as shares of ``size``.
            inside (float): Smallest distance of an object's centre from the edges of
                the image, in radii. With -1 every pixel is covered equally often.
        """
        random = np.random.RandomState([*self.key, 1, index])
        shapes = (size, size), (size, size * 3 // 4), (size * 3 // 4, size)
        height, width = shapes[random.randint(3)]
        canvas = self.background(random, height, width)
        visible, areas = [], []
        for _ in range(random.randint(2, max_objects + 1)):
            label = labels[random.randint(len(labels))]
            radius = random.uniform(*radii) * size
            margin = np.full(2, inside * radius)
            centre = random.uniform(margin, (width, height) - margin)
            painted, mask = self.paint_object(
                random, canvas, label, centre, radius)
            remaining = [Instance(other.label, other.mask & ~mask)
                         for other in visible]
            if mask.sum() < 30 or any(
                    other.mask.sum() < MIN_VISIBLE * area
                    for other, area in zip(remaining, areas)):
                continue  # it would hide another object too much
            canvas = painted
            visible = remaining + [Instance(label, mask)]
            areas.append(mask.sum())
        return _to_uint8(canvas), visible

    def background(self, random, height: int, width: int) -> np.ndarray:
        """A crop of a photograph, (H, W, 3) in [0, 1]."""
        name = BACKGROUNDS[random.randint(len(BACKGROUNDS))]
        left, top, right, bottom = self.regions[name]
        largest = min((right - left) / width, (bottom - top) / height)
        crop = self.crop(random, name, height, width,
                         largest * random.uniform(0.6, 1.0))
        # A little colour cast, as different light would give.
        return np.clip(crop * random.uniform(0.8, 1.2, 3), 0, 1)

    def crop(self, random, name: str, height: int, width: int,
             scale: float) -> np.ndarray:
        """A random crop of a photograph's region, shrunk by a scale."""
        left, top, right, bottom = self.regions[name]
        x = random.uniform(left, right - scale * width)
        y = random.uniform(top, bottom - scale * height)
        image = self.photographs[name].resize(
            (width, height), Image.Resampling.BICUBIC,
            box=(x, y, x + scale * width, y + scale * height),
            reducing_gap=3.0)
        if random.rand() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.asarray(image, dtype=np.float32) / 255

    def texture(self, random, name: str, size: int) -> np.ndarray:
        """A patch of a texture in a random colour, (size, size, 3)."""
        side = random.uniform(*TEXTURE_SIDE)
        patch = self.crop(random, name, size, size, side / size).mean(2)
        patch = np.rot90(patch, random.randint(4))
        patch = (patch - patch.mean()) / (patch.std() + 1e-6)
        # The same colours and contrasts for all classes.
        colour = random.uniform(0.35, 0.65) + random.uniform(-0.15, 0.15, 3)
        contrast = random.uniform(0.28, 0.4)
        return colour * (1 + contrast * np.clip(patch, -2, 2))[:, :, None]

    def paint_object(self, random, canvas: np.ndarray, label: int, centre,
                     radius: float) -> Tuple[np.ndarray, np.ndarray]:
        """Paint an object; returns the canvas with it, (H, W, 3), and its exact mask.

        The mask, (H, W) bool, is the pixels of which it covers at least half.
        """
        height, width = canvas.shape[:2]
        shape, texture = divmod(label, len(TEXTURES))
        outline = draw_outline(random, SHAPES[shape]) * radius + centre
        coverage = rasterize(outline, height, width)
        pixels = self.texture(random, TEXTURES[texture], max(2, round(2.4 * radius)))
        pixels = _place(pixels, centre, height, width)

        # Light from above, from one side or the other, on rounded edges.
        relief = _blur(coverage, radius / 5)
        vertical, horizontal = np.gradient(relief)
        side = random.choice([-1, 1])
        light = 1 + radius / 4 * (vertical + 0.6 * side * horizontal)
        pixels = np.clip(pixels * np.clip(light, 0.5, 1.5)[:, :, None], 0, 1)

        offset = round(radius / 8)
        shadow = 0.45 * _blur(
            rasterize(outline + (-side * offset, offset), height, width),
            radius / 8)
        canvas = canvas * (1 - shadow)[:, :, None]
        alpha = coverage[:, :, None]
        return canvas * (1 - alpha) + pixels * alpha, coverage >= 0.5


def draw_outline(random, shape: str) -> np.ndarray:
    """Corners (N, 2) of a shape around the origin, of radius about one.

    It is turned by any angle, stretched by up to a third and its corners are
    moved a little.
    """
    steps = np.arange(48)
    radii = {
        'disc': np.ones(48),
        'triangle': np.ones(3) * 1.1,
        'star': np.tile([1.15, 0.5], 5),
        # Corners of a plus sign: tips in pairs, then the corner between arms.
        'cross': np.tile([1.1, 1.1, 0.5], 4),
    }[shape]
    angles = 2 * np.pi * steps[:len(radii)] / len(radii)
    if shape == 'cross':
        arm = 2 * np.pi * np.repeat(np.arange(4), 3) / 4
        angles = arm + np.tile([-0.32, 0.32, np.pi / 4], 4)
    if len(radii) < 48:
        radii = radii * random.uniform(0.92, 1.08, len(radii))
    corners = radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    stretch = np.exp(random.uniform(-0.15, 0.15))
    corners = corners * (stretch, 1 / stretch)
    turn = random.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)],
                         [np.sin(turn), np.cos(turn)]])
    return corners @ rotation.T


def rasterize(outline: np.ndarray, height: int, width: int) -> np.ndarray:
    """Share of each pixel inside a polygon (N, 2) of (x, y): (H, W) float32."""
    fine = Image.new('L', (width * SUPERSAMPLING, height * SUPERSAMPLING))
    ImageDraw.Draw(fine).polygon(
        [tuple(corner) for corner in outline * SUPERSAMPLING], fill=255)
    return np.asarray(fine.reduce(SUPERSAMPLING), dtype=np.float32) / 255


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    blurred = Image.fromarray(np.uint8(image * 255)).filter(
        ImageFilter.GaussianBlur(sigma))
    return np.asarray(blurred, dtype=np.float32) / 255


def _place(patch: np.ndarray, centre, height: int, width: int) -> np.ndarray:
    """A square patch centred in an otherwise empty canvas, cut at its edges."""
    size = len(patch)
    left, top = (np.round(centre) - size // 2).astype(int)
    padded = np.zeros((height + 2 * size, width + 2 * size, 3), np.float32)
    padded[top + size:top + 2 * size, left + size:left + 2 * size] = patch
    return padded[size:size + height, size:size + width]


def _to_uint8(canvas: np.ndarray) -> np.ndarray:
    return np.uint8(np.round(np.clip(canvas, 0, 1) * 255))
