"""Trust in what was trained: certificates that a stranger can check, and what they do not show (Leike et al. 2018,
section 6)."""
