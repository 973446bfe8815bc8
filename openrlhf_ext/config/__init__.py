"""Configuration: what may be set (``schema``), where values come from (``load``) and what they must agree on (``check``)."""
