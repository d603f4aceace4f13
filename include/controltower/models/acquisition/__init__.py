"""How likely visitors and prospects, who never bought, become customers within weeks, and what they look for."""
