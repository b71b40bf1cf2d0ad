"""``python -m studio.study``."""

from studio.study.cli import main

if __name__ == "__main__":
    main()
