"""Data that comes with kvkit, and what makes it."""
