"""Logins with the OAuth device flow, and keeping them alive."""
