# UperNet on ADE20K at 512 x 512: Table 1. `tools/test.py --tta` tests at
# several scales.
_base_ = [
    '../_base_/models/upernet_vitb.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/ade20k_160k.py',
    '../_base_/mmseg_runtime.py',
    '../_base_/transfer.py',
]
