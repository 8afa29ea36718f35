"""Losses: functions from model outputs and labels to `Loss(total, count)`."""
