"""What all built-in algorithms share. README.md beside this package tells how to write one with it."""

from pilvi_algorithms.kit import quality
from pilvi_algorithms.kit.channel import Channel
from pilvi_algorithms.kit.cluster import Cluster
from pilvi_algorithms.kit.content_type import ANY, CSV, JSON, JSONLINES, LIBSVM, PARQUET, RECORDIO, ContentType
from pilvi_algorithms.kit.errors import ClientError, RequestError
from pilvi_algorithms.kit.hyperparameter import AUTO, TOOLKIT, Hyperparameter, choice, flag, integer, json_value, real, text
from pilvi_algorithms.kit.report import Report
from pilvi_algorithms.kit.run import ChannelRule, Run
from pilvi_algorithms.kit.serving import accept_type, plain, request_table, respond
from pilvi_algorithms.kit.table import Table

__all__ = [
    "ANY",
    "AUTO",
    "CSV",
    "JSON",
    "JSONLINES",
    "LIBSVM",
    "PARQUET",
    "RECORDIO",
    "TOOLKIT",
    "Channel",
    "ChannelRule",
    "ClientError",
    "Cluster",
    "ContentType",
    "Hyperparameter",
    "Report",
    "RequestError",
    "Run",
    "Table",
    "accept_type",
    "choice",
    "flag",
    "integer",
    "json_value",
    "plain",
    "quality",
    "real",
    "request_table",
    "respond",
    "text",
]
