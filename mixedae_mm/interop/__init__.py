"""In and out of other libraries: timm, Hugging Face, Meta's MAE, ONNX.

``models.checkpoint_names`` has the table of all names, ``convert.py`` the way of a checkpoint
from one library to another.
"""
