"""In and out of other libraries: timm, Hugging Face, Meta's MAE, ONNX.

``names.py`` is the table of all names; ``convert.py`` the way of a checkpoint
from one library to another.
"""
