# A short fine-tuning with few labels: what the pre-training is worth when there
# is little else. PRETRAINED names the checkpoint to start from.
_base_ = '../demo/transfer/finetune_vit-tiny_objects.py'
