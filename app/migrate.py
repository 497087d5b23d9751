"""Entry point of a release's migrations: a kit starts those of older and newer releases by this name too."""

import sys

from app.store.migrate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
