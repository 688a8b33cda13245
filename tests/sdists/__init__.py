"""Tests of the room that builds from source."""
