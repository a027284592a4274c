"""`python -m s3ml.apps.cli` is the command line; processes of this project start each other so."""

from s3ml.apps.cli import main

main()
