# Mixing alone (Sec. 3.1).
_base_ = 'segment_embedding.py'

model = dict(backbone=dict(segment_embedding=False))
