"""Parts that know no model: functions, layers and attention mechanisms."""
