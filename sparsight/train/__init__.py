"""Floor 4: training. A recipe names the stages, transformers' `Trainer` runs them."""
