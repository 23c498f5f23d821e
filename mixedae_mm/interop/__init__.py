"""In and out of other libraries: timm, Hugging Face, Meta's MAE, ONNX.

``convert.py`` is the way of a checkpoint from one library to another; the table of
all names is in ``models/checkpoint_names.py``.
"""
