"""Who judges: a bounded simulation, a language model, one behind an endpoint, people."""
