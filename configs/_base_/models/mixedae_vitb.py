# MixedAE with ViT-B/16 (Sec. 4.1). The mixing ratio is written once, here; the
# parts take it from here (K of homologous attention, segments, groups).
model = dict(
    type='MixedAE',
    data_preprocessor=dict(
        type='MixedAEDataPreprocessor', mix_ratio=0.25, mode='compose'),
    backbone=dict(
        type='MixedAEViT',
        arch='base',
        img_size=224,
        patch_size=16,
        out_type='raw',
        homologous_attention=True,
        num_global_layers=1,
        segment_embedding=True,
        with_cp=False),  # True: gradient checkpointing
    neck=dict(
        type='MixedAEDecoder',
        decoder_embed_dim=512,
        decoder_depth=8,
        decoder_num_heads=16,
        with_cp=False),
    head=dict(
        type='MixedAEPretrainHead',
        norm_pix=True,
        contrast_loss=dict(
            type='HomologousContrastiveLoss',
            temperature=0.25,
            positives='separate'),
        contrast_weight=0.1,
        contrast_input='after_norm',
        proj_dim=128))
