"""S3ML: machine-learning models, served on clusters that nobody trusts to read them."""

from importlib.metadata import version

__version__ = version("s3ml")

__all__ = ["__version__"]
