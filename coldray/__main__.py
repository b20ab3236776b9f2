"""`python -m coldray`: the command line where the script is not on the path, as in a job on a cluster."""

from coldray.cli.main import main

if __name__ == "__main__":
    main()
