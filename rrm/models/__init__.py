"""Language models: the backbone and its forks, packing of groups, sampling, the agent, the reward model."""
