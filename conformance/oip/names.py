"""The names of the models that the suite asks for; also read by the reference servers' own Python."""

EVERY_DATATYPE = "every-datatype"
HALF_PRECISION = "half-precision"
ADD_SUBTRACT = "add-subtract"
SCALE = "scale"
LOADABLE = "loadable"
MODELS = (EVERY_DATATYPE, HALF_PRECISION, ADD_SUBTRACT, SCALE, LOADABLE)

# FP16, which not every server takes in JSON, has a model of its own.
DATATYPES = (
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP32",
    "FP64",
    "BYTES",
)
