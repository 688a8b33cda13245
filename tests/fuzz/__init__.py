"""Hostile input: whatever the bytes are, the audit answers with findings or one clear error, soon and in bounds."""
