"""Deployments: names of one's own for models (`my-gpt5`), each with the model that it is, as the configuration says."""

from __future__ import annotations

from collections.abc import Mapping


def named(name: str) -> str:
    """A name as look-ups take it: Azure tells deployments apart in no letter case, so no other one may evade."""
    return name.lower()


def sold_as(deployments: Mapping[str, str], model: str) -> str:
    """The model that is billed under an upstream model's name: what a deployment is (`deployments`, by `named`), or
    what an ARN names; its own name where nothing else is said."""
    sold = deployments.get(named(model), model) if deployments else model
    return sold.rpartition("/")[2] if sold.startswith("arn:") else sold
