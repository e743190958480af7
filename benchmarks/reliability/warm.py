"""What ``latentstem train`` imports, imported once: processes that are forked from here start at once."""

import latentstem.pictures
import latentstem.results

import latentstem.cli.commands
import latentstem.training.fit  # noqa: F401
