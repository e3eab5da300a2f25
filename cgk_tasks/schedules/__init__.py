"""Schedules: which events are sent when, for which tenants, and that each tick happens once."""
