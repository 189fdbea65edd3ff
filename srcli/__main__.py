"""`python -m srcli` is `srcli`."""

from srcli.cli import main

if __name__ == "__main__":
    main()
