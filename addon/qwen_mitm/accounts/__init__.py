"""Accounts: what they are, which one is next, and the file that holds them."""
