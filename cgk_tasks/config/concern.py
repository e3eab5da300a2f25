"""The base of the classes of settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Concern(BaseModel):
    """The settings of one concern. `Settings` inherits from all of them, and it alone is made: building validators for
    each of them would be half of what reading the settings costs.
    """

    model_config = ConfigDict(defer_build=True)
