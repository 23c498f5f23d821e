"""The demo and the generators of its images."""
from .labelled_objects import make_object_folder, make_scene_folder
from .object_painter import OBJECT_CLASSES
from .photographs import make_photograph_folder

__all__ = ['OBJECT_CLASSES', 'make_object_folder', 'make_photograph_folder',
           'make_scene_folder']
