"""Comparing systems at equal budgets, and finding the best plan by measurement."""
