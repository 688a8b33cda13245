"""Packages made of real wheels, broken as other tools and people break them, and what the audit must say of each."""
