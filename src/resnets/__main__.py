"""`python -m resnets`."""

from resnets.cli import main

if __name__ == "__main__":
    main()
