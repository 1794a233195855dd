"""From YAML files to a checked, typed configuration; `load.load` is the way in."""
