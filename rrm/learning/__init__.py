"""Learning: losses, fitting the reward model, and the policy improvers."""
