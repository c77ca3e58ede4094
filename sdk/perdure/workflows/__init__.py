"""Workflows: functions whose every step is recorded, so that they outlive every process."""
