"""The commands, grouped by what they are about. Each module registers its own on the application."""
