"""Questions with exact scorers, asked of a model under a plan, and what each answer cost."""
