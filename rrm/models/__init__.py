"""Language models: the backbone and its forks, packing, sampling, reward models, endpoints."""
