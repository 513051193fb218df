"""Bedrock's dialect: Converse, and InvokeModel in the vendors' own."""
