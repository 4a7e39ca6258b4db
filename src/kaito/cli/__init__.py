"""The `kaito` command, also as `kubectl kaito`. Commands parse, call the rooms below and print; logic lives there."""
