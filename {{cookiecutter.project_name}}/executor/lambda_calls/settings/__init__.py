"""Where names come from: arguments, samconfig.toml, the stack, AWS's configuration, defaults.

    arguments ─────────────────────────────┐
    samconfig.toml ─┬─ names, region, ... ─┤  the first source that holds a value wins,
      (locate,      └─ stack_name ─ stack ─┤  field by field (resolve)
       samconfig,                          │
       overrides)                          │
    another face's configuration ──────────┤
    AWS's variables and files (aws_config) ┤
    documented defaults ───────────────────┴──► Settings: each a Setting(value, origin)

Knows no Covalent and no S3, and holds no state of its own: what is remembered of files and stacks
belongs to the SettingsReader that a caller makes. The environment and the working directory are
passed in.
"""

from .defaults import DEFAULTS, data_bucket
from .errors import SettingsError
from .locate import FILE_NAME, PATH_VARIABLE, passed_over
from .origin import InWords, Kind, Origin, Setting, deploy_command, deploy_option, given
from .resolve import Settings, SettingsReader, documented
from .samconfig import shadowed

__all__ = [
    "DEFAULTS",
    "FILE_NAME",
    "PATH_VARIABLE",
    "InWords",
    "Kind",
    "Origin",
    "Setting",
    "Settings",
    "SettingsError",
    "SettingsReader",
    "data_bucket",
    "deploy_command",
    "deploy_option",
    "documented",
    "given",
    "passed_over",
    "shadowed",
]
