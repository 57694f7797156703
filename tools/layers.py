"""The contracts on imports in pyproject.toml, checked on the sources of this checkout."""

import sys

from importlinter.cli import lint_imports_command

# An editable install finds `fastvae` in three directories, one of which is not the package.
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
sys.path.insert(0, "")

if __name__ == "__main__":
    lint_imports_command()
