"""Started by torchrun: one step on shares of a batch against the same step on the whole, for both tasks.

Prints, as JSON from the first process, the greatest relative difference of loss terms, gradients and batch statistics.
"""

import copy
import json
import sys

import torch

from sightline.data import read_dataset
from sightline.models import create
from sightline.train import TrainConfig
from sightline.train.data.images import NetworkImages, SeededBatches, normalise_batch
from sightline.train.distributed import ALONE, join_processes


def main(task, model_name, data):
    torch.set_num_threads(1)
    processes = join_processes()
    dataset = read_dataset(data)
    torch.manual_seed(0)
    model = create(model_name, class_names=dataset.class_names, imgsz=(64, 96)).train()
    whole = copy.deepcopy(model)
    processes.prepare(model, "cpu")
    settings = TrainConfig.load({"data": data, "model": model_name})
    images = NetworkImages(dataset, model.preprocess, settings.augment)
    found = []
    # Of a batch of three, two and one; of a batch of one, one and none.
    for batch in (3, 1):
        sizes = {"terms": [], "gradients": [], "statistics": []}
        for network, part in ((whole, ALONE), (model, processes)):
            draws = next(iter(SeededBatches(len(images), batch, 0, shuffle=True, share=part.share)))
            share = images.collate([images[draw] for draw in draws])
            network.zero_grad()
            raw = network(normalise_batch(share.images, network.preprocess))
            terms = network.loss(raw, share.targets, part.total)
            torch.stack(list(terms.values())).sum().backward()
            gradients = [part.total(p.grad).flatten() for p in network.parameters() if p.requires_grad]
            statistics = [v.flatten() for k, v in network.state_dict().items() if "running" in k]
            sizes["terms"].append(torch.stack(list(terms.values())).detach())
            sizes["gradients"].append(torch.cat(gradients))
            sizes["statistics"].append(torch.cat(statistics))
        found.append({name: float((a - b).norm() / a.norm()) for name, (a, b) in sizes.items()})
    if processes.is_first:
        print(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
