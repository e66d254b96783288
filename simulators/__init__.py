"""Servers with durable state, real bytes and switchable defects. They know nothing of the code they test."""
