"""Money: what answered calls cost, and whose texts wait because a budget is spent."""
