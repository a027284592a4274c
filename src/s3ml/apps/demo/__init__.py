"""`s3ml demo`: the whole way on real data, told as a story that has to hold."""
