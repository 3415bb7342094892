"""Floor 1: the types, the slots, the registry with its knobs, and the Plan."""
