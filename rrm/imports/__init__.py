"""People's judgements from elsewhere: Anthropic's HH-RLHF, TRL's preference formats, PeerRead's reviews."""
