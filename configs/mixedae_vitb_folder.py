# MixedAE on any folder of images, searched recursively, no labels needed:
#   DATA_ROOT=/path/to/images python tools/train.py configs/mixedae_vitb_folder.py
# The learning rate is scaled to the batch in use.
_base_ = 'mixedae_vitb_300e.py'

train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        data_root='{{$DATA_ROOT:data/images}}',
        data_prefix=dict(img_path=''),
    ))
auto_scale_lr = dict(enable=True)
