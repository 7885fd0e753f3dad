"""The one error of this package."""


class SettingsError(ValueError):
    """The settings cannot be read: names the file, the key, and what to do."""
