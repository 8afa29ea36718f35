"""`python -m hanformer` is the command `hanformer`."""

from hanformer.cli import main

if __name__ == "__main__":
    main()
