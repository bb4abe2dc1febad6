"""Run the command line with ``python -m steadyocr``."""

from steadyocr.cli.main import main

if __name__ == "__main__":
    main()
