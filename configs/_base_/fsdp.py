# Every process holds a share of the model, its gradients and its optimizer.
# Start it with tools/dist_train.sh or tools/slurm_train.sh.
runner_type = 'FlexibleRunner'
strategy = dict(type='ViTFSDPStrategy')
