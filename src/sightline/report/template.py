"""Pages from templates: every text from the data is escaped, every name a template uses must be given."""

from typing import Any

import jinja2

from sightline.report.numbers import Number

__all__ = ["render_template"]


def render_template(name: str, /, **values: Any) -> str:
    """The finished HTML of a template in `sightline/report/templates`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sightline.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["number"] = lambda value: isinstance(value, Number)
    return environment.get_template(name).render(**values)
