"""The same lock and sources give the same bytes on every host."""
